//! `hyperfuzz replay --trace` and `--gdb`.

use std::{
    fs,
    io::{BufRead, BufReader, ErrorKind, Read},
    path::Path,
    process::{ChildStdout, Command, Stdio},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::tempdir;

use crate::support::{Background, PATIENCE, children, gone, line, machine};

/// Calls of two domains, of which the last one meets the planted bug `poll-unalloc`.
const PROGRAM: &str = "r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})\n\
                       d2 event_channel_op.bind_interdomain(&{remote_dom: d1, remote_port: r0.port, local_port: out})\n\
                       d1 agent.read(playground)\n\
                       d1 sched_op.poll(&{ports: &[500], nr_ports: 1, timeout: past})\n";

/// Names of the functions that a call entered.
fn functions(call: &Value) -> Vec<&str> {
    let functions = call["functions"].as_array().expect("a list");
    functions.iter().map(|function| function["function"].as_str().expect("a name")).collect()
}

/// The trace of a program, and that of the same program once more.
fn trace(directory: &Path, options: &str) -> Vec<Value> {
    let replay = format!("replay {{}}/p.hf --trace --json {options}");
    let traces: Vec<Value> =
        (0..2).map(|_| line(&replay, directory).events().remove(0)["trace"].take()).collect();
    assert_eq!(traces[0], traces[1], "{options}: it is the same each time");
    traces[0].as_array().expect("a list of calls").clone()
}

#[test]
fn a_trace_names_the_functions_of_each_call() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("p.hf"), PROGRAM).unwrap();
    let mut seen = Vec::new();
    for options in ["--target reference-hvm", "--target reference-pv", "--reset loadvm"] {
        let trace = trace(dir.path(), options);
        let [alloc, bind, read, poll, end] = trace.as_slice() else { panic!("{options}: {trace:?}") };
        assert_eq!((&alloc["call"], &alloc["result"]), (&0.into(), &"= 0".into()));
        assert!(poll["result"].as_str().is_some_and(|result| result.contains("EINVAL")), "{options}: {poll}");
        for (call, own, other) in [
            (alloc, "event_channel_op::alloc_unbound", "event_channel_op::bind_interdomain"),
            (bind, "event_channel_op::bind_interdomain", "event_channel_op::alloc_unbound"),
            (poll, "sched_op::poll", "event_channel_op::bind_interdomain"),
        ] {
            let names = functions(call);
            let at = |name: &str| names.iter().position(|found| *found == name);
            assert!(at(own).is_some() && at(other).is_none(), "{options}: {own}: {names:?}");
            assert!(at("hypercall::hypercall") < at("hypercall::dispatch"), "{options}: in order: {names:?}");
            assert!(at("hypercall::dispatch") < at(own), "{options}: in order: {names:?}");
            assert!(call["exits"].as_u64().is_some_and(|exits| exits > 0), "{options}: {call}");
        }
        // The switch to d2 and the call are two hypercalls.
        let entered = |call: &Value, name: &str| {
            let functions = call["functions"].as_array().unwrap();
            functions.iter().find(|f| f["function"] == name).map_or(0, |f| f["entered"].as_u64().unwrap())
        };
        assert_eq!(entered(bind, "hypercall::hypercall"), 2, "{options}: {bind}");
        assert_eq!(entered(poll, "hypercall::hypercall"), 1, "{options}: {poll}");
        assert!(!functions(read).contains(&"sched_op::poll"), "{options}: {read}");
        assert_eq!(end["call"], Value::Null);
        seen.push(functions(poll).join(" "));
    }
    assert_eq!(seen[0], seen[2], "however the machine is reset");
}

#[test]
fn a_trace_of_a_crash_ends_in_the_call_that_did_not_return() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("p.hf"), PROGRAM).unwrap();
    let run = line("replay {}/p.hf --trace --plant poll-unalloc", dir.path()).exits(1);
    let (_, trace) = run.out.split_once("\ntrace: ").expect("a trace");
    let (_, last) = trace.split_once("#3 d1 sched_op.poll").expect("the last call");
    let (head, rest) = last.split_once('\n').unwrap();
    assert!(head.ends_with(" DID NOT RETURN"), "{run:#?}");
    assert!(rest.contains(" inlined ") && rest.contains(" sched_op::poll\n"), "{run:#?}");
    assert!(rest.contains(" crash::exception\n"), "the way to the end as well: {run:#?}");
    assert!(run.out.contains("verdict: fault in sched_op.poll"), "{run:#?}");
}

/// `replay --gdb` in the background, the script that it has written for gdb, and what it has still to say.
fn debugged(directory: &Path, options: &str) -> (Background, String, BufReader<ChildStdout>) {
    let mut replay = Background::start(&format!("replay {{}}/p.hf --gdb 0 {options}"), directory);
    let mut out = replay.output();
    let mut said = String::new();
    while !said.contains("waiting for gdb") {
        assert!(out.read_line(&mut said).expect("readable") > 0, "it ended early: {said}");
    }
    let script =
        said.lines().find_map(|line| line.trim().strip_prefix("gdb -x ")).expect("a command").to_owned();
    (replay, script, out)
}

/// Runs gdb with a script and commands. None where there is no gdb.
fn gdb(script: &str, commands: &[&str]) -> Option<String> {
    let mut gdb = Command::new("gdb");
    gdb.args(["-nx", "-batch", "-x", script]).stdin(Stdio::null());
    commands.iter().for_each(|command| {
        gdb.args(["-ex", command]);
    });
    // If something does not stop where it should, the machine runs on for ever.
    match assert_cmd::Command::from_std(gdb).timeout(PATIENCE).output() {
        Ok(output) => Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("gdb: {error}"),
    }
}

#[test]
fn gdb_stops_at_the_first_call_and_at_the_crash() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("p.hf"), PROGRAM).unwrap();
    for target in ["reference-hvm", "reference-pv"] {
        let (replay, script, mut out) =
            debugged(dir.path(), &format!("--plant poll-unalloc --target {target}"));
        let number = |what: &str| format!("printf \"{what} %d\\n\", *$hypercall");
        let (first, last) = (number("first"), number("last"));
        let commands = [
            &first,
            "continue",
            "continue",
            &last,
            "continue",
            "backtrace 20",
            "continue",
            "info symbol $pc",
            "detach",
        ];
        let Some(said) = gdb(&script, &commands) else {
            eprintln!("there is no gdb here: `replay --gdb` was not tried with it");
            return;
        };
        // Event channels, and then the call that goes wrong.
        assert!(said.contains("\nfirst 32\n") && said.contains("\nlast 29\n"), "{target}: {said}");
        assert!(said.contains("#0  exception"), "{target}: {said}");
        assert!(said.contains("pub fn hypercall("), "source lines: {target}: {said}");
        assert!(said.contains("beacon::crashed"), "{target}: {said}");
        let mut rest = String::new();
        out.read_to_string(&mut rest).expect("readable");
        assert!(rest.contains("verdict: gdb has left"), "{target}: {rest}\n{said}");
        replay.wait().exits(0);
        assert!(!Path::new(&script).exists(), "{target}: what was written for gdb is removed");
    }
}

#[test]
fn a_machine_that_waits_for_gdb_ends_with_ctrl_c_and_leaves_nothing() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("p.hf"), PROGRAM).unwrap();
    let (replay, script, _out) = debugged(dir.path(), "");
    let qemu = children(replay.id());
    assert_eq!(qemu.len(), 1, "{qemu:?}");
    replay.signal(Signal::INT);
    replay.wait().exits(0);
    assert!(qemu.into_iter().all(gone) && !Path::new(&script).exists());
}

#[test]
fn a_port_that_is_taken_is_named() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("p.hf"), PROGRAM).unwrap();
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    line(&format!("replay {{}}/p.hf --gdb {port}"), dir.path()).complains(&[&port, "--gdb 0"]);
    line("replay {}/p.hf --gdb --trace", dir.path()).exits(3);
}
