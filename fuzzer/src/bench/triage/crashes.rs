//! Raw crashes of a campaign with all bugs planted, and which bug each of them is.
//!
//! The canaries say which bugs an execution triggered, not which of them ended it. Where it was one, that is the bug. Where there
//! were several, the program is run once on a build with each of them alone: the bug is the one with which the same call ends it.
//! What that does not decide is left out and counted. Neither canaries nor single builds know anything of buckets.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use coverage_hypercall::harness::Canary;
use planted_bugs::Bug;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde::{Deserialize, Serialize};

use super::{hunt::Means, judge::Labelled};
use crate::{
    bench::{recorder::further, symptom},
    campaign::statistics::Statistics,
    engine::{Engine, EngineError, Execution, Request},
    feedback::{self, Candidate, Driver, Limits, Plan, Strategy},
    program::{Program, generate, text},
    target::Settings,
    triage::{
        bucket::{Classifier, current_call},
        verify,
    },
};

/// Crashes that the even sample has of each set of triggered bugs, at most.
const OF_EACH_SET: usize = 25;

/// An execution that ended badly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Crash {
    /// Executions until then, this one included.
    pub executions: u64,
    /// How it ended.
    pub symptom: String,
    /// Bugs that it triggered.
    pub triggered: Vec<String>,
    /// What was executed.
    pub program: String,
}

/// Crashes of one campaign, in two samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// What was fuzzed.
    pub target: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Crashes that the uniform sample shall have.
    pub wanted: u32,
    /// How long it was fuzzed, in seconds.
    pub seconds: u64,
    /// Programs that were executed.
    pub executions: u64,
    /// How many of them ended badly.
    pub ended_badly: u64,
    /// Drawn from all of these, each with the same chance.
    pub uniform: Vec<Crash>,
    /// Drawn from those of each set of triggered bugs, so that rare bugs count too.
    pub even: Vec<Crash>,
}

/// A sample of a stream of which the length is not known, each of its items with the same chance.
#[derive(Debug)]
struct Reservoir<T> {
    most: usize,
    seen: usize,
    items: Vec<T>,
}

impl<T> Reservoir<T> {
    fn new(most: usize) -> Self {
        Self { most, seen: 0, items: Vec::new() }
    }

    /// Draws for one more item, which is made only where it is taken.
    fn offer(&mut self, rng: &mut Pcg64Mcg, item: impl FnOnce() -> T) {
        self.seen += 1;
        if self.items.len() < self.most {
            self.items.push(item());
        } else if let Some(place) = self.items.get_mut(rng.random_range(0..self.seen)) {
            *place = item();
        }
    }
}

/// The driver that looks at each execution and nothing else.
struct Collector {
    snapshot: Vec<Canary>,
    rng: Pcg64Mcg,
    executions: u64,
    uniform: Reservoir<Crash>,
    even: BTreeMap<Vec<u8>, Reservoir<Crash>>,
    stop: Arc<AtomicBool>,
}

impl<E: Engine> Driver<E> for Collector {
    fn executed(
        &mut self,
        engine: &mut E,
        _: &Request<'_>,
        program: Option<&Program>,
        execution: &Execution,
    ) {
        self.executions += 1;
        let (Some(symptom), Some(program)) = (symptom::of(execution), program) else { return };
        let triggered = further(&self.snapshot, &engine.canaries(), |canary| canary.triggered);
        let crash = || Crash {
            executions: self.executions,
            symptom: symptom.to_owned(),
            triggered: triggered.iter().map(|bug| bug.name().to_owned()).collect(),
            program: text::print(program),
        };
        self.uniform.offer(&mut self.rng, crash);
        let set: Vec<u8> = triggered.iter().map(|bug| *bug as u8).collect();
        self.even.entry(set).or_insert_with(|| Reservoir::new(OF_EACH_SET)).offer(&mut self.rng, crash);
    }

    fn corpus_entry(&mut self, _: &Program) -> anyhow::Result<()> {
        Ok(())
    }

    fn candidate(&mut self, _: &mut E, _: Candidate) -> anyhow::Result<()> {
        Ok(())
    }

    fn progress(&mut self, _: &Statistics) -> anyhow::Result<()> {
        Ok(())
    }
}

/// Fuzzes a build with all bugs for a time and keeps so many of the executions that end badly; none if it was stopped before.
///
/// # Errors
/// When no machine can be had.
pub fn collect(means: &Means<'_>, crashes: u32, time: Duration) -> anyhow::Result<Option<Collection>> {
    let settings = means.settings.planted(&Bug::ALL);
    let mut engine = settings.start()?;
    let classifier = Classifier::new(settings.symbols()?);
    let mut collector = Collector {
        snapshot: engine.canaries(),
        rng: Pcg64Mcg::seed_from_u64(means.seed),
        executions: 0,
        uniform: Reservoir::new(crashes as usize),
        even: BTreeMap::new(),
        stop: Arc::clone(&means.stop),
    };
    let plan = Plan {
        seed: means.seed,
        initial: means.seeds.to_vec(),
        known: BTreeSet::new(),
        max_calls: generate::DEFAULT_CALLS,
        limits: Limits {
            executions: None,
            calls: None,
            deadline: Some(Instant::now() + time),
            stop: Arc::clone(&collector.stop),
        },
        strategy: Strategy::FULL,
    };
    feedback::run(&mut engine, plan, settings.interface(), &classifier, &mut collector)
        .context("while crashes were collected")?;
    if means.stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let mut collection = Collection {
        target: settings.target().to_string(),
        seed: means.seed,
        wanted: crashes,
        seconds: time.as_secs(),
        executions: collector.executions,
        ended_badly: collector.uniform.seen as u64,
        uniform: collector.uniform.items,
        even: collector.even.into_values().flat_map(|sample| sample.items).collect(),
    };
    for sample in [&mut collection.uniform, &mut collection.even] {
        sample.sort_by_key(|crash| crash.executions);
    }
    Ok(Some(collection))
}

/// A sample whose crashes have got their buckets and their bugs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attributed {
    /// Bucket and bug of each crash of which the bug is known.
    pub labelled: Vec<Labelled>,
    /// Crashes that triggered several bugs and were decided by builds with one of them.
    pub decided: usize,
    /// Crashes that triggered several bugs of which none, or several, explain them: left out.
    pub undecided: usize,
    /// Crashes that triggered no planted bug: left out, and to be looked at.
    pub untriggered: usize,
    /// Crashes that did not crash again: left out.
    pub not_again: usize,
}

/// Where an execution ended badly: the call that did not return. None if it ended well.
fn bad_call(execution: &Execution, program: &Program) -> Option<usize> {
    symptom::of(execution).map(|_| current_call(execution, program.calls.len()))
}

/// A crash of a sample, run again.
struct Again {
    bucket: String,
    call: usize,
    program: Program,
    triggered: Vec<Bug>,
    /// Bugs that end it at the same call when they are alone.
    alone: Vec<Bug>,
}

/// Runs all crashes again with all bugs, which gives their buckets, and those with several triggered bugs with each of them
/// alone. None if it was stopped before its end.
///
/// # Errors
/// When no machine can be had, or a program cannot be read.
pub fn attribute(
    crashes: &[Crash],
    settings: &Settings,
    stop: &AtomicBool,
    note: &mut dyn FnMut(&str),
) -> anyhow::Result<Option<Attributed>> {
    let mut result = Attributed::default();
    let mut again = run_again(crashes, settings, stop, &mut result)?;
    let several: BTreeSet<u8> = again
        .iter()
        .filter(|crash| crash.triggered.len() > 1)
        .flat_map(|crash| crash.triggered.iter().map(|bug| *bug as u8))
        .collect();
    for bug in several.into_iter().map(|number| Bug::ALL[usize::from(number)]) {
        note(&format!("on a build with {} alone", bug.name()));
        let mut engine = settings.planted(&[bug]).start()?;
        let affected = again.iter_mut().filter(|c| c.triggered.len() > 1 && c.triggered.contains(&bug));
        for crash in affected {
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            if bad_call(&run(&mut engine, &crash.program)?, &crash.program) == Some(crash.call) {
                crash.alone.push(bug);
            }
        }
    }
    for crash in again {
        let bug = match (crash.triggered.as_slice(), crash.alone.as_slice()) {
            ([], _) => {
                result.untriggered += 1;
                continue;
            }
            ([bug], _) => bug,
            (_, [bug]) => {
                result.decided += 1;
                bug
            }
            _ => {
                result.undecided += 1;
                continue;
            }
        };
        result.labelled.push((crash.bucket, bug.name().to_owned()));
    }
    Ok((!stop.load(Ordering::Relaxed)).then_some(result))
}

fn run(engine: &mut impl Engine, program: &Program) -> Result<Execution, EngineError> {
    let mut execution = Execution::default();
    verify::run_once(engine, program, &mut execution)?;
    Ok(execution)
}

/// Runs crashes again on a build with all bugs.
fn run_again(
    crashes: &[Crash],
    settings: &Settings,
    stop: &AtomicBool,
    result: &mut Attributed,
) -> anyhow::Result<Vec<Again>> {
    let settings = settings.planted(&Bug::ALL);
    let mut engine = settings.start()?;
    let snapshot = engine.canaries();
    let classifier = Classifier::new(settings.symbols()?);
    let mut again = Vec::new();
    for crash in crashes {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let program = text::parse(&crash.program).context("a stored crash")?;
        let execution = run(&mut engine, &program)?;
        let Some(bucket) = classifier.classify(&program, &execution) else {
            result.not_again += 1;
            continue;
        };
        again.push(Again {
            bucket: bucket.to_string(),
            call: current_call(&execution, program.calls.len()),
            triggered: further(&snapshot, &engine.canaries(), |canary| canary.triggered),
            alone: Vec::new(),
            program,
        });
    }
    Ok(again)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservoir_keeps_items_of_the_whole_stream() {
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        let mut sample = Reservoir::new(100);
        (0..10_000).for_each(|n| sample.offer(&mut rng, || n));
        assert_eq!((sample.items.len(), sample.seen), (100, 10_000));
        let late = sample.items.iter().filter(|n| **n >= 5_000).count();
        assert!((25..=75).contains(&late), "{late} of 100 are of the second half");
    }
}
