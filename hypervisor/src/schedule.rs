//! Which vCPU runs: decided by rule, never by time, so that the same program always runs the same way.
//!
//! Exactly one vCPU runs at a time, until it gives the processor up. One that waits in a harness call is *parked*: it
//! can be chosen at any time, and its call then returns 0.

use crate::{
    hypervisor::{Disposition, Hypervisor, VcpuId},
    mem::guest::Call,
    pv::Pv,
};
use coverage_hypercall::harness;
use xen_abi::{errno::Errno, sched, shared_info};

/// What a vCPU is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Never started.
    Down,
    /// Runs, or goes on as soon as it is chosen.
    Runnable,
    /// Waits in a harness call until it is chosen.
    Parked,
    /// Waits for any event.
    Blocked,
    /// Waits for an event on one of the ports of its poll.
    Polling,
    /// Its domain has ended.
    Dead,
}

/// A virtual processor.
#[derive(Clone, Debug)]
pub(crate) struct Vcpu {
    /// What it is doing.
    pub state: State,
    /// What its hypercall returns once it goes on.
    pub resume: Option<i64>,
    /// Ports of its poll.
    pub poll: alloc::vec::Vec<u32>,
    /// It said that it is ready.
    pub ready: bool,
    /// What it has in pv mode only.
    pub pv: Pv,
}

impl Hypervisor {
    /// The vCPU to run now: the current one as long as it can, else the next that can, in the order of domains. None
    /// if all are blocked or dead. Before all domains are ready it is the last domain first, the leader last.
    pub fn vcpu_to_run(&mut self) -> Option<VcpuId> {
        let next = self.choose()?;
        let vcpu = self.vcpu_mut(next)?;
        if vcpu.state == State::Parked {
            vcpu.state = State::Runnable;
            vcpu.resume = Some(0);
        }
        self.switch_to(next);
        Some(next)
    }

    fn choose(&self) -> Option<VcpuId> {
        if let Some(current) = self.current
            && self.state(current) == Some(State::Runnable)
        {
            return Some(current);
        }
        let all = self.domains.iter().flat_map(|domain| {
            (0..domain.vcpus.len() as u8).map(move |vcpu| VcpuId { domain: domain.id, vcpu })
        });
        if !self.started {
            return all.rev().find(|id| self.state(*id) == Some(State::Runnable));
        }
        let after = self.current.unwrap_or(VcpuId { domain: 0, vcpu: 0 });
        let can_run = |id: &VcpuId| matches!(self.state(*id), Some(State::Runnable | State::Parked));
        all.clone().filter(can_run).find(|id| *id > after).or_else(|| all.clone().find(can_run))
    }

    /// What the interrupted hypercall of a vCPU that goes on returns; asked for once.
    pub fn resume_value(&mut self, id: VcpuId) -> Option<i64> {
        self.vcpu_mut(id)?.resume.take()
    }

    pub(crate) fn vcpu_mut(&mut self, id: VcpuId) -> Option<&mut Vcpu> {
        self.domain_mut(id.domain)?.vcpus.get_mut(usize::from(id.vcpu))
    }

    /// Ends a domain because its guest cannot go on: a triple fault, or an exit that it may not cause.
    pub fn guest_died(&mut self, id: VcpuId, why: &str) {
        self.log(&alloc::format!("d{}v{} died: {why}\n", id.domain, id.vcpu));
        self.shut_down(id.domain, sched::SHUTDOWN_CRASH);
    }

    /// Ends a domain. Its memory and ports stay, as they do until a toolstack destroys it.
    pub(crate) fn shut_down(&mut self, id: xen_abi::DomId, reason: u32) {
        let Some(domain) = self.domain_mut(id) else { return };
        let reason = domain.shutdown_code.unwrap_or(reason);
        domain.shutdown.get_or_insert(reason);
        for vcpu in &mut domain.vcpus {
            vcpu.state = State::Dead;
            vcpu.resume = None;
        }
    }

    /// Lets a blocked vCPU go on with 0 in rax.
    pub(crate) fn wake(&mut self, id: VcpuId) {
        if let Some(vcpu) = self.vcpu_mut(id)
            && matches!(vcpu.state, State::Blocked | State::Polling)
        {
            vcpu.state = State::Runnable;
            vcpu.resume = Some(0);
            vcpu.poll.clear();
        }
    }

    /// Blocks the caller until an event is pending for it, unless one is.
    pub(crate) fn block(&mut self, caller: VcpuId) -> Disposition {
        let Some(domain) = self.domain(caller.domain) else { return Disposition::Return(0) };
        let page = domain.shared_info.address().0;
        let info =
            page + (shared_info::VCPU_INFO + usize::from(caller.vcpu) * shared_info::VCPU_INFO_LEN) as u64;
        let mut pending = [0];
        let at = crate::address::Maddr(info + shared_info::UPCALL_PENDING as u64);
        self.memory.machine.read(at, &mut pending);
        let mask = crate::address::Maddr(info + shared_info::UPCALL_MASK as u64);
        self.memory.machine.write(mask, &[0]);
        if pending[0] != 0 {
            return Disposition::Return(0);
        }
        if let Some(vcpu) = self.vcpu_mut(caller) {
            vcpu.state = State::Blocked;
        }
        Disposition::Reschedule
    }

    /// The harness hypercall.
    pub(crate) fn harness_op(&mut self, call: Call, args: [u64; 6]) -> Result<Disposition, Errno> {
        match args[0] {
            // There is no host that would take part.
            _ if self.options.standalone => Err(Errno::Nosys),
            harness::HARNESS_READY => Ok(self.ready(call.caller)),
            harness::HARNESS_DONE => Ok(Disposition::Done),
            harness::HARNESS_SWITCH => self.harness_switch(call.caller, args[1]),
            _ => Err(Errno::Nosys),
        }
    }

    /// A vCPU is ready. Once all domains have been, somebody who says so again finds a program at once.
    fn ready(&mut self, caller: VcpuId) -> Disposition {
        if self.started {
            return Disposition::Return(0);
        }
        if let Some(vcpu) = self.vcpu_mut(caller) {
            vcpu.state = State::Parked;
            vcpu.ready = true;
        }
        let all_ready = self.domains.iter().all(|domain| {
            domain
                .vcpus
                .iter()
                .all(|vcpu| vcpu.ready || vcpu.state == State::Down || vcpu.state == State::Dead)
        });
        if all_ready {
            self.started = true;
            self.current = None;
            Disposition::Ready
        } else {
            Disposition::Reschedule
        }
    }

    fn harness_switch(&mut self, caller: VcpuId, target: u64) -> Result<Disposition, Errno> {
        let to = VcpuId { domain: target as u16, vcpu: (target >> 16) as u8 };
        if to == caller {
            return Err(Errno::Inval);
        }
        match self.state(to) {
            None => Err(Errno::Noent),
            Some(State::Parked | State::Runnable) if self.started => {
                if let Some(vcpu) = self.vcpu_mut(caller) {
                    vcpu.state = State::Parked;
                }
                if let Some(vcpu) = self.vcpu_mut(to)
                    && vcpu.state == State::Parked
                {
                    vcpu.state = State::Runnable;
                    vcpu.resume = Some(0);
                }
                self.switch_to(to);
                Ok(Disposition::Reschedule)
            }
            Some(_) => Err(Errno::Again),
        }
    }
}
