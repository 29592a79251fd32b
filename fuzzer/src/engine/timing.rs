//! Where the time of executions goes.

use std::time::{Duration, Instant};

/// What the last execution cost.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    /// From the doorbell to the answer, as the host sees it.
    pub round_trip: Duration,
    /// The reset before the execution.
    pub reset: Duration,
    /// The execution itself.
    pub run: Duration,
    /// Pages that the reset brought back.
    pub dirty_pages: u32,
    /// Resets of this machine that had to restore devices as well.
    pub device_resets: u64,
}

/// Where the time of all executions since the engine was made went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Split {
    /// Executions.
    pub executions: u64,
    /// Putting the request where the plugin finds it.
    pub stage: Duration,
    /// Ringing, waking each other up, and what QEMU does between the end of a run and the answer.
    pub handover: Duration,
    /// Resets.
    pub reset: Duration,
    /// The executions themselves.
    pub run: Duration,
    /// Reading what they left behind.
    pub read: Duration,
    /// Pages that resets brought back.
    pub dirty_pages: u64,
}

impl Split {
    /// Adds an execution: when it was staged, rung for, answered and read.
    pub(super) fn add(&mut self, timing: &Timing, [began, rung, answered, read]: [Instant; 4]) {
        self.executions += 1;
        self.stage += rung - began;
        self.handover += timing.round_trip.saturating_sub(timing.reset + timing.run);
        self.reset += timing.reset;
        self.run += timing.run;
        self.read += read - answered;
        self.dirty_pages += u64::from(timing.dirty_pages);
    }

    /// What was added after `before`.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            executions: self.executions - before.executions,
            stage: self.stage - before.stage,
            handover: self.handover - before.handover,
            reset: self.reset - before.reset,
            run: self.run - before.run,
            read: self.read - before.read,
            dirty_pages: self.dirty_pages - before.dirty_pages,
        }
    }
}
