//! `hyperfuzz regress`: programs that once showed a defect.

use std::{fs, path::Path};

use tempfile::tempdir;

use crate::support::{line, machine};

/// Meets the planted bug `poll-unalloc`.
const POLL: &str = "d1 sched_op.poll(&{ports: &[500], nr_ports: 1, timeout: past})\n";
/// Meets the planted bug `count-sign`.
const COUNT: &str = "d1 console_io.write(0x80000000, &fill(0x41, 600))\n";

/// A campaign that finds what programs meet and does nothing else.
fn campaign(directory: &Path, programs: &[&str], plants: &str) {
    fs::create_dir(directory.join("start")).unwrap();
    for (number, program) in programs.iter().enumerate() {
        fs::write(directory.join(format!("start/{number}.hf")), program).unwrap();
    }
    let fuzz =
        format!("fuzz {{}}/c --seed 1 --plant {plants} --corpus {{}}/start --execs {}", programs.len());
    line(&fuzz, directory).exits(1);
}

#[test]
fn the_programs_of_the_repository_stay_fixed() {
    let _turn = machine();
    let all_plants = planted_bugs::Bug::ALL.map(planted_bugs::Bug::name).join(",");
    for options in ["", "--target reference-pv", &format!("--plant {all_plants}")] {
        let run = line(&format!("regress {options}"), Path::new(".")).exits(0);
        assert!(run.verdict().ends_with(" 0 known, 0 failed"), "{options}: {run:#?}");
    }
}

#[test]
fn a_finding_leaves_a_file_that_fails_until_it_is_fixed_or_known() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    campaign(dir.path(), &[POLL, COUNT], "poll-unalloc,count-sign");
    let run = line("regress {}/c", dir.path()).exits(1);
    let failed: Vec<&str> = run.out.lines().filter_map(|line| line.strip_prefix("FAILS  ")).collect();
    assert!(failed.len() == 2 && failed.iter().all(|path| path.ends_with("/regression.hf")), "{run:#?}");
    assert!(run.verdict().ends_with("0 known, 2 failed"), "{run:#?}");

    // The file says what it is and needs.
    let file = failed[0];
    let text = fs::read_to_string(file).unwrap();
    let bucket = Path::new(file).parent().unwrap().file_name().unwrap().to_str().unwrap();
    for words in
        [format!("# bucket: {bucket}\n"), "# plant: count-sign,poll-unalloc\n".into(), "# build: ".into()]
    {
        assert!(text.contains(&words), "{text}");
    }
    let finding = line("export {}", Path::new(file).parent().unwrap()).exits(0);
    assert!(text.ends_with(&finding.out), "the program itself: {text}");

    // Known, and then fixed: the bug is not planted any more.
    let known = dir.path().join("known.hf");
    fs::write(&known, format!("# known: {bucket}\n{text}")).unwrap();
    let run = line("regress {}", &known).exits(2);
    assert!(run.out.contains(&format!("known  {}\n       {bucket}: ", known.display())), "{run:#?}");
    let fixed = text.replace("# plant: ", "# planted: ");
    fs::write(&known, format!("# known: {bucket}\n{fixed}")).unwrap();
    let run = line("regress {}", &known).exits(0);
    assert!(run.out.contains(&format!("       known, and not seen: {bucket}\n")), "{run:#?}");
    // Another bucket than the one that is known.
    fs::write(&known, format!("# known: fault-elsewhere-00000000\n{text}")).unwrap();
    line("regress {}", &known).exits(1);
}

#[test]
fn programs_and_verdict_are_lines_of_json() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("p")).unwrap();
    fs::write(dir.path().join("p/a.hf"), format!("# plant: poll-unalloc\n{POLL}")).unwrap();
    fs::write(dir.path().join("p/b.hf"), format!("# target: reference-pv\n{POLL}")).unwrap();
    let events = line("regress --json {}/p", dir.path()).exits(1).events();
    let [.., a, b, end] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&a["result"], &a["plants"][0]), (&"fails".into(), &"poll-unalloc".into()));
    assert!(a["bucket"].as_str().is_some_and(|bucket| bucket.starts_with("fault-")), "{a}");
    assert_eq!((&b["result"], &b["bucket"]), (&"ok".into(), &serde_json::Value::Null));
    assert_eq!(b["target"], "reference-pv");
    assert_eq!((&end["event"], &end["failed"], &end["exit"]), (&"end".into(), &1.into(), &1.into()));
    assert_eq!(end["programs"], events.len() - 1);
}

#[test]
fn what_cannot_be_run_is_named() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("p.hf");
    for (content, words) in [
        ("d1 nothing.here()\n", vec!["p.hf", "operation"]),
        ("# known: ../etc\nd1 sched_op.yield()\n", vec!["p.hf", "../etc", "bucket"]),
        ("# target: vax\nd1 sched_op.yield()\n", vec!["p.hf", "vax"]),
    ] {
        fs::write(&file, content).unwrap();
        line("regress {}", &file).complains(&words);
    }
    line("regress {}/nowhere", dir.path()).complains(&["nowhere"]);
    fs::remove_file(&file).unwrap();
    line("regress {}", dir.path()).complains(&["no program there"]);
}

#[test]
fn planted_bugs_that_do_not_exist_are_named_with_the_file() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("p.hf");
    fs::write(&file, "# plant: none-such\nd1 sched_op.yield()\n").unwrap();
    let _turn = machine();
    line("regress {}", &file).complains(&["p.hf", "none-such", "poll-hang"]);
}
