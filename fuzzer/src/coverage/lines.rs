//! Lines and functions behind instrumented places.
//!
//! A line is known to have run when a place that its code belongs to was executed. Places that LLVM knows to be executed
//! together with another one have no counter of their own: their lines count with the place before them in the code, so
//! single lines at the ends of branches may be attributed wrongly.

use std::collections::BTreeMap;

use crate::triage::{
    points::Point,
    symbols::{Symbols, without_generics},
};

/// Where a line stands.
type Place = (String, u32);

/// Coverage of a source file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileCoverage {
    /// Lines that have code, and whether some of it was executed.
    pub lines: BTreeMap<u32, bool>,
    /// Functions in the order of their first lines.
    pub functions: Vec<FunctionCoverage>,
}

impl FileCoverage {
    /// Lines that were executed.
    pub fn covered(&self) -> usize {
        self.lines.values().filter(|covered| **covered).count()
    }
}

/// Coverage of a function, all its instances and inlined copies together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionCoverage {
    /// Its name, without generic parameters.
    pub name: String,
    /// First line of it that has an instrumented place.
    pub line: u32,
    /// Edges in it.
    pub edges: u32,
    /// Edges that were executed.
    pub covered: u32,
    /// Lines whose first place was not executed while others of the function were.
    pub frontier: Vec<u32>,
}

/// What of an image belongs to which source.
#[derive(Clone, Debug)]
pub struct Map {
    /// Lines of each place.
    lines: Vec<Vec<Place>>,
    /// Innermost function of each place, with its file and the line of the place.
    functions: Vec<Option<(String, Place)>>,
}

impl Map {
    /// Looks all places of an image up.
    pub fn new(points: &[Point], symbols: &Symbols) -> Self {
        let mut lines = Vec::with_capacity(points.len());
        let mut functions = Vec::with_capacity(points.len());
        for point in points {
            lines.push(symbols.lines(point.address, point.end));
            let innermost = symbols.frames(point.address).into_iter().next();
            functions.push(innermost.and_then(|frame| {
                let name = without_generics(&frame.function);
                let name = name.rsplit("::").find(|part| !part.starts_with('{')).unwrap_or(&name).to_owned();
                // Code that no line is known of belongs to none.
                Some((name, frame.location.filter(|(_, line)| *line != 0)?))
            }));
        }
        Self { lines, functions }
    }

    /// Places of the image.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// True where the image has no place at all.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The function, file and line of an edge.
    pub fn place(&self, edge: u32) -> Option<(&str, &str, u32)> {
        let (name, (file, line)) = self.functions.get(edge as usize)?.as_ref()?;
        Some((name, file, *line))
    }

    /// Coverage by file, for the edges that were covered.
    pub fn files(&self, covered: &[u32]) -> BTreeMap<String, FileCoverage> {
        let mut seen = vec![false; self.len()];
        for edge in covered {
            if let Some(seen) = seen.get_mut(*edge as usize) {
                *seen = true;
            }
        }
        let mut files: BTreeMap<String, FileCoverage> = BTreeMap::new();
        let mut functions: BTreeMap<(&str, &str), FunctionCoverage> = BTreeMap::new();
        for (edge, lines) in self.lines.iter().enumerate() {
            for (file, line) in lines.iter().filter(|(_, line)| *line != 0) {
                let known = files.entry(file.clone()).or_default().lines.entry(*line).or_default();
                *known |= seen[edge];
            }
            let Some((name, (file, line))) = &self.functions[edge] else { continue };
            let function = functions.entry((file, name)).or_insert_with(|| FunctionCoverage {
                name: name.clone(),
                line: *line,
                edges: 0,
                covered: 0,
                frontier: Vec::new(),
            });
            function.line = function.line.min(*line);
            function.edges += 1;
            if seen[edge] {
                function.covered += 1;
            } else {
                function.frontier.push(*line);
            }
        }
        for ((file, _), mut function) in functions {
            let file = files.entry(file.to_owned()).or_default();
            // A line that was executed in one instance is no frontier because it was not in another.
            function.frontier.retain(|line| !file.lines.get(line).copied().unwrap_or_default());
            function.frontier.sort_unstable();
            function.frontier.dedup();
            file.functions.push(function);
        }
        for file in files.values_mut() {
            file.functions.sort_by(|a, b| (a.line, &a.name).cmp(&(b.line, &b.name)));
        }
        files
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> Map {
        let at = |line| ("a.rs".to_owned(), line);
        Map {
            lines: vec![vec![at(1), at(2)], vec![at(4)], vec![at(4), at(0)], vec![at(9)]],
            functions: vec![
                Some(("f".into(), at(1))),
                Some(("f".into(), at(4))),
                Some(("g".into(), at(4))),
                None,
            ],
        }
    }

    #[test]
    fn a_line_is_covered_if_any_of_its_places_is() {
        let files = map().files(&[0, 2, 77]);
        let file = &files["a.rs"];
        assert_eq!(file.lines, BTreeMap::from([(1, true), (2, true), (4, true), (9, false)]));
        assert_eq!(file.covered(), 3);
    }

    #[test]
    fn functions_know_what_is_missing() {
        let files = map().files(&[0]);
        let functions = &files["a.rs"].functions;
        let facts: Vec<_> =
            functions.iter().map(|f| (f.name.as_str(), f.edges, f.covered, f.frontier.clone())).collect();
        assert_eq!(facts, [("f", 2, 1, vec![4]), ("g", 1, 0, vec![4])]);
        assert!(map().files(&[0, 2])["a.rs"].functions[0].frontier.is_empty(), "line 4 has run elsewhere");
    }

    #[test]
    fn the_image_has_lines_of_the_hypervisors_own_files() {
        let symbols = Symbols::from_elf(crate::images::HYPERVISOR).expect("it has line tables");
        let points = crate::triage::points::read(crate::images::HYPERVISOR).expect("it has a table");
        let map = Map::new(&points, &symbols);
        let files = map.files(&[]);
        let poll = &files["hypervisor/src/hypercall/sched_op.rs"];
        assert!(poll.lines.len() > 30 && poll.covered() == 0);
        assert!(poll.functions.iter().any(|function| function.name == "poll"));
        let all: Vec<u32> = (0..points.len() as u32).collect();
        let everything = map.files(&all);
        assert!(everything.values().all(|file| file.covered() == file.lines.len()));
    }
}
