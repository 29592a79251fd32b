//! The same programs as hvm and as pv guest: they answer the same, but for what is listed here.

use hyperfuzz::{engine::Outcome, target::Target};

use super::corpora;
use crate::common::{NEVER, Vm};

/// Programs whose answers differ, the last call's in hvm and in pv mode. A `*` at the end stands for anything.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    // SCE is the guest's own bit in hvm mode.
    ("d1 agent.rdmsr(efer)", "= 1280", "= 1281"),
    // A pv guest makes hypercalls by SYSCALL: its registers are the hypervisor's.
    ("d1 agent.wrmsr(lstar, 0x1000)", "= 0", "raised exception 13, *"),
    ("d1 agent.rdmsr(star)", "= 0", "raised exception 13, *"),
    ("d1 agent.wrmsr(sfmask, 0x200)", "= 0", "raised exception 13, *"),
    // Switched on in hvm mode by the guest, in pv mode always on.
    ("d1 agent.wrmsr(efer, 0xd00)", "= 0", "raised exception 13, *"),
    // Xen tells identifiers to hvm guests only.
    ("d2 agent.cpuid(xen_hvm, 0)", "= 24", "= 0"),
    // Pages that cannot be executed exist in the hypervisor's tables, not in the agent's.
    (
        "d1 agent.exec(0x7000000000)",
        "raised exception 14, error 0x0, *",
        "raised exception 14, error 0x10, *",
    ),
    // The agent's own tables map the first GiB and the channel; in pv mode there are none.
    (
        "d1 memory_op.populate_physmap(0, &{extent_start: &[0x100000], nr_extents: 1, extent_order: 0, mem_flags: 0x0, domid: self})\n\
         d1 agent.read(0x100000000)",
        "raised exception 14, *",
        "= 0",
    ),
    // How long it took until the agents were ready.
    (
        "d1 vcpu_op.get_runstate_info(1, &{state: out, state_entry_time: out, running: out, runnable: out, blocked: out, offline: out})",
        "= 0*",
        "= 0*",
    ),
    (
        "d1 vcpu_op.register_runstate_memory_area(0, &{addr: &{state: out, state_entry_time: out, running: out, runnable: out, blocked: out, offline: out}})",
        "= 0*",
        "= 0*",
    ),
    (
        "d1 vcpu_op.register_runstate_phys_area(0, &{addr: &{state: out, state_entry_time: out, running: out, runnable: out, blocked: out, offline: out}})",
        "= 0*",
        "= 0*",
    ),
    (
        "d1 vcpu_op.register_vcpu_time_memory_area(0, &{addr: &{version: out, pad0: out, tsc_timestamp: out, system_time: out, tsc_to_system_mul: out, tsc_shift: out, flags: out, pad1: out}})",
        "= 0*",
        "= 0*",
    ),
    (
        "d1 vcpu_op.register_vcpu_time_phys_area(0, &{addr: &{version: out, pad0: out, tsc_timestamp: out, system_time: out, tsc_to_system_mul: out, tsc_shift: out, flags: out, pad1: out}})",
        "= 0*",
        "= 0*",
    ),
    // Only pv guests have these hypercalls.
    ("d1 raw.call(0, 0, 0, 0, 0, 0, 0)", "= -38 (ENOSYS)", "= 0"),
    ("d1 raw.call(25, 0, 0x1234, 0, 0, 0, 0)", "= -38 (ENOSYS)", "= 0"),
    ("d1 raw.call(23, 0, 0, 0, 0, 0, 0)", "= -38 (ENOSYS)", NEVER),
    // HLT ends an hvm guest, which nothing will wake; in ring 3 it is not allowed.
    ("d1 agent.write(playground, 0xc3f4)\nd1 agent.exec(playground)", NEVER, "raised exception 13, *"),
    // Debug registers: writes do nothing in hvm mode.
    ("d1 agent.write(playground, 0xc3f8230f)\nd1 agent.exec(playground)", "= 0", "raised exception 13, *"),
    // Without a stack an exception of a pv guest has no place to go: xor esp, esp; ud2.
    ("d1 agent.write(playground, 0x0b0fe431)\nd1 agent.exec(playground)", "raised exception 6, *", NEVER),
    // VMMCALL is no hypercall there: mov eax, 17; xor edi, edi; vmmcall; ret.
    (
        "d1 agent.write(playground, 0x0fff3100000011b8)\nd1 agent.write(0x280008, 0xc3d901)\nd1 agent.exec(playground)",
        "= 0x40011",
        "raised exception 6, *",
    ),
];

fn matches(answer: &str, expected: &str) -> bool {
    match expected.strip_suffix('*') {
        Some(start) => answer.starts_with(start),
        None => answer == expected,
    }
}

#[test]
fn differences_are_those_that_are_known() {
    for (target, column) in [(Target::ReferenceHvm, 0), (Target::ReferencePv, 1)] {
        let mut vm = Vm::on(target, &[]);
        for (program, hvm, pv) in DIFFERENCES {
            let expected = [hvm, pv][column];
            let run = vm.run(program);
            let answer = run.answers.last().map_or("", String::as_str);
            assert!(matches(answer, expected), "{target}: {program}: {answer} instead of {expected}");
            assert!(run.execution.crash.is_none(), "{target}: {program}: {run:?}");
        }
        vm.check_well();
    }
}

#[test]
fn seeds_answer_the_same() {
    let (mut hvm, mut pv) = (Vm::on(Target::ReferenceHvm, &[]), Vm::on(Target::ReferencePv, &[]));
    let known = |call: &str| DIFFERENCES.iter().any(|(program, ..)| program.lines().last() == Some(call));
    for (name, source) in corpora::programs("seeds") {
        let (left, right) = (hvm.run(&source), pv.run(&source));
        assert_eq!(left.execution.outcome, Outcome::Done, "{name}");
        assert_eq!(right.execution.outcome, Outcome::Done, "{name}");
        let lines: Vec<&str> = source.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(lines.len(), left.answers.len(), "{name}");
        for ((line, left), right) in lines.iter().zip(&left.answers).zip(&right.answers) {
            assert!(left == right || known(line), "{name}: {line}: hvm {left}, pv {right}");
        }
    }
}
