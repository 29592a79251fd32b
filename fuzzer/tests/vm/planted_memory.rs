//! Planted bugs of `memory_op` and `xen_version`, each with the oracle that finds it.

use coverage_hypercall::crash::CrashKind;
use hyperfuzz::{engine::Outcome, report::finding, triage::bucket::Classifier};
use planted_bugs::Bug;

use crate::common::{NEVER, Vm, settings};

fn reservation(op: &str, gfn: u64, order: u32, mem_flags: u32) -> String {
    format!(
        "d1 memory_op.{op}(0, &{{extent_start: &[{gfn:#x}], nr_extents: 1, extent_order: {order}, mem_flags: {mem_flags:#x}, domid: self}})"
    )
}

/// The calls answer so on the clean build, where nothing is triggered; on the planted one the last of them ends in a record of
/// this kind, with this function on the stack, and says so.
#[track_caller]
fn check(bug: Bug, calls: &[(&str, &str)], kind: CrashKind, function: &str, says: &str) {
    let mut clean = Vm::boot();
    clean.check(calls);
    let canary = clean.canary(bug);
    assert!(canary.reached > 0 && canary.triggered == 0, "clean: {canary:?}");
    clean.check_well();
    drop(clean);

    let mut planted = Vm::with(&[bug]);
    let source: Vec<&str> = calls.iter().map(|(call, _)| *call).collect();
    let run = planted.run(&source.join("\n"));
    assert_eq!(run.execution.outcome, Outcome::Crash, "{run:?}");
    assert_eq!(run.answers.last().map(String::as_str), Some(NEVER), "the call that triggers does not return");
    assert_eq!(planted.canary(bug).triggered, 1);
    let crash = run.execution.crash.as_deref().expect("there is a crash record");
    let message = String::from_utf8_lossy(&crash.message[..crash.message_len as usize]).into_owned();
    assert_eq!(CrashKind::from_u32(crash.kind), Some(kind), "{message}");
    assert!(message.contains(says), "{message}");
    let stack = finding::stack(&Classifier::new(settings(&[]).symbols().unwrap()), &run.execution);
    assert!(stack.iter().any(|line| line.contains(function)), "{function} is not in {stack:#?}");
    // All but the last call do no harm.
    let rest = &source[..source.len() - 1];
    if !rest.is_empty() {
        assert_eq!(planted.run(&rest.join("\n")).execution.outcome, Outcome::Done);
        assert_eq!(planted.canary(bug).triggered, 0);
    }
    planted.check_well();
}

#[test]
fn node_oob_is_out_of_bounds() {
    let call = reservation("increase_reservation", 0, 0, 65 << 8);
    check(Bug::NodeOob, &[(&call, "= 1")], CrashKind::Assertion, "allocate_extent", "index out of bounds");
}

#[test]
fn order_unbounded_takes_too_long() {
    let call = reservation("populate_physmap", 0x20000, 31, 0);
    check(Bug::OrderUnbounded, &[(&call, "= 0")], CrashKind::Latency, "dispatch", "more steps");
}

#[test]
fn lock_leak_is_a_lock_that_is_held() {
    let call = reservation("decrease_reservation", 0x280, 0, 0);
    check(
        Bug::LockLeak,
        &[(&call, "= 1"), (&call, "= 0")],
        CrashKind::LockHeld,
        "check_locks",
        "held on return",
    );
}

#[test]
fn pod_order_fails_an_assertion() {
    let call = reservation("decrease_reservation", 0x281, 3, 0);
    check(Bug::PodOrder, &[(&call, "= 1")], CrashKind::Assertion, "remove_extent", "is_multiple_of");
}

#[test]
fn stack_leak_is_uninitialised() {
    let good = "d1 xen_version.changeset(&{text: out})";
    let odd = "d1 xen_version.changeset(&@unaligned(4) {text: out})";
    check(
        Bug::StackLeak,
        &[(good, "= 0*"), (odd, "= 0*")],
        CrashKind::Uninitialised,
        "text",
        "nobody initialised",
    );
}
