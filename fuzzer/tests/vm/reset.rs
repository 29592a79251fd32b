//! The machine forgets: a program gives the same, whatever ran before it.

use hyperfuzz::{
    engine::{CallResult, Engine, Execution, Outcome},
    interface::interface,
    program::{generate, text},
};
use planted_bugs::Bug;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use crate::common::Vm;

/// Programs that leave as much behind as they can.
const MIX: &[&str] = &[
    "d1 xen_version.version()",
    "d1 agent.write(playground, 0x1)\nd1 agent.write(0x281000, 0x2)\nd2 agent.write(0x2f0000, 0x3)\nd1 agent.read(playground)",
    "d1 agent.read(playground)\nd1 agent.read(0x281000)\nd2 agent.read(0x2f0000)",
    "d1 event_channel_op.bind_ipi(&{vcpu: 0, port: out})\nd1 event_channel_op.bind_ipi(&{vcpu: 0, port: out})\n\
     d2 event_channel_op.bind_ipi(&{vcpu: 0, port: out})\nd1 event_channel_op.bind_virq(&{virq: timer, vcpu: 0, port: out})",
    "d1 memory_op.decrease_reservation(0, &{extent_start: &[0x280, 0x281, 0x282], nr_extents: 3, extent_order: 0, mem_flags: 0x0, domid: self})\n\
     d1 agent.read(playground)\n\
     d1 memory_op.populate_physmap(0, &{extent_start: &[0x400, 0x401], nr_extents: 2, extent_order: 0, mem_flags: 0x0, domid: self})\n\
     d1 agent.write(0x400000, 0x5)",
    "d1 memory_op.exchange(&{in: {extent_start: &[0x290], nr_extents: 1, extent_order: 0, mem_flags: 0x0, domid: self}, out: {extent_start: &[0x2a0], nr_extents: 1, extent_order: 0, mem_flags: 0x0, domid: self}, nr_exchanged: 0})",
    "d2 sched_op.shutdown(&{reason: crash})\nd2 xen_version.version()",
    "d1 sched_op.block()\nd2 sched_op.block()\nd1:1 sched_op.block()\nd2:1 sched_op.block()\nd0 sched_op.block()",
    "d1 coverage_op.enable(&{version: 1, flags: edges|comparisons})\nd1 xen_version.version()\nd1 coverage_op.release(0)",
    "d1 agent.wrmsr(fs_base, 0x1234)\nd1 agent.ud2()\nd1 console_io.write(3, &\"abc\")",
    // The planted bug: a crash.
    "d1 sched_op.poll(&{ports: &[500], nr_ports: 1, timeout: past})",
];

type Essence = (Outcome, Vec<CallResult>, Vec<u8>, u64, Vec<u8>);

fn essence(execution: Execution) -> Essence {
    let Execution { outcome, calls, counters, blocks, console, .. } = execution;
    (outcome, calls, counters, blocks, console)
}

#[test]
fn a_thousand_executions_are_the_same_each_time() {
    let mut vm = Vm::with(&[Bug::PollUnalloc]);
    let first: Vec<Essence> = MIX.iter().map(|program| essence(vm.run_any(program))).collect();
    assert!(first.iter().all(|(outcome, calls, ..)| !calls.is_empty() || *outcome != Outcome::Done));
    assert_eq!(first.last().map(|first| first.0), Some(Outcome::Crash));
    assert_eq!(first[7].0, Outcome::Idle);
    let mut next = 0;
    for n in 0..1000 {
        // A step that visits all in many orders.
        next = (next + 1 + n / MIX.len() % 7) % MIX.len();
        assert_eq!(essence(vm.run_any(MIX[next])), first[next], "execution {n}: {}", MIX[next]);
    }
    assert_eq!(vm.engine().restarts(), 0);
    vm.engine().reboot().unwrap();
    for (program, first) in MIX.iter().zip(&first).rev() {
        assert_eq!(essence(vm.run_any(program)), *first, "on a fresh boot: {program}");
    }
    let mut other = Vm::with(&[Bug::PollUnalloc]);
    for (program, first) in MIX.iter().zip(&first) {
        assert_eq!(essence(other.run_any(program)), *first, "in another machine: {program}");
    }
}

#[test]
fn coverage_tells_programs_apart() {
    let mut vm = Vm::boot();
    let mut counters: Vec<Vec<u8>> = MIX.iter().map(|program| vm.run_any(program).counters).collect();
    assert!(counters.iter().all(|counters| counters.iter().any(|n| *n != 0)));
    counters.sort();
    counters.dedup();
    // Two of them differ in what they find in memory only.
    assert!(counters.len() >= MIX.len() - 2, "{} of {}", counters.len(), MIX.len());
}

#[test]
fn generated_programs_run_alike_in_any_order() {
    let mut rng = Pcg64Mcg::seed_from_u64(7);
    let programs: Vec<_> =
        (0..300).map(|_| generate::program(&mut rng, interface(), generate::DEFAULT_CALLS)).collect();
    let mut vm = Vm::boot();
    let first: Vec<Essence> = programs.iter().map(|program| essence(vm.run_lowered(program))).collect();
    for (program, (outcome, ..)) in programs.iter().zip(&first) {
        let good = matches!(outcome, Outcome::Done | Outcome::Idle | Outcome::Runaway);
        assert!(good, "ended with {outcome:?}:\n{}", text::print(program));
    }
    for (program, first) in programs.iter().zip(&first).rev() {
        let again = essence(vm.run_lowered(program));
        // What a guest without end has done depends on when it was noticed.
        if first.0 == Outcome::Runaway {
            assert_eq!(again.0, first.0, "{}", text::print(program));
        } else {
            assert_eq!(again, *first, "{}", text::print(program));
        }
    }
    assert_eq!(vm.engine().restarts(), 0);
}
