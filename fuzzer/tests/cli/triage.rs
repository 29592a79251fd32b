//! `hyperfuzz triage`: what a campaign has found, marked, tried again, and searched for in other builds.

use std::{
    fs,
    path::{Path, PathBuf},
};

use hyperfuzz::{images, triage::functions};
use serde_json::{Value, json};
use tempfile::tempdir;

use crate::support::{files, hyperfuzz, line, machine};

const POLL: &str = "fault-sched-op--poll-0123abcd";
const HANG: &str = "hang-memory-op-exchange-4567ef01";

/// A campaign with two findings, one of them seen in two sessions.
fn campaign(root: &Path) {
    let description = json!({
        "format": 1, "hyperfuzz": "0.1.0", "target": "reference-pv", "build": "ab", "plants": [], "seed": 1, "sessions": 2,
    });
    for (bucket, calls) in [(POLL, 1), (HANG, 3)] {
        let finding = root.join("findings").join(bucket);
        fs::create_dir_all(&finding).unwrap();
        let stored = json!({
            "bucket": bucket, "summary": "what happened", "calls": calls, "plants": [], "target": "reference-pv", "build": "ab",
            "reproduction": { "reproduced": 9, "runs": 10, "on_clean_boot": true },
        });
        fs::write(finding.join("finding.json"), stored.to_string()).unwrap();
        fs::write(finding.join("program.hf"), "d1 sched_op.yield()\n").unwrap();
        fs::write(finding.join("report.txt"), format!("finding     {bucket}\nwhat        \x1b[2J\n"))
            .unwrap();
    }
    let seen = json!({
        "all": { "first": 951_782_400, "last": 1_000_000_000, "times": 12 },
        "sessions": {
            "1": { "first": 951_782_400, "last": 951_782_400, "times": 2 },
            "2": { "first": 999_999_999, "last": 1_000_000_000, "times": 10 },
        },
    });
    fs::write(root.join("findings").join(POLL).join("seen.json"), seen.to_string()).unwrap();
    // Begun, but not complete: no finding yet.
    fs::create_dir(root.join("findings/panic-a-00000000")).unwrap();
    fs::write(root.join("campaign.json"), description.to_string()).unwrap();
}

/// The line of a table that holds a word.
#[track_caller]
fn line_with<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("no {word} in {text}"));
    line.split_whitespace().collect()
}

#[test]
fn findings_are_listed_for_people_and_for_machines() {
    let dir = tempdir().unwrap();
    campaign(dir.path());
    for command in ["triage {}", "triage {} list"] {
        let out = line(command, dir.path()).exits(0).out;
        let poll = ["new", "fault", "sched_op::poll", "12", "2000-02-29", "00:00", "2001-09-09", "01:46"];
        assert_eq!(line_with(&out, POLL)[..8], poll, "{out}");
        let hang = ["new", "hang", "memory_op.exchange", "-", "-", "-", "3", "9/10", "reference-pv", HANG];
        assert_eq!(line_with(&out, HANG), hang, "{out}");
        assert!(out.ends_with("\n2 findings: 2 new\n"), "{out}");
    }
    let lines = line("triage {} --json", dir.path()).exits(0).events();
    assert_eq!(lines.len(), 2);
    let poll = lines.iter().find(|entry| entry["bucket"] == POLL).unwrap();
    assert_eq!(
        (&poll["kind"], &poll["function"], &poll["status"]),
        (&json!("fault"), &json!("sched_op::poll"), &json!("new"))
    );
    assert_eq!(poll["seen"]["sessions"]["2"]["times"], 10);

    fs::remove_dir_all(dir.path().join("findings")).unwrap();
    fs::create_dir(dir.path().join("findings")).unwrap();
    assert_eq!(line("triage {}", dir.path()).exits(0).out, "0 findings\n");
}

#[test]
fn a_finding_is_shown_by_the_beginning_of_its_name() {
    let dir = tempdir().unwrap();
    campaign(dir.path());
    let out = line("triage {} show fault", dir.path()).exits(0).out;
    assert!(out.contains("seen        12 times in 2 sessions, first 2000-02-29 00:00"), "{out}");
    assert!(out.contains(&format!("finding     {POLL}")) && !out.contains('\x1b'), "{out:?}");
    let shown = line("triage {} show fault --json", dir.path()).exits(0).events();
    assert_eq!(shown[0]["finding"]["bucket"], POLL);
    line("triage {} show double", dir.path()).complains(&["`double`", "hyperfuzz triage"]);
    let twin = dir.path().join("findings/fault-sched-op--poll-0123ffff");
    fs::create_dir(&twin).unwrap();
    for name in ["finding.json", "report.txt"] {
        let text = fs::read_to_string(dir.path().join("findings").join(POLL).join(name)).unwrap();
        fs::write(twin.join(name), text.replace("0123abcd", "0123ffff")).unwrap();
    }
    line("triage {} show fault", dir.path()).complains(&[POLL, "0123ffff", "say more"]);
}

#[test]
fn a_mark_stays_and_touches_nothing_else() {
    let dir = tempdir().unwrap();
    campaign(dir.path());
    let before = files(dir.path());
    let path = dir.path().to_str().unwrap();
    hyperfuzz(["triage", path, "mark", "hang", "known", "--note", "reported \x1b[2J upstream"]).exits(0);
    line("triage {} mark fault false-positive", dir.path()).exits(0);
    let out = line("triage {}", dir.path()).exits(0).out;
    assert_eq!(line_with(&out, HANG)[0], "known");
    assert_eq!(line_with(&out, POLL)[0], "false-positive");
    assert!(out.ends_with("\n2 findings: 1 known, 1 false-positive\n"), "{out}");
    let out = line("triage {} show hang", dir.path()).exits(0).out;
    assert!(out.contains("status      known: reported ") && !out.contains('\x1b'), "{out:?}");
    let after = files(dir.path());
    let added: Vec<&PathBuf> = after.keys().filter(|path| !before.contains_key(*path)).collect();
    assert!(added.len() == 2 && added.iter().all(|path| path.ends_with("mark.json")), "{added:?}");
    assert!(before.iter().all(|(path, content)| after.get(path) == Some(content)));

    line("triage {} mark hang wontfix", dir.path()).complains(&["wontfix", "false-positive"]);
    fs::write(added[0], "{\"status\": 1}").unwrap();
    line("triage {}", dir.path()).complains(&["mark.json", "damaged"]);
}

#[test]
fn what_is_no_campaign_is_named() {
    let dir = tempdir().unwrap();
    line("triage {}/none", dir.path()).complains(&["none", "hyperfuzz fuzz DIR"]);
    campaign(dir.path());
    fs::remove_file(dir.path().join("findings").join(POLL).join("finding.json")).unwrap();
    line("triage {}", dir.path()).complains(&[POLL, "finding.json is missing"]);
}

/// The hypervisor's image with the function that planted bugs read wild pointers by made harmless.
fn harmless() -> Vec<u8> {
    let functions = functions::read(images::HYPERVISOR).unwrap();
    let wild = functions.iter().find(|function| function.name.ends_with("wild::wild_read")).unwrap();
    let mut image = images::HYPERVISOR.to_vec();
    let places: Vec<_> =
        image.windows(wild.code.len()).enumerate().filter(|(_, code)| *code == wild.code).collect();
    let [(at, _)] = places.as_slice() else { panic!("{} places", places.len()) };
    let at = *at;
    // xor eax, eax; ret
    image[at..at + 3].copy_from_slice(&[0x31, 0xc0, 0xc3]);
    image
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_finding_is_remembered_tried_on_other_builds_and_comes_back() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let options = "--target reference-pv --plant poll-unalloc";
    fs::create_dir(dir.path().join("start")).unwrap();
    let program = "d2 sched_op.yield()\nd1 sched_op.poll(&{ports: &[500], nr_ports: 1, timeout: past})\n";
    fs::write(dir.path().join("start/poll.hf"), program).unwrap();
    line(&format!("fuzz {{}}/c --corpus {{}}/start --until-finding {options}"), dir.path()).exits(1);
    let found = line("triage {}/c --json", dir.path()).exits(0).events();
    let [entry] = found.as_slice() else { panic!("{found:?}") };
    let bucket = entry["bucket"].as_str().unwrap();
    let function = entry["function"].as_str().unwrap();
    assert!(entry["kind"] == "fault" && function.starts_with("sched_op::"), "{entry}");
    assert!(entry["seen"]["all"]["times"].as_u64().is_some_and(|times| times >= 1), "{entry}");
    let finding = dir.path().join("c/findings").join(bucket);
    let report = fs::read_to_string(finding.join("report.txt")).unwrap();
    let code = report.split("instruction that faulted: ").nth(1).expect("it is a fault");
    assert!(code.starts_with("planted_bugs::wild::wild_read+0x"), "{report}");
    let marked: Vec<_> = code.lines().filter(|line| line.starts_with("  => ")).collect();
    assert!(marked.len() == 1 && marked[0].contains("mov r") && marked[0].contains('['), "{report}");

    // On this build it is there, and known once it is said to be.
    let run = line("triage {}/c verify --runs 2", dir.path()).exits(1);
    assert!(run.out.contains(&format!("reproduced      2 of 2  {bucket}\n")), "{run:#?}");
    assert_eq!(run.verdict(), "verdict: 1 reproduced, 0 not reproduced, 0 end in another bucket");
    line("triage {}/c mark fault known --note seen", dir.path()).exits(0);
    line("triage {}/c verify fault --runs 1", dir.path()).exits(2);

    // On a build without the defect it is not.
    fs::create_dir(dir.path().join("images")).unwrap();
    let fixed = harmless();
    for (name, image) in [
        ("1.elf", &fixed[..]),
        ("2.elf", &fixed),
        ("3.elf", images::HYPERVISOR),
        ("4.elf", images::HYPERVISOR),
    ] {
        fs::write(dir.path().join("images").join(name), image).unwrap();
    }
    fs::write(dir.path().join("images/0-README"), "no image").unwrap();
    let run = line(
        "replay {}/c/findings/BUCKET --image {}/images/1.elf".replace("BUCKET", bucket).as_str(),
        dir.path(),
    )
    .exits(0);
    assert!(run.out.contains("NOT reproduced"), "{run:#?}");
    let run = line("triage {}/c verify --runs 2 --image {}/images/1.elf --update --json", dir.path())
        .exits(0)
        .events();
    assert_eq!((&run[0]["answer"], &run[0]["status"]), (&json!("not-reproduced"), &json!("fixed")));
    let mark = json_of(&finding.join("mark.json"));
    assert_eq!(
        (&mark["status"], &mark["note"], &mark["build"]),
        (&json!("fixed"), &json!("seen"), &entry["build"])
    );

    let run = line("triage {}/c bisect fault {}/images --runs 1", dir.path()).exits(0);
    assert!(run.out.starts_with("step 1 of at most 4: 1.elf (build "), "{run:#?}");
    assert_eq!(
        run.verdict(),
        format!("verdict: 3.elf is the first image that reproduces {bucket}, after 2.elf")
    );
    for name in ["1.elf", "2.elf"] {
        fs::remove_file(dir.path().join("images").join(name)).unwrap();
    }
    line("triage {}/c bisect fault {}/images --runs 1", dir.path())
        .complains(&["ends do not differ", "both reproduce"]);

    // Fixed in this very build, and met again: that is news, once.
    fs::copy(finding.join("original.hf"), dir.path().join("c/corpus/000000-0000000000000000.hf")).unwrap();
    let run = line(&format!("fuzz {{}}/c --execs 1 {options}"), dir.path()).exits(1);
    assert!(run.err.contains(&format!("REGRESSION: {bucket}: met again")), "{run:#?}");
    assert!(run.verdict().starts_with("verdict: 1 new, 0 known findings"), "{run:#?}");
    let mark = json_of(&finding.join("mark.json"));
    assert_eq!((&mark["status"], &mark["note"]), (&json!("new"), &json!("seen")));
    line(&format!("fuzz {{}}/c --execs 1 {options}"), dir.path()).exits(2);
    let seen = json_of(&finding.join("seen.json"));
    assert_eq!(seen["sessions"].as_object().unwrap().len(), 3, "{seen}");
    assert_eq!(seen["sessions"]["3"]["times"], 1, "{seen}");
}

#[test]
fn images_that_cannot_be_fuzzed_are_refused() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a.hf"), "d1 sched_op.yield()\n").unwrap();
    fs::write(dir.path().join("text"), "no image").unwrap();
    fs::write(dir.path().join("agent.elf"), images::AGENT).unwrap();
    for (name, words) in [
        ("none", &["cannot read", "none"][..]),
        ("text", &["text", "no ELF file"]),
        ("agent.elf", &["agent.elf", "no hypervisor"]),
    ] {
        for command in ["replay {}/a.hf", "fuzz {}/c --execs 1", "smoke --execs 1"] {
            line(&format!("{command} --image {{}}/{name}"), dir.path()).complains(words);
        }
    }
    assert!(!dir.path().join("c").exists());
}
