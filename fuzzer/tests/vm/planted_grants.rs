//! The planted bugs of grant tables: each trigger ends as the bug should, and does nothing of the kind on the clean build.

use coverage_hypercall::crash::CrashKind;
use hyperfuzz::engine::Outcome;
use planted_bugs::Bug;

use super::planted::{check_calls, record};

const GRANT: (&str, &str) = ("d1 agent.grant_access(9, d2, 0x280, 0x0)", "= 9");

fn oracle(bug: Bug, kind: CrashKind, function: &str, calls: &[(&str, &str)]) {
    let (mut vm, run) = check_calls(bug, Outcome::Crash, calls);
    let (found, stack) = record(&run);
    assert_eq!(found, kind);
    assert!(stack.iter().any(|line| line.contains(function)), "{function} is not in {stack:#?}");
    vm.check_well();
}

#[test]
fn grant_uninit_faults() {
    let (mut vm, run) = check_calls(
        Bug::GrantUninit,
        Outcome::Crash,
        &[(
            "d1 grant_table_op.swap_grant_ref(&[{ref_a: 1, ref_b: 2, status: out}], 1)",
            "= 0; uop[0].status = 0xffff",
        )],
    );
    let crash = run.execution.crash.as_deref().unwrap();
    assert_eq!((record(&run).0, crash.vector), (CrashKind::Fault, 14));
    assert!(crash.cr2 < 4096, "near null: {:#x}", crash.cr2);
    vm.check_well();
}

#[test]
fn unmap_underflow_loses_a_reference() {
    oracle(
        Bug::UnmapUnderflow,
        CrashKind::References,
        "check_touched",
        &[
            GRANT,
            (
                "r1 = d2 grant_table_op.map_grant_ref(&[{host_addr: 0x400000, flags: device_map|host_map, ref: 9, dom: d1, status: out, handle: out, dev_bus_addr: out}], 1)",
                "= 0; uop[0].dev_bus_addr = *",
            ),
            (
                "d2 grant_table_op.unmap_grant_ref(&[{host_addr: r1.host_addr, dev_bus_addr: 0, handle: r1.handle, status: out}], 1)",
                "= 0",
            ),
            (
                "d2 grant_table_op.unmap_grant_ref(&[{host_addr: 0, dev_bus_addr: r1.dev_bus_addr, handle: r1.handle, status: out}], 1)",
                "= 0",
            ),
        ],
    );
}

#[test]
fn status_freed_leaves_a_freed_frame_mapped() {
    oracle(
        Bug::StatusFreed,
        CrashKind::FreedFrame,
        "check_freed",
        &[
            ("d1 grant_table_op.set_version(&{version: 2}, 1)", "= 0"),
            (
                "d1 memory_op.add_to_physmap(&{domid: self, size: 0, space: grant_table, idx: 0x80000000, gpfn: 0x400})",
                "= 0",
            ),
            ("d1 grant_table_op.set_version(&{version: 1}, 1)", "= 0"),
        ],
    );
}

const COPY: &str = "d1 grant_table_op.copy_from_grant(&[{source: {ref: 11, domid: d2, offset: 0}, dest: {frame: 0x282, domid: self, offset: 0}, len: 8, flags: source_gref, status: out}], 1)";

#[test]
fn transitive_copy_follows_a_chain() {
    oracle(
        Bug::TransitiveCopy,
        CrashKind::Isolation,
        "claim_source",
        &[
            ("d2 agent.grant_sub_page(9, d1, 0x280, 0, 64, 0x0)", "= 9"),
            ("d1 agent.grant_transitive(10, d2, d2, 9, 0x0)", "= 10"),
            ("d2 agent.grant_transitive(11, d1, d1, 10, 0x0)", "= 11"),
            (COPY, "= 0; uop[0].status = 0xffff"),
        ],
    );
}

#[test]
fn transitive_copy_runs_in_circles() {
    let (mut vm, run) = check_calls(
        Bug::TransitiveCopy,
        Outcome::Crash,
        &[
            ("d1 agent.grant_transitive(10, d2, d2, 11, 0x0)", "= 10"),
            ("d2 agent.grant_transitive(11, d1, d1, 10, 0x0)", "= 11"),
            (COPY, "= 0; uop[0].status = 0xffff"),
        ],
    );
    assert_eq!(record(&run).0, CrashKind::DoubleFault);
    vm.check_well();
}

#[test]
fn retval_sign_is_no_status() {
    oracle(
        Bug::RetvalSign,
        CrashKind::ReturnContract,
        "grant_table_op",
        &[
            ("d1 agent.grant_access(9, d2, 0x280, readonly)", "= 9"),
            (
                "d2 grant_table_op.map_grant_ref(&[{host_addr: 0x400000, flags: host_map, ref: 9, dom: d1, status: out, handle: out, dev_bus_addr: out}], 1)",
                "= 0; uop[0].status = 0xffff",
            ),
        ],
    );
}

#[test]
fn ref_leak_keeps_a_reference() {
    oracle(
        Bug::RefLeak,
        CrashKind::References,
        "check_table_users",
        &[(
            "d1 memory_op.acquire_resource(&{domid: self, type: grant_table, id: 0, nr_frames: 1, pad: 0, frame: 0, frame_list: bad(0x800000000000)})",
            "= -14 (EFAULT)",
        )],
    );
}
