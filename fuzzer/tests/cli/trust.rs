//! The continuous self-check: a machine that does not do what a fresh one does is caught, reported and replaced.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
};

use rustix::process::Signal;
use tempfile::tempdir;

use crate::support::{Background, corpus_len, line, machine, until};

/// Bytes of guest memory.
const RAM: u64 = 32 << 20;

/// Opens the guest memory of a QEMU: the file is unlinked, but QEMU has it open.
fn guest_memory(qemu: u32) -> File {
    let open = fs::read_dir(format!("/proc/{qemu}/fd")).expect("the files of a process of one's own");
    let mut candidates = open.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| {
        fs::read_link(path).is_ok_and(|to| to.to_string_lossy().contains("/ram"))
            && fs::metadata(path).is_ok_and(|metadata| metadata.len() == RAM)
    });
    let path = candidates.next().expect("guest memory");
    File::options().read(true).write(true).open(path).expect("may be opened")
}

#[test]
fn a_machine_that_keeps_something_is_quarantined() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = dir.path().join("c");
    let fuzzer =
        Background::start("fuzz {} --seed 1 --time 90 --check-every 100 --target reference-pv", &campaign);
    until("the corpus grows", || corpus_len(&campaign) > 80);
    let qemu = fuzzer.qemu().expect("a QEMU");
    let memory = guest_memory(qemu);
    // A page that nobody uses, near the end of memory: written past QEMU, so that no reset notices.
    let mut free = vec![0; 4096];
    let place = (1..64)
        .map(|n| RAM - n * 4096)
        .find(|place| memory.read_exact_at(&mut free, *place).is_ok() && free.iter().all(|byte| *byte == 0));
    let place = place.expect("a page that nobody uses");
    memory.write_all_at(b"left behind", place + 40).unwrap();

    let mismatch = campaign.join("mismatches/000001");
    until("the check notices", || mismatch.join("report.txt").exists());
    until("another QEMU", || fuzzer.qemu().is_some_and(|other| other != qemu));
    let before = corpus_len(&campaign);
    until("the corpus grows again", || corpus_len(&campaign) > before);
    fuzzer.signal(Signal::INT);
    let run = fuzzer.wait().exits(0);
    assert!(run.err.contains("MISMATCH"), "{run:#?}");
    assert!(run.verdict().contains(", 1 OF "), "{run:#?}");

    let report = fs::read_to_string(mismatch.join("report.txt")).unwrap();
    for words in [
        "mismatch    1 pages of memory\n",
        "two fresh machines agree",
        &format!("{place:08x}    11 bytes, from {:08x} on", place + 40),
        "worker 6c65667420626568696e640000000000",
        "fresh  00000000000000000000000000000000",
    ] {
        assert!(report.contains(words), "no {words:?} in\n{report}");
    }
    let page = fs::read(mismatch.join("worker.pages")).unwrap();
    assert_eq!((page.len(), &page[40..51]), (4096, b"left behind".as_slice()));
    assert!(fs::read(mismatch.join("fresh.pages")).unwrap().iter().all(|byte| *byte == 0));
    line("corpus validate {}/program.hf", &mismatch).exits(0);
    assert!(!campaign.join("mismatches/000002").exists(), "the machine that came after it is sound");
}

#[test]
fn clean_campaigns_pass_their_checks() {
    let _turn = machine();
    for target in ["reference-hvm", "reference-pv"] {
        let dir = tempdir().unwrap();
        let text = format!("fuzz {{}}/c --json --seed 5 --execs 2000 --check-every 150 --target {target}");
        let run = line(&text, dir.path()).exits(0);
        let end = run.events().pop().expect("events");
        assert_eq!(end["checks"]["mismatches"], 0, "{target}: {end}");
        assert!(end["checks"]["passed"].as_u64().is_some_and(|passed| passed >= 10), "{target}: {end}");
        assert!(!dir.path().join("c/mismatches").exists());
        // The same without: checks have no say in what is found.
        let text = format!("fuzz {{}}/d --json --seed 5 --execs 2000 --check-every 0 --target {target}");
        let other = line(&text, dir.path()).exits(0).events().pop().expect("events");
        assert_eq!(other["checks"]["passed"], 0);
        assert_eq!(other["statistics"]["operations"], end["statistics"]["operations"], "{target}");
        assert_eq!(corpus_len(&dir.path().join("c")), corpus_len(&dir.path().join("d")));
    }
}
