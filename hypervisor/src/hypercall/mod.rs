//! Hypercalls: one file per family, and the way to them.

pub(crate) mod argo_op;
pub(crate) mod console_io;
pub(crate) mod coverage_op;
pub(crate) mod dm_op;
pub(crate) mod domctl;
pub(crate) mod event_channel_op;
pub(crate) mod event_delivery;
pub(crate) mod event_fifo;
pub(crate) mod exchange;
pub(crate) mod grant_copy;
pub(crate) mod grant_frames;
pub(crate) mod grant_map;
pub(crate) mod grant_table_op;
pub(crate) mod hvm_op;
pub(crate) mod memory_op;
pub(crate) mod multicall;
pub(crate) mod physmap;
mod reservation;
pub(crate) mod sched_op;
pub(crate) mod set_timer_op;
pub(crate) mod sysctl;
pub(crate) mod vcpu_op;
pub(crate) mod vm_assist;
pub(crate) mod xen_version;

use crate::{
    hypervisor::{Disposition, GuestContext, Hypervisor, VcpuId},
    mem::guest::Call,
    oracle::locks::Lock,
};
use coverage_hypercall::{coverage, harness};
use xen_abi::{DOMID_SELF, DomId, errno::Errno, hypercall};

/// Pages that one call from a guest may move, map or fill; the entries of a multicall share them. Xen would preempt. A
/// family says what happens where they are used up: a partial result, `EAGAIN` with the progress, or `E2BIG`.
const CREDIT: u64 = 512;
/// System time that a call takes, in nanoseconds.
const CALL_TIME: u64 = 1000;

impl Hypervisor {
    /// Carries out a hypercall.
    pub fn hypercall(
        &mut self,
        caller: VcpuId,
        number: u64,
        args: [u64; 6],
        context: &GuestContext,
    ) -> Disposition {
        self.time = self.time.saturating_add(CALL_TIME);
        self.before_call(caller);
        self.credit = CREDIT;
        self.context = *context;
        let call = Call { caller, context: *context };
        let answer = if context.cpl == 0 { self.dispatch(call, number, args) } else { Err(Errno::Perm) };
        let disposition = answer.unwrap_or_else(|error| Disposition::Return(error.code()));
        self.run_timers();
        self.expire_watchdogs();
        self.after_call(caller, disposition);
        match disposition {
            Disposition::Return(_) if self.state(caller) == Some(crate::vcpu::State::Dead) => {
                Disposition::Reschedule
            }
            other => other,
        }
    }

    /// Sends a call to its family.
    pub(crate) fn dispatch(&mut self, call: Call, number: u64, args: [u64; 6]) -> Result<Disposition, Errno> {
        self.depth += 1;
        // What was written before belongs to the multicall that this is a part of.
        let before = core::mem::take(&mut self.memory.watch.written);
        let answer = self.carry_out(call, number, args);
        self.check_contract(number, &args, &answer);
        self.memory.watch.written = before;
        self.depth -= 1;
        answer
    }

    fn carry_out(&mut self, call: Call, number: u64, args: [u64; 6]) -> Result<Disposition, Errno> {
        match number {
            hypercall::SET_TRAP_TABLE => self.set_trap_table(&call, args).map(Disposition::Return),
            hypercall::MEMORY_OP => self.memory_op(call, args).map(Disposition::Return),
            hypercall::MULTICALL => self.multicall(call, args),
            hypercall::XEN_VERSION => self.xen_version(call, args).map(Disposition::Return),
            hypercall::CONSOLE_IO => self.console_io(call, args).map(Disposition::Return),
            hypercall::ARGO_OP => self.argo_op(call, args).map(Disposition::Return),
            hypercall::GRANT_TABLE_OP => self
                .locked(Lock::Grant(call.caller.domain), |hypervisor| hypervisor.grant_table_op(call, args))
                .map(Disposition::Return),
            hypercall::SCHED_OP => self.sched_op(call, args),
            hypercall::HVM_OP => self.hvm_op(call, args).map(Disposition::Return),
            hypercall::SYSCTL => self.sysctl(call, args).map(Disposition::Return),
            hypercall::DM_OP => self.dm_op(call, args).map(Disposition::Return),
            hypercall::DOMCTL => self.domctl(call, args).map(Disposition::Return),
            hypercall::SET_TIMER_OP => self.set_timer_op(call, args).map(Disposition::Return),
            hypercall::VM_ASSIST => self.vm_assist(call, args).map(Disposition::Return),
            hypercall::VCPU_OP => self.vcpu_op(call, args),
            hypercall::EVENT_CHANNEL_OP => self
                .locked(Lock::Event(call.caller.domain), |hypervisor| hypervisor.event_channel_op(call, args))
                .map(Disposition::Return),
            harness::HARNESS_OP => self.harness_op(call, args),
            coverage::COVERAGE_OP => self.coverage_op(call, args).map(Disposition::Return),
            _ => Err(Errno::Nosys),
        }
    }

    /// The domain that `id` means, if the caller may act on it: unprivileged domains name only themselves, and nobody one
    /// that is being destroyed.
    pub(crate) fn own_domain(&self, call: &Call, id: DomId) -> Result<DomId, Errno> {
        let target = if id == DOMID_SELF { call.caller.domain } else { id };
        match self.domain(target) {
            Some(domain) if !domain.control.dying => {
                if target == call.caller.domain || self.is_privileged(call) {
                    Ok(target)
                } else {
                    Err(Errno::Perm)
                }
            }
            _ => Err(Errno::Srch),
        }
    }

    /// The caller is the control domain.
    pub(crate) fn is_privileged(&self, call: &Call) -> bool {
        self.domain(call.caller.domain).is_some_and(|domain| domain.control.privileged)
    }
}
