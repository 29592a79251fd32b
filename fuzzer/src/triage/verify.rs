//! Confirmation on a clean boot, and minimisation.

use std::sync::atomic::{AtomicBool, Ordering};

use super::bucket::{Bucket, Classifier};
use crate::{
    engine::{Engine, EngineError, Execution, Request},
    program::{Program, lower, minimize},
    target::Settings,
};

/// Runs that a finding's reproduction rate is taken from.
pub const REPLAYS: u32 = 10;
/// Executions that minimising one finding may take.
pub const MINIMISE_BUDGET: usize = 2_000;

/// How often a program reproduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Reproduction {
    /// Runs that ended in the same bucket.
    pub reproduced: u32,
    /// Runs.
    pub runs: u32,
    /// Whether the first run, on a machine that had executed nothing before, was one of them.
    pub on_clean_boot: bool,
}

impl Reproduction {
    /// A program whose first run fails is no finding, whatever the others did.
    pub fn confirmed(self) -> bool {
        self.on_clean_boot
    }
}

/// Runs a program once; none if it is too long for the agent.
///
/// # Errors
/// When no machine can be had.
pub fn run_once(
    engine: &mut impl Engine,
    program: &Program,
    execution: &mut Execution,
) -> Result<bool, EngineError> {
    let Ok(lowered) = lower::lower_in(program, 1, &engine.environment()) else { return Ok(false) };
    engine.execute(&Request { program: &lowered.bytes, comparisons: false }, execution)?;
    Ok(true)
}

/// Boots the machine afresh and repeats a program on it.
///
/// # Errors
/// When no machine can be had.
pub fn confirm(
    engine: &mut impl Engine,
    classifier: &Classifier,
    program: &Program,
    bucket: &Bucket,
    runs: u32,
) -> Result<(Reproduction, Execution), EngineError> {
    engine.reboot()?;
    let mut first = Execution::default();
    let mut execution = Execution::default();
    let mut result = Reproduction { reproduced: 0, runs, on_clean_boot: false };
    for run in 0..runs {
        let same = run_once(engine, program, &mut execution)?
            && classifier.classify(program, &execution).as_ref() == Some(bucket);
        result.reproduced += u32::from(same);
        if run == 0 {
            result.on_clean_boot = same;
            first = execution.clone();
        }
    }
    Ok((result, first))
}

/// What the program of a finding does now, or on another build.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The same, in some of the runs at least.
    Reproduced,
    /// Something else that is wrong, on the clean boot.
    #[serde(rename = "other-bucket")]
    Other(Bucket),
    /// Nothing that is wrong.
    #[serde(rename = "not-reproduced")]
    Gone,
}

/// Boots the machine afresh and repeats the program of a finding on it.
///
/// # Errors
/// When no machine can be had.
pub fn repeat(
    engine: &mut impl Engine,
    classifier: &Classifier,
    program: &Program,
    bucket: &Bucket,
    runs: u32,
) -> Result<(Answer, Reproduction), EngineError> {
    let (reproduction, first) = confirm(engine, classifier, program, bucket, runs)?;
    let answer = match classifier.classify(program, &first) {
        _ if reproduction.reproduced > 0 => Answer::Reproduced,
        Some(other) => Answer::Other(other),
        None => Answer::Gone,
    };
    Ok((answer, reproduction))
}

/// What a program does on another target.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Elsewhere {
    /// The other target.
    pub target: String,
    /// How it ended there; none for a good end.
    pub bucket: Option<Bucket>,
}

impl Elsewhere {
    /// One line about a finding of this bucket.
    #[must_use]
    pub fn describe(&self, bucket: &Bucket) -> String {
        match &self.bucket {
            Some(found) if found == bucket => format!("{}: yes, same bucket", self.target),
            Some(found) => format!("{}: yes, as {found}", self.target),
            None => format!("{}: no", self.target),
        }
    }
}

/// Runs a program once on a clean boot of another target.
///
/// # Errors
/// When no machine can be had.
pub fn elsewhere(
    settings: &Settings,
    classifier: &Classifier,
    program: &Program,
) -> Result<Elsewhere, EngineError> {
    let mut engine = settings.start()?;
    let mut execution = Execution::default();
    let ran = run_once(&mut engine, program, &mut execution)?;
    let bucket = if ran { classifier.classify(program, &execution) } else { None };
    Ok(Elsewhere { target: settings.target().to_string(), bucket })
}

/// How far a minimisation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Programs that were tried, of [`MINIMISE_BUDGET`] at most.
    pub tried: usize,
    /// Calls of the smallest one that is still in the bucket.
    pub calls: usize,
}

/// Makes a program as short and plain as it can be while it stays in its bucket; as far as it got where `stop` is set in
/// between. Tells of each program that is tried.
///
/// # Errors
/// When no machine can be had.
pub fn minimise(
    engine: &mut impl Engine,
    classifier: &Classifier,
    program: &Program,
    bucket: &Bucket,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(Step),
) -> Result<Program, EngineError> {
    let mut execution = Execution::default();
    let mut failure = None;
    let mut step = Step { tried: 0, calls: program.calls.len() };
    let smaller = minimize::minimize(program, MINIMISE_BUDGET, &mut |candidate| {
        if failure.is_some() || stop.load(Ordering::Relaxed) {
            return false;
        }
        let kept = match run_once(engine, candidate, &mut execution) {
            Ok(ran) => ran && classifier.classify(candidate, &execution).as_ref() == Some(bucket),
            Err(error) => {
                failure = Some(error);
                false
            }
        };
        step.tried += 1;
        if kept {
            step.calls = candidate.calls.len();
        }
        progress(step);
        kept
    });
    failure.map_or(Ok(smaller), Err)
}
