//! What the agent does by itself: whatever it touches, the next call works.

use crate::common::Vm;

const VERSION: (&str, &str) = ("d1 xen_version.version()", "= 0x40011");

#[test]
fn exceptions_end_one_call() {
    let mut vm = Vm::boot();
    for (call, exception) in [
        ("d1 agent.ud2()", "raised exception 6, error 0x0, *"),
        ("d1 agent.read(0x0)", "raised exception 14, *"),
        ("d1 agent.read(0xffffffffffffffff)", "raised exception *"),
        ("d1 agent.read(0x800000000000)", "raised exception 13, *"),
        ("d1 agent.write(0xfffffff000, 0x1)", "raised exception 14, *"),
        ("d1 agent.exec(0x0)", "raised exception 14, *"),
        ("d1 agent.exec(playground)", "raised exception *"),
        ("d1 agent.rdmsr(0xdead)", "raised exception 13, *"),
        ("d1 agent.wrmsr(vm_hsave_pa, 0x1)", "raised exception 13, *"),
        ("d1 agent.wrmsr(efer, 0xffffffffffffffff)", "raised exception 13, *"),
    ] {
        vm.check(&[VERSION, (call, exception), VERSION, ("d2 xen_version.version()", "= 0x40011")]);
        vm.check(&[
            (&call.replace("d1", "d2"), exception),
            VERSION,
            ("d2 xen_version.version()", "= 0x40011"),
        ]);
    }
    vm.check_well();
}

#[test]
fn a_page_fault_says_where() {
    let run = Vm::boot().check(&[("d1 agent.read(0x7000000000)", "raised exception 14, *")]);
    assert!(run.answers[0].ends_with("address 0x7000000000"), "{}", run.answers[0]);
}

#[test]
fn ordinary_operations_work() {
    Vm::boot().check(&[
        ("d1 agent.write(playground, 0x1122334455667788)", "= 0"),
        ("d1 agent.read(playground)", "= 0x1122334455667788"),
        ("d1 agent.write(playground1, 0xc3)", "= 0"),
        ("d1 agent.exec(playground1)", "= 0"),
        ("d1 agent.cpuid(xen, 0)", "= *"),
        ("d1 agent.cpuid(xen_version, 0)", "= 0x40011"),
        ("d1 agent.rdmsr(efer)", "= *"),
        ("d1 agent.wrmsr(fs_base, 0x1234)", "= 0"),
        ("d1 agent.rdmsr(fs_base)", "= 0x1234"),
        ("d1 agent.inb(com1)", "raised exception 13, *"),
        ("d1 agent.outb(com1, 0x41)", "raised exception 13, *"),
        // No slot was filled: the stand-in counts.
        ("r11 = d1 event_channel_op.alloc_unbound(null)", "= -14 (EFAULT)"),
        ("d1 event_channel_op.close(&{port: r11.port?5000})", "= -22 (EINVAL)"),
        ("d1 raw.call(63, 0, 0, 0, 0, 0, 0)", "= -38 (ENOSYS)"),
    ]);
}

#[test]
fn resources_cross_domains() {
    Vm::boot().check(&[
        ("d1 event_channel_op.bind_ipi(&{vcpu: 0, port: out})", "= 0; arg.port = 1"),
        (
            "r1 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})",
            "= 0; arg.port = 2",
        ),
        (
            "d2 event_channel_op.bind_interdomain(&{remote_dom: d1, remote_port: r1.port, local_port: out})",
            "= 0; arg.remote_port = 2; arg.local_port = 1",
        ),
        ("d2 event_channel_op.close(&{port: r1.port})", "= -22 (EINVAL)"),
        ("d1 event_channel_op.close(&{port: r1.port})", "= 0"),
    ]);
}
