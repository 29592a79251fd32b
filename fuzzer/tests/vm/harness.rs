//! Nonsense from either side: requests that are no programs, and guests that overwrite the channel.

use coverage_hypercall::{
    channel::{CHANNEL_GPA, COMPLETION_DATA, REQUEST_DATA},
    program::{MAX_LEN, Status},
};
use hyperfuzz::{
    engine::{Engine, EngineError, Execution, Outcome, Request},
    program::{lower, text},
};

use crate::common::Vm;

const PROGRAM: &str = "r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})\n\
    d2 event_channel_op.bind_interdomain(&{remote_dom: d1, remote_port: r0.port, local_port: out})\n\
    d1 xen_version.version()";

fn lowered(program: &str) -> Vec<u8> {
    lower::lower(&text::parse(program).unwrap(), 1).unwrap().bytes
}

/// A plain generator (Knuth's MMIX constants), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 16
    }
}

/// The hypervisor is not harmed, whatever the guest does to itself.
#[track_caller]
fn assert_unharmed(execution: &Execution, what: &str) {
    let harmed = matches!(execution.outcome, Outcome::Crash | Outcome::TripleFault | Outcome::Timeout);
    assert!(!harmed && execution.crash.is_none(), "{what}: {execution:?}");
}

fn rejected(execution: &Execution) -> bool {
    execution.corrupt || execution.calls.iter().any(|call| matches!(call.status, Status::Rejected(_)))
}

#[test]
fn a_truncated_program_is_rejected() {
    let mut vm = Vm::boot();
    let program = lowered(PROGRAM);
    for len in 0..program.len() {
        let execution = vm.bytes(&program[..len]);
        assert_unharmed(&execution, &format!("{len} bytes"));
        assert!(rejected(&execution), "{len} bytes: {:?}", execution.calls);
    }
    let execution = vm.bytes(&program);
    assert!(!rejected(&execution) && execution.calls.len() == 3, "{:?}", execution.calls);
    vm.check_well();
}

#[test]
fn random_bytes_are_rejected() {
    let mut vm = Vm::boot();
    let mut random = Random(1);
    for n in 0..300 {
        let len = if n % 50 == 0 { MAX_LEN } else { random.next() as usize % MAX_LEN };
        let bytes: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        let execution = vm.bytes(&bytes);
        assert_unharmed(&execution, &format!("random program {n}"));
        assert!(rejected(&execution), "random program {n}: {:?}", execution.calls);
        if n % 30 == 0 {
            vm.check_well();
        }
    }
}

#[test]
fn a_damaged_program_harms_nobody() {
    let mut vm = Vm::boot();
    let mut random = Random(2);
    let program = lowered(PROGRAM);
    let mut refused = 0;
    for n in 0..500 {
        let mut bytes = program.clone();
        for _ in 0..1 + n % 4 {
            let at = random.next() as usize % bytes.len();
            bytes[at] = random.next() as u8;
        }
        let execution = vm.bytes(&bytes);
        assert_unharmed(&execution, &format!("damaged program {n}"));
        assert!(rejected(&execution) || !execution.calls.is_empty(), "damaged program {n}: no answer");
        refused += u32::from(rejected(&execution));
    }
    assert!(refused > 100, "only {refused} of them were refused");
    // Magic and version are the first bytes.
    for at in 0..6 {
        let mut bytes = program.clone();
        bytes[at] ^= 0x20;
        assert!(rejected(&vm.bytes(&bytes)), "byte {at}");
    }
    vm.check_well();
}

#[test]
fn a_program_that_is_too_long_is_an_error_of_the_host() {
    let mut vm = Vm::boot();
    let mut execution = Execution::default();
    let request = Request { program: &vec![0; MAX_LEN + 1], comparisons: false };
    let error = vm.engine().execute(&request, &mut execution).expect_err("it is too long");
    assert!(matches!(error, EngineError::ProgramTooLong { .. }), "{error}");
    vm.check_well();
}

#[test]
fn guests_that_overwrite_the_channel_hurt_themselves_only() {
    let mut vm = Vm::boot();
    let fields = (0..56).step_by(8).chain([0x38, 0x100]).map(|at| CHANNEL_GPA + at);
    let rings = [REQUEST_DATA, COMPLETION_DATA].into_iter().flat_map(|ring| (ring..ring + 64).step_by(8));
    let places: Vec<u64> = fields.chain(rings.map(|at| CHANNEL_GPA + at as u64)).collect();
    for place in places {
        for value in [0, u64::MAX, 0x4141_4141_4141_4141, 0x0000_0008_0000_0008, 0xffff_fff8_ffff_fff8, 1] {
            for domain in ["d1", "d2"] {
                let program = format!(
                    "d1 xen_version.version()\n{domain} agent.write({place:#x}, {value:#x})\n\
                     d1 xen_version.version()\nd2 xen_version.version()"
                );
                let execution = vm.run_any(&program);
                assert_unharmed(&execution, &program);
            }
        }
        vm.check_well();
    }
}

#[test]
fn the_harness_hypercall_of_guests_is_checked() {
    let mut vm = Vm::boot();
    for args in ["2, 1", "2, 77", "2, 65538", "9, 0", "0, 0"] {
        // Not a call that the text form allows by hand: it would end, or switch, the run under the agent's feet.
        let program = format!("d1 raw.call(54, {args}, 0, 0, 0, 0)");
        assert!(text::parse(&program).is_err(), "{program}");
    }
    vm.check_well();
}

#[test]
fn a_guest_that_loops_is_no_hang_of_the_hypervisor() {
    let mut vm = Vm::boot();
    for domain in ["d1", "d2"] {
        // EB FE: `jmp` to itself.
        let program = format!(
            "d1 xen_version.version()\n{domain} agent.write(playground, 0xfeeb)\n{domain} agent.exec(playground)\n\
             d1 xen_version.version()"
        );
        let execution = vm.run_any(&program);
        assert_eq!(execution.outcome, Outcome::Runaway, "{domain}");
        assert!(execution.crash.is_none());
    }
    vm.check_well();
}
