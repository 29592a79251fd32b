//! When a session stops.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The limit of executions was reached.
    Executions,
    /// The limit of calls was reached.
    Calls,
    /// The time is up.
    Time,
    /// Somebody pressed Ctrl-C, or the driver said so.
    Interrupted,
}

/// When to stop.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Executions of this session, those of comparison runs included.
    pub executions: Option<u64>,
    /// Calls of this session that came back.
    pub calls: Option<u64>,
    /// Point in time.
    pub deadline: Option<Instant>,
    /// Set from outside: stop as soon as the current execution is over.
    pub stop: Arc<AtomicBool>,
}

impl Limits {
    /// Which limit is reached after so many executions and calls, if any.
    pub(super) fn reached(&self, executions: u64, calls: u64) -> Option<Ended> {
        if self.executions.is_some_and(|most| executions >= most) {
            return Some(Ended::Executions);
        }
        if self.calls.is_some_and(|most| calls >= most) {
            return Some(Ended::Calls);
        }
        if self.stop.load(Ordering::Relaxed) {
            return Some(Ended::Interrupted);
        }
        // The clock is asked rarely: a call per execution would be visible in the rate.
        let look = executions.is_multiple_of(16);
        (look && self.deadline.is_some_and(|at| Instant::now() >= at)).then_some(Ended::Time)
    }
}
