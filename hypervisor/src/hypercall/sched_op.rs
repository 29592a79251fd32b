//! `sched_op`: giving the processor up, waiting, ending.
//!
//! Time is virtual: a poll with a timeout does not block but lets the time pass at once.

use crate::{
    domain::WATCHDOGS,
    event::{self, Binding},
    hypervisor::{Disposition, Hypervisor, VcpuId},
    mem::guest::Call,
    timer::NEVER,
    vcpu::{State, Vcpu},
};
use alloc::vec::Vec;
use xen_abi::{DOMID_SELF, errno::Errno, sched};

/// Longest stretch of time that passes at once, in nanoseconds: timers are looked at in between.
const STRETCH: u64 = 1 << 58;
/// Nanoseconds of a second.
const SECOND: u64 = 1_000_000_000;

impl Hypervisor {
    pub(crate) fn sched_op(&mut self, call: Call, args: [u64; 6]) -> Result<Disposition, Errno> {
        let arg = args[1];
        let done = Disposition::Return(0);
        match args[0] as u32 {
            sched::YIELD => Ok(self.give_up(call.caller)),
            sched::BLOCK => Ok(self.block(call.caller)),
            sched::SHUTDOWN => {
                let request: sched::Shutdown = self.read_struct(&call, arg)?;
                if request.reason > sched::SHUTDOWN_MAX {
                    return Err(Errno::Inval);
                }
                self.shut_down(call.caller.domain, request.reason);
                Ok(Disposition::Reschedule)
            }
            sched::POLL => self.poll(&call, arg),
            sched::REMOTE_SHUTDOWN => {
                let request: sched::RemoteShutdown = self.read_struct(&call, arg)?;
                let target = request.domain_id;
                if target == DOMID_SELF || self.domain(target).is_none() {
                    return Err(Errno::Srch);
                }
                // Not even a privileged caller may name itself.
                if target == call.caller.domain || !self.is_privileged(&call) {
                    return Err(Errno::Perm);
                }
                self.shut_down(target, request.reason & u32::from(u8::MAX));
                Ok(done)
            }
            sched::SHUTDOWN_CODE => {
                let request: sched::Shutdown = self.read_struct(&call, arg)?;
                if request.reason > sched::SHUTDOWN_MAX {
                    return Err(Errno::Inval);
                }
                if let Some(domain) = self.domain_mut(call.caller.domain) {
                    domain.shutdown_code = Some(request.reason);
                }
                Ok(done)
            }
            sched::WATCHDOG => self.watchdog(&call, arg).map(Disposition::Return),
            sched::PIN_OVERRIDE => {
                let _request: sched::PinOverride = self.read_struct(&call, arg)?;
                Err(Errno::Perm)
            }
            _ => Err(Errno::Nosys),
        }
    }

    fn poll(&mut self, call: &Call, arg: u64) -> Result<Disposition, Errno> {
        let request: sched::Poll = self.read_struct(call, arg)?;
        if request.nr_ports > sched::POLL_MAX_PORTS {
            return Err(Errno::Inval);
        }
        let mut ports = Vec::with_capacity(request.nr_ports as usize);
        for n in 0..u64::from(request.nr_ports) {
            let at = request.ports.checked_add(n * 4).ok_or(Errno::Fault)?;
            let port: u32 = self.read_struct(call, at)?;
            if self.is_polled_pending(call, port)? {
                return Ok(Disposition::Return(0));
            }
            ports.push(port);
        }
        if let Some(vcpu) = self.vcpu_mut(call.caller) {
            vcpu.state = State::Polling;
            vcpu.poll = ports;
        }
        if request.timeout != 0 {
            self.poll_until(call.caller, request.timeout);
            return Ok(Disposition::Return(0));
        }
        self.note_runstate(call.caller);
        Ok(Disposition::Reschedule)
    }

    // ANCHOR: is_polled_pending
    /// Checks a port of a poll and looks whether an event is pending on it.
    fn is_polled_pending(&mut self, call: &Call, port: u32) -> Result<bool, Errno> {
        let events = &self.domain(call.caller.domain).ok_or(Errno::Srch)?.events;
        if port >= events.max_ports() {
            return Err(Errno::Inval);
        }
        let (there, channel) = (events.has_bucket(port), events.get(port));
        if !self.plants.port_exists(there) {
            return Err(Errno::Inval);
        }
        let Some(channel) = channel else {
            let slot = u64::from(port % event::BUCKET) * size_of::<event::Channel>() as u64;
            return Ok(self.memory.machine.wild_read(slot) != 0);
        };
        if channel.binding == Binding::Closed {
            return Err(Errno::Inval);
        }
        Ok(self.is_pending(call.caller.domain, port))
    }
    // ANCHOR_END: is_polled_pending

    /// Lets the time pass until `deadline`, or until the caller's own timer ends its poll.
    fn poll_until(&mut self, caller: VcpuId, deadline: u64) {
        let own = self.vcpu(caller).and_then(|vcpu| vcpu.timers.singleshot);
        for until in own.filter(|own| *own < deadline).into_iter().chain([deadline]) {
            self.pass_time(until);
            self.run_timers();
            if !self.vcpu(caller).is_some_and(Vcpu::is_waiting) {
                break;
            }
        }
        self.wake(caller);
        if let Some(vcpu) = self.vcpu_mut(caller) {
            vcpu.resume = None;
        }
    }

    /// Lets the time pass until `deadline`.
    fn pass_time(&mut self, deadline: u64) {
        while self.time < deadline {
            let step = (deadline - self.time).min(STRETCH);
            let right = self.time + step;
            self.time = self.plants.next_time(right, self.time, STRETCH);
        }
    }

    fn watchdog(&mut self, call: &Call, arg: u64) -> Result<i64, Errno> {
        let request: sched::Watchdog = self.read_struct(call, arg)?;
        let now = self.time;
        let domain = self.domain_mut(call.caller.domain).ok_or(Errno::Srch)?;
        let deadline = now.saturating_add(u64::from(request.timeout) * SECOND);
        let id = request.id as usize;
        let answer = match (id, request.timeout) {
            (0, 0) => Err(Errno::Inval),
            (0, _) => {
                let free = domain.watchdogs.iter().position(|at| *at == 0).ok_or(Errno::Nospc)?;
                domain.watchdogs[free] = deadline;
                Ok(free as i64 + 1)
            }
            (id, _) if id > WATCHDOGS => Err(Errno::Inval),
            (id, _) if domain.watchdogs[id - 1] == 0 => Err(Errno::Inval),
            (id, 0) => {
                domain.watchdogs[id - 1] = 0;
                Ok(0)
            }
            (id, _) => {
                domain.watchdogs[id - 1] = deadline;
                Ok(0)
            }
        };
        if request.timeout != 0 && answer.is_ok() {
            self.next_watchdog = self.next_watchdog.min(deadline);
        }
        answer
    }

    /// Ends domains whose watchdog has expired.
    pub(crate) fn expire_watchdogs(&mut self) {
        if self.time < self.next_watchdog {
            return;
        }
        self.next_watchdog = NEVER;
        for id in self.domains.ids() {
            let Some(domain) = self.domain(id) else { continue };
            let Some(first) = domain.watchdogs.iter().copied().filter(|at| *at != 0).min() else { continue };
            let expires = first <= self.time && domain.shutdown.is_none();
            self.next_watchdog = self.next_watchdog.min(first);
            if expires {
                self.shut_down(id, sched::SHUTDOWN_WATCHDOG);
            }
        }
    }
}
