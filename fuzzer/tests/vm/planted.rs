//! Each planted bug: its trigger ends as the bug should, and does nothing of the kind on the clean build.

use coverage_hypercall::crash::{CrashKind, GPR_RSP};
use hyperfuzz::{
    engine::{Engine, Outcome},
    report::finding,
    triage::bucket::Classifier,
};
use planted_bugs::Bug;

use crate::common::{NEVER, Run, Vm, settings};

/// A trigger, and what the clean build answers.
fn trigger(bug: Bug) -> Vec<(String, &'static str)> {
    let calls: &[(&str, &str)] = match bug {
        Bug::ExchangeOob => &[(
            "d1 memory_op.exchange(&{in: {extent_start: &[0x290, 0x291], nr_extents: 2, extent_order: 0, mem_flags: 0x0, domid: self}, out: {extent_start: bad(0x7ffffffffff8), nr_extents: 2, extent_order: 0, mem_flags: 0x0, domid: self}, nr_exchanged: 1})",
            "= -14 (EFAULT)",
        )],
        Bug::PollUnalloc => {
            &[("d1 sched_op.poll(&{ports: &[500], nr_ports: 1, timeout: past})", "= -22 (EINVAL)")]
        }
        Bug::CountSign => &[("d1 console_io.write(0x80000000, &fill(0x41, 600))", "= 0")],
        Bug::BatchPrivilege => &[(
            "d1 multicall.multicall(&[coverage_op.release(0), coverage_op.reset(0)], 2)",
            "= 0; call_list[0].result = 0; call_list[1].result = -1 (EPERM)",
        )],
        Bug::M2pDesync => &[(
            "d1 memory_op.add_to_physmap(&{domid: self, size: 0, space: gmfn, idx: 0x280, gpfn: 0x281})",
            "= 0",
        )],
        Bug::PollHang => &[
            (
                "r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})",
                "= 0; arg.port = 1",
            ),
            ("d1 sched_op.poll(&{ports: &[r0.port], nr_ports: 1, timeout: 0xffffffffffffffff})", "= 0"),
        ],
        other => panic!("{} is tried in the file of its family", other.name()),
    };
    calls.iter().map(|(call, answer)| ((*call).to_owned(), *answer)).collect()
}

/// Runs the trigger on a build with all bugs and on a clean one. Returns the run that ended badly.
fn check(bug: Bug, outcome: Outcome) -> (Vm, Run) {
    let calls = trigger(bug);
    let calls: Vec<(&str, &str)> = calls.iter().map(|(call, answer)| (call.as_str(), *answer)).collect();
    check_calls(bug, outcome, &calls)
}

/// As [`check`], with a trigger of one's own and what the clean build answers.
pub(crate) fn check_calls(bug: Bug, outcome: Outcome, calls: &[(&str, &str)]) -> (Vm, Run) {
    let mut clean = Vm::boot();
    clean.check(calls);
    let canary = clean.canary(bug);
    assert!(canary.reached > 0 && canary.triggered == 0, "clean: {canary:?}");
    clean.check_well();
    drop(clean);

    let mut planted = Vm::with(&[bug]);
    let source: Vec<&str> = calls.iter().map(|(call, _)| *call).collect();
    let run = planted.run(&source.join("\n"));
    assert_eq!(run.execution.outcome, outcome, "{run:?}");
    assert_eq!(run.answers.last().map(String::as_str), Some(NEVER), "the call that triggers does not return");
    let canary = planted.canary(bug);
    assert!(canary.reached > 0 && canary.triggered > 0, "planted: {canary:?}");
    (planted, run)
}

/// What the crash record says, with the names of the functions on the stack.
pub(crate) fn record(run: &Run) -> (CrashKind, Vec<String>) {
    let crash = run.execution.crash.as_deref().expect("there is a crash record");
    let classifier = Classifier::new(settings(&[]).symbols().unwrap());
    (CrashKind::from_u32(crash.kind).expect("the kind is known"), finding::stack(&classifier, &run.execution))
}

#[track_caller]
fn assert_oracle(bug: Bug, kind: CrashKind, function: &str) {
    let (mut vm, run) = check(bug, Outcome::Crash);
    let (found, stack) = record(&run);
    assert_eq!(found, kind);
    assert!(stack.iter().any(|line| line.contains(function)), "{function} is not in {stack:#?}");
    let domain = run.execution.crash.as_deref().map(|crash| crash.domain);
    assert_eq!(domain, Some(1));
    vm.check_well();
}

#[test]
fn exchange_oob_faults() {
    let (mut vm, run) = check(Bug::ExchangeOob, Outcome::Crash);
    let (kind, stack) = record(&run);
    let crash = run.execution.crash.as_deref().unwrap();
    // The address behind the guest's half is not canonical: a general protection fault.
    assert_eq!((kind, crash.vector, crash.error), (CrashKind::Fault, 13, 0));
    assert!(stack.iter().any(|line| line.contains("exchange")), "{stack:#?}");
    assert!(crash.gpr.contains(&0x8000_0000_0000), "the address is in a register: {:x?}", crash.gpr);
    vm.check_well();
}

#[test]
fn poll_unalloc_faults() {
    let (mut vm, run) = check(Bug::PollUnalloc, Outcome::Crash);
    let (kind, stack) = record(&run);
    let crash = run.execution.crash.as_deref().unwrap();
    assert_eq!((kind, crash.vector), (CrashKind::Fault, 14));
    assert!(crash.cr2 < 4096, "near null: {:#x}", crash.cr2);
    assert!(crash.rip >> 63 == 1 && crash.gpr[GPR_RSP] >> 63 == 1 && crash.cr3 != 0, "{crash:x?}");
    assert_eq!(crash.hypercall, xen_abi::hypercall::SCHED_OP);
    assert!(stack.iter().any(|line| line.contains("poll")), "{stack:#?}");
    vm.check_well();
}

#[test]
fn count_sign_hurts_the_stack_canary() {
    assert_oracle(Bug::CountSign, CrashKind::StackCanary, "console");
}

#[test]
fn batch_privilege_is_a_right_that_was_not_held() {
    assert_oracle(Bug::BatchPrivilege, CrashKind::Privilege, "coverage_op");
}

#[test]
fn m2p_desync_breaks_the_identity() {
    assert_oracle(Bug::M2pDesync, CrashKind::M2pIdentity, "after_call");
}

#[test]
fn poll_hang_is_a_hang() {
    let (mut vm, run) = check(Bug::PollHang, Outcome::Hang);
    assert!(run.execution.crash.is_none());
    vm.check_well();
    assert_eq!(vm.engine().restarts(), 0);
}
