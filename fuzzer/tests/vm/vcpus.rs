//! `vcpu_op`, and calls of the second vCPUs.

use crate::common::{NEVER, TARGET, Vm};
use hyperfuzz::{engine::Outcome, target::Target};

const SKIPPED: &str = "was skipped: its domain or vCPU cannot run";
const VERSION: (&str, &str) = ("d1 xen_version.version()", "= 0x40011");
const SECOND: (&str, &str) = ("d1:1 xen_version.version()", "= 0x40011");

#[test]
fn each_domain_has_two_vcpus_that_run() {
    let mut vm = Vm::boot();
    // CPUID leaf 4 of Xen's: what follows is valid in EAX, the number of the vCPU in EBX.
    // Pv guests are not told.
    let (first, second) = match TARGET {
        Target::ReferenceHvm => ("= 24", "= 0x100000018"),
        Target::ReferencePv | Target::XenPv | Target::XenDomu | Target::XenPvh => ("= 0", "= 0"),
    };
    vm.check(&[
        ("d1 agent.cpuid(0x40000004, 0)", first),
        ("d1:1 agent.cpuid(0x40000004, 0)", second),
        ("d2 agent.cpuid(0x40000004, 0)", first),
        ("d2:1 agent.cpuid(0x40000004, 0)", second),
        ("d1:2 xen_version.version()", SKIPPED),
        ("d1:9 xen_version.version()", SKIPPED),
        VERSION,
    ]);
    // They share the memory of their domain, and fault for themselves only.
    vm.check(&[
        ("d1 agent.write(playground, 0x77)", "= 0"),
        ("d1:1 agent.read(playground)", "= 119"),
        ("d2:1 agent.read(playground)", "= 0"),
        ("d1:1 agent.ud2()", "raised exception 6,*"),
        ("d1:1 agent.read(0x8000000000000000)", "raised exception 13,*"),
        SECOND,
        ("d1 agent.ud2()", "raised exception 6,*"),
        VERSION,
    ]);
    // Their segments are their own.
    vm.check(&[
        ("d1 agent.wrmsr(fs_base, 0x1111)", "= 0"),
        ("d1:1 agent.rdmsr(fs_base)", "= 0"),
        ("d1:1 agent.wrmsr(fs_base, 0x2222)", "= 0"),
        ("d1 agent.rdmsr(fs_base)", "= 0x1111"),
        ("d1:1 agent.rdmsr(fs_base)", "= 0x2222"),
    ]);
    vm.check_well();
}

#[test]
fn results_flow_between_vcpus() {
    let mut vm = Vm::boot();
    vm.check(&[
        ("r0 = d1 event_channel_op.bind_ipi(&{vcpu: 1, port: out})", "= 0; arg.port = 1"),
        ("d1 event_channel_op.send(&{port: r0.port})", "= 0"),
        // Told is the second vCPU: its byte in the shared-info page, which is mapped here.
        (
            "d1:1 memory_op.add_to_physmap(&{domid: self, size: 0, space: shared_info, idx: 0, gpfn: 0x280})",
            "= 0",
        ),
        ("d1 agent.read(playground)", "= 0"),
        ("d1 agent.read(0x280040)", "= 1"),
        ("d1:1 event_channel_op.close(&{port: r0.port})", "= 0"),
        ("d1 event_channel_op.send(&{port: r0.port})", "= -22 (EINVAL)"),
    ]);
    vm.check_well();
}

#[test]
fn an_interprocessor_event_wakes_the_other_vcpu() {
    let mut vm = Vm::boot();
    let run = vm.check(&[
        ("r0 = d1 event_channel_op.bind_ipi(&{vcpu: 1, port: out})", "= 0; arg.port = 1"),
        ("d1:1 sched_op.block()", "= 0"),
        ("d1 event_channel_op.send(&{port: r0.port})", "= 0"),
        SECOND,
        VERSION,
    ]);
    let order: Vec<u16> = run.execution.calls.iter().map(|call| call.call).collect();
    assert_eq!(order, [0, 2, 1, 3, 4], "the block returns once the other vCPU has sent");
    // Another domain can do so, too.
    vm.check(&[
        ("r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})", "= 0; arg.port = 1"),
        (
            "r1 = d2:1 event_channel_op.bind_interdomain(&{remote_dom: d1, remote_port: r0.port, local_port: out})",
            "= 0; arg.remote_port = 1; arg.local_port = 1",
        ),
        ("d1 event_channel_op.bind_vcpu(&{port: r0.port, vcpu: 1})", "= 0"),
        ("d1:1 sched_op.block()", "= 0"),
        ("d2 event_channel_op.send(&{port: r1.local_port})", "= 0"),
        SECOND,
    ]);
    vm.check_well();
}

#[test]
fn vcpus_go_down_and_come_up() {
    let mut vm = Vm::boot();
    vm.check(&[
        ("d1 vcpu_op.is_up(0)", "= 1"),
        ("d1 vcpu_op.is_up(1)", "= 1"),
        ("d1 vcpu_op.is_up(2)", "= 0"),
        ("d1 vcpu_op.is_up(3)", "= -2 (ENOENT)"),
        ("d1 vcpu_op.down(1)", "= 0"),
        ("d1 vcpu_op.down(1)", "= 0"),
        ("d1:1 xen_version.version()", SKIPPED),
        ("d1 vcpu_op.is_up(1)", "= 0"),
        ("d1 vcpu_op.up(1)", "= 0"),
        ("d1 vcpu_op.up(1)", "= 0"),
        SECOND,
        ("d1 vcpu_op.up(2)", "= -22 (EINVAL)"),
        ("d1 vcpu_op.down(3)", "= -2 (ENOENT)"),
    ]);
    // Who takes itself down returns when it is up again.
    let run = vm.check(&[
        ("d1 vcpu_op.down(0)", "= 0"),
        ("d1 xen_version.version()", SKIPPED),
        ("d1:1 vcpu_op.up(0)", "= 0"),
        VERSION,
    ]);
    let order: Vec<u16> = run.execution.calls.iter().map(|call| call.call).collect();
    assert_eq!(order, [1, 2, 0, 3]);
    // The last one turns the domain off.
    vm.check(&[
        ("d1:1 vcpu_op.down(0)", "= 0"),
        ("d1:1 vcpu_op.down(1)", NEVER),
        VERSION_SKIPPED,
        ("d2 xen_version.version()", "= 0x40011"),
    ]);
    vm.check_well();
}

const VERSION_SKIPPED: (&str, &str) = (VERSION.0, SKIPPED);

#[test]
fn a_vcpu_is_initialised_once() {
    if TARGET == Target::ReferencePv {
        // The state that pv guests pass is another one: see `escape.rs`.
        return;
    }
    let mut vm = Vm::boot();
    vm.check(&[
        ("d1 vcpu_op.initialise(1, &{mode: 1, cr0: long, cr4: long, efer: long})", "= -17 (EEXIST)"),
        ("d1 vcpu_op.initialise(9, &{mode: 1})", "= -2 (ENOENT)"),
        ("d1 vcpu_op.initialise(2, null)", "= -14 (EFAULT)"),
        ("d1 vcpu_op.initialise(2, &{mode: 2, cr0: long, cr4: long, efer: long})", "= -22 (EINVAL)"),
        ("d1 vcpu_op.initialise(2, &{mode: 1, cr0: long, cr4: long, efer: none})", "= -22 (EINVAL)"),
        (
            "d1 vcpu_op.initialise(2, &{mode: 1, cr0: long, cr4: long, efer: long, rip: 0x800000000000})",
            "= -22 (EINVAL)",
        ),
        ("d1 vcpu_op.initialise(2, &{mode: 1, cr0: long, cr4: long, efer: long})", "= 0"),
        ("d1 vcpu_op.initialise(2, &{mode: 1, cr0: long, cr4: long, efer: long})", "= -17 (EEXIST)"),
        ("d1 vcpu_op.is_up(2)", "= 0"),
    ]);
    // What it runs is the guest's affair: this one has no page tables, and ends its domain.
    vm.check(&[
        ("d2 vcpu_op.initialise(2, &{mode: 1, cr0: long, cr4: long, efer: long})", "= 0"),
        ("d2 vcpu_op.up(2)", "= 0"),
        ("d2 sched_op.yield()", NEVER),
        ("d2 xen_version.version()", SKIPPED),
        VERSION,
    ]);
    // This one begins in 32-bit mode at a HLT.
    vm.check(&[
        ("d2 agent.write(playground, 0xf4)", "= 0"),
        (
            "d2 vcpu_op.initialise_32(2, &{eip: 0x280000, cr0: protected, cr4: none, efer: none, cs_limit: 0xffffffff, ss_limit: 0xffffffff, cs_ar: code32, ss_ar: data, tr_ar: tss})",
            "= 0",
        ),
        ("d2 vcpu_op.up(2)", "= 0"),
        ("d2 sched_op.yield()", NEVER),
        VERSION,
    ]);
    vm.check_end(
        Outcome::Done,
        &[(
            "d1 vcpu_op.initialise_32(2, &{eip: 0x1000, efer: none, cs_ar: code32, ss_ar: data, tr_ar: tss})",
            "= -22 (EINVAL)",
        )],
    );
    vm.check_well();
}

#[test]
fn run_states_are_told_and_kept_up_to_date() {
    let mut vm = Vm::boot();
    vm.check(&[
        ("d1 vcpu_op.get_runstate_info(0, &{state: 9})", "= 0; arg.state = 0; *"),
        ("d1 vcpu_op.get_runstate_info(1, &{state: 9})", "= 0; arg.state = 1; *"),
        ("d1 vcpu_op.get_runstate_info(2, &{state: 9})", "= 0; arg.state = 3; *"),
        ("d1 vcpu_op.get_runstate_info(3, &{state: 9})", "= -2 (ENOENT)"),
        ("d1 vcpu_op.get_runstate_info(0, null)", "= -14 (EFAULT)"),
        ("d1 vcpu_op.get_physid(0, &{phys_id: out})", "= -22 (EINVAL)"),
    ]);
    vm.check(&[
        ("d1 vcpu_op.register_runstate_memory_area(0, &{addr: bad(0x281000)})", "= 0"),
        ("d1 agent.read(0x281000)", "= 0"),
        ("d1:1 agent.read(0x281000)", "= 1"),
        ("d1 agent.read(0x281000)", "= 0"),
        ("d1 vm_assist.enable(runstate_update_flag)", "= 0"),
        ("d1:1 agent.read(0x281000)", "= 1"),
        ("d1 agent.read(0x281000)", "= 0"),
        // Where nothing can be written, nothing is.
        ("d1 vcpu_op.register_runstate_memory_area(0, &{addr: bad(0xffff800000000000)})", "= 0"),
        ("d1 vcpu_op.register_vcpu_time_memory_area(0, &{addr: bad(0xfffffffffffffff8)})", "= 0"),
        ("d1:1 agent.read(0x281000)", "= 0"),
        ("d1 vcpu_op.register_vcpu_time_memory_area(1, &{addr: bad(0x282000)})", "= 0"),
        ("d1 agent.read(0x282018)", "= 0x10180000000"),
    ]);
    // A frame that is given away is written to no longer where others could see it.
    vm.check(&[
        ("d1 vcpu_op.register_runstate_phys_area(0, &{addr: bad(0x281004)})", "= -6 (ENXIO)"),
        ("d1 vcpu_op.register_runstate_phys_area(0, &{addr: bad(0x281ff0)})", "= -6 (ENXIO)"),
        ("d1 vcpu_op.register_runstate_phys_area(0, &{addr: bad(0x500000)})", "= -22 (EINVAL)"),
        ("d1 vcpu_op.register_runstate_phys_area(0, null)", "= -14 (EFAULT)"),
        ("d1 vcpu_op.register_runstate_phys_area(0, &{addr: bad(0x281000)})", "= 0"),
        ("d1 vcpu_op.register_vcpu_time_phys_area(0, &{addr: bad(0x281fe0)})", "= 0"),
        (
            "d1 memory_op.decrease_reservation(0, &{extent_start: &[0x281], nr_extents: 1, extent_order: 0, mem_flags: 0x0, domid: self})",
            "= 1",
        ),
        ("d1 memory_op.current_reservation(&{domid: self})", "= 1024"),
        SECOND,
        ("d1 vcpu_op.register_runstate_phys_area(0, &{addr: bad(0xffffffffffffffff)})", "= 0"),
        ("d1 memory_op.current_reservation(&{domid: self})", "= 1024"),
        ("d1 vcpu_op.register_vcpu_time_phys_area(0, &{addr: bad(0xffffffffffffffff)})", "= 0"),
        ("d1 memory_op.current_reservation(&{domid: self})", "= 1023"),
    ]);
    vm.check_well();
}

#[test]
fn vcpu_info_moves_once() {
    let mut vm = Vm::boot();
    vm.check(&[
        ("d1 vcpu_op.register_vcpu_info(1, &{mfn: 0x281, offset: 4, rsvd: 0})", "= -6 (ENXIO)"),
        ("d1 vcpu_op.register_vcpu_info(1, &{mfn: 0x281, offset: 4040, rsvd: 0})", "= -6 (ENXIO)"),
        ("d1 vcpu_op.register_vcpu_info(1, &{mfn: 0x281, offset: 0x1000, rsvd: 0})", "= -22 (EINVAL)"),
        ("d1 vcpu_op.register_vcpu_info(1, &{mfn: 0x5000, offset: first, rsvd: 0})", "= -22 (EINVAL)"),
        ("d1 vcpu_op.register_vcpu_info(1, null)", "= -14 (EFAULT)"),
        ("d1 vcpu_op.register_vcpu_info(1, &{mfn: 0x281, offset: second, rsvd: 0})", "= 0"),
        ("d1 vcpu_op.register_vcpu_info(1, &{mfn: 0x281, offset: first, rsvd: 0})", "= -16 (EBUSY)"),
        // Everything is pending, to be on the safe side: all bits are set, which reads like an error.
        ("d1 agent.read(0x281040)", "= 1"),
        ("d1 agent.read(0x281048)", "= -1 (EPERM)"),
        ("d1 agent.write(0x281040, 0)", "= 0"),
        ("d1 agent.write(0x281048, 0)", "= 0"),
        ("r0 = d1 event_channel_op.bind_ipi(&{vcpu: 1, port: out})", "= 0; arg.port = 1"),
        ("d1 event_channel_op.send(&{port: r0.port})", "= 0"),
        ("d1 agent.read(0x281040)", "= 1"),
        ("d1 agent.read(0x281048)", "= 1"),
        // Giving the frame away changes nothing for the hypervisor.
        (
            "d1 memory_op.decrease_reservation(0, &{extent_start: &[0x281], nr_extents: 1, extent_order: 0, mem_flags: 0x0, domid: self})",
            "= 1",
        ),
        ("d1:1 sched_op.block()", "= 0"),
        SECOND,
    ]);
    vm.check_well();
}

#[test]
fn an_nmi_ends_waiting() {
    let mut vm = Vm::boot();
    vm.check(&[
        ("d1 vcpu_op.send_nmi(0, 0)", "= 0"),
        VERSION,
        ("d1 vcpu_op.send_nmi(1, 0)", "= 0"),
        SECOND,
        ("d1 vcpu_op.send_nmi(1, 8)", "= -22 (EINVAL)"),
        ("d1 vcpu_op.send_nmi(3, 0)", "= -2 (ENOENT)"),
    ]);
    let run = vm.check(&[("d1:1 sched_op.block()", "= 0"), ("d1 vcpu_op.send_nmi(1, 0)", "= 0"), SECOND]);
    let order: Vec<u16> = run.execution.calls.iter().map(|call| call.call).collect();
    assert_eq!(order, [1, 0, 2]);
    vm.check_well();
}

#[test]
fn assistance_is_asked_for() {
    let mut vm = Vm::boot();
    let pv_only = match TARGET {
        Target::ReferenceHvm => "= -22 (EINVAL)",
        Target::ReferencePv | Target::XenPv | Target::XenDomu | Target::XenPvh => "= 0",
    };
    vm.check(&[
        ("d1 vm_assist.enable(runstate_update_flag)", "= 0"),
        ("d1 vm_assist.disable(runstate_update_flag)", "= 0"),
        ("d1 vm_assist.enable(m2p_strict)", pv_only),
        ("d1 vm_assist.enable(writable_pagetables)", pv_only),
        ("d1 vm_assist.enable(6)", "= -22 (EINVAL)"),
        ("d1 vm_assist.enable(0xffffffff)", "= -22 (EINVAL)"),
        ("d1 raw.call(21, 2, 5, 0, 0, 0, 0)", "= -38 (ENOSYS)"),
    ]);
    vm.check_well();
}
