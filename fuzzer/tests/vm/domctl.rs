//! `domctl`: the control domain makes, stops, resumes and destroys domains.

use crate::common::{NEVER, Vm};

const SKIPPED: &str = "was skipped: its domain or vCPU cannot run";

/// Creates a domain; `number` is the lowest that is free.
const CREATE: &str = "r0 = d0 domctl.createdomain(&{flags: hvm_hap, max_vcpus: 1})";

/// An operation without a structure of its own.
fn plain(issuer: &str, operation: &str, domain: &str) -> String {
    format!("{issuer} domctl.{operation}(&{{domain: {domain}}})")
}

/// Boots a machine and runs the calls of the left, which answer as the right says.
#[track_caller]
fn check(vm: &mut Vm, calls: &[(String, &str)]) {
    let calls: Vec<(&str, &str)> = calls.iter().map(|(call, answer)| (call.as_str(), *answer)).collect();
    vm.check(&calls);
}

#[test]
fn domains_come_and_go() {
    let mut vm = Vm::boot();
    let populate = "d0 memory_op.populate_physmap(0, &{extent_start: &[0x10, 0x11], nr_extents: 2, extent_order: 0, mem_flags: 0x0, domid: r0.domain})";
    check(
        &mut vm,
        &[
            (CREATE.into(), "= 0; arg.domain = 3"),
            ("d0 domctl.max_vcpus(&{domain: r0.domain, max: 1})".into(), "= 0"),
            (populate.into(), "= 0"),
            ("d0 domctl.max_mem(&{domain: r0.domain, max_memkb: 1024})".into(), "= 0"),
            (populate.into(), "= 2*"),
            ("d0 memory_op.current_reservation(&{domid: r0.domain})".into(), "= 2"),
            (plain("d0", "getdomaininfo", "r0.domain"), "= 0; *"),
            (plain("d0", "unpausedomain", "r0.domain"), "= 0"),
            ("d1 memory_op.current_reservation(&{domid: r0.domain})".into(), "= -1 (EPERM)"),
            (plain("d0", "destroydomain", "r0.domain"), "= 0"),
            (plain("d0", "destroydomain", "r0.domain"), "= -3 (ESRCH)"),
            ("d1 memory_op.current_reservation(&{domid: r0.domain})".into(), "= -3 (ESRCH)"),
        ],
    );
    vm.check_well();
}

#[test]
fn what_is_not_allowed_is_refused() {
    let mut vm = Vm::boot();
    check(
        &mut vm,
        &[
            (plain("d1", "pausedomain", "d2"), "= -1 (EPERM)"),
            (plain("d1", "pausedomain", "77"), "= -3 (ESRCH)"),
            (CREATE.replace("r0 = d0", "d1"), "= -1 (EPERM)"),
            ("d0 domctl.pausedomain(&{interface_version: 20, domain: d2})".into(), "= -13 (EACCES)"),
            ("d1 domctl.pausedomain(&{interface_version: 20, domain: d2})".into(), "= -13 (EACCES)"),
            ("d0 domctl.pausedomain(null)".into(), "= -14 (EFAULT)"),
            ("d0 domctl.pausedomain(&@end(1) {domain: d2})".into(), "= *"),
            (plain("d0", "pausedomain", "d0"), "= -22 (EINVAL)"),
            (plain("d0", "destroydomain", "d0"), "= -22 (EINVAL)"),
            (plain("d0", "resumedomain", "d0"), "= -22 (EINVAL)"),
            (plain("d0", "unpausedomain", "d1"), "= -22 (EINVAL)"),
            ("d0 domctl.createdomain(&{flags: pv, max_vcpus: 1})".into(), "= -22 (EINVAL)"),
            ("d0 domctl.createdomain(&{domain: 2, flags: hvm_hap, max_vcpus: 1})".into(), "= -17 (EEXIST)"),
            (
                "d0 domctl.createdomain(&{flags: hvm_hap, max_vcpus: 1, emulation_flags: all})".into(),
                "= -95 (EOPNOTSUPP)",
            ),
            (plain("d0", "set_address_size", "d2"), "= -95 (EOPNOTSUPP)"),
            ("d0 domctl.hypercall_init(&{domain: d2, gmfn: 0x7000})".into(), "= -13 (EACCES)"),
            ("d0 domctl.max_vcpus(&{domain: d2, max: 7})".into(), "= -22 (EINVAL)"),
            ("d0 domctl.getvcpuinfo(&{domain: d2, vcpu: 7})".into(), "= -22 (EINVAL)"),
            ("d0 raw.call(36, 0x200000, 0, 0, 0, 0, 0)".into(), "= *"),
        ],
    );
    vm.check_well();
}

#[test]
fn a_paused_domain_waits() {
    let mut vm = Vm::boot();
    check(
        &mut vm,
        &[
            (plain("d0", "pausedomain", "d2"), "= 0"),
            ("d2 xen_version.version()".into(), SKIPPED),
            ("d1 xen_version.version()".into(), "= 0x40011"),
            (plain("d0", "unpausedomain", "d2"), "= 0"),
            ("d2 xen_version.version()".into(), "= 0x40011"),
            // The leader, too: the others go on without it.
            (plain("d0", "pausedomain", "d1"), "= 0"),
            ("d1 xen_version.version()".into(), SKIPPED),
            ("d2 xen_version.version()".into(), "= 0x40011"),
        ],
    );
    vm.check_well();
}

#[test]
fn a_domain_that_was_shut_down_goes_on() {
    let mut vm = Vm::boot();
    check(
        &mut vm,
        &[
            ("d0 sched_op.remote_shutdown(&{domain_id: d2, reason: suspend})".into(), "= 0"),
            ("d2 xen_version.version()".into(), SKIPPED),
            (plain("d0", "resumedomain", "d2"), "= 0"),
            ("d2 xen_version.version()".into(), "= 0x40011"),
            ("d0 sched_op.remote_shutdown(&{domain_id: d0, reason: suspend})".into(), "= -1 (EPERM)"),
        ],
    );
    check(
        &mut vm,
        &[
            ("d2 sched_op.shutdown(&{reason: suspend})".into(), "= 0"),
            ("d1 xen_version.version()".into(), "= 0x40011"),
            (plain("d0", "resumedomain", "d2"), "= 0"),
            ("d2 xen_version.version()".into(), "= 0x40011"),
        ],
    );
    vm.check_well();
}

#[test]
fn the_domains_of_the_program_can_be_destroyed() {
    let mut vm = Vm::boot();
    for (gone, left) in [("d1", "d2"), ("d2", "d1")] {
        let destroy = plain("d0", "destroydomain", gone);
        check(
            &mut vm,
            &[
                (
                    format!("{gone} event_channel_op.alloc_unbound(&{{dom: self, remote_dom: {left}}})"),
                    "= 0; *",
                ),
                (destroy.clone(), "= -11 (EAGAIN)"),
                (format!("{gone} xen_version.version()"), SKIPPED),
                (format!("{left} xen_version.version()"), "= 0x40011"),
                (destroy.clone(), "= -11 (EAGAIN)"),
                (destroy.clone(), "= 0"),
                (destroy, "= -3 (ESRCH)"),
                (format!("{gone} xen_version.version()"), SKIPPED),
                (format!("{left} xen_version.version()"), "= 0x40011"),
                (
                    CREATE.replace("r0 = ", ""),
                    if gone == "d1" { "= 0; arg.domain = 1" } else { "= 0; arg.domain = 2" },
                ),
                (format!("{gone} xen_version.version()"), SKIPPED),
            ],
        );
        vm.check_well();
    }
    let both = ["d1", "d2"].map(|gone| plain("d0", "destroydomain", gone));
    let again = (0..3).flat_map(|_| both.clone());
    let answers = ["= -11 (EAGAIN)", "= -11 (EAGAIN)", "= -11 (EAGAIN)", "= -11 (EAGAIN)", "= 0", "= 0"];
    let mut calls: Vec<(String, &str)> = again.zip(answers).collect();
    calls.push(("d0 xen_version.version()".into(), "= 0x40011"));
    calls.push(("d1 xen_version.version()".into(), SKIPPED));
    check(&mut vm, &calls);
    vm.check_well();
}

#[test]
fn a_domain_that_nobody_resumes_never_comes_back() {
    let mut vm = Vm::boot();
    check(
        &mut vm,
        &[
            ("d2 sched_op.shutdown(&{reason: suspend})".into(), NEVER),
            (plain("d0", "destroydomain", "d2"), "= -11 (EAGAIN)"),
            (plain("d0", "resumedomain", "d2"), "= 0"),
            ("d2 xen_version.version()".into(), SKIPPED),
        ],
    );
    vm.check_well();
}

#[test]
fn a_device_model_has_its_buffers_audited() {
    let mut vm = Vm::boot();
    let create = "d0 dm_op.create_ioreq_server(d2, 1, &{request: &{handle_bufioreq: 0}, size: 16})";
    vm.check(&[
        (create, "= 0"),
        ("d0 dm_op.set_ioreq_server_state(d2, 1, &{request: &{id: 0, enabled: 1}, size: 12})", "= 0"),
        ("d0 dm_op.set_ioreq_server_state(d2, 1, &{request: &{id: 3, enabled: 1}, size: 12})", "= -2 (ENOENT)"),
        (&create.replace("size: 16", "size: 15"), "= -14 (EFAULT)"),
        (&create.replace("size: 16", "size: 0"), "= -14 (EFAULT)"),
        (&create.replace("d2, 1", "d2, 0"), "= -14 (EFAULT)"),
        (&create.replace("d2, 1", "d2, 3"), "= -7 (E2BIG)"),
        (&create.replace("d0 ", "d1 "), "= -1 (EPERM)"),
        (&create.replace("d2, 1", "d0, 1"), "= -1 (EPERM)"),
        (&create.replace("d2, 1", "77, 1"), "= -3 (ESRCH)"),
        (
            "d0 dm_op.set_mem_type(d2, 1, &{request: &{nr: 1, mem_type: ram_ro, first_pfn: 0x281}, size: 24})",
            "= 0; *",
        ),
        ("d2 agent.read(0x281000)", "= 0"),
        ("d2 agent.write(0x281000, 0x1)", "raised exception 14, *"),
        ("d0 dm_op.nr_vcpus(d2, 1, &{request: &{vcpus: out}, size: 12})", "= 0; *"),
    ]);
    vm.check_well();
}

#[test]
fn parameters_and_the_machine_are_told() {
    let mut vm = Vm::boot();
    vm.check(&[
        ("d0 hvm_op.set_param(&{domid: d1, index: store_pfn, value: 0x9})", "= 0"),
        ("d1 hvm_op.get_param(&{domid: self, index: store_pfn})", "= 0; arg.value = 9"),
        ("d1 hvm_op.set_param(&{domid: self, index: store_pfn, value: 0x8})", "= -1 (EPERM)"),
        ("d1 hvm_op.set_param(&{domid: d2, index: callback_irq, value: 0x8})", "= -1 (EPERM)"),
        ("d1 hvm_op.set_param(&{domid: self, index: 99, value: 0x8})", "= -22 (EINVAL)"),
        ("d1 hvm_op.flush_tlbs(0)", "= 0"),
        ("d1 hvm_op.altp2m(&fill(0x0, 96))", "= -95 (EOPNOTSUPP)"),
        ("d0 sysctl.physinfo(&{})", "= 0; *"),
        ("d1 sysctl.physinfo(&{})", "= -1 (EPERM)"),
        ("d0 sysctl.physinfo(&{interface_version: 1})", "= -13 (EACCES)"),
        ("d0 sysctl.coverage_op(&{coverage_cmd: read, size: 8, buffer: &fill(0x0, 8)})", "= -105 (ENOBUFS)"),
        (
            "d0 sysctl.getdomaininfolist(&{first_domain: d1, max_domains: 2, buffer: &fill(0x0, 448)})",
            "= 0; *",
        ),
    ]);
    vm.check_well();
}

#[test]
fn shared_memory_is_seen_as_configured() {
    let mut vm = Vm::boot();
    vm.check(&[
        // The pool of the configuration: d2 sees it from the second page on, and may not write.
        ("d1 agent.write(0x10201008, 0x77)", "= 0"),
        ("d2 agent.read(0x10200008)", "= 119"),
        ("d2 agent.write(0x10200008, 0x1)", "raised exception 14, *"),
        ("d0 agent.write(0x10201008, 0x78)", "= 0"),
        ("d1 agent.read(0x10201008)", "= 120"),
        ("d0 agent.read(0x10202000)", "raised exception 14, *"),
        ("d1 memory_op.remove_from_physmap(&{domid: self, gpfn: 0x10200})", "= -22 (EINVAL)"),
        // The shared info waits at its magic page; handing it over leaves no hole in RAM.
        ("d1 agent.read(0x39000000)", "= *"),
        ("d1 memory_op.remove_from_physmap(&{domid: self, gpfn: 0x39000})", "= 0"),
        ("d1 agent.read(0x39000000)", "raised exception 14, *"),
        ("d1 memory_op.current_reservation(&{domid: self})", "= 1024"),
        (
            "d1 memory_op.add_to_physmap(&{domid: self, size: 0, space: shared_info, idx: 0x0, gpfn: 0x39000})",
            "= 0",
        ),
        ("d1 agent.read(0x39000000)", "= *"),
    ]);
    vm.check_well();
}

#[test]
fn the_control_domain_maps_frames_of_others() {
    let mut vm = Vm::boot();
    let map = "d0 memory_op.add_to_physmap_batch(&{domid: self, space: gmfn_foreign, size: 1, foreign_domid: d2, idxs: &[0x280], gpfns: &[0x400], errs: &[9]})";
    vm.check(&[
        ("d2 agent.write(playground, 0x1234)", "= 0"),
        (map, "= 0; *"),
        ("d0 agent.read(0x400000)", "= 0x1234"),
        (&map.replace("d0 ", "d1 "), "= -1 (EPERM)"),
        ("d0 domctl.destroydomain(&{domain: d2})", "= *"),
        ("d0 domctl.destroydomain(&{domain: d2})", "= *"),
        ("d0 domctl.destroydomain(&{domain: d2})", "= *"),
        ("d0 domctl.destroydomain(&{domain: d2})", "= -3 (ESRCH)"),
        // The frame outlives its owner.
        ("d0 agent.read(0x400000)", "= 0x1234"),
        ("d0 memory_op.remove_from_physmap(&{domid: self, gpfn: 0x400})", "= 0"),
    ]);
    vm.check_well();
}
