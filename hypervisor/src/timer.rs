//! Timers of vCPUs, on virtual time: one singleshot and one periodic timer each. Both raise `VIRQ_TIMER`.
//!
//! A singleshot timer wakes its vCPU. A periodic one counts only while its vCPU has the processor, and is late otherwise: one
//! event makes up for all that were missed, as in Xen.

use crate::{
    hypervisor::{Hypervisor, VcpuId},
    vcpu::{State, Vcpu},
};
use alloc::vec::Vec;
use xen_abi::event;

/// A point in time that never comes.
pub(crate) const NEVER: u64 = u64::MAX;
/// Shortest period, in nanoseconds.
pub(crate) const SHORTEST: u64 = 1_000_000;
/// Longest period (`STIME_DELTA_MAX` of Xen), in nanoseconds: added to a time it does not wrap around.
pub(crate) const LONGEST: u64 = u64::MAX >> 2;

/// A periodic timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Periodic {
    /// Nanoseconds between two events.
    pub period: u64,
    /// When the next one is due.
    pub next: u64,
}

/// The timers of one vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timers {
    /// When the singleshot timer expires.
    pub singleshot: Option<u64>,
    /// The periodic timer.
    pub periodic: Option<Periodic>,
}

impl Timers {
    /// When the first one expires.
    fn earliest(&self) -> u64 {
        let periodic = self.periodic.map_or(NEVER, |periodic| periodic.next);
        self.singleshot.unwrap_or(NEVER).min(periodic)
    }
}

/// Which timer of a vCPU.
#[derive(Clone, Copy)]
enum Which {
    Singleshot,
    Periodic,
}

impl Hypervisor {
    /// Changes the timers of a vCPU; those that are due expire with the end of the call.
    pub(crate) fn set_timers(&mut self, id: VcpuId, change: impl FnOnce(&mut Timers)) {
        let Some(vcpu) = self.vcpu_mut(id) else { return };
        change(&mut vcpu.timers);
        let earliest = vcpu.timers.earliest();
        self.next_timer = self.next_timer.min(earliest);
    }

    /// When the periodic timer of a vCPU expires after now.
    pub(crate) fn next_tick(&mut self, period: u64) -> u64 {
        let right = self.time.saturating_add(period);
        self.plants.next_tick(right, self.time, period, LONGEST)
    }

    /// Lets timers expire that are due. Each raises one event, however late it is.
    pub(crate) fn run_timers(&mut self) {
        if self.time < self.next_timer {
            return;
        }
        while let Some((id, which)) = self.due_timer() {
            self.expire(id, which);
        }
        self.next_timer = self.first_timer();
    }

    /// Timers of all vCPUs that have not ended; of the periodic ones only that of the vCPU that has the processor.
    fn counting(&self) -> impl Iterator<Item = (VcpuId, &Vcpu, Timers)> {
        self.domains.iter().flat_map(move |domain| {
            let live = domain.vcpus.iter().enumerate().filter(|(_, vcpu)| vcpu.state != State::Dead);
            live.map(move |(n, vcpu)| {
                let id = VcpuId { domain: domain.id, vcpu: n as u8 };
                let periodic = vcpu.timers.periodic.filter(|_| self.current == Some(id));
                (id, vcpu, Timers { periodic, ..vcpu.timers })
            })
        })
    }

    fn first_timer(&self) -> u64 {
        self.counting().map(|(.., timers)| timers.earliest()).min().unwrap_or(NEVER)
    }

    fn due_timer(&self) -> Option<(VcpuId, Which)> {
        let due = |at: u64| at != NEVER && at <= self.time;
        self.counting().find_map(|(id, vcpu, timers)| match timers {
            Timers { singleshot: Some(at), .. } if due(at) => Some((id, Which::Singleshot)),
            Timers { periodic: Some(periodic), .. } if due(periodic.next) && vcpu.is_runnable() => {
                Some((id, Which::Periodic))
            }
            _ => None,
        })
    }

    fn expire(&mut self, id: VcpuId, which: Which) {
        match which {
            Which::Singleshot => {
                if let Some(vcpu) = self.vcpu_mut(id) {
                    vcpu.timers.singleshot = None;
                }
            }
            Which::Periodic => {
                let period = self.vcpu(id).and_then(|vcpu| vcpu.timers.periodic).map_or(0, |p| p.period);
                let next = self.next_tick(period);
                if let Some(vcpu) = self.vcpu_mut(id) {
                    vcpu.timers.periodic = Some(Periodic { period, next });
                }
            }
        }
        self.timer_event(id);
    }

    /// Raises `VIRQ_TIMER` in a vCPU that has bound it.
    pub(crate) fn timer_event(&mut self, id: VcpuId) {
        self.raise_virq(id, event::VIRQ_TIMER);
    }

    /// Nobody can go on: lets the time pass until a timer wakes somebody. False if none does.
    pub(crate) fn sleep(&mut self) -> bool {
        if self.next_timer == NEVER {
            return false;
        }
        // What does not wake anybody at the first time never does: no guest runs in between.
        let mut deadlines: Vec<u64> = self
            .domains
            .iter()
            .flat_map(|domain| &domain.vcpus)
            .filter(|vcpu| !vcpu.down && vcpu.is_waiting())
            .filter_map(|vcpu| vcpu.timers.singleshot)
            .filter(|at| *at != NEVER)
            .collect();
        deadlines.sort_unstable();
        for at in deadlines {
            self.time = self.time.max(at);
            self.run_timers();
            if self.domains.iter().flat_map(|domain| &domain.vcpus).any(Vcpu::is_runnable) {
                return true;
            }
        }
        false
    }
}
