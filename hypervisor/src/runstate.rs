//! What a vCPU does with its time: running, runnable, blocked, offline.

use xen_abi::vcpu::{RUNSTATE_OFFLINE, RunstateInfo};

/// The account of one vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Runstate {
    info: RunstateInfo,
}

impl Runstate {
    /// Offline since the beginning of time.
    pub(crate) const fn new() -> Self {
        let info = RunstateInfo { state: RUNSTATE_OFFLINE, reserved: 0, state_entry_time: 0, time: [0; 4] };
        Self { info }
    }

    /// Enters a state (`RUNSTATE_*`) at a point in time.
    pub(crate) fn enter(&mut self, state: u32, now: u64) {
        if self.info.state == state {
            return;
        }
        self.info = RunstateInfo { state, state_entry_time: now, ..self.until(now) };
    }

    /// The account as it stood when the state was last entered: what guests find in their copies.
    pub(crate) const fn published(&self) -> RunstateInfo {
        self.info
    }

    /// The account, up to now.
    pub(crate) fn until(&self, now: u64) -> RunstateInfo {
        let mut info = self.info;
        let spent = now.saturating_sub(info.state_entry_time);
        if let Some(time) = info.time.get_mut(info.state as usize) {
            *time = time.saturating_add(spent);
        }
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use xen_abi::vcpu::{RUNSTATE_BLOCKED, RUNSTATE_RUNNING};

    #[test]
    fn times_add_up() {
        let mut runstate = Runstate::new();
        runstate.enter(RUNSTATE_RUNNING, 10);
        runstate.enter(RUNSTATE_RUNNING, 12);
        runstate.enter(RUNSTATE_BLOCKED, 25);
        assert_eq!(runstate.until(25).time, [15, 0, 0, 10]);
        let info = runstate.until(30);
        assert_eq!((info.state, info.state_entry_time), (RUNSTATE_BLOCKED, 25));
        assert_eq!((info.time, info.time.iter().sum::<u64>()), ([15, 0, 5, 10], 30));
    }
}
