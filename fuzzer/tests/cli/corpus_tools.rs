//! `corpus cmin`, `functions`, `merge` and `import`.

use std::{fs, path::Path};

use tempfile::tempdir;

use crate::support::{Background, corpus_len, files, line, machine, until};

const YIELD: &str = "d1 sched_op.yield()\n";
const VERSION: &str = "d1 xen_version.version()\n";
/// Covers what both of them do, and is longer than either.
const BOTH: &str = "d1 sched_op.yield()\nd1 xen_version.version()\nd1 sched_op.yield()\n";

fn write(dir: &Path, programs: &[(&str, &str)]) {
    fs::create_dir_all(dir).unwrap();
    for (name, text) in programs {
        fs::write(dir.join(name), text).unwrap();
    }
}

fn names(dir: &Path) -> Vec<String> {
    let relative = |path: &Path| path.strip_prefix(dir).unwrap().display().to_string();
    files(dir).keys().map(|path| relative(path)).collect()
}

#[test]
fn cmin_keeps_what_is_needed_and_says_what_ends_badly() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let programs = dir.path().join("p");
    // The copy of a program, and a program that only repeats another, add nothing.
    write(
        &programs,
        &[
            ("1.hf", YIELD),
            ("2.hf", YIELD),
            ("3.hf", "# kept as it is\nd1 xen_version.version()\n"),
            ("4.hf", VERSION),
            ("crash.hf", "d1 sched_op.poll(&{ports: &[500], nr_ports: 1, timeout: past})\n"),
        ],
    );
    let before = files(&programs);
    let run = line("corpus cmin {}/p --output {}/out --plant poll-unalloc --json", dir.path()).exits(0);
    let report = &run.events()[0];
    assert_eq!((&report["programs"], &report["kept"]), (&5.into(), &2.into()), "{report}");
    assert!(report["left_out"][0]["bucket"].as_str().unwrap().starts_with("fault-"), "{report}");
    assert!(report["edges"].as_u64() > Some(10), "{report}");
    assert_eq!(names(&dir.path().join("out")), ["1.hf", "3.hf"]);
    assert_eq!(files(&programs), before, "nothing is deleted or changed");
    assert_eq!(
        fs::read_to_string(dir.path().join("out/3.hf")).unwrap(),
        "# kept as it is\nd1 xen_version.version()\n"
    );

    // A second time it would mix with what is there.
    line("corpus cmin {}/p --output {}/out", dir.path()).complains(&["not empty", "--output"]);
    // What is left covers the same, and nothing of it can go.
    let again = line("corpus cmin {}/out --json", dir.path()).exits(0).events().remove(0);
    assert_eq!((&again["edges"], &again["kept"]), (&report["edges"], &2.into()), "{again}");
    assert_eq!(again["dir"], dir.path().join("out/distilled").display().to_string());
}

#[test]
fn functions_are_told_by_the_operation_that_enters_them() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    write(
        &dir.path().join("p"),
        &[("1.hf", YIELD), ("2.hf", "d1 agent.cpuid(xen, 0)\nd1 xen_version.version()\n")],
    );
    let run = line("corpus functions {}/p --target reference-pv --json", dir.path()).exits(0);
    let events = run.events();
    let row = |name: &str| events.iter().find(|row| row["operation"] == name).unwrap().clone();
    for name in ["sched_op.yield", "xen_version.version"] {
        let row = row(name);
        assert!(row["functions"].as_u64() > row["own"].as_u64() && row["own"].as_u64() > Some(0), "{row}");
    }
    assert_eq!(events.last().unwrap()["programs"], 2);
    let named = "corpus functions {}/p --target reference-pv --operation xen_version.version";
    let named = line(named, dir.path()).exits(0).out;
    assert!(named.lines().any(|line| line.starts_with('*') && line.contains("version")), "{named}");
    assert!(!named.contains("yield"), "that of another program: {named}");
    line("corpus functions {}/p --operation sched_op.block", dir.path()).complains(&["sched_op.block"]);
    line("corpus functions {}/p --missing", dir.path()).complains(&["hyperfuzz report"]);
}

#[test]
fn a_campaign_is_distilled_on_its_own_target_and_fuzzed_from_there() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    line("fuzz {}/c --target reference-pv --seed 3 --execs 300", dir.path()).exits(0);
    let all = corpus_len(&dir.path().join("c"));
    let run = line("corpus cmin {}/c", dir.path()).exits(0);
    assert!(run.out.contains(&format!("of {all} programs kept")) && run.out.contains("--corpus"), "{run:#?}");
    let kept = names(&dir.path().join("c/distilled"));
    assert!(!kept.is_empty() && kept.len() < all, "{} of {all}", kept.len());
    line("corpus validate {}/c/distilled", dir.path()).exits(0);
    line("fuzz {}/d --target reference-pv --corpus {}/c/distilled --execs 50", dir.path()).exits(0);
}

#[test]
fn merge_takes_each_program_once_and_names_what_it_refuses() {
    let dir = tempdir().unwrap();
    write(&dir.path().join("a"), &[("x.hf", YIELD), ("y.hf", VERSION)]);
    write(&dir.path().join("b"), &[("x.hf", BOTH), ("z.hf", YIELD), ("bad.hf", "d1 no.such()\n")]);
    let run = line("corpus merge {}/out {}/a {}/b", dir.path()).exits(3);
    assert!(run.out.contains("refused") && run.out.contains("bad.hf: line 1"), "{run:#?}");
    assert!(run.out.contains("3 programs added") && run.out.contains("1 were there, 1 refused"), "{run:#?}");
    let found = names(&dir.path().join("out"));
    assert!(found.len() == 3 && found[0].starts_with("x-") && found[1] == "x.hf", "{found:?}");
    let again = line("corpus merge {}/out {}/a --json", dir.path()).exits(0).events().remove(0);
    assert_eq!((&again["added"], &again["known"]), (&0.into(), &2.into()), "{again}");
    line("corpus merge {}/out {}/nothing", dir.path()).complains(&["nothing"]);
    fs::create_dir(dir.path().join("empty")).unwrap();
    line("corpus merge {}/out {}/empty", dir.path()).complains(&["no program there"]);
}

#[test]
fn import_goes_into_campaigns_that_nobody_uses() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let root = dir.path().join("c");
    write(
        &dir.path().join("p"),
        &[("x.hf", YIELD), ("same.hf", "# again\nd1 sched_op.yield()\n"), ("bad.hf", "gibberish\n")],
    );
    line("corpus import {}/c {}/p", dir.path()).complains(&["no campaign here"]);
    assert!(!root.exists());

    let fuzzer = Background::start("fuzz {}/c --seed 1 --corpus empty", dir.path());
    until("there is a corpus", || corpus_len(&root) > 0);
    line("corpus import {}/c {}/p", dir.path()).complains(&["in use by another hyperfuzz"]);
    fuzzer.signal(rustix::process::Signal::INT);
    fuzzer.wait();

    let before = corpus_len(&root);
    let run = line("corpus import {}/c {}/p --json", dir.path()).exits(3);
    let report = &run.events()[0];
    assert_eq!(report["added"].as_u64().unwrap() + report["known"].as_u64().unwrap(), 2, "{report}");
    assert!(report["refused"][0].as_str().unwrap().contains("bad.hf"), "{report}");
    assert_eq!(corpus_len(&root), before + report["added"].as_u64().unwrap() as usize);
    let description = fs::read_to_string(root.join("campaign.json")).unwrap();
    assert!(description.contains("\"sessions\": 1"), "{description}");
    line("corpus validate {}/c/corpus", dir.path()).exits(0);
    let after = corpus_len(&root);
    // The campaign is begun from there.
    let resumed = line("fuzz {}/c --seed 1 --execs 50 --json", dir.path()).exits(0).events();
    assert_eq!(resumed[0]["initial"].as_u64(), Some(after as u64));
    line("corpus import {}/p {}/p/x.hf", dir.path()).complains(&["no campaign here"]);
}
