//! `event_channel_op`: ports, and events between the domains.

use crate::common::{NEVER, Vm};

const OFFER: (&str, &str) =
    ("r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})", "= 0; arg.port = 1");
const TAKE: (&str, &str) = (
    "r1 = d2 event_channel_op.bind_interdomain(&{remote_dom: d1, remote_port: r0.port, local_port: out})",
    "= 0; arg.remote_port = 1; arg.local_port = 1",
);
/// Lets the page with the pending bits appear in the playground, where its port word is at offset 2048.
const SHOW: (&str, &str) = (
    "d1 memory_op.add_to_physmap(&{domid: self, size: 0, space: shared_info, idx: 0x0, gpfn: 0x280})",
    "= 0",
);
const PENDING: &str = "d1 agent.read(0x280800)";
const STATUS: &str =
    "d1 event_channel_op.status(&{dom: self, port: r0.port, status: 9, vcpu: 9, detail: out})";

#[test]
fn an_event_crosses_from_one_domain_to_the_other() {
    let mut vm = Vm::boot();
    vm.check(&[
        SHOW,
        OFFER,
        (STATUS, r#"= 0; arg.port = 1; arg.status = 1; arg.vcpu = 0; arg.detail = "\x02\x00\x00\x00\x00\x00\x00\x00""#),
        TAKE,
        (STATUS, r#"= 0; arg.port = 1; arg.status = 2; arg.vcpu = 0; arg.detail = "\x02\x00\x00\x00\x01\x00\x00\x00""#),
        (PENDING, "= 0"),
        ("d2 event_channel_op.send(&{port: r1.local_port})", "= 0"),
        (PENDING, "= 2"),
        ("d1 sched_op.poll(&{ports: &[r0.port], nr_ports: 1, timeout: never})", "= 0"),
        ("d1 event_channel_op.close(&{port: r0.port})", "= 0"),
        (PENDING, "= 0"),
        (STATUS, "= 0; arg.port = 1; arg.status = 0; arg.vcpu = 0"),
        // The other end waits for somebody new, and nobody hears it.
        (
            "d2 event_channel_op.status(&{dom: self, port: r1.local_port, status: 9, vcpu: 0, detail: out})",
            r#"= 0; arg.port = 1; arg.status = 1; arg.detail = "\x01\x00\x00\x00\x00\x00\x00\x00""#,
        ),
        ("d2 event_channel_op.send(&{port: r1.local_port})", "= 0"),
        (PENDING, "= 0"),
    ]);
    vm.check_well();
}

#[test]
fn ports_are_refused_to_those_they_are_not_for() {
    let mut vm = Vm::boot();
    vm.check(&[
        (
            "r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d1, port: out})",
            "= 0; arg.port = 1",
        ),
        (TAKE.0, "= -22 (EINVAL)"),
        ("d1 event_channel_op.alloc_unbound(&{dom: d2, remote_dom: d1, port: out})", "= -1 (EPERM)"),
        ("d1 event_channel_op.alloc_unbound(&{dom: 77, remote_dom: d1, port: out})", "= -3 (ESRCH)"),
        ("d1 event_channel_op.alloc_unbound(null)", "= -14 (EFAULT)"),
        (
            "d2 event_channel_op.bind_interdomain(&{remote_dom: 77, remote_port: 1, local_port: out})",
            "= -3 (ESRCH)",
        ),
        (
            "d2 event_channel_op.bind_interdomain(&{remote_dom: d1, remote_port: 9999, local_port: out})",
            "= -22 (EINVAL)",
        ),
        (
            "d2 event_channel_op.bind_interdomain(&{remote_dom: d1, remote_port: 5, local_port: out})",
            "= -22 (EINVAL)",
        ),
        ("d1 event_channel_op.close(&{port: 5})", "= -22 (EINVAL)"),
        ("d1 event_channel_op.close(&{port: 5000})", "= -22 (EINVAL)"),
        ("d1 event_channel_op.send(&{port: 5})", "= -22 (EINVAL)"),
        ("d1 event_channel_op.unmask(&{port: 5000})", "= -22 (EINVAL)"),
        (
            "d1 event_channel_op.status(&{dom: d2, port: 1, status: out, vcpu: out, detail: out})",
            "= -1 (EPERM)",
        ),
        ("d1 event_channel_op.reset(&{dom: d2})", "= -1 (EPERM)"),
        ("d1 event_channel_op.bind_pirq(&{pirq: 9, flags: will_share, port: out})", "= -1 (EPERM)"),
        ("d1 event_channel_op.bind_pirq(&{pirq: 9999, flags: 0x0, port: out})", "= -22 (EINVAL)"),
        ("d1 raw.call(32, 99, 0, 0, 0, 0, 0)", "= -38 (ENOSYS)"),
    ]);
    // A port can be taken once.
    vm.check(&[OFFER, TAKE, (&TAKE.0.replace("r1 =", "r2 ="), "= -22 (EINVAL)")]);
    vm.check_well();
}

#[test]
fn virtual_interrupts_and_interprocessor_events_have_ports() {
    let mut vm = Vm::boot();
    vm.check(&[
        SHOW,
        ("r1 = d1 event_channel_op.bind_virq(&{virq: timer, vcpu: 0, port: out})", "= 0; arg.port = 1"),
        ("d1 event_channel_op.bind_virq(&{virq: timer, vcpu: 0, port: out})", "= -17 (EEXIST)"),
        ("d1 event_channel_op.bind_virq(&{virq: 99, vcpu: 0, port: out})", "= -22 (EINVAL)"),
        ("d1 event_channel_op.bind_virq(&{virq: timer, vcpu: 5, port: out})", "= -2 (ENOENT)"),
        ("d1 event_channel_op.bind_virq(&{virq: console, vcpu: 1, port: out})", "= -22 (EINVAL)"),
        ("d1 event_channel_op.send(&{port: r1.port})", "= -22 (EINVAL)"),
        ("d1 event_channel_op.bind_vcpu(&{port: r1.port, vcpu: 0})", "= -22 (EINVAL)"),
        ("r8 = d1 event_channel_op.bind_ipi(&{vcpu: 0, port: out})", "= 0; arg.port = 2"),
        ("d1 event_channel_op.bind_ipi(&{vcpu: 3, port: out})", "= -2 (ENOENT)"),
        ("d1 event_channel_op.send(&{port: r8.port})", "= 0"),
        (PENDING, "= 4"),
        ("d1 event_channel_op.unmask(&{port: r8.port})", "= 0"),
        ("d1 event_channel_op.reset(&{dom: self})", "= 0"),
        (PENDING, "= 0"),
        ("d1 event_channel_op.send(&{port: r8.port})", "= -22 (EINVAL)"),
        ("d1 event_channel_op.bind_virq(&{virq: timer, vcpu: 0, port: out})", "= 0; arg.port = 1"),
    ]);
}

#[test]
fn a_masked_port_wakes_its_domain_when_it_is_unmasked() {
    let mask = "d1 agent.write(0x280a00, 0x2)";
    let mut vm = Vm::boot();
    // The peer's event cannot be heard; the block never returns.
    vm.check(&[
        SHOW,
        OFFER,
        TAKE,
        (mask, "= 0"),
        ("d1 sched_op.block()", NEVER),
        ("d2 event_channel_op.send(&{port: r1.local_port})", "= 0"),
        ("d1 xen_version.version()", "was skipped: its domain or vCPU cannot run"),
    ]);
    vm.check(&[
        SHOW,
        OFFER,
        TAKE,
        (mask, "= 0"),
        ("d2 event_channel_op.send(&{port: r1.local_port})", "= 0"),
        ("d1 event_channel_op.unmask(&{port: r0.port})", "= 0"),
        ("d1 sched_op.block()", "= 0"),
    ]);
}
