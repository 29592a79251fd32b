//! `memory_op`: what happens to frames, seen by touching them. The playground begins at frame 0x280, address 0x280000.

use crate::common::Vm;

/// A read of a frame that is not there: a page fault.
const GONE: &str = "raised exception 14, *";
const FILL: (&str, &str) = ("d1 agent.write(playground, 0x1122)", "= 0");
const LOOK: &str = "d1 agent.read(playground)";

fn reservation(op: &str, gfns: &str, count: u32, order: u32) -> String {
    format!(
        "d1 memory_op.{op}(0, &{{extent_start: &[{gfns}], nr_extents: {count}, extent_order: {order}, mem_flags: 0x0, domid: self}})"
    )
}

#[test]
fn removed_memory_faults_and_populated_memory_is_zero() {
    let mut vm = Vm::boot();
    let (take, give) =
        (reservation("decrease_reservation", "0x280", 1, 0), reservation("populate_physmap", "0x280", 1, 0));
    let pages = "d1 memory_op.current_reservation(&{domid: self})";
    let run = vm.check(&[
        FILL,
        (LOOK, "= 0x1122"),
        (pages, "= *"),
        (&take, "= 1"),
        (pages, "= *"),
        (LOOK, GONE),
        (&take, "= 0"),
        (&give, "= 1"),
        (pages, "= *"),
        (LOOK, "= 0"),
        FILL,
        (LOOK, "= 0x1122"),
    ]);
    let count = |n: usize| run.answers[n].trim_start_matches("= ").parse::<u64>().unwrap();
    assert_eq!((count(2) - 1, count(2)), (count(4), count(8)));
    vm.check_well();
}

#[test]
fn extents_of_higher_order_come_and_go_as_a_whole() {
    let (take, give) = (
        reservation("decrease_reservation", "0x280", 1, 2),
        reservation("populate_physmap", "0x400, 0x404", 2, 1),
    );
    Vm::boot().check(&[
        FILL,
        (&take, "= 1"),
        ("d1 agent.read(0x283000)", GONE),
        ("d1 agent.read(0x284000)", "= 0"),
        (&give, "= 2"),
        ("d1 memory_op.maximum_gpfn(&{domid: self})", "= *"),
        (&reservation("populate_physmap", "0x500", 1, 10), "= 0"),
        (&reservation("decrease_reservation", "0x500", 1, 0), "= 0"),
        (&reservation("decrease_reservation", "0x290, 0x600", 2, 0), "= 1"),
    ]);
}

#[test]
fn a_reservation_answers_with_what_was_done() {
    let mut vm = Vm::boot();
    vm.check(&[
        (&reservation("decrease_reservation", "0x290, 0x291, 0x290", 3, 0), "= 2"),
        ("d1 memory_op.decrease_reservation(0, null)", "= 0"),
        (
            "d1 memory_op.decrease_reservation(1, &{extent_start: &[0x292, 0x293], nr_extents: 2, extent_order: 0, mem_flags: 0x0, domid: self})",
            "= 2",
        ),
        ("d1 agent.read(0x292000)", "= 0"),
        ("d1 agent.read(0x293000)", GONE),
        (
            "d1 memory_op.decrease_reservation(0, &{extent_start: &[0x292], nr_extents: 1, extent_order: 0, mem_flags: 0x0, domid: d2})",
            "= 0",
        ),
        (
            "d1 memory_op.populate_physmap(0, &{extent_start: bad(0x800000000000), nr_extents: 1, extent_order: 0, mem_flags: 0x0, domid: self})",
            "= 0",
        ),
        // The channel is a static region: it stays.
        (&reservation("decrease_reservation", "0x10000", 1, 0), "= 0"),
        (&reservation("increase_reservation", "0x0", 1, 0), "= 1"),
    ]);
    vm.check_well();
}

#[test]
fn an_exchange_gives_fresh_memory() {
    let exchange = |from: &str, to: &str, orders: (u32, u32), counts: (u32, u32), done: u32| {
        format!(
            "d1 memory_op.exchange(&{{in: {{extent_start: &[{from}], nr_extents: {}, extent_order: {}, mem_flags: 0x0, domid: self}}, \
             out: {{extent_start: &[{to}], nr_extents: {}, extent_order: {}, mem_flags: 0x0, domid: self}}, nr_exchanged: {done}}})",
            counts.0, orders.0, counts.1, orders.1
        )
    };
    let mut vm = Vm::boot();
    vm.check(&[
        FILL,
        (&exchange("0x280", "0x281", (0, 0), (1, 1), 0), "= 0; arg.nr_exchanged = 1"),
        (LOOK, GONE),
        ("d1 agent.read(playground1)", "= 0"),
        ("d1 agent.write(playground1, 0x7)", "= 0"),
        ("d1 agent.read(playground1)", "= 7"),
        (&exchange("0x290, 0x291", "0x290", (0, 1), (2, 1), 0), "= 0; arg.nr_exchanged = 2"),
        ("d1 agent.read(0x291000)", "= 0"),
        (&exchange("0x2a0", "0x2a0", (0, 0), (1, 2), 0), "= -22 (EINVAL)"),
        (&exchange("0x2a0", "0x2a0", (0, 0), (1, 1), 2), "= -22 (EINVAL)"),
        (&exchange("0x2a0", "0x2a0", (10, 10), (1, 1), 0), "= -1 (EPERM)"),
        (&exchange("0x600", "0x2a0", (0, 0), (1, 1), 0), "= -22 (EINVAL)"),
        // The same frame twice: in one piece it is refused, one after the other it is there again.
        (&exchange("0x2a0, 0x2a0", "0x2a0", (0, 1), (2, 1), 0), "= -22 (EINVAL)"),
        (&exchange("0x2a0, 0x2a0", "0x2a0, 0x2a1", (0, 0), (2, 2), 0), "= 0; arg.nr_exchanged = 2"),
        ("d1 memory_op.exchange(null)", "= -14 (EFAULT)"),
    ]);
    vm.check_well();
}

#[test]
fn a_frame_moves_by_add_to_physmap() {
    let add = |space: &str, idx: &str, gpfn: &str, size: u32| {
        format!(
            "d1 memory_op.add_to_physmap(&{{domid: self, size: {size}, space: {space}, idx: {idx}, gpfn: {gpfn}}})"
        )
    };
    let mut vm = Vm::boot();
    vm.check(&[
        FILL,
        (&add("gmfn", "0x280", "0x281", 0), "= 0"),
        ("d1 agent.read(playground1)", "= 0x1122"),
        (LOOK, GONE),
        (&add("gmfn", "0x280", "0x281", 0), "= -22 (EINVAL)"),
        (&add("gmfn_range", "0x290", "0x2a0", 2), "= 0*"),
        ("d1 agent.read(0x2a1000)", "= 0"),
        ("d1 agent.read(0x291000)", GONE),
        (&add("shared_info", "0x1", "0x282", 0), "= -22 (EINVAL)"),
        (&add("gmfn_foreign", "0x280", "0x282", 0), "= -38 (ENOSYS)"),
        (&add("dev_mmio", "0x280", "0x282", 0), "= -22 (EINVAL)"),
        (&add("gmfn", "0x282", "0x10000", 0), "= -22 (EINVAL)"),
        (
            "d1 memory_op.add_to_physmap(&{domid: d2, size: 0, space: gmfn, idx: 0x280, gpfn: 0x281})",
            "= -1 (EPERM)",
        ),
    ]);
    vm.check(&[
        ("d1 agent.write(0x283000, 0x33)", "= 0"),
        (
            "d1 memory_op.add_to_physmap_batch(&{domid: self, space: gmfn, size: 2, foreign_domid: d0, idxs: &[0x283, 0x600], gpfns: &[0x284, 0x285], errs: &[9, 9]})",
            "= 0; errs[0] = 0; errs[1] = 0xffffffea",
        ),
        ("d1 agent.read(0x284000)", "= 51"),
        (
            "d1 memory_op.add_to_physmap_batch(&{domid: self, space: gmfn_foreign, size: 1, foreign_domid: d2, idxs: &[0x280], gpfns: &[0x400], errs: &[0]})",
            "= -1 (EPERM)",
        ),
        (
            "d1 memory_op.add_to_physmap_batch(&{domid: self, space: gmfn_range, size: 1, foreign_domid: d0, idxs: &[0x280], gpfns: &[0x400], errs: &[0]})",
            "= -95 (EOPNOTSUPP)",
        ),
    ]);
    vm.check_well();
}

#[test]
fn remove_from_physmap_unmaps_and_memory_of_domains_is_separate() {
    let remove = "d1 memory_op.remove_from_physmap(&{domid: self, gpfn: 0x280})";
    let mut vm = Vm::boot();
    vm.check(&[
        FILL,
        ("d2 agent.read(playground)", "= 0"),
        (remove, "= 0"),
        (LOOK, GONE),
        (remove, "= -2 (ENOENT)"),
        ("d2 agent.write(playground, 0x5)", "= 0"),
        ("d2 agent.read(playground)", "= 5"),
        ("d1 memory_op.remove_from_physmap(&{domid: d2, gpfn: 0x281})", "= -1 (EPERM)"),
        ("d1 memory_op.remove_from_physmap(&{domid: self, gpfn: 0x10000})", "= -22 (EINVAL)"),
        ("d2 memory_op.remove_from_physmap(null)", "= -14 (EFAULT)"),
        // A pointer into what is gone.
        ("d1 xen_version.extraversion(bad(0x280000))", "= -14 (EFAULT)"),
    ]);
    vm.check_well();
}

#[test]
fn questions_have_answers() {
    Vm::boot().check(&[
        ("d1 memory_op.current_reservation(&{domid: self})", "= 1024"),
        ("d1 memory_op.maximum_reservation(&{domid: d1})", "= 1280"),
        ("d1 memory_op.maximum_reservation(&{domid: d2})", "= -1 (EPERM)"),
        ("d1 memory_op.maximum_reservation(&{domid: 77})", "= -3 (ESRCH)"),
        ("d1 memory_op.maximum_gpfn(&{domid: self})", "= 0x39000"),
        ("d1 memory_op.maximum_ram_page()", "= *"),
        ("d1 memory_op.memory_map(&{nr_entries: 8, buffer: &fill(0x0, 160)})", "= 0; arg.nr_entries = *"),
        ("d1 memory_op.memory_map(&{nr_entries: 0, buffer: &fill(0x0, 160)})", "= -22 (EINVAL)"),
        ("d1 memory_op.machine_memory_map(&{nr_entries: 8, buffer: &fill(0x0, 160)})", "= -1 (EPERM)"),
        ("d1 memory_op.machphys_mapping(&{v_start: out, v_end: out, max_mfn: out})", "= -38 (ENOSYS)"),
        (
            "d1 memory_op.machphys_mfn_list(&{max_extents: 1, extent_start: &[0x0], nr_extents: 5})",
            "= 0; arg.nr_extents = 0",
        ),
        ("d1 raw.call(12, 63, 0, 0, 0, 0, 0)", "= -38 (ENOSYS)"),
    ]);
}

fn flagged(mem_flags: u32) -> String {
    format!(
        "d1 memory_op.populate_physmap(0, &{{extent_start: &[0x400], nr_extents: 1, extent_order: 0, mem_flags: {mem_flags:#x}, domid: self}})"
    )
}

#[test]
fn memory_flags_are_wishes_and_limits() {
    let mut vm = Vm::boot();
    for (flags, answer) in [
        (0x0c, "= 0"),    // within one page
        (0x19, "= 1"),    // as far as RAM goes
        (0xff, "= 1"),    // wherever there is RAM
        (0x100, "= 1"),   // node 0
        (0x4100, "= 1"),  // node 64: an unprivileged domain's wish is passed over
        (0x20100, "= 0"), // node 0 and no other
        (0x10000, "= 0"), // on demand
        (0x40000, "= 1"), // a virtual node
    ] {
        vm.check(&[(&flagged(flags), answer)]);
    }
    vm.check_well();
}

#[test]
fn claims_and_targets_are_for_the_privileged() {
    let pod = |op: &str, domid: &str| {
        format!(
            "d1 memory_op.{op}_pod_target(&{{target_pages: 1, tot_pages: out, pod_cache_pages: out, pod_entries: out, domid: {domid}}})"
        )
    };
    let claim = |start: &str, order: u32, domid: &str| {
        format!(
            "d1 memory_op.claim_pages(&{{extent_start: {start}, nr_extents: 1, extent_order: {order}, mem_flags: 0x0, domid: {domid}}})"
        )
    };
    Vm::boot().check(&[
        (&pod("get", "self"), "= -1 (EPERM)"),
        (&pod("set", "d2"), "= -1 (EPERM)"),
        (&pod("set", "9"), "= -3 (ESRCH)"),
        (&claim("0x0", 0, "d1"), "= -1 (EPERM)"),
        (&claim("0x0", 0, "self"), "= -22 (EINVAL)"),
        (&claim("0x0", 1, "d1"), "= -22 (EINVAL)"),
        (&claim("0x280000", 0, "d1"), "= -22 (EINVAL)"),
    ]);
}

#[test]
fn a_domain_may_change_the_map_that_it_is_shown() {
    let set = |entries: u32, buffer: &str| {
        format!(
            "d1 memory_op.set_memory_map(&{{domid: self, map: {{nr_entries: {entries}, buffer: {buffer}}}}})"
        )
    };
    let get = "d1 memory_op.memory_map(&{nr_entries: 8, buffer: &fill(0x0, 160)})";
    Vm::boot().check(&[
        (&set(1, "&fill(0x1, 20)"), "= 0"),
        (get, "= 0; arg.nr_entries = 1*"),
        (&set(1, "bad(0x7ffffffff000)"), "= -14 (EFAULT)"),
        (&set(129, "&fill(0x1, 20)"), "= -22 (EINVAL)"),
        (get, "= 0; arg.nr_entries = 1*"),
        (&set(0, "null"), "= 0"),
        (get, "= -38 (ENOSYS)"),
        ("d1 memory_op.set_memory_map(&{domid: d2, map: {nr_entries: 0, buffer: null}})", "= -1 (EPERM)"),
    ]);
}
