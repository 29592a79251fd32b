//! Contracts: what a sub-operation may return, and that it leaves its output alone where it fails.

use crate::hypervisor::{Disposition, Hypervisor};
use core::ops::RangeInclusive;
use coverage_hypercall::{
    coverage::{self, COVERAGE_OP},
    crash::CrashKind,
    harness::HARNESS_OP,
};
use xen_abi::{argo, errno::Errno, event, grant, hypercall, memory, sched, vcpu, version};

/// Largest error number that a call may return: the last one of `public/errno.h`.
const MAX_ERRNO: i64 = 125;
/// Any number that is no error.
const NUMBER: RangeInclusive<i64> = 0..=i64::MAX;
/// Success has nothing to say.
const DONE: RangeInclusive<i64> = 0..=0;
/// There is no success.
const NEVER: RangeInclusive<i64> = RangeInclusive::new(1, 0);

/// What a call that fails may have written to its caller. Where what fails is the copy itself, which goes page by page, it may have
/// written anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// Nothing.
    Untouched,
    /// How far it came, where it asks to be called again.
    Continuation,
    /// How far it came, or what became of the entries of a list.
    Progress,
}

/// What a sub-operation promises.
#[derive(Clone, Debug)]
struct Contract {
    /// What it returns on success.
    success: RangeInclusive<i64>,
    /// It may fail.
    fails: bool,
    /// What it may have written where it fails.
    output: Output,
}

const fn contract(success: RangeInclusive<i64>) -> Contract {
    Contract { success, fails: true, output: Output::Untouched }
}

/// Of a sub-operation whose output tells progress.
const fn progress(success: RangeInclusive<i64>) -> Contract {
    Contract { success, fails: true, output: Output::Progress }
}

/// The contract of a call.
fn of(number: u64, args: &[u64; 6]) -> Contract {
    let cmd = args[0] as u32;
    match number {
        hypercall::MEMORY_OP => memory(cmd & memory::CMD_MASK),
        hypercall::MULTICALL => progress(DONE),
        hypercall::SCHED_OP if cmd == sched::WATCHDOG => contract(0..=2),
        // It says which version there is, whether that is the one that was asked for or not.
        hypercall::GRANT_TABLE_OP if cmd == grant::SET_VERSION => progress(DONE),
        hypercall::VCPU_OP if cmd == vcpu::IS_UP => contract(0..=1),
        hypercall::ARGO_OP => match cmd {
            argo::SENDV => contract(0..=argo::MAX_RING_SIZE as i64),
            argo::NOTIFY => progress(DONE),
            argo::REGISTER_RING | argo::UNREGISTER_RING => contract(DONE),
            _ => contract(NEVER),
        },
        hypercall::EVENT_CHANNEL_OP if cmd > event::SET_PRIORITY => contract(NEVER),
        hypercall::XEN_VERSION => match cmd {
            version::VERSION => contract(1..=i32::MAX as i64),
            version::PAGESIZE => contract(4096..=4096),
            version::BUILD_ID => contract(1..=256),
            _ => contract(DONE),
        },
        // The sub-operation is in the caller's memory, and only those that are to be called again write before they are done.
        hypercall::DM_OP => Contract { success: DONE, fails: true, output: Output::Continuation },
        COVERAGE_OP if args[0] == coverage::cmd::READ => contract(0..=coverage::MAX_READ as i64),
        // The ends of programs are no calls of a guest's.
        HARNESS_OP => progress(NUMBER),
        hypercall::SET_TRAP_TABLE
        | hypercall::CONSOLE_IO
        | hypercall::SCHED_OP
        | hypercall::GRANT_TABLE_OP
        | hypercall::VCPU_OP
        | hypercall::VM_ASSIST
        | hypercall::SET_TIMER_OP
        | hypercall::EVENT_CHANNEL_OP
        | hypercall::HVM_OP
        | hypercall::SYSCTL
        | hypercall::DOMCTL
        | COVERAGE_OP => contract(DONE),
        _ => contract(NEVER),
    }
}

fn memory(op: u32) -> Contract {
    match op {
        // They say how many extents were done, whatever stopped them.
        memory::INCREASE_RESERVATION | memory::DECREASE_RESERVATION | memory::POPULATE_PHYSMAP => Contract {
            success: 0..=(u32::MAX >> memory::CMD_START_SHIFT) as i64,
            fails: false,
            output: Output::Untouched,
        },
        memory::EXCHANGE | memory::ADD_TO_PHYSMAP | memory::ADD_TO_PHYSMAP_BATCH => progress(DONE),
        memory::CURRENT_RESERVATION | memory::MAXIMUM_RESERVATION => contract(0..=i32::MAX as i64),
        memory::MAXIMUM_RAM_PAGE | memory::MAXIMUM_GPFN => contract(NUMBER),
        _ => contract(DONE),
    }
}

impl Hypervisor {
    /// Looks at the result of an operation, and at what it wrote.
    pub(crate) fn check_contract(
        &mut self,
        number: u64,
        args: &[u64; 6],
        answer: &Result<Disposition, Errno>,
    ) {
        if !self.options.oracles {
            return;
        }
        let value = match answer {
            Ok(Disposition::Return(value)) => *value,
            Ok(_) => return,
            Err(error) => error.code(),
        };
        let contract = of(number, args);
        let failed = (-MAX_ERRNO..0).contains(&value);
        if !(contract.success.contains(&value) || failed && contract.fails) {
            self.violation(CrashKind::ReturnContract, "a call returned what its operation never returns");
        }
        let written = self.memory.watch.written != 0;
        let may_write = value == Errno::Fault.code()
            || match contract.output {
                Output::Untouched => false,
                Output::Continuation => value == Errno::Again.code(),
                Output::Progress => true,
            };
        if failed && written && !may_write {
            self.violation(CrashKind::ReturnContract, "a call that failed has written to its caller");
        }
    }
}
