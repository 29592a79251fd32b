//! One planted bug from nothing to a minimised program, by the way that every finding of a campaign goes.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use planted_bugs::Bug;
use serde::{Deserialize, Serialize};

use crate::{
    bench::recorder::further,
    campaign::{
        check::{Every, Mismatch, Tally},
        examine::{About, DATA, Files, Unconfirmed},
        runner::{Care, Outlet, Runner},
        statistics::Statistics,
    },
    engine::{Engine, Execution, build_name},
    feedback::{self, Limits, Plan, Strategy},
    program::{Program, generate, text, walk},
    target::Settings,
    triage::{
        bucket::{Bucket, Classifier},
        verify::{self, REPLAYS, Reproduction},
    },
};

/// What a hunt is done with.
pub struct Means<'a> {
    /// Target and machine; what it plants is not looked at.
    pub settings: &'a Settings,
    /// Programs that each campaign starts from.
    pub seeds: &'a [Program],
    /// Seed of everything random.
    pub seed: u64,
    /// Longest time until the first finding.
    pub cap: Duration,
    /// Set from outside: come to an end.
    pub stop: Arc<AtomicBool>,
}

/// What became of the hunt for one bug.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hunt {
    /// The bug's name.
    pub bug: String,
    /// What was fuzzed.
    pub target: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Longest time, in seconds.
    pub cap_seconds: u64,
    /// Programs that were executed in the loop.
    pub executions: u64,
    /// Candidates that a clean boot did not confirm.
    pub unconfirmed: u64,
    /// The first finding, if there was one in time.
    pub found: Option<Found>,
}

/// A finding of a hunt. Sizes are in hypercalls, as [`walk::hypercalls`] counts them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Found {
    /// Seconds from the start of the loop until it was confirmed and minimised.
    pub seconds: f64,
    /// Where it belongs.
    pub bucket: String,
    /// Size of the program as it was found.
    pub raw: usize,
    /// Size of the minimised program.
    pub minimised: usize,
    /// How often the minimised program reproduced it.
    pub reproduction: Reproduction,
    /// Whether the minimised program triggers the bug that was planted.
    pub triggers: bool,
    /// The program as it was found.
    pub raw_program: String,
    /// The minimised program.
    pub program: String,
}

/// Keeps the first finding and ends the loop with it.
struct First {
    began: Instant,
    originals: Vec<(Bucket, Program)>,
    found: Option<(Bucket, Files, Duration)>,
    unconfirmed: u64,
    /// Ends the loop.
    stop: Arc<AtomicBool>,
    /// Ends everything.
    stop_all: Arc<AtomicBool>,
}

impl Outlet for First {
    fn entry(&mut self, _: &Program) -> anyhow::Result<()> {
        Ok(())
    }

    fn original(&mut self, bucket: &Bucket, program: &Program) -> anyhow::Result<()> {
        self.originals.push((bucket.clone(), program.clone()));
        Ok(())
    }

    fn unconfirmed(&mut self, _: Unconfirmed) -> anyhow::Result<()> {
        self.unconfirmed += 1;
        Ok(())
    }

    fn finding(&mut self, bucket: Bucket, files: Files) -> anyhow::Result<()> {
        let after = self.began.elapsed();
        self.found.get_or_insert((bucket, files, after));
        self.stop.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn mismatch(&mut self, _: Mismatch) -> anyhow::Result<()> {
        Ok(())
    }

    fn progress(&mut self, _: &Statistics, _: Tally) -> anyhow::Result<()> {
        if self.stop_all.load(Ordering::Relaxed) {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn note(&mut self, _: &str) {}
}

/// Fuzzes a build with only this bug until its first finding is complete, or until the cap. None if it was stopped before.
///
/// # Errors
/// When no machine can be had.
pub fn hunt(bug: Bug, means: &Means<'_>) -> anyhow::Result<Option<(Hunt, Option<Files>)>> {
    let settings = means.settings.planted(&[bug]);
    let mut engine = settings.start()?;
    let snapshot = engine.canaries();
    let classifier = Classifier::new(settings.symbols()?);
    let about = About {
        seed: means.seed,
        target: settings.target().to_string(),
        build: build_name(&engine.build_id()),
        plants: settings.plants().to_vec(),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let mut first = First {
        began: Instant::now(),
        originals: Vec::new(),
        found: None,
        unconfirmed: 0,
        stop: Arc::clone(&stop),
        stop_all: Arc::clone(&means.stop),
    };
    let plan = Plan {
        seed: means.seed,
        initial: means.seeds.to_vec(),
        known: BTreeSet::new(),
        max_calls: generate::DEFAULT_CALLS,
        limits: Limits {
            executions: None,
            calls: None,
            deadline: Some(Instant::now() + means.cap),
            stop: Arc::clone(&stop),
        },
        strategy: Strategy::FULL,
    };
    let care = Care { replays: REPLAYS, every: Every::Executions(0), sample: false };
    let mut runner = Runner::new(&mut first, &settings, &classifier, &care, about, Arc::clone(&means.stop));
    let (statistics, _) = feedback::run(&mut engine, plan, settings.interface(), &classifier, &mut runner)
        .with_context(|| format!("while {} was hunted", bug.name()))?;
    if means.stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let mut hunt = Hunt {
        bug: bug.name().to_owned(),
        target: settings.target().to_string(),
        seed: means.seed,
        cap_seconds: means.cap.as_secs(),
        executions: statistics.executions,
        unconfirmed: first.unconfirmed,
        found: None,
    };
    let Some((bucket, files, after)) = first.found else { return Ok(Some((hunt, None))) };
    let (minimal, reproduction) = read(&files).context("a finding that was just made")?;
    let raw = first.originals.iter().find(|(other, _)| *other == bucket).map(|(_, program)| program);
    let raw = raw.context("a finding without the program that it was made from")?;
    engine.reboot()?;
    verify::run_once(&mut engine, &minimal, &mut Execution::default())?;
    let triggered = further(&snapshot, &engine.canaries(), |canary| canary.triggered);
    hunt.found = Some(Found {
        seconds: after.as_secs_f64(),
        bucket: bucket.to_string(),
        raw: walk::hypercalls(raw),
        minimised: walk::hypercalls(&minimal),
        reproduction,
        triggers: triggered.contains(&bug),
        raw_program: text::print(raw),
        program: text::print(&minimal),
    });
    Ok(Some((hunt, Some(files))))
}

/// Program and reproduction rate of a finding.
fn read(files: &Files) -> anyhow::Result<(Program, Reproduction)> {
    #[derive(Deserialize)]
    struct Data {
        program: String,
        reproduction: Reproduction,
    }
    let data: Data = serde_json::from_slice(files.get(DATA).context("it has no description")?)?;
    Ok((text::parse(&data.program)?, data.reproduction))
}
