//! `bench triage`: it hunts, judges, goes on, and does not mix what was measured differently.

use std::fs;

use tempfile::tempdir;

use crate::support::{files, line, machine};

/// Bugs that are found within seconds; few crashes, since each is run again.
const SMALL: &str = "bench triage {} --target reference-pv --plant count-sign,grant-uninit --cap 100 --crashes 20 --collect 4 --json";

#[test]
fn a_small_one_measures_programs_and_buckets_and_repeats_nothing() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let root = dir.path().join("t");
    // Whether twenty crashes are told apart well is not for a test to say.
    let run = line(SMALL, &root);
    assert!(matches!(run.code, Some(0 | 1)), "{run:#?}");
    let report = run.events().remove(0);
    let results = &report["results"];
    for (at, bug) in ["count-sign", "grant-uninit"].into_iter().enumerate() {
        let hunt = &results["hunts"][at];
        let found = &hunt["found"];
        assert_eq!(hunt["bug"], bug, "{hunt}");
        assert!(found["minimised"].as_u64() <= Some(2), "{hunt}");
        assert!(found["raw"].as_u64() >= found["minimised"].as_u64(), "{hunt}");
        assert_eq!((&found["reproduction"]["reproduced"], &found["triggers"]), (&10.into(), &true.into()));
        assert!(root.join(format!("bugs/{bug}/program.hf")).exists(), "{bug}");
    }
    let sample = &results["samples"][0];
    let judged = sample["judgement"]["crashes"].as_u64().unwrap();
    let left_out: u64 =
        ["undecided", "untriggered", "not_again"].iter().map(|what| sample[what].as_u64().unwrap()).sum();
    let ended_badly = results["campaign"][1].as_u64().unwrap();
    assert_eq!(judged + left_out, ended_badly.min(20), "{sample}");
    for rate in ["precision", "recall", "purity"] {
        let rate = sample["judgement"][rate].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&rate), "{sample}");
    }
    let csv = fs::read_to_string(root.join("results.csv")).unwrap();
    let columns = csv.lines().next().unwrap().split(',').count();
    assert!(csv.lines().count() == 3 && csv.lines().all(|row| row.split(',').count() == columns), "{csv}");
    let table = fs::read_to_string(root.join("results.md")).unwrap();
    assert!(table.contains("| grant-uninit |") && table.contains("uniform sample"), "{table}");

    // What is there is not done again, and the same comes out.
    let before = files(&root);
    let again = line(SMALL, &root);
    assert!(!again.err.contains("hunting") && !again.err.contains("collecting"), "{again:#?}");
    assert_eq!(again.events()[0]["results"], *results);
    let changed: Vec<_> =
        files(&root).into_iter().filter(|(path, content)| before.get(path) != Some(content)).collect();
    assert!(changed.is_empty(), "{:?}", changed.iter().map(|(path, _)| path).collect::<Vec<_>>());

    line(&format!("{SMALL} --seed 9"), &root).complains(&["count-sign.json", "other options"]);
    let more = SMALL.replace("--crashes 20", "--crashes 30");
    line(&more, &root).complains(&["crashes.json", "other options"]);
}

#[test]
fn what_is_no_benchmark_is_left_alone() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "precious").unwrap();
    line("bench triage {}", dir.path()).complains(&["holds no benchmark"]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    line("bench triage {}/t --plant nonsense", dir.path()).complains(&["nonsense", "poll-unalloc"]);
}
