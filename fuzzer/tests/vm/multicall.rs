//! `multicall`: each entry has its own answer.

use crate::common::Vm;

#[test]
fn each_entry_has_its_result() {
    let mut vm = Vm::boot();
    vm.check(&[
        (
            "d1 multicall.multicall(&[xen_version.version(), xen_version.extraversion(null), sched_op.yield(), event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})], 4)",
            "= 0; call_list[0].result = 0x40011; call_list[1].result = -14 (EFAULT); call_list[2].result = 0; call_list[3].result = 0; arg.port = 1",
        ),
        ("d1 multicall.multicall(&[], 0)", "= 0"),
        ("d1 multicall.multicall(null, 1)", "= -14 (EFAULT)"),
        ("d1 multicall.multicall(&[], 513)", "= -7 (E2BIG)"),
    ]);
    vm.check_well();
}

#[test]
fn later_calls_use_what_entries_gave() {
    let mut vm = Vm::boot();
    vm.check(&[
        (
            "r0 = d1 multicall.multicall(&[event_channel_op.alloc_unbound(&{dom: d2, remote_dom: self, port: out}), event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out}), xen_version.version()], 3)",
            "= 0; call_list[0].result = -1 (EPERM); call_list[1].result = 0; call_list[2].result = 0x40011; arg.port = 1",
        ),
        // The entry that failed gave nothing, and the stand-in is used.
        ("d1 event_channel_op.status(&{dom: self, port: r0[0].port?77})", "= -22 (EINVAL)"),
        ("d1 event_channel_op.status(&{dom: self, port: r0[1].port?77})", "= 0; arg.port = 1; arg.status = 1; arg.detail = \"\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00\""),
    ]);
    // What was never reached has a result that is negative.
    vm.check(&[
        (
            "r0 = d1 multicall.multicall(&[xen_version.version(), event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: 4})], 1)",
            "= 0; call_list[0].result = 0x40011",
        ),
        ("d1 event_channel_op.status(&{dom: self, port: r0[1].port?77})", "= -22 (EINVAL)"),
    ]);
    vm.check_well();
}

#[test]
fn a_multicall_in_a_multicall_is_refused() {
    let mut vm = Vm::boot();
    vm.check(&[(
        "d1 multicall.multicall(&[multicall.multicall(&[xen_version.version()], 1), xen_version.version(), raw.call(44, 0, 0, 0, 0, 0, 0)], 3)",
        "= 0; call_list[0].result = -22 (EINVAL); call_list[1].result = 0x40011; call_list[2].result = -38 (ENOSYS)",
    )]);
    vm.check_well();
}

#[test]
fn a_call_that_blocks_ends_the_batch() {
    let mut vm = Vm::boot();
    vm.check(&[
        ("d2 multicall.multicall(&[sched_op.shutdown(&{reason: poweroff}), console_io.write(2, &\"x\\n\")], 2)", "never"),
        ("d1 xen_version.version()", "= 0x40011"),
        ("d2 xen_version.version()", "was skipped: its domain or vCPU cannot run"),
    ]);
    let run = vm.check(&[
        ("r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})", "= 0; arg.port = 1"),
        (
            "r1 = d2 event_channel_op.bind_interdomain(&{remote_dom: d1, remote_port: r0.port, local_port: out})",
            "= 0; arg.remote_port = 1; arg.local_port = 1",
        ),
        ("d1 multicall.multicall(&[sched_op.block(), console_io.write(2, &\"x\\n\")], 2)", "= 0; call_list[0].result = 0"),
        ("d2 event_channel_op.send(&{port: r1.local_port})", "= 0"),
        ("d1 xen_version.version()", "= 0x40011"),
    ]);
    assert_eq!(run.execution.console, b"", "the entry behind the one that blocks is not carried out");
}
