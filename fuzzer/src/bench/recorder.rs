//! Watches a trial: what was reached, triggered and detected, and when.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use coverage_hypercall::{harness::Canary, program::Status};
use planted_bugs::Bug;

use super::{
    record::{BugRecord, Moment, Tally, Unexplained},
    symptom::{self, Verdict},
};
use crate::{
    campaign::statistics::Statistics,
    engine::{Engine, Execution, Outcome, Request},
    feedback::{Candidate, Driver},
    program::{Program, text},
};

/// Kinds of unexplained ends that are kept.
const MAX_UNEXPLAINED: usize = 32;
/// Programs that are kept to be repeated on a fresh machine.
pub(super) const SAMPLES: usize = 64;

/// The driver of a trial. It reads canaries, which the fuzzer never sees, and does nothing else to the loop.
pub(super) struct Recorder {
    began: Instant,
    snapshot: Vec<Canary>,
    /// Canaries before the next execution.
    before: Vec<Canary>,
    /// Whether the machine keeps its state between executions.
    keeps: bool,
    restarts: u64,
    planted: BTreeSet<u8>,
    until: BTreeSet<u8>,
    /// Ends the trial.
    stop: Arc<AtomicBool>,
    /// Ends the benchmark.
    stop_all: Arc<AtomicBool>,
    /// All of `until` were detected.
    pub(super) complete: bool,
    pub(super) now: Moment,
    pub(super) bad_ends: u64,
    pub(super) bugs: Vec<BugRecord>,
    /// The typed program that detected a bug first.
    pub(super) programs: BTreeMap<u8, Program>,
    pub(super) ambiguous: BTreeMap<String, u64>,
    pub(super) unexplained: Vec<Unexplained>,
    covered: Vec<u8>,
    pub(super) edges: usize,
    pub(super) edge_series: Vec<(f64, usize)>,
    sample_every: f64,
    /// Corpus entries, thinned out.
    pub(super) samples: Vec<Program>,
    entries: usize,
}

impl Recorder {
    /// A recorder for a machine that was booted just now.
    pub(super) fn new(
        engine: &impl Engine,
        planted: &[Bug],
        until: &[Bug],
        keeps: bool,
        cap: Duration,
        [stop, stop_all]: [Arc<AtomicBool>; 2],
    ) -> Self {
        let snapshot = engine.canaries();
        Self {
            began: Instant::now(),
            before: snapshot.clone(),
            snapshot,
            keeps,
            restarts: engine.restarts(),
            planted: planted.iter().map(|bug| *bug as u8).collect(),
            until: until.iter().map(|bug| *bug as u8).collect(),
            stop,
            stop_all,
            complete: false,
            now: Moment { seconds: 0.0, executions: 0, calls: 0 },
            bad_ends: 0,
            bugs: vec![BugRecord::default(); Bug::ALL.len()],
            programs: BTreeMap::new(),
            ambiguous: BTreeMap::new(),
            unexplained: Vec::new(),
            covered: vec![0; engine.counters()],
            edges: 0,
            edge_series: Vec::new(),
            sample_every: cap.as_secs_f64() / 120.0,
            samples: Vec::new(),
            entries: 0,
        }
    }

    /// Starts the clock.
    pub(super) fn begin(&mut self) {
        self.began = Instant::now();
    }

    /// Time since [`Self::begin`].
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn cover(&mut self, counters: &[u8]) {
        // Most counters are zero: whole words of them are passed over.
        for (seen, counts) in self.covered.chunks_mut(8).zip(counters.chunks(8)) {
            if counts == [0; 8] {
                continue;
            }
            for (seen, _) in seen.iter_mut().zip(counts).filter(|(seen, count)| **seen == 0 && **count != 0) {
                *seen = 1;
                self.edges += 1;
            }
        }
        let due = self.edge_series.last().is_none_or(|(at, _)| self.now.seconds >= at + self.sample_every);
        if due {
            self.edge_series.push((self.now.seconds, self.edges));
        }
    }

    fn unexplained(
        &mut self,
        symptom: &str,
        triggered: &[Bug],
        program: Option<&Program>,
        execution: &Execution,
    ) {
        let message = execution.crash.as_deref().map_or(String::new(), |record| {
            let len = (record.message_len as usize).min(record.message.len());
            String::from_utf8_lossy(&record.message[..len]).into_owned()
        });
        let known = self.unexplained.iter_mut().find(|u| u.symptom == symptom && u.message == message);
        if let Some(known) = known {
            known.tally.add(self.now);
        } else if self.unexplained.len() < MAX_UNEXPLAINED {
            let mut tally = Tally::default();
            tally.add(self.now);
            self.unexplained.push(Unexplained {
                symptom: symptom.into(),
                message,
                triggered: triggered.iter().map(|bug| bug.name().to_owned()).collect(),
                tally,
                program: program.map(text::print),
            });
        }
    }

    fn bad_end(
        &mut self,
        symptom: &'static str,
        triggered: &[Bug],
        program: Option<&Program>,
        execution: &Execution,
    ) -> Option<Bug> {
        self.bad_ends += 1;
        let hypercall = execution.crash.as_deref().map(|record| record.hypercall);
        match symptom::attribute(symptom, hypercall, triggered) {
            Verdict::Detected(bug) => {
                let record = &mut self.bugs[bug as usize];
                record.detected.add(self.now);
                *record.symptoms.entry(symptom.into()).or_default() += 1;
                if let Some(program) = program {
                    self.programs.entry(bug as u8).or_insert_with(|| program.clone());
                }
                if self.until.remove(&(bug as u8)) && self.until.is_empty() {
                    self.complete = true;
                    self.stop.store(true, Ordering::Relaxed);
                }
                Some(bug)
            }
            Verdict::Ambiguous(bugs) => {
                let names: Vec<_> = bugs.into_iter().map(Bug::name).collect();
                *self.ambiguous.entry(names.join("+")).or_default() += 1;
                None
            }
            Verdict::Unexplained => {
                self.unexplained(symptom, triggered, program, execution);
                None
            }
        }
    }
}

/// Calls of an execution that were begun: those that came back, and the one that did not.
fn begun(execution: &Execution) -> u64 {
    let back = |status| matches!(status, Status::Returned(_) | Status::Faulted { .. });
    let returned = execution.calls.iter().filter(|call| back(call.status)).count() as u64;
    returned + u64::from(symptom::of(execution).is_some())
}

/// The bugs whose canaries counted further between two looks.
pub(super) fn further(before: &[Canary], after: &[Canary], count: fn(&Canary) -> u32) -> Vec<Bug> {
    let pairs = before.iter().zip(after).zip(Bug::ALL);
    pairs.filter(|((b, a), _)| count(a) != count(b)).map(|(_, bug)| bug).collect()
}

impl<E: Engine> Driver<E> for Recorder {
    fn executed(
        &mut self,
        engine: &mut E,
        _: &Request<'_>,
        program: Option<&Program>,
        execution: &Execution,
    ) {
        let after = engine.canaries();
        if engine.restarts() != self.restarts {
            self.restarts = engine.restarts();
            self.before.clone_from(&self.snapshot);
        }
        let begun = begun(execution);
        self.now = Moment {
            seconds: self.began.elapsed().as_secs_f64(),
            executions: self.now.executions + 1,
            calls: self.now.calls + begun,
        };
        for bug in further(&self.before, &after, |canary| canary.reached) {
            self.bugs[bug as usize].reached.add(self.now);
        }
        let triggered = further(&self.before, &after, |canary| canary.triggered);
        let symptom = symptom::of(execution);
        let detected = symptom.and_then(|symptom| self.bad_end(symptom, &triggered, program, execution));
        for bug in triggered {
            let record = &mut self.bugs[bug as usize];
            record.triggered.add(self.now);
            if Some(bug) != detected {
                record.undetected += 1;
                record.interfered += u64::from(symptom.is_some());
                if symptom.is_none() && record.missed.is_none() {
                    record.missed = program.map(text::print);
                }
            }
        }
        self.cover(&execution.counters);
        if self.stop_all.load(Ordering::Relaxed) {
            self.stop.store(true, Ordering::Relaxed);
        }
        // The engine goes on with the same machine on the same condition.
        if self.keeps && execution.outcome == Outcome::Done && begun > 0 {
            self.before = after;
        } else {
            self.before.clone_from(&self.snapshot);
        }
    }

    fn corpus_entry(&mut self, program: &Program) -> anyhow::Result<()> {
        // Ever fewer, so that the samples are spread over the whole trial.
        self.entries += 1;
        if self.entries.is_power_of_two() || self.entries.is_multiple_of(self.entries.ilog2() as usize * 8) {
            if self.samples.len() == SAMPLES {
                let mut keep = false;
                self.samples.retain(|_| {
                    keep = !keep;
                    keep
                });
            }
            self.samples.push(program.clone());
        }
        Ok(())
    }

    fn candidate(&mut self, _: &mut E, _: Candidate) -> anyhow::Result<()> {
        Ok(())
    }

    fn progress(&mut self, _: &Statistics) -> anyhow::Result<()> {
        Ok(())
    }
}

impl Recorder {
    /// What is known of the planted bugs, by name.
    pub(super) fn by_name(&mut self) -> BTreeMap<String, BugRecord> {
        let bugs = std::mem::take(&mut self.bugs);
        let named = Bug::ALL.into_iter().zip(bugs).filter(|(bug, _)| self.planted.contains(&(*bug as u8)));
        named.map(|(bug, record)| (bug.name().to_owned(), record)).collect()
    }
}
