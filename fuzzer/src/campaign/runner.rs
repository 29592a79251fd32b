//! Drives the loop of one machine: examines what it finds, checks the machine, and hands everything on.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::{
    check::{Checker, Every, Mismatch, Tally},
    examine::{About, Examined, Examiner, Files, Unconfirmed},
    sample::Sample,
    statistics::Statistics,
};
use crate::{
    engine::{Engine, Execution, Request},
    feedback::{Candidate, Driver, News},
    program::Program,
    target::Settings,
    triage::bucket::{Bucket, Classifier},
};

/// Where a runner's results go: a campaign directory ([`super::ledger::Ledger`]), or the process that writes it.
pub trait Outlet {
    /// A program has joined the corpus.
    ///
    /// # Errors
    /// What keeps it from being stored.
    fn entry(&mut self, program: &Program) -> anyhow::Result<()>;

    /// A program opened a bucket and is about to be examined: it shall not be lost meanwhile.
    ///
    /// # Errors
    /// What keeps it from being stored.
    fn original(&mut self, bucket: &Bucket, program: &Program) -> anyhow::Result<()>;

    /// A candidate came to nothing.
    ///
    /// # Errors
    /// What keeps it from being told.
    fn unconfirmed(&mut self, unconfirmed: Unconfirmed) -> anyhow::Result<()>;

    /// A finding is complete.
    ///
    /// # Errors
    /// What keeps it from being stored.
    fn finding(&mut self, bucket: Bucket, files: Files) -> anyhow::Result<()>;

    /// A machine was quarantined.
    ///
    /// # Errors
    /// What keeps it from being stored.
    fn mismatch(&mut self, mismatch: Mismatch) -> anyhow::Result<()>;

    /// How far the session is.
    ///
    /// # Errors
    /// What keeps it from being told.
    fn progress(&mut self, statistics: &Statistics, checks: Tally) -> anyhow::Result<()>;

    /// Edges that the corpus covers, by the most that they were taken: before each [`Self::progress`].
    fn coverage(&mut self, _taken: &[u8]) {}

    /// What others have found.
    ///
    /// # Errors
    /// When they cannot be heard any more.
    fn news(&mut self) -> anyhow::Result<Option<News>> {
        Ok(None)
    }

    /// Something that people might want to know.
    fn note(&mut self, text: &str);
}

/// How a runner treats what it finds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Care {
    /// Runs that a reproduction rate is taken from.
    pub replays: u32,
    /// How often the machine is checked.
    pub every: Every,
    /// Keep a sample of what is executed, for a benchmark.
    #[serde(skip)]
    pub sample: bool,
}

/// The driver of a session.
pub struct Runner<'a, O> {
    outlet: &'a mut O,
    examiner: Examiner<'a>,
    checker: Checker<'a>,
    sample: Option<Sample>,
    began: Instant,
}

impl<'a, O: Outlet> Runner<'a, O> {
    /// A runner for machines with these switches.
    pub fn new(
        outlet: &'a mut O,
        settings: &Settings,
        classifier: &'a Classifier,
        care: &Care,
        about: About,
        stop: Arc<AtomicBool>,
    ) -> Self {
        let elsewhere = settings.target().other_mode().map(|mode| settings.on(mode));
        Self {
            outlet,
            examiner: Examiner { classifier, elsewhere, replays: care.replays, stop, about },
            checker: Checker::new(settings, classifier.symbols(), care.every),
            sample: care.sample.then(Sample::default),
            began: Instant::now(),
        }
    }

    /// Time since the runner was made.
    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// The sample that was asked for.
    pub fn take_sample(&mut self) -> Option<Sample> {
        self.sample.take()
    }

    /// What came of the checks.
    pub fn checks(&self) -> Tally {
        self.checker.tally()
    }

    /// Hands on mismatches that the loop has not come to.
    ///
    /// # Errors
    /// When they cannot be stored.
    pub fn hand_on(&mut self) -> anyhow::Result<()> {
        for mismatch in self.checker.take_found() {
            self.outlet.mismatch(mismatch)?;
        }
        Ok(())
    }
}

impl<E: Engine, O: Outlet> Driver<E> for Runner<'_, O> {
    fn executed(
        &mut self,
        engine: &mut E,
        request: &Request<'_>,
        program: Option<&Program>,
        execution: &Execution,
    ) {
        self.checker.executed(engine, request, program, execution);
        if let Some(sample) = &mut self.sample {
            sample.offer(request.program);
        }
    }

    fn corpus_entry(&mut self, program: &Program) -> anyhow::Result<()> {
        self.outlet.entry(program)
    }

    fn candidate(&mut self, engine: &mut E, candidate: Candidate) -> anyhow::Result<()> {
        self.outlet.original(&candidate.bucket, &candidate.program)?;
        let after = self.elapsed();
        let outlet = &mut *self.outlet;
        match self.examiner.examine(engine, candidate, after, &mut |text| outlet.note(text))? {
            Examined::Unconfirmed(unconfirmed) => self.outlet.unconfirmed(unconfirmed),
            Examined::Finding(bucket, files) => self.outlet.finding(bucket, files),
        }
    }

    fn coverage(&mut self, taken: &[u8]) {
        self.outlet.coverage(taken);
    }

    fn notice(&mut self, text: &str) {
        self.outlet.note(text);
    }

    fn news(&mut self) -> anyhow::Result<Option<News>> {
        self.outlet.news()
    }

    fn progress(&mut self, statistics: &Statistics) -> anyhow::Result<()> {
        self.hand_on()?;
        self.outlet.progress(statistics, self.checker.tally())
    }
}
