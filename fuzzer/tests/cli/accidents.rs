//! QEMU dies or stops, the fuzzer is killed, the disk is full, somebody presses Ctrl-C. Nothing that was saved is lost.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::tempdir;

use crate::support::{Background, corpus_len, files, gone, line, machine, signal_to, until};

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
    let _turn = machine();
    let dir = tempdir().unwrap();
    let small = Small(dir.path());
    if let Err(reason) = small.mount("size=256k") {
        println!("skipped: a small file system cannot be mounted here: {reason}");
        return;
    }
    let campaign = dir.path().join("c");
    line("fuzz {} --seed 1 --time 60", &campaign).complains(&[
        "cannot write",
        "/c/",
        "No space left",
        "free some space",
    ]);
    assert!(corpus_len(&campaign) > 10);
    line("corpus validate {}/corpus", &campaign).exits(0);
    small.mount("remount,size=8m").unwrap();
    let before = files(&campaign.join("corpus"));
    line("fuzz {} --execs 400", &campaign).exits(0);
    let after = files(&campaign.join("corpus"));
    assert!(before.iter().all(|(path, content)| after.get(path) == Some(content)));
}
