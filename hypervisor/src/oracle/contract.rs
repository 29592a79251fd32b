//! Contracts: what a sub-operation may return, and that it leaves its output alone where it fails.

use crate::hypervisor::{Disposition, Hypervisor};
use core::ops::RangeInclusive;
use coverage_hypercall::crash::CrashKind;
use xen_abi::{argo, errno::Errno, event, hypercall, memory, sched, vcpu, version};

/// Largest error number that a call may return: the last one of `public/errno.h`.
const MAX_ERRNO: i64 = 125;
/// Any number that is no error.
const NUMBER: RangeInclusive<i64> = 0..=i64::MAX;
/// Success has nothing to say.
const DONE: RangeInclusive<i64> = 0..=0;

/// What a sub-operation promises.
#[derive(Clone, Debug)]
struct Contract {
    /// What it returns on success.
    success: RangeInclusive<i64>,
    /// It may fail.
    fails: bool,
    /// Where it fails, nothing has been written to the caller. Not so where the output says how far a call came, or has a
    /// result for each entry of a list; and not where what fails is the copy itself, which goes page by page.
    silent: bool,
}

const fn contract(success: RangeInclusive<i64>) -> Contract {
    Contract { success, fails: true, silent: true }
}

/// Of a sub-operation whose output tells progress.
const fn progress(success: RangeInclusive<i64>) -> Contract {
    Contract { success, fails: true, silent: false }
}

/// The contract of a call. What is not known may return any number and may write as it likes.
fn of(number: u64, args: &[u64; 6]) -> Contract {
    let cmd = args[0] as u32;
    match number {
        hypercall::MEMORY_OP => memory(cmd & memory::CMD_MASK),
        hypercall::MULTICALL => progress(DONE),
        hypercall::CONSOLE_IO => contract(DONE),
        hypercall::SCHED_OP if cmd == sched::WATCHDOG => contract(0..=2),
        hypercall::SCHED_OP => contract(DONE),
        hypercall::GRANT_TABLE_OP => progress(DONE),
        hypercall::VCPU_OP if cmd == vcpu::IS_UP => contract(0..=1),
        hypercall::VCPU_OP | hypercall::VM_ASSIST | hypercall::SET_TIMER_OP => contract(DONE),
        hypercall::ARGO_OP if cmd == argo::SENDV => contract(0..=argo::MAX_RING_SIZE as i64),
        hypercall::ARGO_OP => progress(DONE),
        hypercall::EVENT_CHANNEL_OP if cmd <= event::SET_PRIORITY => contract(DONE),
        hypercall::XEN_VERSION => match cmd {
            version::VERSION => contract(1..=i32::MAX as i64),
            version::PAGESIZE => contract(4096..=4096),
            version::BUILD_ID => contract(1..=256),
            _ => contract(DONE),
        },
        _ => progress(NUMBER),
    }
}

fn memory(op: u32) -> Contract {
    match op {
        // They say how many extents were done, whatever stopped them.
        memory::INCREASE_RESERVATION | memory::DECREASE_RESERVATION | memory::POPULATE_PHYSMAP => {
            Contract { success: 0..=(u32::MAX >> memory::CMD_START_SHIFT) as i64, fails: false, silent: true }
        }
        memory::EXCHANGE | memory::ADD_TO_PHYSMAP | memory::ADD_TO_PHYSMAP_BATCH => progress(DONE),
        memory::REMOVE_FROM_PHYSMAP | memory::MEMORY_MAP | memory::MACHINE_MEMORY_MAP => contract(DONE),
        memory::CURRENT_RESERVATION | memory::MAXIMUM_RESERVATION => contract(0..=i32::MAX as i64),
        _ => contract(NUMBER),
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
        if failed && contract.silent && written && value != Errno::Fault.code() {
            self.violation(CrashKind::ReturnContract, "a call that failed has written to its caller");
        }
    }
}
