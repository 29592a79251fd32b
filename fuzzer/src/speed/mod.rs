//! How fast the fuzzer is, and where the time goes.
//!
//! Three rates are compared: the *ceiling* (the same programs repeated inside the guest, without host and without reset), the
//! bare *engine* (one program after the other, reset before each) and the whole *fuzzer*. [`clock`] takes the time, [`reset`] finds
//! out what a reset costs by the pages that it brings back, [`report`] is what comes out of it all.
//!
//! The fuzzer and its QEMU take turns on one core, so the processor time of both is what a program would take on a machine that does
//! nothing else. It is given beside the time on the wall, which on a busy machine says more about the others.

pub mod clock;
pub mod crash;
pub mod report;
pub mod reset;

use std::time::Duration;

use crate::engine::{Engine, EngineError, Execution, Outcome, Request, Split, qemu::QemuEngine};
use clock::{Clock, Cost};

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// No machine can be had.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A program ran into a limit, so that its time says nothing.
    #[error("a program is too long to be measured")]
    TooLong,
    /// A program that should crash the hypervisor, or should not, did the opposite.
    #[error("the planted bug {0} cannot be measured: its program ended as {1:?}")]
    Crash(&'static str, Outcome),
    /// Too few points for a line.
    #[error(
        "the cost of a reset cannot be found out: {0} of the programs that write to many pages came back"
    )]
    Reset(usize),
}

/// What was measured of some programs.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Of one execution, on the average.
    pub cost: Cost,
    /// Of all executions.
    pub split: Split,
}

/// Executes each program in turn for about `time`, all of them equally often.
///
/// # Errors
/// [`MeasureError`].
pub fn measure(
    engine: &mut QemuEngine,
    programs: &[Vec<u8>],
    time: Duration,
    execution: &mut Execution,
) -> Result<Measured, MeasureError> {
    let measured = measure_any(engine, programs, time, execution, |outcome| outcome == Outcome::Runaway)?;
    measured.ok_or(MeasureError::TooLong)
}

/// The same; none where a program ends in a way that the caller does not want.
///
/// # Errors
/// [`MeasureError`].
pub fn measure_any(
    engine: &mut QemuEngine,
    programs: &[Vec<u8>],
    time: Duration,
    execution: &mut Execution,
    unwanted: impl Fn(Outcome) -> bool,
) -> Result<Option<Measured>, MeasureError> {
    let split = engine.split();
    let clock = Clock::start(engine.process_id());
    let mut executions = 0u32;
    while executions == 0 || clock.wall() < time {
        for program in programs {
            engine.execute(&Request { program, comparisons: false }, execution)?;
            if unwanted(execution.outcome) {
                return Ok(None);
            }
            executions += 1;
        }
    }
    let cost = clock.stop(engine.process_id()) / f64::from(executions);
    Ok(Some(Measured { cost, split: engine.split().since(split) }))
}

/// The middle one of some values, zero if there are none.
#[must_use]
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}
