//! The engine against a real QEMU, with a guest of its own that needs no hypervisor.

mod guest;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use hyperfuzz::engine::qemu::{QemuConfig, QemuEngine};
use hyperfuzz::engine::{Engine, EngineError, Execution, Outcome, Request, bundle};
use rustix::process::{Pid, Signal, kill_process};

fn config() -> QemuConfig {
    let plugin = fs::read(env!("HYPERFUZZ_PLUGIN")).expect("the build script has built the plugin");
    QemuConfig {
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
            guest::SPIN | guest::HALT => Outcome::Hang,
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
fn replaces_a_machine_that_died() {
    let mut engine =
        QemuEngine::start(QemuConfig { wall_limit: Duration::from_secs(1), ..config() }).unwrap();
    for (signal, restarts) in [(Signal::KILL, 1), (Signal::STOP, 2), (Signal::SEGV, 3)] {
        let id = i32::try_from(engine.process_id().unwrap()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
        assert_eq!(execute(&mut engine, guest::DONE).outcome, Outcome::Done, "{signal:?}");
        assert_eq!(engine.restarts(), restarts, "{signal:?}");
    }
}

#[test]
fn gives_up_on_a_program_that_always_costs_the_machine() {
    let config = QemuConfig {
        budget: u64::MAX,
        stall_limit: Duration::from_secs(60),
        wall_limit: Duration::from_millis(100),
        ..config()
    };
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
