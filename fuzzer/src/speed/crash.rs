//! What an execution costs that crashes the hypervisor, beside the same program on a hypervisor without the bug.

use std::time::Duration;

use planted_bugs::Bug;
use serde::Serialize;

use super::{MeasureError, measure};
use crate::{
    engine::{Engine, Execution, Outcome, Request, qemu::QemuEngine},
    program::{lower, text},
    target::Settings,
};

/// The bug that is planted, and a program that meets it in its last call.
const BUG: Bug = Bug::PollUnalloc;
const PROGRAM: &str = "d1 sched_op.poll(&{ports: &[500], nr_ports: 1, timeout: past})\n";

/// The cost of a crash.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct CrashCost {
    /// Microseconds on the wall of an execution that crashes.
    pub crash_microseconds: f64,
    /// The same of the same program where there is no bug.
    pub good_microseconds: f64,
}

impl CrashCost {
    /// How many times as much a crash costs.
    #[must_use]
    pub fn ratio(self) -> f64 {
        self.crash_microseconds / self.good_microseconds
    }
}

/// Finds out what a crash costs, in about twice `time`; none for a target that bugs cannot be planted in.
///
/// # Errors
/// [`MeasureError`].
pub fn crash_cost(settings: &Settings, time: Duration) -> Result<Option<CrashCost>, MeasureError> {
    if !settings.target().is_reference() {
        return Ok(None);
    }
    let program = text::parse(PROGRAM).ok().and_then(|program| lower::lower(&program, 1).ok());
    let programs = [program.ok_or(MeasureError::TooLong)?.bytes];
    let of = |mut engine: QemuEngine, wanted: Outcome| {
        let mut execution = Execution::default();
        engine.execute(&Request { program: &programs[0], comparisons: false }, &mut execution)?;
        if execution.outcome != wanted {
            return Err(MeasureError::Crash(BUG.name(), execution.outcome));
        }
        Ok(measure(&mut engine, &programs, time, &mut execution)?.cost.wall * 1e6)
    };
    let good_microseconds = of(settings.planted(&[]).start()?, Outcome::Done)?;
    let crash_microseconds = of(settings.planted(&[BUG]).start()?, Outcome::Crash)?;
    Ok(Some(CrashCost { crash_microseconds, good_microseconds }))
}
