//! `hyperfuzz export`: reproducers that leave the tool.

use std::{fs, path::Path, process::Command};

use tempfile::tempdir;

use crate::support::{line, machine};

/// Programs of one domain, each with the planted bug that it meets.
const PROGRAMS: [(&str, &str); 3] = [
    ("poll-unalloc", "d1 sched_op.poll(&{ports: &[500], nr_ports: 1, timeout: past})\n"),
    (
        "m2p-desync",
        "d1 memory_op.add_to_physmap(&{domid: self, size: 0, space: gmfn, idx: 0x280, gpfn: 0x281})\n",
    ),
    ("count-sign", "d1 console_io.write(0x80000000, &fill(0x41, 600))\n"),
];

fn build(directory: &Path, source: &str, image: &str) {
    let words = hyperfuzz::program::c::BUILD.split_whitespace();
    let output = Command::new("gcc")
        .args(words.skip(1))
        .arg("-Werror")
        .arg("-o")
        .args([directory.join(image), directory.join(source)])
        .output()
        .expect("there is a gcc: Rust's linker is one");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_guest_in_c_repeats_the_finding() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    for (bug, program) in PROGRAMS {
        fs::write(dir.path().join("p.hf"), program).unwrap();
        line("export {}/p.hf --format c --output {}/guest.c", dir.path()).exits(0);
        build(dir.path(), "guest.c", "guest.elf");
        let boot = "boot {}/guest.elf --memory 4M --time 60";
        // On the clean build the guest says what its calls returned, and powers off.
        let run = line(boot, dir.path()).exits(0);
        assert!(run.out.contains("call 0: "), "{bug}: {run:#?}");
        let run = line(&format!("{boot} --plant {bug}"), dir.path()).exits(1);
        assert!(run.err.contains("the HYPERVISOR crashed"), "{bug}: {run:#?}");
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
