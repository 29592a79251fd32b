//! QEMU dies or stops, the fuzzer is killed, the disk is full, somebody presses Ctrl-C. Nothing that was saved is lost.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::tempdir;

use crate::support::{Background, corpus_len, files, gone, line, machine, signal_if_there, signal_to, until};

/// A campaign that is under way, with its QEMU.
fn running(text: &str, campaign: &Path) -> (Background, u32) {
    let fuzzer = Background::start(text, campaign);
    until("the corpus grows", || corpus_len(campaign) > 80);
    let qemu = fuzzer.qemu().expect("a QEMU");
    (fuzzer, qemu)
}

/// Does something to QEMU, and expects the campaign to go on with another one.
fn replaced_after(signal: Signal) {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = dir.path().join("c");
    let (fuzzer, qemu) = running("fuzz {} --seed 1 --time 60", &campaign);
    signal_to(qemu, signal);
    until("another QEMU", || fuzzer.qemu().is_some_and(|other| other != qemu));
    assert!(gone(qemu));
    let before = corpus_len(&campaign);
    until("the corpus grows again", || corpus_len(&campaign) > before);
    fuzzer.signal(Signal::INT);
    let run = fuzzer.wait().exits(0);
    assert!(run.verdict().contains("1 machines replaced"), "{run:#?}");
}

#[test]
fn a_qemu_that_is_killed_is_replaced() {
    replaced_after(Signal::KILL);
}

#[test]
fn a_qemu_that_is_stopped_is_replaced() {
    replaced_after(Signal::STOP);
}

/// Kills and stops QEMU again and again, whatever it is doing: starting, booting, executing, being confirmed.
fn accidents(number: u64, target: &str) {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = dir.path().join("c");
    let text = format!("fuzz {{}} --json --seed 1 --target {target} --check-every 200");
    let fuzzer = Background::start(&text, &campaign);
    until("the corpus grows", || corpus_len(&campaign) > 80);
    let mut last = None;
    for n in 0..number {
        until("another QEMU", || fuzzer.qemu().is_some_and(|qemu| Some(qemu) != last));
        last = fuzzer.qemu();
        if n % 3 != 0 {
            // Three machines in a row that do not boot would be the end: their files have names until they have booted.
            let boots = |qemu| control_file(qemu).is_some_and(|path| path.exists());
            until("it has booted", || !fuzzer.qemu().is_some_and(boots));
            last = fuzzer.qemu();
        }
        std::thread::sleep(Duration::from_millis((n * 37) % 400));
        let signal = if n % 2 == 0 { Signal::KILL } else { Signal::STOP };
        if let Some(qemu) = last {
            signal_if_there(qemu, signal);
        }
    }
    let before = corpus_len(&campaign);
    until("the corpus grows again", || corpus_len(&campaign) > before);
    fuzzer.signal(Signal::INT);
    let run = fuzzer.wait().exits(0);
    let end = run.events().pop().expect("events");
    assert_eq!(end["findings"], serde_json::json!([]), "an accident is no finding");
    // A program that met three of them one after the other was suspected, and a clean boot has cleared it.
    let suspected = end["unconfirmed"].as_array().expect("a list");
    assert!(suspected.iter().all(|b| b.as_str().is_some_and(|b| b.starts_with("timeout-"))), "{suspected:?}");
    assert_eq!(end["checks"]["mismatches"], 0, "{end}");
    assert_eq!(end["statistics"]["corpus"], corpus_len(&campaign));
    line("corpus validate {}/corpus", &campaign).exits(0);
    assert!(
        files(&campaign.join("corpus")).into_keys().all(|path| path.extension().is_some_and(|e| e == "hf"))
    );
}

#[test]
fn accidents_at_any_moment_are_survived() {
    accidents(12, "reference-pv");
}

#[test]
#[ignore = "takes minutes"]
fn two_hundred_accidents_are_survived() {
    accidents(100, "reference-hvm");
    accidents(100, "reference-pv");
}

#[test]
fn a_host_that_was_suspended_costs_no_machine() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = dir.path().join("c");
    let (fuzzer, qemu) = running("fuzz {} --seed 1 --target reference-pv", &campaign);
    // Nobody runs, the clock does: for longer than a QEMU may stand still.
    fuzzer.signal(Signal::STOP);
    signal_to(qemu, Signal::STOP);
    std::thread::sleep(Duration::from_secs(4));
    signal_to(qemu, Signal::CONT);
    fuzzer.signal(Signal::CONT);
    let before = corpus_len(&campaign);
    until("the corpus grows again", || corpus_len(&campaign) > before);
    assert_eq!(fuzzer.qemu(), Some(qemu), "the same as before");
    fuzzer.signal(Signal::INT);
    let run = fuzzer.wait().exits(0);
    assert!(!run.verdict().contains("replaced"), "{run:#?}");
}

/// The control file of a QEMU that boots.
fn control_file(qemu: u32) -> Option<PathBuf> {
    let words = fs::read(format!("/proc/{qemu}/cmdline")).ok()?;
    let text = String::from_utf8_lossy(&words).into_owned();
    let path = text.split("control=").nth(1)?.split(['\0', ',']).next()?;
    Some(path.into())
}

#[test]
fn a_control_file_that_is_truncated_ends_or_delays_the_campaign_with_a_message() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = dir.path().join("c");
    // The file has a name only until the machine has booted: now and then that is too fast for a test.
    for _ in 0..20 {
        let fuzzer = Background::start("fuzz {} --seed 1 --execs 300 --target reference-pv", &campaign);
        until("a QEMU", || fuzzer.qemu().is_some());
        let path = fuzzer.qemu().and_then(control_file);
        let file = path.and_then(|path| fs::File::options().write(true).open(path).ok());
        let hit = file.is_some_and(|file| file.set_len(0).is_ok());
        let run = fuzzer.wait();
        if hit {
            let ended =
                run.code == Some(3) && run.err.contains("error: memory that is shared with QEMU is gone");
            let delayed = run.code == Some(0) && run.err.contains("has 0 bytes instead of");
            assert!(ended || delayed, "{run:#?}");
            line("fuzz {} --execs 400 --target reference-pv", &campaign).exits(0);
            line("corpus validate {}/corpus", &campaign).exits(0);
            return;
        }
    }
    panic!("each machine booted before its file could be found");
}

#[test]
fn a_fuzzer_that_is_killed_leaves_a_campaign_that_goes_on() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = dir.path().join("c");
    let (fuzzer, qemu) = running("fuzz {} --seed 1 --time 60", &campaign);
    fuzzer.signal(Signal::KILL);
    assert_eq!(fuzzer.wait().code, None);
    until("QEMU is gone too", || gone(qemu));
    let before = files(&campaign.join("corpus"));
    line("corpus validate {}/corpus", &campaign).exits(0);
    let run = line("fuzz {} --execs 400", &campaign).exits(0);
    let programs = before.keys().filter(|path| path.extension().is_some_and(|e| e == "hf")).count();
    assert!(run.err.contains(&format!("session 2, {programs} programs to start from")), "{run:#?}");
    let after = files(&campaign.join("corpus"));
    assert!(
        after.keys().all(|path| path.extension().is_some_and(|e| e == "hf")),
        "half-written files are gone"
    );
}

#[test]
fn ctrl_c_ends_with_the_verdict() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = dir.path().join("c");
    let (fuzzer, qemu) = running("fuzz {} --seed 1", &campaign);
    let begin = Instant::now();
    fuzzer.signal(Signal::INT);
    let run = fuzzer.wait().exits(0);
    // Far more than it needs, far less than any limit that could end it otherwise.
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    assert!(run.verdict().contains(&format!("corpus {}", corpus_len(&campaign))), "{run:#?}");
    assert!(gone(qemu));
}

#[test]
fn a_full_device_under_the_metrics_ends_the_session_with_advice() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = dir.path().join("c");
    line("fuzz {} --seed 1 --execs 100", &campaign).exits(0);
    let metrics = campaign.join("metrics.jsonl");
    let _ = fs::remove_file(&metrics);
    std::os::unix::fs::symlink("/dev/full", &metrics).unwrap();
    line("fuzz {} --time 30", &campaign).complains(&["metrics.jsonl", "No space left", "free some space"]);
    line("corpus validate {}/corpus", &campaign).exits(0);
    fs::remove_file(&metrics).unwrap();
    line("fuzz {} --execs 400", &campaign).exits(0);
}

/// A small file system of its own, unmounted in the end.
struct Small<'a>(&'a Path);

impl Small<'_> {
    fn mount(&self, options: &str) -> Result<(), String> {
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(self.0)
            .output()
            .map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(());
        }
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).output();
    }
}

#[test]
fn a_full_disk_ends_the_session_with_advice_and_a_valid_corpus() {
    full_disk("");
}

#[test]
fn a_full_disk_ends_many_workers_with_the_same_advice() {
    let core = hyperfuzz::doctor::usable_cores()[0];
    full_disk(&format!("--cores {core},{core}"));
}

fn full_disk(options: &str) {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let small = Small(dir.path());
    if let Err(reason) = small.mount("size=256k") {
        println!("skipped: a small file system cannot be mounted here: {reason}");
        return;
    }
    let campaign = dir.path().join("c");
    line(&format!("fuzz {{}} --seed 1 --time 60 {options}"), &campaign).complains(&[
        "/c/",
        "No space left",
        "free some space",
    ]);
    assert!(corpus_len(&campaign) > 10);
    line("corpus validate {}/corpus", &campaign).exits(0);
    let scratch = tempdir().unwrap();
    let page = scratch.path().join("r.html").display().to_string();
    line(&format!("report {{}} --output {page}"), &campaign).exits(0);
    small.mount("remount,size=8m").unwrap();
    let before = files(&campaign.join("corpus"));
    line("fuzz {} --execs 400", &campaign).exits(0);
    let after = files(&campaign.join("corpus"));
    assert!(before.iter().all(|(path, content)| after.get(path) == Some(content)));
    assert!(files(&campaign).keys().all(|path| path.extension().is_none_or(|end| end != "tmp")));
}
