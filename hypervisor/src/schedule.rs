//! Which vCPU runs: decided by rule, never by time, so that the same program always runs the same way.
//!
//! Exactly one vCPU runs at a time, until it gives the processor up. One that waits in a harness call is *parked*: it
//! can be chosen at any time, and its call then returns 0.

use crate::{
    address::Maddr,
    domains::MAX_DOMAINS,
    hypervisor::{Disposition, Hypervisor, VcpuId},
    mem::guest::Call,
    timer::Timers,
    vcpu::{State, Vcpu},
};
use coverage_hypercall::harness;
use xen_abi::{errno::Errno, sched, shared_info, vcpu as abi};

/// System time at which programs begin, in nanoseconds.
const START_TIME: u64 = 100_000;

impl Hypervisor {
    /// The vCPU to run now: the current one as long as it can, else one that can go on by itself, else one that a timer wakes if
    /// time passes, else one that is parked: first vCPUs before second ones, the next domain before those behind it. None if all are blocked or dead. Before all
    /// domains are ready it is the last vCPU of the last domain first; afterwards domain 1 is the leader, and domain 0 comes
    /// last. Nobody of a paused domain runs.
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

    fn choose(&mut self) -> Option<VcpuId> {
        if let Some(current) = self.current
            && self.vcpu(current).is_some_and(Vcpu::is_runnable)
            && !self.is_paused(current.domain)
        {
            return Some(current);
        }
        let runnable = self.next_vcpu(Vcpu::is_runnable);
        if runnable.is_some() || !self.started {
            return runnable;
        }
        // A timer may wake one that waits, the current one included.
        if self.sleep() {
            let woken = self
                .current
                .filter(|id| self.vcpu(*id).is_some_and(Vcpu::is_runnable) && !self.is_paused(id.domain))
                .or_else(|| self.next_vcpu(Vcpu::is_runnable));
            if woken.is_some() {
                return woken;
            }
        }
        self.next_vcpu(Vcpu::can_run)
    }

    /// The vCPU after the current one, in the order of scheduling, for which `fits` says yes and whose domain is not paused.
    fn next_vcpu(&self, fits: impl Fn(&Vcpu) -> bool) -> Option<VcpuId> {
        let from = self.current.map_or(0, |id| id.domain);
        let all = self.domains.iter().flat_map(|domain| {
            domain
                .vcpus
                .iter()
                .enumerate()
                .map(move |(n, vcpu)| (VcpuId { domain: domain.id, vcpu: n as u8 }, vcpu))
        });
        let mut fitting = all
            .filter(|(id, vcpu)| Some(*id) != self.current && fits(vcpu) && !self.is_paused(id.domain))
            .map(|(id, _)| id);
        if self.started {
            let distance = |id: VcpuId| id.domain.wrapping_sub(from).wrapping_sub(1) % MAX_DOMAINS as u16;
            fitting.min_by_key(|id| (id.vcpu, distance(*id)))
        } else {
            fitting.next_back()
        }
    }

    /// What the interrupted hypercall of a vCPU that goes on returns; asked for once.
    pub fn resume_value(&mut self, id: VcpuId) -> Option<i64> {
        self.vcpu_mut(id)?.resume.take()
    }

    /// The vCPU has an NMI to take; asked for once.
    pub fn take_nmi(&mut self, id: VcpuId) -> bool {
        self.vcpu_mut(id).is_some_and(|vcpu| core::mem::take(&mut vcpu.nmi))
    }

    pub(crate) fn vcpu(&self, id: VcpuId) -> Option<&Vcpu> {
        self.domain(id.domain)?.vcpus.get(usize::from(id.vcpu))
    }

    pub(crate) fn vcpu_mut(&mut self, id: VcpuId) -> Option<&mut Vcpu> {
        self.domain_mut(id.domain)?.vcpus.get_mut(usize::from(id.vcpu))
    }

    /// Ends a domain because its guest cannot go on: a triple fault, or an exit that it may not cause.
    pub fn guest_died(&mut self, id: VcpuId, why: &str) {
        // It had its part in the program, even if it made no call.
        self.checks.involve(id.domain);
        self.log(&alloc::format!("d{}v{} died: {why}\n", id.domain, id.vcpu));
        self.shut_down(id.domain, sched::SHUTDOWN_CRASH);
    }

    /// Ends a domain. Its memory and ports stay, as they do until a toolstack destroys it.
    pub(crate) fn shut_down(&mut self, id: xen_abi::DomId, reason: u32) {
        let Some(domain) = self.domain_mut(id) else { return };
        let reason = domain.shutdown_code.unwrap_or(reason);
        domain.shutdown.get_or_insert(reason);
        let vcpus = domain.vcpus.len() as u8;
        for vcpu in &mut domain.vcpus {
            vcpu.state = State::Dead;
            vcpu.resume = None;
            vcpu.poll.clear();
            vcpu.timers = Timers::default();
        }
        for vcpu in 0..vcpus {
            self.note_runstate(VcpuId { domain: id, vcpu });
        }
    }

    /// Books what a vCPU is doing now.
    pub(crate) fn note_runstate(&mut self, id: VcpuId) {
        let (now, running) = (self.time, self.current == Some(id));
        let Some(vcpu) = self.vcpu_mut(id) else { return };
        let state = match vcpu.state {
            State::Dead => abi::RUNSTATE_OFFLINE,
            State::Blocked | State::Polling => abi::RUNSTATE_BLOCKED,
            _ if vcpu.down => abi::RUNSTATE_OFFLINE,
            State::Runnable if running => abi::RUNSTATE_RUNNING,
            State::Runnable | State::Parked => abi::RUNSTATE_RUNNABLE,
        };
        vcpu.runstate.enter(state, now);
    }

    /// Lets a blocked vCPU go on with 0 in rax.
    pub(crate) fn wake(&mut self, id: VcpuId) {
        if let Some(vcpu) = self.vcpu_mut(id)
            && vcpu.is_waiting()
        {
            vcpu.state = State::Runnable;
            vcpu.resume = Some(0);
            vcpu.poll.clear();
            self.note_runstate(id);
        }
    }

    /// Lets another vCPU that could go on have the processor, if there is one.
    pub(crate) fn give_up(&mut self, caller: VcpuId) -> Disposition {
        let Some(next) = self.next_vcpu(Vcpu::is_runnable) else { return Disposition::Return(0) };
        if let Some(vcpu) = self.vcpu_mut(caller) {
            vcpu.resume = Some(0);
        }
        self.switch_to(next);
        Disposition::Reschedule
    }

    /// Blocks the caller until an event is pending for it, unless one is.
    pub(crate) fn block(&mut self, caller: VcpuId) -> Disposition {
        let Some(info) = self.vcpu_info(caller) else { return Disposition::Return(0) };
        let mut pending = [0];
        let at = Maddr(info.0 + shared_info::UPCALL_PENDING as u64);
        self.memory.machine.read(at, &mut pending);
        let mask = Maddr(info.0 + shared_info::UPCALL_MASK as u64);
        self.memory.machine.write(mask, &[0]);
        if pending[0] != 0 {
            return Disposition::Return(0);
        }
        if let Some(vcpu) = self.vcpu_mut(caller) {
            vcpu.state = State::Blocked;
        }
        self.note_runstate(caller);
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
            harness::HARNESS_IDENTIFY => Ok(Disposition::Return(call.caller.domain.into())),
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
            domain.vcpus.iter().all(|vcpu| vcpu.ready || vcpu.down || vcpu.state == State::Dead)
        });
        if all_ready {
            self.started = true;
            self.current = None;
            // Programs begin at the same time, however many calls the guests made to come up.
            self.time = START_TIME;
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
        match self.vcpu(to).map(Vcpu::can_run) {
            None => Err(Errno::Noent),
            Some(true) if self.started && !self.is_paused(to.domain) => {
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
