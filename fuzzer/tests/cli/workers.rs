//! Campaigns of many workers, and of many machines.
//!
//! Two workers share one processor here, so that the tests run wherever there is one.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
};

use hyperfuzz::doctor::usable_cores;
use rustix::process::Signal;
use tempfile::tempdir;

use crate::support::{Background, children, corpus_len, gone, line, machine, signal_to, until};

/// `--cores` for two workers on one processor.
fn two() -> String {
    let core = usable_cores()[0];
    format!("--cores {core},{core}")
}

/// Programs of a campaign's corpus by their digests. The campaign may be running.
fn digests(campaign: &Path) -> Vec<String> {
    let entries = fs::read_dir(campaign.join("corpus")).into_iter().flatten().filter_map(Result::ok);
    let mut digests: Vec<_> = entries
        .filter_map(|entry| Some(entry.file_name().to_str()?.split_once('-')?.1.to_owned()))
        .filter(|name| name.ends_with(".hf"))
        .collect();
    digests.sort();
    digests
}

/// Complete findings of a campaign.
fn findings(campaign: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(campaign.join("findings")).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| path.join("report.txt").exists()).collect()
}

/// Segments of System V shared memory that there are.
fn segments() -> usize {
    fs::read_to_string("/proc/sysvipc/shm").map_or(0, |list| list.lines().count())
}

#[test]
fn workers_share_a_corpus_and_find_a_bug_once() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = dir.path().join("c");
    let before = segments();
    let text = format!(
        "fuzz {{}} {} --json --seed 1 --time 90 --plant count-sign --until-finding --target reference-pv",
        two()
    );
    let run = line(&text, &campaign).exits(1);
    let events = run.events();
    let found = events.iter().filter(|event| event["event"] == "finding").count();
    assert_eq!(found, 1, "{run:#?}");
    assert_eq!(findings(&campaign).len(), 1);
    let report = fs::read_to_string(findings(&campaign)[0].join("report.txt")).unwrap();
    assert!(report.contains("reproduced  10 of 10 runs, first run on a clean boot"), "{report}");
    let end = events.last().unwrap();
    assert_eq!((&end["ended"], &end["workers_replaced"]), (&"finding".into(), &0.into()), "{end}");
    assert_eq!(end["statistics"]["corpus"], corpus_len(&campaign));
    assert!(end["statistics"]["edges"].as_u64().is_some_and(|edges| edges > 1000), "{end}");
    let mut unique = digests(&campaign);
    unique.dedup();
    assert_eq!(unique.len(), corpus_len(&campaign), "each program once");
    line("corpus validate {}/corpus", &campaign).exits(0);
    assert_eq!(segments(), before, "shared memory is given back");

    // It goes on with one worker as with many.
    let run = line("fuzz {} --plant count-sign --execs 300 --target reference-pv", &campaign);
    assert!(run.err.contains(&format!("session 2, {} programs", unique.len())), "{run:#?}");
}

#[test]
fn executions_are_divided() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let text = format!("fuzz {{}}/c {} --json --seed 1 --execs 1501 --target reference-pv", two());
    let run = line(&text, dir.path()).exits(0);
    let end = run.events().pop().expect("events");
    assert_eq!((&end["statistics"]["executions"], &end["ended"]), (&1501.into(), &"executions".into()));
    let succeeded = |name: &str| end["statistics"]["operations"][name]["succeeded"].as_u64();
    assert!(succeeded("xen_version.version").is_some_and(|calls| calls > 1), "{end}");
}

#[test]
fn a_worker_that_dies_is_replaced_and_ctrl_c_ends_all() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = dir.path().join("c");
    let before = segments();
    let text = format!("fuzz {{}} {} --seed 1 --target reference-pv", two());
    let fuzzer = Background::start(&text, &campaign);
    until("the corpus grows", || corpus_len(&campaign) > 80);
    for signal in [Signal::KILL, Signal::STOP] {
        let workers = children(fuzzer.id());
        assert_eq!(workers.len(), 2);
        let machines = children(workers[0]);
        signal_to(workers[0], signal);
        until("another worker", || {
            let now = children(fuzzer.id());
            now.len() == 2 && !now.contains(&workers[0])
        });
        until("its QEMU is gone", || machines.iter().all(|qemu| gone(*qemu)));
    }
    let so_far = corpus_len(&campaign);
    until("the corpus grows again", || corpus_len(&campaign) > so_far);
    let all: Vec<_> =
        children(fuzzer.id()).into_iter().flat_map(|id| [vec![id], children(id)].concat()).collect();
    fuzzer.signal(Signal::INT);
    let run = fuzzer.wait().exits(0);
    assert!(run.verdict().contains("2 workers replaced"), "{run:#?}");
    assert!(run.verdict().contains(&format!("corpus {}", corpus_len(&campaign))), "{run:#?}");
    assert!(all.iter().all(|id| gone(*id)), "nobody is left");
    assert_eq!(segments(), before, "shared memory is given back");
    line("corpus validate {}/corpus", &campaign).exits(0);
}

#[test]
fn a_parent_that_is_killed_takes_everybody_with_it() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = dir.path().join("c");
    let before = segments();
    let text = format!("fuzz {{}} {} --seed 1 --target reference-pv", two());
    let fuzzer = Background::start(&text, &campaign);
    until("the corpus grows", || corpus_len(&campaign) > 80);
    let workers = children(fuzzer.id());
    let all: Vec<_> = workers.iter().flat_map(|id| [vec![*id], children(*id)].concat()).collect();
    assert!(all.len() >= 4, "{all:?}");
    fuzzer.signal(Signal::KILL);
    assert_eq!(fuzzer.wait().code, None);
    until("everybody is gone", || all.iter().all(|id| gone(*id)));
    until("shared memory is given back", || segments() == before);
    line("corpus validate {}/corpus", &campaign).exits(0);
}

#[test]
fn machines_that_join_share_programs_and_findings() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let (left, right) = (dir.path().join("left"), dir.path().join("right"));
    // What the left one has before anybody joins: a finding, and a corpus.
    let seeded = "--target reference-pv --plant count-sign";
    line(&format!("fuzz {{}} --seed 1 --time 90 --until-finding {seeded}"), &left).exits(1);
    let old = digests(&left);
    let known = findings(&left);
    assert_eq!(known.len(), 1);

    let port = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).unwrap().port();
    let first = Background::start(&format!("fuzz {{}} --listen 127.0.0.1:{port} {seeded}"), &left);
    until("the left one listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let text = format!("fuzz {{}} --join 127.0.0.1:{port} --seed 77 --corpus empty {seeded}");
    let second = Background::start(&text, &right);
    let has = |campaign: &Path, programs: &[String]| {
        let there = digests(campaign);
        programs.iter().all(|program| there.binary_search(program).is_ok())
    };
    until("old programs arrive on the right", || right.exists() && has(&right, &old));
    until("the old finding arrives on the right", || {
        right.join("findings").join(known[0].file_name().unwrap()).join("report.txt").exists()
    });
    // What either finds from now on arrives at the other.
    until("new programs on the right", || digests(&right).len() > old.len() + 20);
    let new = digests(&right);
    until("they arrive on the left", || has(&left, &new));
    let new = digests(&left);
    until("those of the left arrive on the right", || has(&right, &new));
    // Another campaign is told off.
    let third = Background::start(
        &format!("fuzz {{}} --join 127.0.0.1:{port} --seed 5 --target reference-pv"),
        &dir.path().join("third"),
    );
    until("the third runs", || corpus_len(&dir.path().join("third")) > 80);
    third.signal(Signal::INT);
    let run = third.wait().exits(0);
    assert!(run.err.contains("what it sends is not taken"), "{run:#?}");

    second.signal(Signal::INT);
    let run = second.wait().exits(1);
    assert!(run.err.contains("another machine is there"), "{run:#?}");
    first.signal(Signal::INT);
    let run = first.wait();
    assert!(run.verdict().starts_with("verdict: 0 new"), "{run:#?}");
    line("corpus validate {}/corpus", &right).exits(0);
    for name in ["program.hf", "report.txt", "finding.json"] {
        let there = right.join("findings").join(known[0].file_name().unwrap()).join(name);
        assert_eq!(fs::read(&there).unwrap(), fs::read(known[0].join(name)).unwrap(), "{name}");
    }
}
