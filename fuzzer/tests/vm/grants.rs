//! `grant_table_op`: memory of one domain in the other, and everything that stands against it.

use crate::common::Vm;

/// A read of a frame that is not there: a page fault.
const GONE: &str = "raised exception 14, *";
const GRANT: (&str, &str) = ("d1 agent.grant_access(9, d2, 0x280, 0x0)", "= 9");
const MAPPED: &str = "= 0; uop[0].dev_bus_addr = *";

/// d2 maps a grant. References are constants: a transcript takes stored results for changes.
fn map(host_addr: &str, flags: &str, reference: &str, dom: &str) -> String {
    format!(
        "d2 grant_table_op.map_grant_ref(&[{{host_addr: {host_addr}, flags: {flags}, ref: {reference}, dom: {dom}, status: out, handle: out, dev_bus_addr: out}}], 1)"
    )
}

fn unmap(host_addr: &str, dev_bus_addr: &str, handle: &str) -> String {
    format!(
        "d2 grant_table_op.unmap_grant_ref(&[{{host_addr: {host_addr}, dev_bus_addr: {dev_bus_addr}, handle: {handle}, status: out}}], 1)"
    )
}

/// An answer that reports a status.
fn ended(status: i16) -> String {
    format!("= 0; uop[0].status = {:#x}", status as u16)
}

#[test]
fn a_granted_frame_is_shared_until_it_is_unmapped() {
    let mut vm = Vm::boot();
    let unmap = unmap("0x400000", "0", "0");
    vm.check(&[
        ("d1 agent.write(playground, 0x1122)", "= 0"),
        GRANT,
        (&map("0x400000", "host_map", "9", "d1"), MAPPED),
        ("d2 agent.read(0x400000)", "= 0x1122"),
        ("d2 agent.write(0x400000, 0x3344)", "= 0"),
        ("d1 agent.read(playground)", "= 0x3344"),
        // The entry says that it is read and written: version 1 has the bits in it.
        ("d1 agent.read(0x10100048)", "= 0x28000020019"),
        (&unmap, "= 0"),
        ("d2 agent.read(0x400000)", GONE),
        ("d1 agent.read(0x10100048)", "= 0x28000020001"),
        (&unmap, &ended(-4)),
        ("d1 agent.write(playground, 0)", "= 0"),
    ]);
    vm.check_well();
}

#[test]
fn a_read_only_grant_is_not_written_to() {
    let mut vm = Vm::boot();
    vm.check(&[
        ("d1 agent.grant_access(9, d2, 0x280, readonly)", "= 9"),
        (&map("0x400000", "host_map", "9", "d1"), &ended(-1)),
        (&map("0x400000", "host_map|readonly", "9", "d1"), MAPPED),
        ("d2 agent.read(0x400000)", "= 0"),
        ("d2 agent.write(0x400000, 7)", GONE),
        ("d2 xen_version.extraversion(bad(0x400000))", "= -14 (EFAULT)"),
        (&unmap("0x401000", "0", "0"), &ended(-1)),
        (&unmap("0x400000", "0", "0"), "= 0"),
    ]);
    vm.check_well();
}

#[test]
fn what_is_not_granted_is_not_mapped() {
    let mut vm = Vm::boot();
    vm.check(&[
        // There is no table yet.
        (&map("0x400000", "host_map", "9", "d1"), &ended(-1)),
        GRANT,
        ("d1 agent.grant_access(10, d1, 0x280, 0x0)", "= 10"),
        ("d1 agent.grant_access(11, d2, 0x600, 0x0)", "= 11"),
        ("d1 agent.grant_access(12, d2, 0x280, sub_page)", "= 12"),
        (&map("0x400000", "host_map", "8", "d1"), &ended(-1)),
        (&map("0x400000", "host_map", "10", "d1"), &ended(-1)),
        (&map("0x400000", "host_map", "11", "d1"), &ended(-9)),
        (&map("0x400000", "host_map", "12", "d1"), &ended(-1)),
        (&map("0x400000", "host_map", "100000", "d1"), &ended(-3)),
        (&map("0x400000", "readonly", "9", "d1"), &ended(-3)),
        (&map("0x400000", "host_map", "9", "77"), &ended(-2)),
        (&map("0x400000", "host_map|contains_pte", "9", "d1"), &ended(-1)),
        (&map("0x10000000", "host_map", "9", "d1"), &ended(-1)),
        ("d1 agent.grant_revoke(9)", "= 9"),
        (&map("0x400000", "host_map", "9", "d1"), &ended(-1)),
        (&unmap("0x400000", "0", "0"), &ended(-4)),
    ]);
    vm.check_well();
}

#[test]
fn both_parts_of_a_mapping_go_one_after_the_other() {
    let mut vm = Vm::boot();
    vm.check(&[
        GRANT,
        (&format!("r1 = {}", map("0x400000", "device_map|host_map", "9", "d1")), MAPPED),
        (&unmap("0", "0", "0"), "= 0"),
        (&unmap("0", "0x1000", "0"), &ended(-6)),
        (&unmap("0x400000", "0", "0"), "= 0"),
        ("d2 agent.read(0x400000)", GONE),
        (&unmap("0", "r1.dev_bus_addr", "0"), "= 0"),
        (&unmap("0", "0x1000", "0"), &ended(-4)),
    ]);
    vm.check_well();
}

#[test]
fn a_mapping_goes_by_its_handle_only() {
    let mut vm = Vm::boot();
    let replace = |new: &str| {
        format!(
            "d2 grant_table_op.unmap_and_replace(&[{{host_addr: 0x400000, new_addr: {new}, handle: 0, status: out}}], 1)"
        )
    };
    vm.check(&[
        GRANT,
        (&map("0x400000", "host_map", "9", "d1"), MAPPED),
        ("d2 memory_op.remove_from_physmap(&{domid: self, gpfn: 0x400})", "= -22 (EINVAL)"),
        (
            "d2 memory_op.decrease_reservation(0, &{extent_start: &[0x400], nr_extents: 1, extent_order: 0, mem_flags: 0x0, domid: self})",
            "= 0",
        ),
        (
            "d2 memory_op.add_to_physmap(&{domid: self, size: 0, space: gmfn, idx: 0x290, gpfn: 0x400})",
            "= -22 (EINVAL)",
        ),
        // The owner may give its frame away: it stays for those who have it.
        (
            "d1 memory_op.decrease_reservation(0, &{extent_start: &[0x280], nr_extents: 1, extent_order: 0, mem_flags: 0x0, domid: self})",
            "= 1",
        ),
        ("d1 agent.read(playground)", GONE),
        ("d2 agent.write(0x400000, 5)", "= 0"),
        ("d2 agent.read(0x400000)", "= 5"),
        (&replace("0x290000"), &ended(-1)),
        (&replace("0"), "= 0"),
        ("d2 agent.read(0x400000)", GONE),
    ]);
    vm.check_well();
}

#[test]
fn copies_go_by_grants_and_by_own_frames() {
    let copy = |op: &str, source: &str, dest: &str, len: u32, flags: &str| {
        format!(
            "d2 grant_table_op.{op}(&[{{source: {source}, dest: {dest}, len: {len}, flags: {flags}, status: out}}], 1)"
        )
    };
    let (from, to) = ("{ref: 9, domid: d1, offset: 0}", "{frame: 0x290, domid: self, offset: 8}");
    let mut vm = Vm::boot();
    vm.check(&[
        ("d1 agent.grant_access(9, d2, 0x280, readonly)", "= 9"),
        ("d1 agent.grant_access(10, d2, 0x281, 0x0)", "= 10"),
        ("d1 agent.write(playground, 0x1122)", "= 0"),
        (&copy("copy_from_grant", from, to, 8, "source_gref"), "= 0"),
        ("d2 agent.read(0x290008)", "= 0x1122"),
        (
            &copy(
                "copy_to_grant",
                "{frame: 0x290, domid: self, offset: 8}",
                "{ref: 10, domid: d1, offset: 16}",
                8,
                "dest_gref",
            ),
            "= 0",
        ),
        ("d1 agent.read(0x281010)", "= 0x1122"),
        (
            &copy("copy_between_grants", from, "{ref: 10, domid: d1, offset: 0}", 8, "source_gref|dest_gref"),
            "= 0",
        ),
        ("d1 agent.read(playground1)", "= 0x1122"),
        (&copy("copy_between_grants", from, from, 8, "source_gref|dest_gref"), &ended(-1)),
        (
            &copy(
                "copy_frames",
                "{frame: 0x290, domid: self, offset: 8}",
                "{frame: 0x291, domid: self, offset: 0}",
                8,
                "0x0",
            ),
            "= 0",
        ),
        ("d2 agent.read(0x291000)", "= 0x1122"),
        (
            &copy("copy_from_grant", from, "{frame: 0x290, domid: self, offset: 4095}", 2, "source_gref"),
            &ended(-10),
        ),
        (
            &copy("copy_from_grant", from, "{frame: 0x600, domid: self, offset: 0}", 2, "source_gref"),
            &ended(-9),
        ),
        (
            &copy("copy_from_grant", from, "{frame: 0x290, domid: d1, offset: 0}", 2, "source_gref"),
            &ended(-8),
        ),
        (&copy("copy_from_grant", "{ref: 9, domid: 77, offset: 0}", to, 2, "source_gref"), &ended(-2)),
        (&copy("copy_from_grant", "{ref: 100000, domid: d1, offset: 0}", to, 2, "source_gref"), &ended(-3)),
    ]);
}

#[test]
fn version_2_grants_parts_and_grants_of_others() {
    let copy = |reference: u32, domid: &str, offset: u32, len: u32| {
        format!(
            "d1 grant_table_op.copy_from_grant(&[{{source: {{ref: {reference}, domid: {domid}, offset: {offset}}}, dest: {{frame: 0x290, domid: self, offset: 0}}, len: {len}, flags: source_gref, status: out}}], 1)"
        )
    };
    let mut vm = Vm::boot();
    vm.check(&[
        ("d1 agent.write(0x280010, 0x55)", "= 0"),
        ("d1 agent.grant_sub_page(9, d2, 0x280, 16, 8, 0x0)", "= 9"),
        ("d1 grant_table_op.get_version(&{dom: self, pad: 0, version: out}, 1)", "= 0; uop.version = 2"),
        ("d2 agent.grant_transitive(10, d1, d1, 9, 0x0)", "= 10"),
        (&copy(10, "d2", 16, 8), "= 0"),
        ("d1 agent.read(0x290000)", "= 85"),
        (&copy(10, "d2", 15, 8), &ended(-1)),
        (&copy(10, "d2", 16, 9), &ended(-1)),
        (&map("0x400000", "host_map", "9", "d1"), &ended(-1)),
        // Transitive grants are followed once, and not to where they come from.
        ("d1 agent.grant_transitive(11, d2, d2, 10, 0x0)", "= 11"),
        ("d2 agent.grant_transitive(12, d1, d1, 11, 0x0)", "= 12"),
        (&copy(12, "d2", 16, 8), &ended(-1)),
        ("d2 agent.grant_transitive(13, d1, d2, 10, 0x0)", "= 13"),
        (&copy(13, "d2", 16, 8), &ended(-1)),
        // What it is based on is gone.
        ("d1 agent.grant_revoke(9)", "= 9"),
        (&copy(10, "d2", 16, 8), &ended(-1)),
    ]);
    vm.check_well();
}

#[test]
fn tables_are_set_up_and_change_their_version() {
    let query =
        "d1 grant_table_op.query_size(&{dom: self, nr_frames: out, max_nr_frames: out, status: out}, 1)";
    let version = |version: u32| format!("d1 grant_table_op.set_version(&{{version: {version}}}, 1)");
    let status = |gpfn: &str| {
        format!(
            "d1 memory_op.add_to_physmap(&{{domid: self, size: 0, space: grant_table, idx: 0x80000000, gpfn: {gpfn}}})"
        )
    };
    let mut vm = Vm::boot();
    vm.check(&[
        (query, "= 0; uop.max_nr_frames = 16"),
        (
            "d1 grant_table_op.setup_table(&{dom: self, nr_frames: 1, status: out, frame_list: &[0x0]}, 1)",
            "= 0; frame_list[0] = 0xffffffffffffffff",
        ),
        (query, "= 0; uop.nr_frames = 1; uop.max_nr_frames = 16"),
        (
            "d1 grant_table_op.setup_table(&{dom: d2, nr_frames: 1, status: out, frame_list: &[0x0]}, 1)",
            "= 0; uop.status = 0xfff8",
        ),
        (
            "d1 grant_table_op.setup_table(&{dom: self, nr_frames: 17, status: out, frame_list: &[0x0]}, 1)",
            "= 0; uop.status = 0xffff",
        ),
        (&status("0x400"), "= -22 (EINVAL)"),
        (&version(3), "= -22 (EINVAL); uop.version = 1"),
        (&version(2), "= 0"),
        (&status("0x400"), "= 0"),
        ("d1 agent.read(0x400000)", "= 0"),
        (
            "d1 grant_table_op.get_status_frames(&{nr_frames: 1, dom: self, status: out, frame_list: &[0x0]}, 1)",
            "= 0; frame_list[0] = 0x400",
        ),
        (
            "d1 grant_table_op.get_status_frames(&{nr_frames: 2, dom: self, status: out, frame_list: &[0x0, 0x0]}, 1)",
            "= 0; uop.status = 0xffff",
        ),
        (&version(1), "= 0"),
        ("d1 agent.read(0x400000)", GONE),
        ("d1 grant_table_op.dump_table(&{dom: self, status: out}, 1)", "= -38 (ENOSYS)"),
        ("d1 grant_table_op.transfer(&[{mfn: 0x280, domid: d2, ref: 9, status: out}], 1)", "= -38 (ENOSYS)"),
        ("d1 grant_table_op.get_version(&{dom: d2, pad: 0, version: out}, 1)", "= -1 (EPERM)"),
        ("d1 grant_table_op.set_version(null, 1)", "= -14 (EFAULT)"),
        ("d1 grant_table_op.swap_grant_ref(&[{ref_a: 1, ref_b: 2, status: out}], 0x80000000)", "= -22 (EINVAL)"),
        ("d1 grant_table_op.swap_grant_ref(&[{ref_a: 1, ref_b: 2, status: out}], 600)", "= -7 (E2BIG)"),
        ("d1 grant_table_op.swap_grant_ref(null, 1)", "= -14 (EFAULT)"),
        ("d1 grant_table_op.swap_grant_ref(&[{ref_a: 1, ref_b: 700, status: out}], 1)", &ended(-3)),
    ]);
    vm.check_well();
}

#[test]
fn entries_in_use_stay_where_they_are() {
    let mut vm = Vm::boot();
    vm.check(&[
        GRANT,
        ("d1 grant_table_op.swap_grant_ref(&[{ref_a: 9, ref_b: 10, status: out}], 1)", "= 0"),
        ("d1 agent.read(0x10100050)", "= 0x28000020001"),
        (&format!("r1 = {}", map("0x400000", "host_map", "10", "d1")), MAPPED),
        ("d1 grant_table_op.swap_grant_ref(&[{ref_a: 9, ref_b: 10, status: out}], 1)", &ended(-12)),
        ("d1 grant_table_op.set_version(&{version: 2}, 1)", "= -16 (EBUSY); uop.version = 1"),
        (
            "d2 grant_table_op.cache_flush(&[{dev_bus_addr: r1.dev_bus_addr, offset: 0, length: 8, op: clean}], 1)",
            "= 0",
        ),
        ("d2 grant_table_op.cache_flush(&[{dev_bus_addr: 0, offset: 4090, length: 8, op: clean}], 1)", "= -22 (EINVAL)"),
        ("d2 grant_table_op.cache_flush(&[{dev_bus_addr: 0, offset: 0, length: 8, op: clean|source_gref}], 1)", "= -95 (EOPNOTSUPP)"),
    ]);
}

#[test]
fn a_table_is_acquired_as_a_resource() {
    let acquire = |domid: &str, id: u32, frame: u32, list: &str| {
        format!(
            "d1 memory_op.acquire_resource(&{{domid: {domid}, type: grant_table, id: {id}, nr_frames: 1, pad: 0, frame: {frame}, frame_list: {list}}})"
        )
    };
    let mut vm = Vm::boot();
    vm.check(&[
        ("d1 agent.grant_access(9, d2, 0x280, 0x0)", "= 9"),
        (&acquire("self", 0, 0, "&[0x400]"), "= 0"),
        ("d1 agent.read(0x400048)", "= 0x28000020001"),
        (&acquire("self", 0, 16, "&[0x401]"), "= -22 (EINVAL)"),
        (&acquire("self", 1, 0, "&[0x401]"), "= -22 (EINVAL)"),
        (&acquire("self", 2, 0, "&[0x401]"), "= -22 (EINVAL)"),
        (&acquire("self", 0, 0, "&[0x10000]"), "= -22 (EINVAL)"),
        (&acquire("self", 0, 0, "null"), "= -22 (EINVAL)"),
        (&acquire("d2", 0, 0, "&[0x401]"), "= -1 (EPERM)"),
        (&acquire("77", 0, 0, "&[0x401]"), "= -3 (ESRCH)"),
        (
            "d1 memory_op.acquire_resource(&{domid: self, type: grant_table, id: 0, nr_frames: 0, pad: 0, frame: 0, frame_list: null})",
            "= 0; arg.nr_frames = 16",
        ),
        ("d1 memory_op.remove_from_physmap(&{domid: self, gpfn: 0x400})", "= 0"),
    ]);
    vm.check_well();
}
