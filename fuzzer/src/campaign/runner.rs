//! Drives one session over a campaign directory: stores what it finds, confirms, minimises, reports.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::json;

use super::{
    operations::Record,
    statistics::Statistics,
    store::{self, Store},
};
use crate::{
    engine::Engine,
    feedback::{Candidate, Driver},
    program::{text, wire},
    report::{
        finding::{self, Finding},
        live::Live,
    },
    target::Settings,
    triage::{
        bucket::{Bucket, Classifier},
        verify,
    },
};

/// How often a line is added to the metrics.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// The driver of a session.
pub struct Runner<'a> {
    store: &'a mut Store,
    classifier: &'a Classifier,
    /// Where findings are tried as well.
    elsewhere: Settings,
    live: Live,
    seed: u64,
    edges: usize,
    /// What earlier sessions have done with each operation.
    record: Record,
    metrics_at: Instant,
    /// Set from outside to end the session, and by this where it shall end with the first finding.
    stop: Arc<AtomicBool>,
    until_finding: bool,
    /// Findings of this session, with the directories that hold them.
    pub findings: Vec<(Finding, PathBuf)>,
    /// Candidates that a clean boot did not confirm.
    pub unconfirmed: BTreeSet<Bucket>,
}

impl<'a> Runner<'a> {
    /// A runner for a target with so many edges. Findings are tried `elsewhere`, too.
    pub fn new(
        store: &'a mut Store,
        classifier: &'a Classifier,
        elsewhere: Settings,
        live: Live,
        edges: usize,
        stop: Arc<AtomicBool>,
        until_finding: bool,
    ) -> Self {
        let seed = store.session_seed();
        // A record that is damaged is begun again: it is a help for people, and nothing depends on it.
        let record = Record::load(store.root()).ok().flatten().unwrap_or_default();
        Self {
            record,
            store,
            classifier,
            elsewhere,
            live,
            seed,
            edges,
            metrics_at: Instant::now(),
            stop,
            until_finding,
            findings: Vec::new(),
            unconfirmed: BTreeSet::new(),
        }
    }

    /// Stores what this session and those before it have done with each operation.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store_operations(&self, statistics: &Statistics) -> Result<(), store::StoreError> {
        self.record.with(statistics, self.edges).store(self.store.root())
    }

    /// Ends the live line and gives it back.
    pub fn finish(mut self) -> (Live, Vec<(Finding, PathBuf)>, BTreeSet<Bucket>) {
        self.live.interrupt();
        (self.live, self.findings, self.unconfirmed)
    }
}

impl<E: Engine> Driver<E> for Runner<'_> {
    fn corpus_entry(&mut self, program: &crate::program::Program) -> anyhow::Result<()> {
        Ok(self.store.add(program)?)
    }

    fn candidate(&mut self, engine: &mut E, candidate: Candidate) -> anyhow::Result<()> {
        let Candidate { program, bucket, execution, after_executions } = candidate;
        let after_seconds = self.live.elapsed().as_secs_f64();
        // The program as it was found is saved before anything else is tried with it.
        let original = text::print(&program).into_bytes();
        self.store.add_finding(&bucket, &[("original.hf", original)])?;
        let (reproduction, _) = verify::confirm(engine, self.classifier, &program, &bucket, verify::REPLAYS)
            .context("while a finding was being confirmed")?;
        if !reproduction.confirmed() {
            self.live.event(&json!({
                "event": "unconfirmed", "bucket": bucket, "reproduced": reproduction.reproduced, "runs": reproduction.runs,
            }));
            self.live.note(&format!(
                "not confirmed on a clean boot ({} of {} runs): {bucket}: {}",
                reproduction.reproduced,
                reproduction.runs,
                finding::summary(&program, &execution)
            ));
            self.unconfirmed.insert(bucket);
            return Ok(());
        }
        let minimal = verify::minimise(engine, self.classifier, &program, &bucket, &self.stop)
            .context("while a finding was being minimised")?;
        let (mut minimal_reproduction, mut observed) =
            verify::confirm(engine, self.classifier, &minimal, &bucket, verify::REPLAYS)?;
        let mut reported = minimal;
        if !minimal_reproduction.confirmed() {
            // A minimised program that a clean boot does not confirm is worth less than the one that it does.
            reported = program.clone();
            minimal_reproduction = reproduction;
            observed = execution;
        }
        let elsewhere = match verify::elsewhere(&self.elsewhere, self.classifier, &reported) {
            Ok(elsewhere) => Some(elsewhere),
            Err(error) => {
                self.live.note(&format!("not tried on {}: {error}", self.elsewhere.target()));
                None
            }
        };
        let finding = Finding {
            elsewhere,
            summary: finding::summary(&reported, &observed),
            reproduction: minimal_reproduction,
            calls_before: program.calls.len(),
            calls: reported.calls.len(),
            after_executions,
            after_seconds,
            seed: self.seed,
            plants: self.store.description().plants.clone(),
            target: self.store.description().target.clone(),
            build: self.store.description().build.clone(),
            stack: finding::stack(self.classifier, &observed),
            transcript: finding::transcript(&reported, &observed),
            crash: observed.crash.as_deref().map(finding::Crash::from_record),
            program: reported,
            bucket,
        };
        let files = [
            ("program.hf", text::print(&finding.program).into_bytes()),
            ("program.hfw", wire::encode(&finding.program)?),
            ("console.log", observed.console.clone()),
            ("finding.json", serde_json::to_vec_pretty(&finding)?),
            ("report.txt", finding.render().into_bytes()),
        ];
        let directory = self.store.add_finding(&finding.bucket, &files)?;
        self.live.finding(&finding);
        self.findings.push((finding, directory));
        if self.until_finding {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn progress(&mut self, statistics: &Statistics) -> anyhow::Result<()> {
        if self.live.due() {
            self.live.progress(statistics, self.edges, self.findings.len());
        }
        if self.metrics_at.elapsed() >= METRICS_EVERY {
            self.metrics_at = Instant::now();
            self.store_operations(statistics)?;
            self.store.metrics(&json!({
                "session": self.store.description().sessions,
                "seconds": self.live.elapsed().as_secs_f64(),
                "executions": statistics.executions,
                "calls": statistics.calls,
                "edges": statistics.edges,
                "corpus": statistics.corpus,
                "findings": self.findings.len(),
                "restarts": statistics.restarts,
            }))?;
        }
        Ok(())
    }
}

/// Reads the programs that a campaign starts from.
///
/// # Errors
/// The first file that cannot be read or understood.
pub fn initial_programs(
    store: &Store,
    start: &[crate::program::Program],
) -> Result<Vec<crate::program::Program>, store::StoreError> {
    let corpus = store.corpus()?;
    Ok(if corpus.is_empty() { start.to_vec() } else { corpus })
}
