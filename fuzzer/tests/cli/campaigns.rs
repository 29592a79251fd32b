//! Campaigns from their first execution to their verdict, and what they leave.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use tempfile::tempdir;

use crate::support::{Background, Load, Run, corpus_len, files, line, machine, until};

#[test]
fn a_clean_smoke_finds_nothing_and_ends_with_the_verdict() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let run = line("smoke --execs 6000 --time 110", dir.path()).exits(0);
    assert!(run.verdict().starts_with("verdict: 0 new, 0 known findings; 6000 executions"), "{run:#?}");
    assert!(!run.out.contains("campaign:"), "nothing was asked to be kept: {run:#?}");
}

#[test]
fn a_planted_bug_is_found_reported_replayed_and_known_the_next_time() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = dir.path().join("campaign");
    let run = line("smoke --plant count-sign --until-finding --time 60 --dir {}", &campaign).exits(1);
    assert!(run.verdict().starts_with("verdict: 1 new, 0 known findings"), "{run:#?}");

    let found: Vec<_> = fs::read_dir(campaign.join("findings")).unwrap().map(|e| e.unwrap().path()).collect();
    let [finding] = found.as_slice() else { panic!("{found:?}") };
    let mut names: Vec<_> = files(finding).into_keys().map(|p| p.file_name().unwrap().to_owned()).collect();
    names.sort();
    let expected = [
        "console.log",
        "finding.json",
        "original.hf",
        "program.hf",
        "program.hfw",
        "regression.hf",
        "report.txt",
        "seen.json",
    ];
    assert_eq!(names, expected);
    let report = fs::read_to_string(finding.join("report.txt")).unwrap();
    assert!(run.out.contains(report.trim_end()), "the report is shown when it is found");
    let stack = report.split("stack of the hypervisor").nth(1).expect("a stack");
    assert!(stack.contains(".rs:"), "symbols with source lines: {report}");
    assert!(report.contains("reproduced  10 of 10 runs, first run on a clean boot"), "{report}");
    assert!(report.contains("also in     reference-pv: yes, same bucket"), "{report}");
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(finding.join("finding.json")).unwrap()).unwrap();
    assert_eq!(json["plants"][0], "count-sign");
    assert_eq!(json["bucket"], finding.file_name().unwrap().to_str().unwrap());
    line("corpus validate {}", finding).exits(0);

    // With the bug that finding.json names, in either form, and without it.
    for name in ["", "/program.hfw", "/original.hf"] {
        let run = line(&format!("replay {{}}{name}"), finding).exits(1);
        assert!(run.out.contains("\nreproduced: "), "{run:#?}");
    }
    fs::copy(finding.join("program.hf"), dir.path().join("alone.hf")).unwrap();
    let run = line("replay {}/alone.hf", dir.path()).exits(0);
    assert!(!run.out.contains("reproduced"), "{run:#?}");

    // What the clean build answers differently is said as well.
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    fs::copy(finding.join("program.hf"), copy.join("program.hf")).unwrap();
    let changed = json.to_string().replace("\"plants\":[\"count-sign\"]", "\"plants\":[]");
    fs::write(copy.join("finding.json"), changed).unwrap();
    assert!(line("replay {}", &copy).exits(0).out.contains("NOT reproduced"));

    // And that the finding is of another build, which the answer may be due to.
    let build = json["build"].as_str().unwrap();
    assert!(!line("replay {}", finding).exits(1).out.contains("this is build"));
    fs::write(copy.join("finding.json"), json.to_string().replace(build, "0123")).unwrap();
    let run = line("replay {}", &copy).exits(1);
    assert!(run.out.contains(&format!("the finding is of build 0123; this is build {build}\n")), "{run:#?}");

    // The next session meets it first of all.
    fs::copy(finding.join("original.hf"), campaign.join("corpus/000000-0000000000000000.hf")).unwrap();
    let unchanging = || {
        let mut files = files(&campaign.join("findings"));
        files.retain(|path, _| !path.ends_with("seen.json"));
        files
    };
    let before = unchanging();
    let run = line("fuzz {} --plant count-sign --execs 1", &campaign).exits(2);
    assert!(run.verdict().starts_with("verdict: 0 new, 1 known findings; 1 executions"), "{run:#?}");
    assert_eq!(unchanging(), before, "a known finding is left alone");
}

#[test]
fn json_is_complete_and_ends_with_the_end() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let run =
        line("smoke --json --plant count-sign --until-finding --time 60 --dir {}/c", dir.path()).exits(1);
    let events = run.events();
    let names: Vec<_> = events.iter().map(|e| e["event"].as_str().expect("a name")).collect();
    assert_eq!(names.first(), Some(&"start"));
    assert_eq!(names.last(), Some(&"end"));
    assert!(names.contains(&"finding"), "{names:?}");
    let end = events.last().unwrap();
    assert_eq!((&end["exit"], &end["ended"]), (&1.into(), &"finding".into()));
    assert!(end["statistics"]["crashes"].as_object().is_some_and(|c| !c.is_empty()), "{end}");
    assert_eq!(run.err, "", "programs read standard output, people are not addressed");
}

/// What a campaign came to, without anything that the clock has a say in.
#[derive(Debug, PartialEq)]
struct Essence {
    /// Corpus and findings: names of files below the campaign, and what they hold.
    files: BTreeMap<PathBuf, String>,
    /// Counters of the session, down to each operation and each bucket.
    statistics: serde_json::Value,
}

fn essence(campaign: &Path, run: &Run) -> Essence {
    let mut all = files(&campaign.join("corpus"));
    all.extend(files(&campaign.join("findings")));
    // Times of day.
    all.retain(|path, _| !path.ends_with("seen.json"));
    let files = all.into_iter().map(|(path, content)| {
        let text = String::from_utf8_lossy(&content);
        // The second of the session, and the line of the report with it.
        let timeless = text.lines().filter(|l| !l.contains("\"after_seconds\"") && !l.starts_with("found  "));
        (path.strip_prefix(campaign).unwrap().to_owned(), timeless.collect::<Vec<_>>().join("\n"))
    });
    let files = files.collect();
    let mut statistics = run.events().pop().expect("events")["statistics"].take();
    // A host without a free moment may cost a machine; it is replaced, and the results are the same.
    statistics.as_object_mut().expect("counters").remove("restarts");
    Essence { files, statistics }
}

/// Campaigns of one seed come to the same, on a busy host as well.
fn the_same_seed_gives_the_same(target: &str, executions: u32) {
    let _turn = machine();
    for start in ["--corpus empty", "--corpus seeds --plant count-sign,m2p-desync,poll-unalloc"] {
        let dir = tempdir().unwrap();
        let campaign = |name: &str| {
            let text =
                format!("fuzz {{}}/{name} --json --seed 42 --execs {executions} --target {target} {start}");
            let run = line(&text, dir.path());
            assert_ne!(run.code, Some(3), "{run:#?}");
            essence(&dir.path().join(name), &run)
        };
        let first = campaign("a");
        let second = {
            let _load = Load::start(3);
            campaign("b")
        };
        assert!(first.files.len() > 100, "{start}: {}", first.files.len());
        assert_eq!(first.statistics["executions"], executions);
        let found = first.files.keys().any(|path| path.ends_with("report.txt"));
        assert_eq!(found, start.contains("--plant"), "{start}: {:?}", first.statistics["crashes"]);
        let differs = first.files.iter().zip(&second.files).find(|(a, b)| a != b);
        assert_eq!(differs, None, "{start}: the campaigns part at this file");
        assert_eq!(first, second, "{start}");
    }
}

#[test]
fn the_same_seed_gives_the_same_in_hvm() {
    the_same_seed_gives_the_same("reference-hvm", 4000);
}

#[test]
fn the_same_seed_gives_the_same_in_pv() {
    the_same_seed_gives_the_same("reference-pv", 4000);
}

#[test]
fn a_campaign_goes_on_where_it_stopped() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let run = line("fuzz {}/c --seed 3 --execs 500", dir.path()).exits(0);
    let seeds = files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../corpora/seeds")));
    let expected = format!("session 1, {} programs to start from", seeds.len());
    assert!(!seeds.is_empty() && run.err.contains(&expected), "{run:#?}");
    let before = files(&dir.path().join("c/corpus"));
    let run = line("fuzz {}/c --seed 99 --execs 1500", dir.path()).exits(0);
    let expected = format!("seed 3, session 2, {} programs to start from", before.len());
    assert!(run.err.contains(&expected), "{run:#?}");
    let after = files(&dir.path().join("c/corpus"));
    assert!(after.len() >= before.len());
    for (path, content) in before {
        assert_eq!(after.get(&path), Some(&content), "{}", path.display());
    }
    line("corpus validate {}/c/corpus", dir.path()).exits(0);
    line("corpus validate {}/c", dir.path()).complains(&["is a campaign", "corpus"]);
}

#[test]
fn only_the_campaign_that_fits_is_touched() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let file = dir.path().join("c/campaign.json");
    line("fuzz {}/c --seed 3 --execs 40", dir.path()).exits(0);
    let original = fs::read_to_string(&file).unwrap();
    let build = original.split("\"build\": \"").nth(1).and_then(|s| s.split('"').next()).unwrap();
    let variants = [
        (
            original.replace("\"format\": 1", "\"format\": 99"),
            "",
            vec!["format 99", "move the directory away"],
        ),
        (original.replace(build, "00ff"), "", vec!["build 00ff", "--corpus"]),
        (original.replace("reference-hvm", "other"), "", vec!["target other"]),
        (original.clone(), "--plant m2p-desync", vec!["planted bugs (none)", "m2p-desync"]),
        (original.replace("\"seed\"", "\"sead\""), "", vec!["campaign.json", "seed"]),
        (original[..original.len() / 2].to_owned(), "", vec!["campaign.json", "not a campaign description"]),
        (String::new(), "", vec!["campaign.json"]),
    ];
    for (content, options, words) in variants {
        fs::write(&file, &content).unwrap();
        let before = files(dir.path());
        line(&format!("fuzz {{}}/c --execs 40 {options}"), dir.path()).complains(&words);
        assert_eq!(files(dir.path()), before, "{words:?}");
    }
    // A directory with something else in it.
    let other = dir.path().join("photos");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("cat.jpg"), "cat").unwrap();
    line("fuzz {} --execs 40", &other).complains(&["photos", "is not empty and holds no campaign"]);
    assert_eq!(files(&other).len(), 1);
    assert_eq!(fs::read_dir(&other).unwrap().count(), 1);
    line("fuzz {}/cat.jpg --execs 40", &other).complains(&["cat.jpg"]);
}

#[test]
fn two_cannot_work_in_one_directory() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = dir.path().join("c");
    let first = Background::start("fuzz {} --seed 1 --time 60", &campaign);
    until("the first has begun", || corpus_len(&campaign) > 10);
    line("fuzz {} --execs 10", &campaign).complains(&["in use by another hyperfuzz"]);
    first.signal(rustix::process::Signal::INT);
    let run = first.wait().exits(0);
    assert!(run.err.contains("session 1"), "{run:#?}");
    line("corpus validate {}/corpus", &campaign).exits(0);
}
