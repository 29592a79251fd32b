//! `event_channel_op` in the FIFO ABI: what its sub-operations answer, and what the guest sees in its own pages.

use hyperfuzz::target::Target;

use crate::common::Vm;

const CONTROL: (&str, &str) = (
    "d1 event_channel_op.init_control(&{control_gfn: 0x290, offset: 0, vcpu: 0, link_bits: out, pad: out})",
    "= 0; arg.link_bits = 17*",
);
const ARRAY: (&str, &str) = ("d1 event_channel_op.expand_array(&{array_gfn: 0x291})", "= 0");
const IPI: (&str, &str) = ("r0 = d1 event_channel_op.bind_ipi(&{vcpu: 0, port: out})", "= 0; arg.port = 1");
const SEND: (&str, &str) = ("d1 event_channel_op.send(&{port: r0.port})", "= 0");
/// Words of the ports 0 and 1.
const WORDS: &str = "d1 agent.read(0x291000)";
/// Which queues are not empty.
const READY: &str = "d1 agent.read(0x290000)";
/// Heads of the queues 6 and 7.
const HEADS: &str = "d1 agent.read(0x290020)";

fn on_both(program: &[(&str, &str)]) {
    for target in [Target::ReferenceHvm, Target::ReferencePv] {
        let mut vm = Vm::on(target, &[]);
        vm.check(program);
        vm.check_well();
    }
}

#[test]
fn events_appear_in_queues() {
    on_both(&[
        CONTROL,
        ARRAY,
        IPI,
        SEND,
        (WORDS, "= 0xa000000000000000"),
        (READY, "= 128"),
        (HEADS, "= 0x100000000"),
        // The guest takes it off, and asks for a higher priority.
        ("d1 agent.write(0x291000, 0x0)", "= 0"),
        ("d1 event_channel_op.set_priority(&{port: r0.port, priority: 0})", "= 0"),
        SEND,
        (READY, "= 129"),
        ("d1 sched_op.poll(&{ports: &[r0.port], nr_ports: 1, timeout: never})", "= 0"),
        ("d1 event_channel_op.close(&{port: r0.port})", "= 0"),
        // It is still in a queue: the next port is another one.
        (WORDS, "= 0x2000000000000000"),
        ("d1 event_channel_op.bind_ipi(&{vcpu: 0, port: out})", "= 0; arg.port = 2"),
        ("d1 event_channel_op.reset(&{dom: self})", "= 0"),
        ("d1 event_channel_op.bind_ipi(&{vcpu: 0, port: out})", "= 0; arg.port = 1"),
        ("d1 event_channel_op.set_priority(&{port: 1, priority: 0})", "= -38 (ENOSYS)"),
    ]);
}

#[test]
fn masked_events_wait() {
    on_both(&[
        CONTROL,
        ARRAY,
        IPI,
        ("d1 agent.write(0x291000, 0x4000000000000000)", "= 0"),
        SEND,
        (WORDS, "= 0xc000000000000000"),
        (READY, "= 0"),
        ("d1 event_channel_op.unmask(&{port: r0.port})", "= 0"),
        (WORDS, "= 0xa000000000000000"),
        (READY, "= 128"),
    ]);
}

#[test]
fn control_blocks_and_arrays_are_refused() {
    let control = |gfn: &str, offset: &str, vcpu: &str| {
        format!(
            "d1 event_channel_op.init_control(&{{control_gfn: {gfn}, offset: {offset}, vcpu: {vcpu}, link_bits: out, pad: out}})"
        )
    };
    let (cross, odd, vcpu) =
        (control("0x290", "0xfc0", "0"), control("0x290", "4", "0"), control("0x290", "0", "9"));
    let (nowhere, again, region) =
        (control("0x70000", "0", "0"), control("0x292", "0", "0"), control("0x10000", "0", "0"));
    on_both(&[
        (&cross, "= -22 (EINVAL)"),
        (&odd, "= -22 (EINVAL)"),
        (&vcpu, "= -2 (ENOENT)"),
        (&nowhere, "= -22 (EINVAL)"),
        (&region, "= -22 (EINVAL)"),
        (ARRAY.0, "= -95 (EOPNOTSUPP)"),
        ("d1 event_channel_op.set_priority(&{port: 5000, priority: 7})", "= -22 (EINVAL)"),
        CONTROL,
        (&again, "= -22 (EINVAL)"),
        ("d1 event_channel_op.expand_array(&{array_gfn: 0x70000})", "= -22 (EINVAL)"),
        ARRAY,
        IPI,
        ("d1 event_channel_op.set_priority(&{port: r0.port, priority: 16})", "= -22 (EINVAL)"),
        // The frame stays the hypervisor's to write to, though the guest gives it back.
        (
            "d1 memory_op.decrease_reservation(0, &{extent_start: &[0x291], nr_extents: 1, extent_order: 0, mem_flags: 0x0, domid: self})",
            "= 1",
        ),
        SEND,
        ("d1 event_channel_op.reset(&{dom: self})", "= 0"),
    ]);
}

#[test]
fn another_vcpu_has_queues_of_its_own() {
    let mut vm = Vm::boot();
    let second = "d1 event_channel_op.init_control(&{control_gfn: 0x292, offset: 64, vcpu: 1, link_bits: out, pad: out})";
    vm.check(&[
        CONTROL,
        ARRAY,
        ("r0 = d1 event_channel_op.bind_ipi(&{vcpu: 1, port: out})", "= 0; arg.port = 1"),
        // Dropped: the vCPU has no control block.
        SEND,
        (WORDS, "= 0x8000000000000000"),
        (second, "= 0; arg.link_bits = 17*"),
        ("d1 event_channel_op.unmask(&{port: r0.port})", "= 0"),
        (WORDS, "= 0xa000000000000000"),
        ("d1 agent.read(0x292040)", "= 128"),
        (READY, "= 0"),
    ]);
    vm.check_well();
}
