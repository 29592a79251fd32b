//! The planted bugs of event channels.

use coverage_hypercall::crash::CrashKind;
use hyperfuzz::engine::Outcome;
use planted_bugs::Bug;

use crate::common::{NEVER, Vm};

/// The program is harmless on the clean build; with the bug, its last call ends in a crash of that kind.
fn check(bug: Bug, kind: CrashKind, program: &str) {
    let mut clean = Vm::boot();
    let run = clean.run(program);
    assert_eq!(
        (run.execution.outcome, run.answers.last().map(String::as_str)),
        (Outcome::Done, Some("= 0")),
        "{run:?}"
    );
    let canary = clean.canary(bug);
    assert!(canary.reached > 0 && canary.triggered == 0, "clean: {canary:?}");
    clean.check_well();
    drop(clean);

    let mut planted = Vm::with(&[bug]);
    let run = planted.run(program);
    assert_eq!(run.execution.outcome, Outcome::Crash, "{run:?}");
    assert_eq!(run.answers.last().map(String::as_str), Some(NEVER));
    let crash = run.execution.crash.as_deref().expect("there is a crash record");
    assert_eq!((CrashKind::from_u32(crash.kind), crash.domain), (Some(kind), 1));
    let canary = planted.canary(bug);
    assert!(canary.triggered > 0, "planted: {canary:?}");
    planted.check_well();
}

#[test]
fn fifo_nocontrol_faults() {
    check(
        Bug::FifoNocontrol,
        CrashKind::Fault,
        "d1 event_channel_op.init_control(&{control_gfn: 0x290, offset: 0, vcpu: 0, link_bits: out, pad: out})\n\
         d1 event_channel_op.expand_array(&{array_gfn: 0x291})\n\
         r2 = d1 event_channel_op.bind_ipi(&{vcpu: 1, port: out})\n\
         d1 event_channel_op.send(&{port: r2.port})",
    );
}

#[test]
fn reset_nonpreempt_takes_too_long() {
    let bind = "d1 event_channel_op.bind_ipi(&{vcpu: 0, port: out})\n".repeat(40);
    let program = format!("{bind}d1 event_channel_op.reset(&{{dom: self}})");
    check(Bug::ResetNonpreempt, CrashKind::Latency, &program);
}
