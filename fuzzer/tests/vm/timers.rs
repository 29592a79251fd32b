//! Timers of vCPUs: `set_timer_op`, and those of `vcpu_op`.

use crate::common::{NEVER, Vm};

const SKIPPED: &str = "was skipped: its domain or vCPU cannot run";
const BIND: (&str, &str) =
    ("r0 = d1 event_channel_op.bind_virq(&{virq: timer, vcpu: 0, port: out})", "= 0; arg.port = 1");
const VERSION: (&str, &str) = ("d1 xen_version.version()", "= 0x40011");
/// The shared-info page in the playground: pending bits lie at 0x800.
const SHARED_INFO: (&str, &str) =
    ("d1 memory_op.add_to_physmap(&{domid: self, size: 0, space: shared_info, idx: 0, gpfn: 0x280})", "= 0");
const PENDING: (&str, &str) = ("d1 agent.read(0x280800)", "= 2");
const NOT_PENDING: (&str, &str) = ("d1 agent.read(0x280800)", "= 0");
const CLEAR: (&str, &str) = ("d1 agent.write(0x280800, 0)", "= 0");

#[test]
fn who_blocks_with_a_timer_wakes_up() {
    let mut vm = Vm::boot();
    let run = vm.check(&[
        BIND,
        ("d1 set_timer_op.set(second)", "= 0"),
        ("d1 sched_op.block()", "= 0"),
        ("d2 xen_version.version()", "= 0x40011"),
        VERSION,
    ]);
    let order: Vec<u16> = run.execution.calls.iter().map(|call| call.call).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
    // A timer that is stopped, or that nobody hears, wakes nobody.
    for timer in ["d1 set_timer_op.set(stop)", "d1 event_channel_op.close(&{port: r0.port})"] {
        vm.check(&[
            BIND,
            ("d1 set_timer_op.set(second)", "= 0"),
            (timer, "= 0"),
            ("d1 sched_op.block()", NEVER),
            ("d2 xen_version.version()", "= 0x40011"),
            (VERSION.0, SKIPPED),
        ]);
    }
    vm.check_well();
}

#[test]
fn a_poll_ends_with_its_vcpus_timer() {
    let mut vm = Vm::boot();
    let poll = ("d1 sched_op.poll(&{ports: &[], nr_ports: 0, timeout: second})", "= 0");
    // The time-stamp counter tells the time.
    let time = |answer| ("d1 agent.rdmsr(0x10)", answer);
    vm.check(&[
        BIND,
        ("d1 set_timer_op.set(ms)", "= 0"),
        poll,
        time("= 0xf4240"),
        poll,
        time("= 0x3b9aca00"),
    ]);
    vm.check_well();
}

#[test]
fn singleshot_timers_expire_once() {
    let mut vm = Vm::boot();
    vm.check(&[
        BIND,
        SHARED_INFO,
        NOT_PENDING,
        ("d1 vcpu_op.set_singleshot_timer(0, &{timeout_abs_ns: ms, flags: future})", "= 0"),
        NOT_PENDING,
        ("d1 vcpu_op.stop_singleshot_timer(0)", "= 0"),
        ("d1 sched_op.poll(&{ports: &[], nr_ports: 0, timeout: second})", "= 0"),
        NOT_PENDING,
        // It has passed by now.
        ("d1 vcpu_op.set_singleshot_timer(0, &{timeout_abs_ns: ms, flags: future})", "= 0"),
        PENDING,
        CLEAR,
        VERSION,
        NOT_PENDING,
        ("d1 set_timer_op.set(past)", "= 0"),
        PENDING,
        // It is nobody else's.
        ("d1 vcpu_op.set_singleshot_timer(1, &{timeout_abs_ns: ms, flags: 0x0})", "= -22 (EINVAL)"),
        ("d1 vcpu_op.stop_singleshot_timer(1)", "= -22 (EINVAL)"),
        ("d1 vcpu_op.set_singleshot_timer(3, &{timeout_abs_ns: ms, flags: 0x0})", "= -2 (ENOENT)"),
        ("d1 vcpu_op.set_singleshot_timer(0, null)", "= -14 (EFAULT)"),
        ("d1:1 vcpu_op.set_singleshot_timer(1, &{timeout_abs_ns: ms, flags: 0x0})", "= 0"),
    ]);
    vm.check_well();
}

#[test]
fn periodic_timers_make_up_for_lost_time_once() {
    let mut vm = Vm::boot();
    vm.check(&[
        BIND,
        SHARED_INFO,
        ("d1 vcpu_op.set_periodic_timer(0, &{period_ns: ms})", "= 0"),
        NOT_PENDING,
        ("d1 sched_op.poll(&{ports: &[], nr_ports: 0, timeout: second})", "= 0"),
        PENDING,
        CLEAR,
        VERSION,
        NOT_PENDING,
        ("d1 sched_op.poll(&{ports: &[], nr_ports: 0, timeout: 0xffffffffffffffff})", "= 0"),
        PENDING,
        CLEAR,
        VERSION,
        NOT_PENDING,
        ("d1 vcpu_op.stop_periodic_timer(0)", "= 0"),
        ("d1 vcpu_op.stop_periodic_timer(1)", "= 0"),
    ]);
    vm.check(&[
        ("d1 vcpu_op.set_periodic_timer(0, &{period_ns: 0x3fffffffffffffff})", "= 0"),
        ("d1 vcpu_op.set_periodic_timer(1, &{period_ns: second})", "= 0"),
        ("d1 vcpu_op.set_periodic_timer(0, &{period_ns: 0x4000000000000000})", "= -22 (EINVAL)"),
        ("d1 vcpu_op.set_periodic_timer(0, &{period_ns: 0xffffffffffffffff})", "= -22 (EINVAL)"),
        ("d1 vcpu_op.set_periodic_timer(0, &{period_ns: 999999})", "= -22 (EINVAL)"),
        ("d1 vcpu_op.set_periodic_timer(0, &{period_ns: none})", "= -22 (EINVAL)"),
        ("d1 vcpu_op.set_periodic_timer(0, null)", "= -14 (EFAULT)"),
        ("d1 vcpu_op.set_periodic_timer(9, null)", "= -2 (ENOENT)"),
    ]);
    vm.check_well();
}
