//! Boots the hypervisor's image in QEMU, lets it crash on purpose in every way it knows, and reads the record.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use coverage_hypercall::crash::{CRASH_MAGIC, CRASH_VERSION, CrashKind, CrashRecord};
use zerocopy::FromBytes;

const PAGE: usize = 4096;
const PATIENCE: Duration = Duration::from_secs(60);

/// A QEMU that is gone when the test is.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn boot(directory: &Path, line: &str) -> Machine {
    let image = directory.join("hypervisor.elf");
    fs::write(&image, hyperfuzz::images::HYPERVISOR).unwrap();
    let ram = directory.join("ram");
    let child = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=single", "-nodefaults", "-display", "none", "-no-reboot"])
        .args([
            "-machine",
            "q35,memory-backend=ram",
            "-m",
            "32M",
            "-cpu",
            "qemu64,+svm,+npt",
            "-append",
            line,
        ])
        .arg("-object")
        .arg(format!("memory-backend-file,id=ram,size=32M,share=on,mem-path={}", ram.display()))
        .arg("-kernel")
        .arg(&image)
        .arg("-debugcon")
        .arg(format!("file:{}", directory.join("console").display()))
        .stdin(Stdio::null())
        .spawn()
        .expect("qemu-system-x86_64 is installed");
    Machine(child)
}

/// The record, once there is one: it begins a page, and its magic is written last.
fn find_record(ram: &[u8]) -> Option<CrashRecord> {
    ram.chunks_exact(PAGE)
        .filter(|page| page.starts_with(&CRASH_MAGIC.to_le_bytes()))
        .filter_map(|page| CrashRecord::read_from_prefix(page).ok())
        .map(|(record, _)| record)
        .find(|record| record.version == CRASH_VERSION)
}

fn crash(name: &str) -> CrashRecord {
    let directory = tempfile::tempdir().unwrap();
    let mut machine = boot(directory.path(), &format!("selftest={name}"));
    let begin = Instant::now();
    loop {
        let ram = fs::read(directory.path().join("ram")).unwrap_or_default();
        if let Some(record) = find_record(&ram) {
            let console = fs::read_to_string(directory.path().join("console")).unwrap();
            assert!(console.contains("hypervisor crash: "), "{name}: silent on port 0xe9: {console}");
            return record;
        }
        assert!(machine.0.try_wait().unwrap().is_none(), "{name}: QEMU ended without a crash record");
        assert!(begin.elapsed() < PATIENCE, "{name}: no crash record");
        sleep(Duration::from_millis(50));
    }
}

fn check(name: &str, kind: CrashKind, vector: u32, message: &str) -> CrashRecord {
    let record = crash(name);
    let text = String::from_utf8_lossy(&record.message[..record.message_len as usize]).into_owned();
    assert_eq!(CrashKind::from_u32(record.kind), Some(kind), "{name}: {text}");
    assert_eq!(record.vector, vector, "{name}: {text}");
    assert!(text.contains(message), "{name}: {text}");
    // At least the self-test's caller and the entry code.
    assert!(record.frame_count >= 2, "{name}: {} frames", record.frame_count);
    assert_eq!(record.domain, u32::MAX, "{name}: no domain runs yet");
    record
}

#[test]
fn panics_are_told_from_failed_checks() {
    check("panic", CrashKind::Panic, 0, "self-test at ");
    check("assertion", CrashKind::Assertion, 0, "out of range");
}

#[test]
fn exceptions_are_recorded() {
    let record = check("fault", CrashKind::Fault, 14, "page fault at 0x1000");
    assert_eq!((record.cr2, record.error), (0x1000, 0));
    check("undefined", CrashKind::Fault, 6, "exception 6");
}

#[test]
fn code_is_read_only_and_data_does_not_run() {
    // Error code bits: 0 present, 1 write, 4 instruction fetch.
    assert_eq!(check("write-text", CrashKind::Fault, 14, "page fault").error, 0b0_0011);
    let record = check("run-data", CrashKind::Fault, 14, "page fault");
    assert_eq!(record.error, 0b1_0001);
    assert_eq!(record.rip, record.cr2);
}

#[test]
fn a_damaged_heap_is_noticed() {
    check("heap-overrun", CrashKind::HeapCanary, 0, "ran over an end");
    check("heap-late-write", CrashKind::HeapCanary, 0, "after it was freed");
}

#[test]
fn a_stack_overflow_meets_its_guard_page() {
    let record = check("overflow", CrashKind::DoubleFault, 14, "stack overflow");
    assert_eq!(record.frame_count as usize, record.frames.len());
}
