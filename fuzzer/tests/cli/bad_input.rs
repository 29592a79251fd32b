//! Files that are damaged, arguments that make no sense, directories that are something else. None of it boots a machine.

use std::{fs, path::Path};

use tempfile::tempdir;

use crate::support::{command, files, hyperfuzz, line};

/// Programs that are none, by file name, with a word that the message must hold.
fn bad_programs() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = wire("d1 sched_op.yield()\n");
    let changed = |at: usize, to: u8| {
        let mut bytes = good.clone();
        bytes[at] = to;
        bytes
    };
    let noise: Vec<u8> = (0..4000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    vec![
        ("domain.hf", b"d9 sched_op.yield()\n".to_vec(), "no domain 9"),
        ("result.hf", b"d1 event_channel_op.close(&{port: r5.port})\n".to_vec(), "no r5"),
        ("operation.hf", b"d1 nothing.here()\n".to_vec(), "operation"),
        ("arguments.hf", b"d1 sched_op.yield(1, 2, 3)\n".to_vec(), "line 1"),
        ("cut.hf", b"d1 event_channel_op.close(&{port: ".to_vec(), "line 1"),
        ("second.hf", b"d1 sched_op.yield()\nd1 sched_op.\n".to_vec(), "line 2"),
        ("nul.hf", b"d1 sched_op.yield()\0\n".to_vec(), "line 1"),
        ("deep.hf", format!("d1 multicall.multicall({}", "&[".repeat(50_000)).into_bytes(), "line 1"),
        ("large.hf", vec![b'#'; (1 << 20) + 1], "more than"),
        ("latin.hf", vec![0xe4, 0xf6, 0xfc], "neither"),
        ("noise.hf", noise, "neither"),
        ("short.hfw", good[..9].to_vec(), "short.hfw"),
        ("truncated.hfw", good[..good.len() - 1].to_vec(), "bytes"),
        ("longer.hfw", [good.as_slice(), b"x"].concat(), "bytes"),
        ("version.hfw", changed(4, 99), "version 99"),
        ("damaged.hfw", changed(good.len() - 2, 0xff), "checksum"),
    ]
}

/// A program in wire form, as the tool itself writes it.
fn wire(text: &str) -> Vec<u8> {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a.hf"), text).unwrap();
    line("corpus convert {}/a.hf {}/a.hfw", dir.path()).exits(0);
    fs::read(dir.path().join("a.hfw")).unwrap()
}

#[test]
fn bad_programs_are_refused_by_every_command_that_reads_one() {
    for (name, content, word) in bad_programs() {
        let dir = tempdir().unwrap();
        let file = dir.path().join(name);
        fs::write(&file, &content).unwrap();
        for command in
            ["corpus show {}", "corpus convert {} {}.out.hf", "corpus convert {} {}.out.hfw", "replay {}"]
        {
            let run = line(command, &file).complains(&[name, word]);
            assert_eq!(run.out, "", "{command}");
        }
        let run = line("corpus validate {}", &file).exits(3);
        assert!(run.out.contains(name) && run.out.contains(word), "{run:#?}");
        for command in ["corpus list {}", "smoke --execs 1 --corpus {}", "fuzz {}-new --execs 1 --corpus {}"]
        {
            line(command, dir.path()).complains(&[name, word]);
        }
        assert_eq!(files(dir.path()).len(), 1, "{name}: a refused program leaves nothing");
        assert_eq!(fs::read(&file).unwrap(), content, "{name}");
        assert!(!Path::new(&format!("{}-new", dir.path().display())).exists());
    }
}

#[test]
fn no_prefix_and_no_flipped_bit_of_a_program_brings_the_tool_down() {
    let good = wire("r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})\n");
    let dir = tempdir().unwrap();
    for at in 0..good.len() {
        fs::write(dir.path().join(format!("{at:03}-cut.hfw")), &good[..at]).unwrap();
        let mut flipped = good.clone();
        flipped[at] ^= 1 << (at % 8);
        fs::write(dir.path().join(format!("{at:03}-flip.hfw")), flipped).unwrap();
    }
    let run = line("corpus validate {}", dir.path()).exits(3);
    let last = run.out.lines().last().unwrap();
    // The empty file is an empty program; everything else is found out by length or checksum.
    assert_eq!(last, format!("{} programs, {} with problems", 2 * good.len(), 2 * good.len() - 1));
}

#[test]
fn hostile_text_does_not_reach_the_terminal() {
    let dir = tempdir().unwrap();
    let file = dir.path().join("\x1b[2Jevil.hf");
    fs::write(&file, "d1 \x1b]0;owned\x07()\n").unwrap();
    for command in ["corpus validate {}", "corpus show {}", "replay {}"] {
        let run = line(command, &file).exits(3);
        assert!(!run.out.contains('\x1b') && !run.err.contains('\x1b'), "{run:?}");
    }
}

#[test]
fn devices_are_read_no_further_than_a_program_can_be() {
    hyperfuzz(["corpus", "show", "/dev/zero"]).complains(&["/dev/zero", "more than"]);
    hyperfuzz(["corpus", "show", "/"]).complains(&["cannot read /"]);
    hyperfuzz(["replay", "/nonexistent.hf"]).complains(&["cannot read /nonexistent.hf"]);
}

#[test]
fn conversion_goes_both_ways_and_overwrites_nothing() {
    let dir = tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("a.hf"), "d2 sched_op.yield()\n").unwrap();
    line("corpus convert {}/a.hf {}/b.hfw", dir.path()).exits(0);
    line("corpus convert {}/b.hfw {}/c.hf", dir.path()).exits(0);
    assert_eq!(fs::read(at("a.hf")).unwrap(), fs::read(at("c.hf")).unwrap());
    line("corpus convert {}/b.hfw {}/a.hf", dir.path()).complains(&["a.hf exists"]);
    line("corpus convert {}/b.hfw {}/a.bin", dir.path()).complains(&[".hfw"]);
    line("corpus convert {}/b.hfw {}/no/a.hf", dir.path()).complains(&["cannot write", "no/a.hf"]);
    assert_eq!(fs::read_to_string(at("a.hf")).unwrap(), "d2 sched_op.yield()\n");
    assert_eq!(line("corpus validate {}", dir.path()).exits(0).out, "3 programs, 0 with problems\n");
    assert_eq!(line("corpus show {}/b.hfw", dir.path()).exits(0).out, "d2 sched_op.yield()\n");
    let list = line("corpus list {}", dir.path()).exits(0).out;
    assert_eq!(list.lines().count(), 3);
    assert!(list.starts_with("a.hf ") && list.contains("sched_op.yield"), "{list}");
}

#[test]
fn arguments_that_make_no_sense_fail_with_a_message_and_3() {
    let bad = [
        ("", "Usage"),
        ("dance", "dance"),
        ("fuzz --frobnicate", "--frobnicate"),
        ("fuzz x --target kvm", "reference-hvm"),
        ("fuzz x --plant no-such", "exchange-oob"),
        ("smoke --plant no-such", "no-such"),
        ("fuzz x --time 0", "one second"),
        ("fuzz x --time 5w", "s, m, h or d"),
        ("fuzz x --execs 0", "0"),
        ("fuzz x --execs -1", "-1"),
        ("fuzz x --max-calls 0", "0"),
        ("fuzz x --max-calls 65000", "65000"),
        ("fuzz x --corpus /nonexistent", "/nonexistent"),
        ("replay", "<FILE>"),
        ("replay x --runs 0", "0"),
        ("triage x dance", "dance"),
        ("triage x verify --runs 0", "0"),
        ("triage x bisect", "<BUCKET>"),
        ("boot", "<IMAGE>"),
        ("boot x --memory much", "multiple of 4K"),
        ("corpus", "Usage"),
        ("corpus validate", "<PATHS>"),
        ("bench", "Usage"),
        ("report --live x", "before --live"),
        ("report --live 192.0.2.1:80", "ssh -L"),
        ("report --live --output r.html", "cannot be used with"),
    ];
    let dir = tempdir().unwrap();
    for (text, word) in bad {
        let output = command(text.split_whitespace()).current_dir(dir.path()).output().unwrap();
        let run = crate::support::Run::of(output).exits(3);
        assert!(run.err.contains(word), "{text}: no {word:?} in {run:#?}");
        assert_eq!(run.out, "", "{text}");
    }
    assert!(files(dir.path()).is_empty());
}

#[test]
fn help_and_version_are_no_failure() {
    let run = hyperfuzz(["--help"]).exits(0);
    assert!(run.out.contains("Exit codes: 0 nothing found, 1 new finding"), "{run:#?}");
    assert_eq!(hyperfuzz(["--version"]).exits(0).out, format!("hyperfuzz {}\n", env!("CARGO_PKG_VERSION")));
    for name in
        ["fuzz", "smoke", "replay", "triage", "boot", "corpus", "interface", "report", "doctor", "bench"]
    {
        assert!(hyperfuzz([name, "--help"]).exits(0).out.contains("Usage: hyperfuzz"), "{name}");
    }
}

#[test]
fn a_missing_qemu_is_named_with_what_to_do() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a.hf"), "d1 sched_op.yield()\n").unwrap();
    for command in ["fuzz {}/c", "smoke", "replay {}/a.hf", "bench speed"] {
        let text = format!("{command} --qemu /nonexistent/qemu");
        line(&text, dir.path()).complains(&["/nonexistent/qemu", "install", "doctor"]);
    }
    assert!(!dir.path().join("c").exists());
    // A file that can be run, but is no QEMU.
    line("fuzz {}/c --qemu /bin/true", dir.path()).complains(&["QEMU"]);
}

#[test]
fn a_directory_that_is_no_finding_cannot_be_replayed() {
    let dir = tempdir().unwrap();
    line("replay {}", dir.path()).complains(&["not the directory of a finding"]);
    fs::write(dir.path().join("program.hf"), "d1 sched_op.yield()\n").unwrap();
    fs::write(dir.path().join("finding.json"), "{\"bucket\": 1}").unwrap();
    line("replay {}", dir.path()).complains(&["finding.json", "damaged"]);
}

#[test]
fn output_that_is_closed_or_full_is_no_panic() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("a.hf"), "d1 sched_op.yield()\n").unwrap();
    let file = dir.path().join("a.hf");
    let show = ["corpus".as_ref(), "show".as_ref(), file.as_os_str()];
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let run = crate::support::Run::of(command(show).stdout(full).output().unwrap());
    run.complains(&["standard output", "No space left"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    crate::support::Run::of(command(show).stdout(writer).output().unwrap()).exits(0);
}
