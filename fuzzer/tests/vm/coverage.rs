//! `coverage_op`, as a guest uses it.

use hyperfuzz::engine::Engine;

use crate::common::Vm;

const ENABLE: (&str, &str) = ("d1 coverage_op.enable(&{version: 1, flags: edges})", "= 0");
const WORK: (&str, &str) = ("d1 xen_version.platform_parameters(&{virt_start: 0})", "= 0");
const VERSION: (&str, &str) = ("d1 xen_version.version()", "= 0x40011");

/// Reads a counter.
const READ: (&str, &str) =
    ("d1 coverage_op.read(&{version: 1, offset: 0, count: 1, reserved: 0, buffer: &\"\\xff\"})", "= 1; *");

/// A counter that one [`WORK`] moves by one, and the other calls do not.
fn counter(vm: &mut Vm) -> usize {
    let without = vm.check(&[ENABLE, VERSION, READ]).execution.counters;
    let with = vm.check(&[ENABLE, VERSION, READ, WORK]).execution.counters;
    let found = without.iter().zip(&with).position(|(without, with)| *without == 0 && *with == 1);
    found.expect("the call has edges of its own")
}

#[test]
fn counters_can_be_read_and_reset() {
    let mut vm = Vm::boot();
    let at = counter(&mut vm);
    let read = format!(
        r#"d1 coverage_op.read(&{{version: 1, offset: {at}, count: 1, reserved: 0, buffer: &"\xff"}})"#
    );
    vm.check(&[
        ENABLE,
        (&read, r#"= 1; buffer = "\x00""#),
        WORK,
        (&read, r#"= 1; buffer = "\x01""#),
        WORK,
        (&read, r#"= 1; buffer = "\x02""#),
        ("d1 coverage_op.reset(0)", "= 0"),
        (&read, r#"= 1; buffer = "\x00""#),
        WORK,
        (&read, r#"= 1; buffer = "\x01""#),
        ("d1 coverage_op.disable(0)", "= 0"),
        ("d1 coverage_op.disable(0)", "= -22 (EINVAL)"),
        ("d1 coverage_op.reset(0)", "= -22 (EINVAL)"),
    ]);
    vm.check_well();
}

#[test]
fn counters_can_be_mapped_and_are_read_only() {
    let mut vm = Vm::boot();
    let at = counter(&mut vm);
    let map = format!(
        "d1 coverage_op.map(&{{version: 1, what: counters, first_page: {}, pages: 1, gfn: 0x400}})",
        at / 4096
    );
    // The last seven bytes of a page cannot be looked at in one page: look at the word that holds the counter.
    let (word, shift) = (0x40_0000 + at % 4096 / 8 * 8, at % 8 * 8);
    let look = format!("d1 agent.read({word:#x})");
    let run = vm.check(&[
        ENABLE,
        (&map, "= 0"),
        (&look, "= *"),
        WORK,
        (&look, "= *"),
        (&map, "= -16 (EBUSY)"),
        ("d1 coverage_op.unmap(&{version: 1, pages: 2, gfn: 0x400})", "= -2 (ENOENT)"),
        ("d1 coverage_op.unmap(&{version: 1, pages: 1, gfn: 0x400})", "= 0"),
        (&look, "raised exception 14, *"),
        ("d1 coverage_op.unmap(&{version: 1, pages: 1, gfn: 0x400})", "= -2 (ENOENT)"),
    ]);
    let byte = |n: usize| match run.execution.calls[n].status {
        coverage_hypercall::program::Status::Returned(value) => (value as u64 >> shift) as u8,
        other => panic!("{other:?}"),
    };
    assert_eq!((byte(2), byte(4)), (0, 1));
    vm.check(&[
        (&map, "= 0"),
        (&format!("d1 agent.write({word:#x}, 0x5)"), "raised exception 14, *"),
        VERSION,
        // Hypercalls do not write there either.
        (&format!("d1 xen_version.extraversion(bad({word:#x}))"), "= -14 (EFAULT)"),
        ("d1 memory_op.decrease_reservation(0, &{extent_start: &[0x400], nr_extents: 1, extent_order: 0, mem_flags: 0x0, domid: self})", "= 0"),
    ]);
    vm.check_well();
}

#[test]
fn who_released_it_has_no_right_any_more() {
    let mut vm = Vm::boot();
    vm.check(&[
        ENABLE,
        ("d1 coverage_op.map(&{version: 1, what: counters, first_page: 0, pages: 1, gfn: 0x400})", "= 0"),
        ("d1 coverage_op.release(0)", "= 0"),
        ("d1 agent.read(0x400000)", "raised exception 14, *"),
        ("d1 coverage_op.release(0)", "= -1 (EPERM)"),
        ("d1 coverage_op.info(null)", "= -1 (EPERM)"),
        (ENABLE.0, "= -1 (EPERM)"),
        ("d1 coverage_op.reset(0)", "= -1 (EPERM)"),
        ("d2 coverage_op.enable(&{version: 1, flags: edges})", "= 0"),
    ]);
    vm.check(&[ENABLE]);
}

#[test]
fn arguments_are_checked() {
    let mut vm = Vm::boot();
    let counters = vm.engine().counters();
    vm.check(&[
        (
            "d1 coverage_op.info(&{version: out, features: out, counters: out, comparison_capacity: out, counter_pages: out, comparison_pages: out, build_id: out})",
            "= 0; arg.version = 1; arg.features = 0x*",
        ),
        ("d1 coverage_op.info(null)", "= -14 (EFAULT)"),
        ("d1 coverage_op.enable(&{version: 2, flags: edges})", "= -95 (EOPNOTSUPP)"),
        ("d1 coverage_op.enable(&{version: 1, flags: 0x0})", "= -22 (EINVAL)"),
        ("d1 coverage_op.enable(&{version: 1, flags: 0x80})", "= -22 (EINVAL)"),
        ENABLE,
        (ENABLE.0, "= -16 (EBUSY)"),
        ("d1 coverage_op.reset(1)", "= -22 (EINVAL)"),
        ("d1 coverage_op.release(1)", "= -22 (EINVAL)"),
        (&format!("d1 coverage_op.read(&{{version: 1, offset: {}, count: 1, reserved: 0, buffer: null}})", counters + 1), "= -22 (EINVAL)"),
        (&format!("d1 coverage_op.read(&{{version: 1, offset: {counters}, count: 1, reserved: 0, buffer: null}})"), "= 0"),
        ("d1 coverage_op.read(&{version: 1, offset: 0, count: 1, reserved: 0, buffer: null})", "= -14 (EFAULT)"),
        ("d1 coverage_op.read(&{version: 1, offset: 0, count: 1, reserved: 1, buffer: null})", "= -22 (EINVAL)"),
        ("d1 coverage_op.map(&{version: 1, what: 5, first_page: 0, pages: 1, gfn: 0x400})", "= -22 (EINVAL)"),
        ("d1 coverage_op.map(&{version: 1, what: counters, first_page: 0, pages: 65, gfn: 0x400})", "= -7 (E2BIG)"),
        ("d1 coverage_op.map(&{version: 1, what: counters, first_page: 0, pages: 0, gfn: 0x400})", "= -22 (EINVAL)"),
        ("d1 coverage_op.map(&{version: 1, what: counters, first_page: 0, pages: 1, gfn: 0x280})", "= -16 (EBUSY)"),
        ("d1 coverage_op.map(&{version: 1, what: counters, first_page: 0, pages: 1, gfn: 0xffffffffffff})", "= -22 (EINVAL)"),
        ("d1 raw.call(55, 9, 0, 0, 0, 0, 0)", "= -38 (ENOSYS)"),
    ]);
    vm.check_well();
}
