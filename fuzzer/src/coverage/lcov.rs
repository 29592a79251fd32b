//! Export in the format of lcov's tracefiles (`man geninfo`): records of a file, its functions and its lines.

use std::{collections::BTreeMap, fmt::Write};

use super::FileCoverage;

/// Renders files as one tracefile. `root` is put before each path, where editors look for sources.
pub fn render(files: &BTreeMap<String, FileCoverage>, root: &str) -> String {
    let mut out = String::from("TN:hyperfuzz\n");
    for (path, file) in files {
        let _ = writeln!(out, "SF:{root}{path}");
        // Two functions of one name need two names.
        let names: Vec<String> =
            file.functions.iter().map(|function| format!("{}:{}", function.name, function.line)).collect();
        for (name, function) in names.iter().zip(&file.functions) {
            let _ = writeln!(out, "FN:{},{name}", function.line);
        }
        for (name, function) in names.iter().zip(&file.functions) {
            let _ = writeln!(out, "FNDA:{},{name}", u8::from(function.covered > 0));
        }
        let hit = file.functions.iter().filter(|function| function.covered > 0).count();
        let _ = writeln!(out, "FNF:{}\nFNH:{hit}", names.len());
        for (line, covered) in &file.lines {
            let _ = writeln!(out, "DA:{line},{}", u8::from(*covered));
        }
        let _ = writeln!(out, "LF:{}\nLH:{}\nend_of_record", file.lines.len(), file.covered());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::FunctionCoverage;

    #[test]
    fn a_file_is_a_record() {
        let function =
            FunctionCoverage { name: "f".into(), line: 3, edges: 2, covered: 1, frontier: vec![4] };
        let file = FileCoverage { lines: BTreeMap::from([(3, true), (4, false)]), functions: vec![function] };
        let text = render(&BTreeMap::from([("a.rs".to_owned(), file)]), "/src/");
        assert_eq!(
            text,
            "TN:hyperfuzz\nSF:/src/a.rs\nFN:3,f:3\nFNDA:1,f:3\nFNF:1\nFNH:1\nDA:3,1\nDA:4,0\nLF:2\nLH:1\nend_of_record\n"
        );
    }
}
