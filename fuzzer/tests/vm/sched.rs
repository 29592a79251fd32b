//! `sched_op`: who runs.

use crate::common::{NEVER, Vm};
use hyperfuzz::engine::Outcome;

const SKIPPED: &str = "was skipped: its domain or vCPU cannot run";
const OFFER: (&str, &str) =
    ("r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})", "= 0; arg.port = 1");
const TAKE: (&str, &str) = (
    "r1 = d2 event_channel_op.bind_interdomain(&{remote_dom: d1, remote_port: r0.port, local_port: out})",
    "= 0; arg.remote_port = 1; arg.local_port = 1",
);
const RING: (&str, &str) = ("d2 event_channel_op.send(&{port: r1.local_port})", "= 0");
const VERSION: (&str, &str) = ("d1 xen_version.version()", "= 0x40011");

#[test]
fn yield_returns() {
    Vm::boot().check(&[("d1 sched_op.yield()", "= 0"), ("d2 sched_op.yield()", "= 0"), VERSION]);
}

#[test]
fn an_event_wakes_a_blocked_domain() {
    let mut vm = Vm::boot();
    let run = vm.check(&[OFFER, TAKE, ("d1 sched_op.block()", "= 0"), RING, VERSION]);
    let order: Vec<u16> = run.execution.calls.iter().map(|call| call.call).collect();
    assert_eq!(order, [0, 1, 3, 2, 4], "the block returns once the other domain has sent");
    // An event that is pending already does not let it block.
    vm.check(&[OFFER, TAKE, RING, ("d1 sched_op.block()", "= 0"), VERSION]);
    // Nobody wakes this one: its calls are skipped, the other's go on.
    vm.check(&[
        ("d1 sched_op.block()", NEVER),
        ("d2 xen_version.version()", "= 0x40011"),
        (VERSION.0, SKIPPED),
    ]);
    // The second vCPUs carry on.
    vm.check(&[
        ("d1 sched_op.block()", NEVER),
        ("d2 sched_op.block()", NEVER),
        ("d1:1 xen_version.version()", "= 0x40011"),
        (VERSION.0, SKIPPED),
    ]);
    vm.check_end(
        Outcome::Idle,
        &[
            ("d1 sched_op.block()", NEVER),
            ("d2 sched_op.block()", NEVER),
            ("d1:1 sched_op.block()", NEVER),
            ("d2:1 sched_op.block()", NEVER),
            ("d0 sched_op.block()", NEVER),
        ],
    );
    vm.check_well();
}

#[test]
fn shutdown_ends_its_own_domain_only() {
    let mut vm = Vm::boot();
    vm.check(&[
        ("d2 sched_op.shutdown(&{reason: poweroff})", NEVER),
        VERSION,
        ("d2 xen_version.version()", SKIPPED),
        VERSION,
    ]);
    vm.check(&[
        ("d1 sched_op.shutdown(&{reason: crash})", NEVER),
        ("d2 xen_version.version()", "= 0x40011"),
        (VERSION.0, SKIPPED),
    ]);
    vm.check(&[
        ("d1 sched_op.shutdown(&{reason: 99})", "= -22 (EINVAL)"),
        ("d1 sched_op.shutdown(null)", "= -14 (EFAULT)"),
        ("d1 sched_op.shutdown_code(&{reason: suspend})", "= 0"),
        ("d1 sched_op.shutdown_code(&{reason: 6})", "= -22 (EINVAL)"),
        ("d1 sched_op.remote_shutdown(&{domain_id: d2, reason: suspend})", "= -1 (EPERM)"),
        ("d1 sched_op.remote_shutdown(&{domain_id: self, reason: suspend})", "= -3 (ESRCH)"),
        ("d1 sched_op.remote_shutdown(&{domain_id: 77, reason: suspend})", "= -3 (ESRCH)"),
        ("d1 sched_op.pin_override(&{pcpu: 0})", "= -1 (EPERM)"),
        ("d1 raw.call(29, 99, 0, 0, 0, 0, 0)", "= -38 (ENOSYS)"),
    ]);
    vm.check_end(
        Outcome::Idle,
        &[
            ("d1 sched_op.shutdown(&{reason: poweroff})", NEVER),
            ("d2 sched_op.shutdown(&{reason: poweroff})", NEVER),
            ("d0 sched_op.shutdown(&{reason: poweroff})", NEVER),
        ],
    );
    vm.check_well();
}

#[test]
fn poll_waits_for_its_ports_or_its_time() {
    let mut vm = Vm::boot();
    let poll =
        |timeout: &str| format!("d1 sched_op.poll(&{{ports: &[r0.port], nr_ports: 1, timeout: {timeout}}})");
    let (never, past, second) = (poll("never"), poll("past"), poll("second"));
    // Time passes.
    vm.check(&[OFFER, TAKE, (&past, "= 0"), (&second, "= 0"), VERSION]);
    // An event is there.
    vm.check(&[OFFER, TAKE, RING, (&never, "= 0"), VERSION]);
    // An event comes.
    let run = vm.check(&[OFFER, TAKE, (&never, "= 0"), RING, VERSION]);
    let order: Vec<u16> = run.execution.calls.iter().map(|call| call.call).collect();
    assert_eq!(order, [0, 1, 3, 2, 4]);
    // None comes.
    vm.check(&[OFFER, (&never, NEVER), ("d2 xen_version.version()", "= 0x40011"), (VERSION.0, SKIPPED)]);
    vm.check(&[
        ("d1 sched_op.poll(&{ports: &[1], nr_ports: 1, timeout: past})", "= -22 (EINVAL)"),
        ("d1 sched_op.poll(&{ports: &[5000], nr_ports: 1, timeout: past})", "= -22 (EINVAL)"),
        ("d1 sched_op.poll(&{ports: &[1], nr_ports: 129, timeout: past})", "= -22 (EINVAL)"),
        ("d1 sched_op.poll(&{ports: null, nr_ports: 1, timeout: past})", "= -14 (EFAULT)"),
        ("d1 sched_op.poll(&{ports: &[], nr_ports: 0, timeout: past})", "= 0"),
        ("d1 sched_op.poll(null)", "= -14 (EFAULT)"),
    ]);
    vm.check_well();
}

#[test]
fn a_watchdog_ends_its_domain() {
    let mut vm = Vm::boot();
    vm.check(&[
        ("d1 sched_op.watchdog(&{id: 0, timeout: 30})", "= 1"),
        ("d1 sched_op.watchdog(&{id: 0, timeout: 30})", "= 2"),
        ("d1 sched_op.watchdog(&{id: 0, timeout: 30})", "= -28 (ENOSPC)"),
        ("d1 sched_op.watchdog(&{id: 1, timeout: 0})", "= 0"),
        ("d1 sched_op.watchdog(&{id: 1, timeout: 0})", "= -22 (EINVAL)"),
        ("d1 sched_op.watchdog(&{id: 0, timeout: 0})", "= -22 (EINVAL)"),
        ("d1 sched_op.watchdog(&{id: 3, timeout: 1})", "= -22 (EINVAL)"),
    ]);
    vm.check(&[
        ("d2 sched_op.watchdog(&{id: 0, timeout: 1})", "= 1"),
        ("d1 sched_op.poll(&{ports: &[], nr_ports: 0, timeout: 90000000000})", "= 0"),
        ("d2 xen_version.version()", SKIPPED),
        VERSION,
    ]);
    vm.check_well();
}
