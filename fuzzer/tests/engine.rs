//! The engine against a real QEMU, with a guest of its own that needs no hypervisor.

mod guest;

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hyperfuzz::engine::qemu::{QemuConfig, QemuEngine};
use hyperfuzz::engine::version::{self, Reset, Way};
use hyperfuzz::engine::{Engine, EngineError, Execution, Outcome, Request, bundle};
use hyperfuzz::program::{lower, text};
use hyperfuzz::target::{Settings, Target};
use rustix::process::{Pid, Signal, kill_process};

fn config() -> QemuConfig {
    let plugin = fs::read(env!("HYPERFUZZ_PLUGIN")).expect("the build script has built the plugin");
    QemuConfig {
        reset: Reset::from_environment().unwrap(),
        budget: 20_000,
        wall_limit: Duration::from_secs(5),
        ..QemuConfig::new(guest::image(), bundle::build("", &[]), plugin)
    }
}

fn execute(engine: &mut QemuEngine, request: u8) -> Execution {
    let mut execution = Execution::default();
    engine.execute(&Request { program: &[request], comparisons: false }, &mut execution).unwrap();
    execution
}

/// What must be the same each time.
fn essence(execution: Execution) -> (Outcome, Vec<u8>, bool, u64) {
    (execution.outcome, execution.counters, execution.crash.is_some(), execution.blocks)
}

#[test]
fn every_end_is_seen_and_undone() {
    let mut engine = QemuEngine::start(config()).unwrap();
    assert_eq!(engine.counters(), guest::COUNTERS);
    assert_eq!(engine.build_id(), [0x5a; 32]);
    let first: Vec<_> = (0..guest::REQUESTS).map(|request| essence(execute(&mut engine, request))).collect();
    for (request, (outcome, counters, crash, _)) in (0u8..).zip(&first) {
        let expected = match request {
            guest::CRASH => Outcome::Crash,
            guest::IDLE => Outcome::Idle,
            guest::TRIPLE_FAULT => Outcome::TripleFault,
            guest::SPIN | guest::HALT | guest::WAIT => Outcome::Hang,
            guest::DONE | guest::PORT | guest::PATCH | guest::BREAKPOINT | guest::CLOCK => Outcome::Done,
            _ => unreachable!("there is no request {request}"),
        };
        assert_eq!(*outcome, expected, "request {request}");
        assert_eq!(*crash, request == guest::CRASH, "request {request}");
        let reached = u8::from(expected != Outcome::Hang);
        assert_eq!(counters[usize::from(request)], reached, "request {request}");
        assert_eq!(counters[guest::SPOILT], 0, "request {request}");
    }
    assert_eq!(first[usize::from(guest::DONE)].1.iter().filter(|n| **n != 0).count(), 1);
    assert_eq!(first[usize::from(guest::PATCH)].1[guest::PATCHED], 7);
    // Each follows on each other.
    for one in 0..guest::REQUESTS {
        for other in 0..guest::REQUESTS {
            for request in [one, other] {
                let again = essence(execute(&mut engine, request));
                assert_eq!(again, first[usize::from(request)], "request {request} of {one} and {other}");
            }
        }
    }
    assert_eq!(engine.restarts(), 0);
    // A machine that was booted again does the same. Its clock stands still at another time, though.
    engine.reboot().unwrap();
    for request in (0..guest::REQUESTS).filter(|request| *request != guest::CLOCK) {
        assert_eq!(essence(execute(&mut engine, request)), first[usize::from(request)], "request {request}");
    }
}

#[test]
fn a_recording_of_comparisons_may_take_longer() {
    let mut engine = QemuEngine::start(config()).unwrap();
    let mut outcome = |comparisons| {
        let mut execution = Execution::default();
        engine.execute(&Request { program: &[guest::WAIT], comparisons }, &mut execution).unwrap();
        execution.outcome
    };
    // A hundred PAUSEs are 25,600 blocks and a few: more than the budget, less than three times that.
    assert_eq!([false, true, false].map(&mut outcome), [Outcome::Hang, Outcome::Done, Outcome::Hang]);
}

/// What a process does: proc(5), `stat`, the field behind the name.
fn state_of(process: i32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap()
}

#[test]
fn replaces_a_machine_that_died() {
    let mut engine =
        QemuEngine::start(QemuConfig { wall_limit: Duration::from_secs(1), ..config() }).unwrap();
    for (signal, restarts) in [(Signal::KILL, 1), (Signal::STOP, 2), (Signal::SEGV, 3)] {
        let id = i32::try_from(engine.process_id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
        // It may go on for a moment, long enough for a program.
        while !matches!(state_of(id), 'Z' | 'T') {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(execute(&mut engine, guest::DONE).outcome, Outcome::Done, "{signal:?}");
        assert_eq!(engine.restarts(), restarts, "{signal:?}");
    }
}

#[test]
fn gives_up_on_a_program_that_always_costs_the_machine() {
    let config = QemuConfig { budget: u64::MAX, wall_limit: Duration::from_millis(100), ..config() };
    let mut engine = QemuEngine::start(config).unwrap();
    let execution = execute(&mut engine, guest::SPIN);
    assert_eq!((execution.outcome, engine.restarts()), (Outcome::Timeout, 3));
    assert_eq!(execution.counters, [0; guest::COUNTERS]);
    assert_eq!(execute(&mut engine, guest::DONE).outcome, Outcome::Done);
}

#[test]
fn says_why_there_is_no_machine() {
    let start = |config| QemuEngine::start(config).expect_err("this cannot start");
    let error = start(QemuConfig { binary: PathBuf::from("/nonexistent/qemu"), ..config() });
    assert!(
        matches!(error, EngineError::Start { .. }) && error.to_string().contains("/nonexistent/qemu"),
        "{error}"
    );
    let error = start(QemuConfig { plugin: b"no plugin".to_vec(), ..config() });
    assert!(matches!(error, EngineError::Died { .. }) && error.to_string().contains("plugin"), "{error}");
    let error = start(QemuConfig { ram_size: 1 << 46, ..config() });
    assert!(matches!(error, EngineError::WorkDirectory { .. }), "{error}");
    let error = start(QemuConfig { work_directory: Some("/nonexistent".into()), ..config() });
    assert!(error.to_string().contains("/nonexistent"), "{error}");
    let error = start(QemuConfig { boot_limit: Duration::ZERO, ..config() });
    assert!(matches!(error, EngineError::BootTimeout { .. }), "{error}");
}

/// A file in place of QEMU.
fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn refuses_what_is_no_qemu_that_works() {
    let directory = tempfile::tempdir().unwrap();
    let error = |binary| QemuEngine::start(QemuConfig { binary, ..config() }).expect_err("no machine");
    for (name, text, said) in [
        ("old", "echo 'QEMU emulator version 5.2.0 (some build)'", "QEMU 5.2;"),
        ("other", "echo something else", "no known version (exit code 0)"),
        ("broken", "echo 'no such library' >&2; exit 127", "(exit code 127) no such library"),
    ] {
        let error = error(script(directory.path(), name, text));
        assert!(matches!(error, EngineError::Version { .. }), "{name}: {error}");
        let error = error.to_string();
        assert!(error.contains(said) && error.contains("needs 6.1 or later"), "{name}: {error}");
    }
    for version in ["7.2.1", "10.1.0", "99.0"] {
        let lies = format!(
            "test $1 != --version || exec echo 'QEMU emulator version {version}'; echo 'out of order' >&2; exit 3"
        );
        let error = error(script(directory.path(), version, &lies));
        assert!(matches!(error, EngineError::Died { .. }), "{error}");
        let error = error.to_string();
        assert!(error.contains("exit code 3") && error.contains("out of order"), "{error}");
        assert!(error.contains("hyperfuzz doctor"), "{error}");
    }
}

/// A QEMU that says that it is of another version.
fn pretend(directory: &Path, version: &str) -> PathBuf {
    let real = version::default_binary();
    let text = format!(
        "test $1 != --version || exec echo 'QEMU emulator version {version}'; exec {} \"$@\"",
        real.display()
    );
    script(directory, version, &text)
}

#[test]
fn a_qemu_of_unknown_version_is_reset_from_outside() {
    let directory = tempfile::tempdir().unwrap();
    let start = |reset| {
        let binary = pretend(directory.path(), "77.3.1");
        QemuEngine::start(QemuConfig { binary, reset, ..config() }).unwrap()
    };
    let mut engine = start(Reset::Auto);
    let (way, why) = engine.way();
    assert_eq!(way, Way::Loadvm);
    assert!(why.is_some_and(|why| why.contains("77.3")), "{why:?}");
    assert_eq!(execute(&mut engine, guest::DONE).outcome, Outcome::Done);
    // Whoever knows better may say so.
    assert_eq!(start(Reset::InProcess).way(), (Way::InProcess, None));
    assert_eq!(start(Reset::Loadvm).way(), (Way::Loadvm, None));
}

/// A copy of QEMU, in which a symbol has another name.
fn without_symbol(directory: &Path, symbol: &str) -> PathBuf {
    let name = version::default_binary();
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).map(|path| path.join(&name));
    let real = found.chain([name.clone()]).find(|path| path.is_file()).unwrap().canonicalize().unwrap();
    let mut bytes = fs::read(&real).unwrap();
    let wanted = format!("\0{symbol}\0").into_bytes();
    let places: Vec<_> =
        (0..=bytes.len() - wanted.len()).filter(|at| bytes[*at..].starts_with(&wanted)).collect();
    assert!(!places.is_empty(), "{real:?} has no `{symbol}`");
    places.into_iter().for_each(|at| bytes[at + 1] = b'_');
    let copy = directory.join("copy");
    fs::write(&copy, bytes).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    // It looks for its firmware and its modules beside itself.
    let place = real.parent().unwrap().parent().unwrap().display().to_string();
    let text = format!(
        "export QEMU_MODULE_DIR={place}/lib/x86_64-linux-gnu/qemu\n\
         exec {} -L {place}/share/seabios -L {place}/share/qemu \"$@\"",
        copy.display()
    );
    script(directory, "without", &text)
}

#[test]
fn a_qemu_that_lacks_a_symbol_is_reset_from_outside() {
    let directory = tempfile::tempdir().unwrap();
    let symbol = "cpu_physical_memory_snapshot_and_clear_dirty";
    let binary = without_symbol(directory.path(), symbol);
    let start = |reset| QemuEngine::start(QemuConfig { binary: binary.clone(), reset, ..config() });
    let mut engine = start(Reset::Auto).unwrap();
    let (way, why) = engine.way();
    assert_eq!(way, Way::Loadvm);
    assert!(why.is_some_and(|why| why.contains(symbol)), "{why:?}");
    let first = essence(execute(&mut engine, guest::DONE));
    assert_eq!(first.0, Outcome::Done);
    assert_eq!(essence(execute(&mut engine, guest::DONE)), first);
    engine.reboot().unwrap();
    assert_eq!(essence(execute(&mut engine, guest::DONE)), first);
    let error = start(Reset::InProcess).expect_err("it cannot");
    assert!(matches!(error, EngineError::Lacking(_)), "{error}");
    let error = error.to_string();
    assert!(error.contains(symbol) && error.contains("--reset loadvm"), "{error}");
}

#[test]
fn every_end_is_seen_and_undone_from_outside() {
    let mut inside = QemuEngine::start(QemuConfig { reset: Reset::InProcess, ..config() }).unwrap();
    let mut outside = QemuEngine::start(QemuConfig { reset: Reset::Loadvm, ..config() }).unwrap();
    let requests = || (0..guest::REQUESTS).filter(|request| *request != guest::CLOCK);
    let known: Vec<_> = requests().map(|request| essence(execute(&mut inside, request))).collect();
    let first: Vec<_> = requests().map(|request| essence(execute(&mut outside, request))).collect();
    // The same as from inside, but for the block in which the snapshot is taken.
    let but_blocks = |all: &[(Outcome, Vec<u8>, bool, u64)]| {
        all.iter()
            .map(|(outcome, counters, crash, _)| (*outcome, counters.clone(), *crash))
            .collect::<Vec<_>>()
    };
    assert_eq!(but_blocks(&first), but_blocks(&known));
    let clock = essence(execute(&mut outside, guest::CLOCK));
    for (request, first) in requests().zip(&first) {
        assert_eq!(essence(execute(&mut outside, request)), *first, "request {request}");
        assert_eq!(essence(execute(&mut outside, guest::CLOCK)), clock, "after request {request}");
    }
    assert_eq!(outside.restarts(), 0);
    outside.reboot().unwrap();
    for (request, first) in requests().rev().zip(first.iter().rev()) {
        assert_eq!(essence(execute(&mut outside, request)), *first, "request {request}");
    }
    assert_eq!(outside.restarts(), 0);
}

/// A file in place of QEMU that does something with the private directory `$dir` and goes on as QEMU.
fn before_qemu(directory: &Path, name: &str, action: &str) -> PathBuf {
    let text = format!(
        "test $1 != --version || exec qemu-system-x86_64 --version\n\
         for word in \"$@\"; do case \"$word\" in *control=*) control=${{word##*control=}}; control=${{control%%,*}};; esac; done\n\
         dir=$(dirname \"$control\")\n{action}\nexec qemu-system-x86_64 \"$@\""
    );
    script(directory, name, &text)
}

#[test]
fn names_files_that_somebody_lays_hands_on() {
    let directory = tempfile::tempdir().unwrap();
    for (name, action, words) in [
        ("removes", "rm \"$dir/ram\"", ["/ram` (guest memory)", "was replaced by another file"]),
        ("unlinks", "rm \"$dir/control\"", ["/control` (the control file)", "was removed"]),
        (
            "truncates",
            "truncate -s 4096 \"$control\"",
            ["/control` (the control file)", "has 4096 bytes instead of"],
        ),
        ("spoils", ": > \"$dir/plugin.so\"", ["plugin.so", "cannot load the plugin"]),
    ] {
        let binary = before_qemu(directory.path(), name, action);
        let error = QemuEngine::start(QemuConfig { binary, ..config() }).expect_err(name).to_string();
        for word in words {
            assert!(error.contains(word), "{name}: no {word:?} in {error}");
        }
    }
}

#[test]
fn boots_again_where_a_machine_died_on_the_way() {
    let directory = tempfile::tempdir().unwrap();
    let count = directory.path().join("count");
    let fails = |boots: usize| {
        fs::write(&count, "").unwrap();
        let count = count.display();
        format!("echo >> {count}; test $(wc -l < {count}) -gt {boots} || {{ echo out of luck >&2; exit 9; }}")
    };
    let binary = before_qemu(directory.path(), "unlucky", &fails(2));
    let mut engine = QemuEngine::start(QemuConfig { binary, ..config() }).unwrap();
    let notices = engine.notices();
    assert_eq!(notices.len(), 2, "{notices:?}");
    assert!(notices[1].contains("attempt 2 of 3") && notices[1].contains("out of luck"), "{notices:?}");
    assert!(engine.notices().is_empty());
    assert_eq!(execute(&mut engine, guest::DONE).outcome, Outcome::Done);
    let binary = before_qemu(directory.path(), "hopeless", &fails(3));
    let error = QemuEngine::start(QemuConfig { binary, ..config() }).expect_err("bounded").to_string();
    assert!(error.contains("exit code 9") && error.contains("out of luck"), "{error}");
}

#[test]
fn says_where_memory_cannot_be_made() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a-file");
    fs::write(&file, b"").unwrap();
    let config = QemuConfig { work_directory: Some(file.clone()), ..config() };
    let error = QemuEngine::start(config).expect_err("a file is no directory");
    assert!(matches!(error, EngineError::WorkDirectory { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains(file.to_str().unwrap()) && error.contains("work directory"), "{error}");
}

/// Runs a program on the reference hypervisor.
fn run_text(engine: &mut QemuEngine, program: &str) -> Execution {
    let program = text::parse(program).unwrap();
    let lowered = lower::lower(&program, 1).unwrap();
    let mut execution = Execution::default();
    engine.execute(&Request { program: &lowered.bytes, comparisons: false }, &mut execution).unwrap();
    execution
}

/// The agent's own code gives way to the hypercall page: what it then does is its own business.
const LOST_AGENT: &str = "d1 agent.wrmsr(hypercall_page, 0x100000)\nd1 xen_version.version()\n";
/// `jmp $`.
const ENDLESS_LOOP: &str = "d1 agent.write(playground, 0xfeeb)\nd1 agent.exec(playground)\n";
const HEALTHY: &str = "d1 xen_version.version()\nd2 xen_version.version()\n";

#[test]
fn a_guest_that_runs_on_is_not_a_hang() {
    let settings = Settings::new(Target::ReferenceHvm, &[], &version::default_binary(), None).unwrap();
    let mut engine = settings.start().unwrap();
    let healthy = run_text(&mut engine, HEALTHY);
    assert_eq!((healthy.outcome, healthy.calls.len()), (Outcome::Done, 2));
    for program in [LOST_AGENT, ENDLESS_LOOP] {
        for _ in 0..3 {
            let lost = run_text(&mut engine, program);
            assert_eq!(lost.outcome, Outcome::Runaway, "{program}");
            assert!(lost.counters.iter().all(|count| *count == 0), "they depend on when it was noticed");
            let again = run_text(&mut engine, HEALTHY);
            assert_eq!((again.outcome, again.blocks), (Outcome::Done, healthy.blocks));
            assert_eq!((again.calls, again.counters), (healthy.calls.clone(), healthy.counters.clone()));
        }
    }
    assert_eq!(engine.restarts(), 0);
}
