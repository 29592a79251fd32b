//! Guests that do everything to break out: each ends its own execution, and nothing else notices.

use hyperfuzz::{
    engine::{Execution, Outcome},
    program::text,
    target::Target,
};

use super::machine_code::hostile::{self, Hostile};
use crate::common::{TARGET, Vm};

/// A program that says how the machine is: it touches memory, ports, the console, both domains.
const HEALTH: &str = "r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})\n\
    r1 = d2 event_channel_op.bind_interdomain(&{remote_dom: d1, remote_port: r0.port, local_port: out})\n\
    d2 event_channel_op.send(&{port: r1.local_port?1})\n\
    d1 memory_op.populate_physmap(0, &{extent_start: &[0x400], nr_extents: 1})\n\
    d1 console_io.write(6, &\"hello\\n\")\n\
    d2 agent.read(playground)\n\
    d1 agent.cpuid(xen_hvm, 0)";

/// The bytes of a program's text for a string of bytes.
fn quoted(code: &[u8]) -> String {
    let escaped: String = code.iter().map(|byte| format!("\\x{byte:02x}")).collect();
    format!("&\"{escaped}\"")
}

/// Lets the agent of `domain` execute the code: a call that does nothing carries it to the beginning of the arena.
fn program(guest: &Hostile, domain: &str) -> String {
    // mov r12d, imm32: the guest's memory is the playground.
    let prologue = [0x41, 0xbc, 0x00, 0x00, 0x28, 0x00];
    let mut code = [&prologue, guest.code].concat();
    if TARGET == Target::ReferencePv {
        // VMMCALL becomes SYSCALL and a NOP.
        let calls: Vec<_> =
            (0..code.len()).filter(|at| code[*at..].starts_with(&[0x0f, 0x01, 0xd9])).collect();
        calls.into_iter().for_each(|at| code[at..at + 3].copy_from_slice(&[0x0f, 0x05, 0x90]));
    }
    let code = quoted(&code);
    format!(
        "d1 xen_version.version()\n{domain} raw.call(63, {code}, 0, 0, 0, 0, 0)\n{domain} agent.exec(arena)\n\
         d2 xen_version.version()\nd1 xen_version.version()"
    )
}

/// What must not depend on what ran before.
fn essence(execution: &Execution) -> (Outcome, &[u8], String, u64) {
    (execution.outcome, &execution.counters, format!("{:?}", execution.calls), execution.blocks)
}

#[test]
fn hostile_guests_end_their_own_execution_only() {
    let guests = hostile::all();
    assert!(guests.len() >= 20, "{}", guests.len());
    let mut vm = Vm::boot();
    let before = vm.run_any(HEALTH);
    assert_eq!(before.outcome, Outcome::Done);
    for guest in &guests {
        for domain in ["d1", "d2"] {
            let source = program(guest, domain);
            let execution = vm.run_any(&source);
            let name = guest.name;
            assert!(
                matches!(execution.outcome, Outcome::Done | Outcome::Idle | Outcome::Runaway),
                "{name} in {domain}: {:?}, {:?}",
                execution.outcome,
                execution.crash
            );
            assert!(execution.crash.is_none(), "{name} in {domain}: {:?}", execution.crash);
            let after = vm.run_any(HEALTH);
            assert!(
                essence(&before) == essence(&after),
                "{name} in {domain} left something behind: {after:?}"
            );
        }
    }
    vm.check_well();
}

#[test]
fn a_guest_without_mercy_for_itself_ends_the_same_way_each_time() {
    let mut vm = Vm::boot();
    let name = |guest: &Hostile| guest.name;
    let guests = hostile::all();
    for wanted in [
        "triple_fault",
        "exceptions_for_ever",
        "random_hypercalls",
        "page_tables_nowhere",
        "memory_given_away",
    ] {
        let guest = guests.iter().find(|guest| name(guest) == wanted).expect("it is in the list");
        let source = program(guest, "d1");
        assert!(text::parse(&source).is_ok());
        let first = vm.run_any(&source);
        let second = vm.run_any(&source);
        assert!(essence(&first) == essence(&second), "{wanted}: {first:?} and then {second:?}");
    }
}

#[test]
fn exceptions_without_an_instruction_in_between_are_the_guests_affair() {
    let guests = hostile::all();
    let guest = guests.iter().find(|guest| guest.name == "exceptions_for_ever").expect("it is in the list");
    let mut vm = Vm::boot();
    for domain in ["d1", "d2"] {
        let execution = vm.run_any(&program(guest, domain));
        if TARGET == Target::ReferencePv {
            // There the hypervisor handles exceptions itself.
            assert!(matches!(execution.outcome, Outcome::Done | Outcome::Idle), "{:?}", execution.outcome);
        } else {
            assert_eq!(execution.outcome, Outcome::Runaway);
            assert!(execution.counters.iter().all(|count| *count == 0), "they depend on when it was noticed");
        }
    }
    vm.check_well();
}
