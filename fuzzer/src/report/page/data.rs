//! What a report is made of: everything that a campaign's directory says, in the form in which the page's script takes it.

use std::{collections::BTreeMap, io::ErrorKind, path::Path};

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

use super::curve::{self, Plateau, Sample};
use crate::{
    campaign::{
        findings::{
            mark::Mark,
            seen::{Seen, minute},
        },
        operations::Record,
        store::{self, Description},
    },
    coverage::{FileCoverage, Map, sources},
    interface::Interface,
    report::operations::{by_frequency, error_name},
    target,
};

/// Most findings that are shown whole.
const FINDINGS: usize = 500;
/// Most functions in the list of what comes next.
const FRONTIER: usize = 80;

/// The whole report.
#[derive(Debug, Serialize)]
pub struct Data {
    /// What the campaign is about.
    pub campaign: Description,
    /// Seed of the campaign, as text: scripts have no integers of 64 bits.
    pub seed: String,
    /// Progress over all sessions, in ascending order of time.
    pub series: Vec<Sample>,
    /// Whether coverage still grows; nothing where that cannot be told yet.
    pub plateau: Option<Plateau>,
    /// Figures of the engine, from the last line of metrics.
    pub health: Value,
    /// Edges that were covered, and edges that there are.
    pub edges: (usize, usize),
    /// Executions over all sessions.
    pub executions: u64,
    /// Findings as they are stored, with `mark` and `seen` of what is said of them.
    pub findings: Vec<Value>,
    /// Findings that are not shown because there are too many.
    pub more_findings: usize,
    /// Candidates that a clean boot did not confirm.
    pub unconfirmed: usize,
    /// One for each operation of the interface.
    pub operations: Vec<Row>,
    /// Source files with coverage; none where the campaign's build is not the one that this hyperfuzz carries.
    pub files: Vec<SourceFile>,
    /// Functions that were entered and not executed whole, those with most to gain first.
    pub frontier: Vec<Next>,
}

/// An operation.
#[derive(Debug, Serialize)]
pub struct Row {
    name: &'static str,
    ok: u64,
    /// Errors with their counts, the most frequent first.
    errors: Vec<(String, u64)>,
    faulted: u64,
    not_issued: u64,
    edges: u64,
}

/// A source file.
#[derive(Debug, Serialize)]
pub struct SourceFile {
    path: String,
    covered: usize,
    lines: usize,
    /// One character for each line: `1` executed, `0` not, space where there is no code.
    states: String,
    /// Name, line, edges and covered edges of each function.
    functions: Vec<(String, u32, u32, u32)>,
    text: &'static str,
}

/// A function of which more could be executed.
#[derive(Debug, PartialEq, Serialize)]
pub struct Next {
    file: String,
    function: String,
    /// Edges that were not covered, and edges that there are.
    missing: u32,
    edges: u32,
    /// Where the first of them begin.
    lines: Vec<u32>,
    /// The operation that most of what is covered of it is due to, more than to chance.
    operation: Option<String>,
}

impl Data {
    /// Reads a campaign's directory. `map` is what its edges mean in terms of source code, if that is known.
    ///
    /// # Errors
    /// When it is no campaign, or a file in it cannot be read or understood.
    pub fn read(campaign: &Path, map: Option<&Map>) -> anyhow::Result<Self> {
        let description = store::description(campaign)?;
        let record = Record::load(campaign)?.unwrap_or_default();
        let files = map.map(|map| map.files(&record.covered)).unwrap_or_default();
        let place = |edge| map.and_then(|map| map.place(edge)).map(|(function, file, _)| (function, file));
        let (series, health) = curve::read(&campaign.join("metrics.jsonl"))?;
        let (mut findings, unconfirmed) = findings(&campaign.join("findings"))?;
        let operations = rows(target::interface_of(&description.target), &record);
        let more_findings = findings.len().saturating_sub(FINDINGS);
        findings.truncate(FINDINGS);
        Ok(Self {
            seed: description.seed.to_string(),
            campaign: description,
            plateau: curve::plateau(&series),
            series: curve::thin(&series),
            health,
            edges: (record.covered.len(), record.edges_total),
            executions: record.executions,
            findings,
            more_findings,
            unconfirmed,
            operations,
            frontier: frontier(&files, &record, place),
            files: source_files(&files),
        })
    }
}

/// The stored findings, in the order in which they were found, and how many candidates were not confirmed.
fn findings(path: &Path) -> anyhow::Result<(Vec<Value>, usize)> {
    let mut found = Vec::new();
    let mut unconfirmed = 0;
    for entry in std::fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))? {
        let directory = entry.with_context(|| format!("cannot list {}", path.display()))?.path();
        let path = directory.join("finding.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            // Not complete yet, or not confirmed.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                unconfirmed += usize::from(directory.join("unconfirmed.json").exists());
                continue;
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let mut finding = serde_json::from_slice(&text)
            .map_err(anyhow::Error::from)
            .and_then(|data| readable(data).context("no object"))
            .with_context(|| format!("{} is not a finding", path.display()))?;
        finding.insert("mark".into(), serde_json::to_value(Mark::load(&directory)?)?);
        if let Some(seen) = Seen::load(&directory)? {
            let (first, last) = (minute(seen.all.first), minute(seen.all.last));
            let seen = json!({ "times": seen.all.times, "sessions": seen.session_count(), "first": first, "last": last });
            finding.insert("seen".into(), seen);
        }
        found.push(Value::Object(finding));
    }
    found.sort_by(|a, b| {
        let at = |finding: &Value| finding["after_seconds"].as_f64().unwrap_or(f64::MAX);
        at(a).total_cmp(&at(b)).then_with(|| a["bucket"].as_str().cmp(&b["bucket"].as_str()))
    });
    Ok((found, unconfirmed))
}

/// A finding in which addresses are texts, as scripts have no integers of 64 bits; none where it is no object.
fn readable(mut data: Value) -> Option<serde_json::Map<String, Value>> {
    for line in data.pointer_mut("/disassembly/lines").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(address) = line["address"].as_u64() {
            line["address"] = format!("{address:016x}").into();
        }
    }
    match data {
        Value::Object(finding) => Some(finding),
        _ => None,
    }
}

fn rows(interface: &Interface, record: &Record) -> Vec<Row> {
    interface
        .operations()
        .iter()
        .map(|operation| {
            let counters = record.operations.get(operation.name).cloned().unwrap_or_default();
            let errors = by_frequency(&counters);
            Row {
                name: operation.name,
                ok: counters.succeeded,
                errors: errors.into_iter().map(|(value, count)| (error_name(value), count)).collect(),
                faulted: counters.faulted,
                not_issued: counters.not_issued,
                edges: counters.edges,
            }
        })
        .collect()
}

fn source_files(files: &BTreeMap<String, FileCoverage>) -> Vec<SourceFile> {
    let known = files.iter().filter_map(|(path, file)| Some((path, file, sources::text(path)?)));
    known
        .map(|(path, file, text)| SourceFile {
            path: path.clone(),
            covered: file.covered(),
            lines: file.lines.len(),
            states: (1..=text.lines().count() as u32)
                .map(|line| match file.lines.get(&line) {
                    Some(true) => '1',
                    Some(false) => '0',
                    None => ' ',
                })
                .collect(),
            functions: file.functions.iter().map(|f| (f.name.clone(), f.line, f.edges, f.covered)).collect(),
            text,
        })
        .collect()
}

/// What could come next: functions that were entered and have edges left, with the operation that leads there. `place` gives the
/// function and the file of an edge.
fn frontier<'a>(
    files: &BTreeMap<String, FileCoverage>,
    record: &Record,
    place: impl Fn(u32) -> Option<(&'a str, &'a str)>,
) -> Vec<Next> {
    // How often operations occur in first programs: in each function, and over all.
    let mut overall: BTreeMap<&str, f64> = BTreeMap::new();
    let mut within: BTreeMap<(&str, &str), BTreeMap<&str, f64>> = BTreeMap::new();
    for edge in &record.covered {
        let Some((function, file)) = place(*edge) else { continue };
        for operation in record.covered_by(*edge) {
            *overall.entry(operation).or_default() += 1.0;
            *within.entry((file, function)).or_default().entry(operation).or_default() += 1.0;
        }
    }
    let all = record.covered.len().max(1) as f64;
    let mut next: Vec<Next> = Vec::new();
    for (path, file) in files.iter().filter(|(path, _)| path.starts_with("hypervisor/src/")) {
        for function in file.functions.iter().filter(|f| f.covered > 0 && !f.frontier.is_empty()) {
            let counts = within.get(&(path.as_str(), function.name.as_str()));
            let due = counts.into_iter().flatten().map(|(operation, count)| {
                (count / f64::from(function.covered) - overall[operation] / all, *operation)
            });
            let due = due.filter(|(more, _)| *more > 0.2).max_by(|a, b| a.0.total_cmp(&b.0));
            next.push(Next {
                file: path.clone(),
                function: function.name.clone(),
                missing: function.edges - function.covered,
                edges: function.edges,
                lines: function.frontier.iter().copied().take(8).collect(),
                operation: due.map(|(_, operation)| operation.to_owned()),
            });
        }
    }
    next.sort_by(|a, b| {
        b.missing.cmp(&a.missing).then_with(|| (&a.file, &a.function).cmp(&(&b.file, &b.function)))
    });
    next.truncate(FRONTIER);
    next
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::campaign::findings::mark::Status;
    use crate::coverage::FunctionCoverage;

    #[test]
    fn a_finding_comes_with_its_mark_and_when_it_was_seen_and_with_whole_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let finding = dir.path().join("fault-a-01");
        std::fs::create_dir(&finding).unwrap();
        let listing = json!({ "lines": [{ "address": u64::MAX, "text": "nop", "marked": true }, 7] });
        std::fs::write(finding.join("finding.json"), json!({ "disassembly": listing }).to_string()).unwrap();
        let read = || findings(dir.path()).unwrap().0.remove(0);
        assert_eq!((&read()["mark"]["status"], read().get("seen")), (&json!("new"), None));
        assert_eq!(read()["disassembly"]["lines"][0]["address"], "ffffffffffffffff");
        Mark::default().by_hand(Status::Known, Some("ours".into())).store(&finding).unwrap();
        let mut seen = Seen::default();
        seen.note(1, 3, 0);
        seen.note(2, 1, 60);
        seen.store(&finding).unwrap();
        assert_eq!((&read()["mark"]["status"], &read()["mark"]["note"]), (&json!("known"), &json!("ours")));
        let expected =
            json!({ "times": 4, "sessions": 2, "first": "1970-01-01 00:00", "last": "1970-01-01 00:01" });
        assert_eq!(read()["seen"], expected);
        std::fs::write(finding.join("finding.json"), "[]").unwrap();
        assert!(findings(dir.path()).unwrap_err().to_string().contains("is not a finding"));
    }

    #[test]
    fn what_comes_next_names_the_call_that_leads_there() {
        let function = |name: &str, covered, frontier: &[u32]| FunctionCoverage {
            name: name.into(),
            line: 1,
            edges: 5,
            covered,
            frontier: frontier.to_vec(),
        };
        let file = FileCoverage {
            functions: vec![
                function("entered", 2, &[7, 9]),
                function("whole", 5, &[]),
                function("never", 0, &[3]),
            ],
            ..FileCoverage::default()
        };
        let files = BTreeMap::from([("hypervisor/src/a.rs".to_owned(), file)]);
        let record = Record {
            covered: vec![0, 1, 2, 3],
            by: vec![vec![0], vec![0], vec![1], vec![1]],
            names: vec!["a.one".into(), "b.two".into()],
            ..Record::default()
        };
        let place = |edge| Some((if edge < 2 { "entered" } else { "whole" }, "hypervisor/src/a.rs"));
        let next = frontier(&files, &record, place);
        assert_eq!(next.len(), 1);
        assert_eq!((next[0].function.as_str(), next[0].missing), ("entered", 3));
        assert_eq!(next[0].operation.as_deref(), Some("a.one"));
        assert_eq!(next[0].lines, [7, 9]);
    }
}
