//! `bench effectiveness`: it measures, goes on, refuses other builds, and its gate can be lost.

use std::{collections::BTreeMap, fs, path::Path};

use rustix::process::Signal;
use tempfile::tempdir;

use crate::support::{Background, files, line, machine, until};

/// Names of the finished trials, with their content.
fn trials(benchmark: &Path) -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir(benchmark.join("trials")) else { return BTreeMap::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
        })
        .collect()
}

const SMALL: &str =
    "bench effectiveness {} --corpus seeded --plant count-sign,poll-unalloc --cap 6 --mode b5,b0";

#[test]
fn a_small_benchmark_says_who_found_what_and_is_not_run_twice() {
    let _turn = machine();
    let directory = tempdir().unwrap();
    let root = directory.path().join("b");
    let run = line(&format!("{SMALL} --trials 1 --clean 1"), &root).exits(0);
    assert!(run.verdict().starts_with("verdict: good; 3 trials"), "{run:#?}");
    let found = trials(&root);
    let names: Vec<_> = found.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["reference-hvm-seeded-b0-000", "reference-hvm-seeded-b5-000", "reference-hvm-seeded-b5-clean-000"]
    );

    // What B5 finds within the time on any machine, it says when, and that it can be reproduced.
    let b5: serde_json::Value = serde_json::from_str(&found["reference-hvm-seeded-b5-000"]).unwrap();
    for bug in ["count-sign", "poll-unalloc"] {
        let record = &b5["bugs"][bug];
        let at = |what: &str| {
            record[what]["first"]["seconds"].as_f64().unwrap_or_else(|| panic!("{what}: {record}"))
        };
        assert!(at("reached") <= at("triggered") && at("triggered") <= at("detected"), "{record}");
        assert_eq!(record["replay"]["reproduced"], 10, "{record}");
        assert_eq!(record["replay"]["on_clean_boot"], true, "{record}");
        assert_eq!(record["replay"]["calls"], 1, "{record}");
    }
    assert_eq!(b5["reset_mismatches"][0], 0, "{}", b5["reset_mismatches"]);
    assert!(b5["reset_mismatches"][1].as_u64() > Some(0), "{}", b5["reset_mismatches"]);
    assert_eq!(b5["unexplained"].as_array().map(Vec::len), Some(0), "{}", b5["unexplained"]);
    let clean: serde_json::Value = serde_json::from_str(&found["reference-hvm-seeded-b5-clean-000"]).unwrap();
    assert_eq!(
        (&clean["bad_ends"], clean["bugs"].as_object().map(serde_json::Map::len)),
        (&0.into(), Some(0))
    );

    let csv = fs::read_to_string(root.join("results.csv")).unwrap();
    let rows: Vec<_> = csv.lines().collect();
    assert_eq!(rows.len(), 1 + 2 * 2, "a header, and a row for each trial and bug: {csv}");
    let columns = rows[0].split(',').count();
    assert!(rows.iter().all(|row| row.split(',').count() == columns), "{csv}");
    let summary: serde_json::Value =
        serde_json::from_slice(&fs::read(root.join("results.json")).unwrap()).unwrap();
    assert_eq!(summary["groups"][0]["cells"].as_array().map(Vec::len), Some(2));
    let page = fs::read_to_string(root.join("index.html")).unwrap();
    for word in ["<svg", "poll-unalloc", "B5 detects 2 of 2 bugs", "nothing was found"] {
        assert!(page.contains(word), "{word}");
    }

    // Everything is there: the second time only the tables are made.
    let run = line(&format!("{SMALL} --trials 1 --clean 1"), &root).exits(0);
    assert!(!run.err.contains("begin"), "{run:#?}");
    assert_eq!(trials(&root), found);

    // Other options do not mix with what is there.
    line(&format!("{SMALL} --trials 1 --seed 7"), &root).complains(&["run with other options", "seed"]);
    assert_eq!(trials(&root), found);
}

#[test]
fn a_benchmark_that_was_killed_goes_on_and_ctrl_c_ends_it_cleanly() {
    let _turn = machine();
    let directory = tempdir().unwrap();
    let root = directory.path().join("b");
    let command = "bench effectiveness {} --mode b4 --corpus empty --plant count-sign --cap 3 --trials 3";
    let first = Background::start(command, &root);
    until("a trial is finished", || !trials(&root).is_empty());
    first.signal(Signal::KILL);
    assert_eq!(first.wait().code, None);
    let before = trials(&root);
    assert_eq!(before.len(), 1, "{:?}", before.keys());

    let second = Background::start(command, &root);
    until("the next one runs", || second.qemu().is_some());
    second.signal(Signal::INT);
    second.wait().complains(&["interrupted", "of 3 trials finished", "the same command goes on"]);
    let between = trials(&root);
    assert!(between.len() < 3, "{:?}", between.keys());

    line(command, &root).exits(0);
    let after = trials(&root);
    assert_eq!(after.len(), 3);
    assert!(before.iter().chain(&between).all(|(name, trial)| after[name] == *trial));
    let seeds = after
        .values()
        .map(|trial| serde_json::from_str::<serde_json::Value>(trial).unwrap()["seed"].as_u64().unwrap());
    assert_eq!(seeds.collect::<std::collections::BTreeSet<_>>().len(), 3, "seeds are distinct");
}

#[test]
fn another_build_is_refused() {
    let directory = tempdir().unwrap();
    let root = directory.path().join("b");
    line("bench effectiveness {} --report-only", &root).exits(0);
    let path = root.join("bench.json");
    let text = fs::read_to_string(&path).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&text).unwrap();
    for what in ["hypervisor", "agent", "fuzzer", "qemu"] {
        let changed = text.replace(manifest[what].as_str().unwrap(), "another");
        fs::write(&path, changed).unwrap();
        let before = files(&root);
        line("bench effectiveness {} --report-only", &root)
            .complains(&["another build", "another directory"]);
        assert_eq!(files(&root), before, "{what}");
    }
    fs::write(&path, "{}").unwrap();
    line("bench effectiveness {} --report-only", &root).complains(&["bench.json", "no manifest"]);
}

#[test]
fn the_gate_can_be_lost() {
    let _turn = machine();
    let directory = tempdir().unwrap();
    let root = directory.path().join("b");
    // Random bytes for two seconds do not find everything that B5 does in a minute.
    let run = line(
        "bench effectiveness {} --preset ci --mode b0 --corpus empty --trials 1 --clean 0 --cap 2",
        &root,
    )
    .exits(1);
    assert!(run.out.contains("FAILED reference-hvm, empty, b0:"), "{run:#?}");
    assert!(run.out.contains("was not detected in 1 trials of 2 s"), "{run:#?}");
    assert!(run.verdict().contains("failures"), "{run:#?}");
}

#[test]
fn nonsense_is_refused_before_anything_is_run() {
    let directory = tempdir().unwrap();
    let root = directory.path().join("b");
    line("bench effectiveness {} --plant nonsense", &root).complains(&["--plant nonsense", "poll-unalloc"]);
    line("bench effectiveness {} --jobs 60000", &root).complains(&["--jobs 60000", "processors"]);
    line("bench effectiveness {} --qemu /nonexistent", &root).complains(&["QEMU"]);
    assert!(!root.exists());
    fs::create_dir(&root).unwrap();
    fs::write(root.join("thesis.tex"), "precious").unwrap();
    line("bench effectiveness {} --report-only", &root).complains(&["holds no benchmark"]);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 1);
}
