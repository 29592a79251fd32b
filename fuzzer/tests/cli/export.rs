//! `hyperfuzz export`: reproducers that leave the tool.

use std::{fs, path::Path, process::Command};

use coverage_hypercall::crash::{CrashKind, CrashRecord};
use hyperfuzz::{
    engine::{Execution, Outcome},
    triage::{bucket::Classifier, symbols::Symbols},
};
use tempfile::tempdir;
use zerocopy::FromZeros;

use crate::support::{line, machine};

/// Programs of one domain, each with the planted bug that it meets: a fault, an oracle's word about the machine's state, and one about
/// the stack.
const PROGRAMS: [(&str, &str); 3] = [
    ("poll-unalloc", "d1 sched_op.poll(&{ports: &[500], nr_ports: 1, timeout: past})\n"),
    (
        "m2p-desync",
        "d1 memory_op.add_to_physmap(&{domid: self, size: 0, space: gmfn, idx: 0x280, gpfn: 0x281})\n",
    ),
    ("count-sign", "d1 console_io.write(0x80000000, &fill(0x41, 600))\n"),
];

/// Builds a guest as the comment at its top says.
fn build(directory: &Path, source: &str, image: &str) {
    let path = directory.join(source);
    let text = fs::read_to_string(&path).expect("readable");
    let command = text.lines().find_map(|line| line.strip_prefix(" * Build: ")).expect("a command");
    let mut words = command.split_whitespace().map(|word| match word {
        "guest.elf" => directory.join(image).into_os_string(),
        "FILE" => path.clone().into_os_string(),
        word => word.into(),
    });
    let output = Command::new(words.next().expect("a compiler"))
        .args(words)
        .arg("-Werror")
        .output()
        .expect("there is a gcc: Rust's linker is one");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The bucket of a crash, from the hypervisor's last words on its console.
fn bucket(log: &str) -> String {
    let lines: Vec<&str> = log.lines().skip_while(|line| !line.starts_with("hypervisor crash: ")).collect();
    let number = |word: &str| u64::from_str_radix(word.trim_start_matches("0x"), 16).expect("a number");
    let kind = lines[0].split(": ").nth(1).expect("a kind");
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    let ["rip", rip, "domain", _, "hypercall", hypercall] = words[..] else { panic!("{log}") };
    let mut record = CrashRecord::new_zeroed();
    record.kind = (0..64)
        .find(|number| CrashKind::from_u32(*number).is_some_and(|known| known.name() == kind))
        .unwrap_or_else(|| panic!("no such kind: {kind}"));
    let message = lines[0].splitn(3, ": ").nth(2).expect("a message").as_bytes();
    record.message[..message.len()].copy_from_slice(message);
    record.message_len = u32::try_from(message.len()).expect("a line");
    record.rip = number(rip);
    record.hypercall = hypercall.parse::<i64>().expect("a number").cast_unsigned();
    let frames = lines[2..].iter().map_while(|line| line.trim_start().strip_prefix("at "));
    for (frame, at) in record.frames.iter_mut().zip(frames) {
        *frame = number(at);
        record.frame_count += 1;
    }
    let crashed =
        Execution { outcome: Outcome::Crash, crash: Some(Box::new(record)), ..Execution::default() };
    let classifier =
        Classifier::new(Symbols::from_elf(hyperfuzz::images::HYPERVISOR).expect("it has symbols"));
    classifier.classify_calls(&[], &crashed).expect("it crashed").name().to_owned()
}

#[test]
fn findings_leave_as_guests_in_c_that_end_in_the_same_bucket() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    fs::create_dir(dir.path().join("start")).unwrap();
    let plants = PROGRAMS.map(|(bug, program)| {
        fs::write(dir.path().join(format!("start/{bug}.hf")), program).unwrap();
        bug
    });
    let plants = plants.join(",");
    line(&format!("fuzz {{}}/c --seed 1 --plant {plants} --corpus {{}}/start --execs 3"), dir.path())
        .exits(1);
    let mut found: Vec<_> =
        fs::read_dir(dir.path().join("c/findings")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert_eq!(found.len(), PROGRAMS.len(), "{found:?}");
    for finding in found {
        let expected = finding.file_name().unwrap().to_str().unwrap();
        let guest = format!("{{}}/{expected}.c");
        line(&format!("export {{}}/c/findings/{expected} --format c --output {guest}"), dir.path()).exits(0);
        build(dir.path(), &format!("{expected}.c"), "guest.elf");
        // On the clean build the guest says what its calls returned, and powers off.
        let boot = "boot {}/guest.elf --memory 4M --time 60";
        let run = line(boot, dir.path()).exits(0);
        assert!(run.out.contains("call 0: "), "{expected}: {run:#?}");
        let run = line(&format!("{boot} --plant {plants}"), dir.path()).exits(1);
        assert!(run.err.contains("the HYPERVISOR crashed"), "{expected}: {run:#?}");
        assert_eq!(bucket(&run.err), expected, "{run:#?}");
    }
}

#[test]
fn results_are_handed_on_between_calls() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let program = "r0 = d1 event_channel_op.bind_ipi(&{vcpu: 0, port: out})\n\
                   d1 event_channel_op.send(&{port: r0.port})\n\
                   d1 event_channel_op.close(&{port: r0.port})\n\
                   d1 event_channel_op.close(&{port: r0.port})\n";
    fs::write(dir.path().join("p.hf"), program).unwrap();
    line("export {}/p.hf --format c --output {}/guest.c", dir.path()).exits(0);
    build(dir.path(), "guest.c", "guest.elf");
    let run = line("boot {}/guest.elf --memory 4M", dir.path()).exits(0);
    assert_eq!(run.out, "call 0: 0\ncall 1: 0\ncall 2: 0\ncall 3: -22\n", "{run:#?}");
}

#[test]
fn what_cannot_be_written_is_named() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("p.hf"), "d1 sched_op.yield()\nd2 sched_op.yield()\n").unwrap();
    line("export {}/p.hf --format c", dir.path()).complains(&["guest in C", "call 1", "d2"]);
    let text = line("export {}/p.hf", dir.path()).exits(0);
    assert_eq!(text.out, "d1 sched_op.yield()\nd2 sched_op.yield()\n");
    line("export {}/p.hf --format wire --output {}/p.hfw", dir.path()).exits(0);
    let back = line("export {}/p.hfw", dir.path()).exits(0);
    assert_eq!(back.out, text.out);
}
