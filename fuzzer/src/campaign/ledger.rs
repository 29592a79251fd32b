//! The one who writes a campaign's directory and tells people: corpus, findings, mismatches, metrics, the live line.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    check::{Mismatch, Tally},
    examine::{DATA, Files, REPORT, Unconfirmed},
    findings::{
        mark::Mark,
        seen::{self, Seen},
    },
    metrics::Metrics,
    operations::Record,
    prometheus::{self, Snapshot},
    runner::Outlet,
    statistics::Statistics,
    store::{ORIGINAL, Store, StoreError},
};
use crate::{
    program::{Program, text},
    report::live::{Live, Progress},
    triage::bucket::Bucket,
};

/// How often what was done is stored: no more than that is lost when the fuzzer is killed.
const RECORD_EVERY: Duration = Duration::from_secs(1);
/// How often a line is added to the metrics.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// What a session has come to, and where it is written.
pub struct Ledger<'a> {
    store: &'a mut Store,
    live: Live,
    edges: usize,
    /// What earlier sessions have done with each operation.
    record: Record,
    recorded_at: Instant,
    metrics: Metrics,
    metrics_at: Instant,
    /// Set where the session shall end with the first finding.
    stop: Arc<AtomicBool>,
    until_finding: bool,
    /// Workers, where there are several.
    workers: Option<usize>,
    /// Buckets of this session, with the directories that hold them.
    findings: Vec<(Bucket, PathBuf)>,
    /// Candidates that a clean boot did not confirm.
    unconfirmed: BTreeSet<Bucket>,
    /// How often each bucket had been met when that was last noted.
    noted: BTreeMap<Bucket, u64>,
}

/// What is left of a ledger at the end.
pub struct Closed {
    /// The live line.
    pub live: Live,
    /// Buckets of the session, with the directories that hold them.
    pub findings: Vec<(Bucket, PathBuf)>,
    /// Candidates that a clean boot did not confirm.
    pub unconfirmed: BTreeSet<Bucket>,
}

impl<'a> Ledger<'a> {
    /// A ledger for a target with so many edges.
    pub fn new(
        store: &'a mut Store,
        live: Live,
        edges: usize,
        stop: Arc<AtomicBool>,
        until_finding: bool,
    ) -> Self {
        // A record that is damaged is begun again: it is a help for people, and nothing depends on it.
        let mut record = Record::load(store.root()).ok().flatten().unwrap_or_default();
        // A session that was killed may have stored more than it counted.
        let stored = store.findings().map_or(0, |found| found.len() as u64);
        record.counters.findings = record.counters.findings.max(stored);
        Self {
            record,
            recorded_at: Instant::now(),
            metrics: Metrics::new(store.root()),
            store,
            live,
            edges,
            metrics_at: Instant::now(),
            stop,
            until_finding,
            workers: None,
            findings: Vec::new(),
            unconfirmed: BTreeSet::new(),
            noted: BTreeMap::new(),
        }
    }

    /// From now on so many workers are at work.
    pub fn set_workers(&mut self, workers: usize) {
        self.workers = Some(workers);
    }

    /// The campaign's directory.
    pub fn store(&self) -> &Store {
        self.store
    }

    /// True where a finding of this bucket was stored in this session.
    pub fn has_found(&self, bucket: &Bucket) -> bool {
        self.findings.iter().any(|(found, _)| found == bucket)
    }

    /// Adds a program to the corpus; true if it was not there.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, program: &Program) -> Result<bool, StoreError> {
        self.store.add(program)
    }

    /// Stores what this session and those before it have done, and adds a line to the metrics.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_metrics(&mut self, statistics: &Statistics, checks: Tally) -> Result<(), StoreError> {
        self.metrics.append(&json!({
            "session": self.store.description().sessions,
            "seconds": self.live.elapsed().as_secs_f64(),
            "workers": self.workers.unwrap_or(1),
            "executions": statistics.executions,
            "calls": statistics.calls,
            "edges": statistics.edges,
            "corpus": statistics.corpus,
            "findings": self.findings.len(),
            "restarts": statistics.restarts,
            "checks": checks,
        }))?;
        self.write_record(statistics, checks)
    }

    /// Stores what this session and those before it have done: with each operation, and for Prometheus; and when findings were seen.
    fn write_record(&mut self, statistics: &Statistics, checks: Tally) -> Result<(), StoreError> {
        for (bucket, times) in &statistics.crashes {
            self.note_seen(bucket, *times)?;
        }
        let (root, about) = (self.store.root(), self.store.description());
        let (session, workers) = (self.live.elapsed(), self.workers.unwrap_or(1));
        let mut record = self.record.with(statistics, self.edges);
        record.counters.findings += self.findings.len() as u64;
        record.counters.checks.add(checks);
        record.counters.time += session;
        record.store(root)?;
        // Last, so that a session that goes on after a kill counts on from no less than was told.
        let corpus = self.store.len();
        prometheus::store(root, &Snapshot { about, record: &record, corpus, workers, session })
    }

    /// Notes that this session has met a bucket so many times by now, if it has a finding.
    fn note_seen(&mut self, bucket: &Bucket, times: u64) -> Result<(), StoreError> {
        let directory = self.store.finding_directory(bucket);
        if self.noted.get(bucket).is_some_and(|noted| *noted >= times) || !directory.join(REPORT).exists() {
            return Ok(());
        }
        self.noted.insert(bucket.clone(), times);
        // One that is damaged is begun again: nothing depends on it.
        let mut seen = Seen::load(&directory).ok().flatten().unwrap_or_default();
        if seen.note(self.store.description().sessions, times, seen::now()) {
            seen.store(&directory)?;
        }
        Ok(())
    }

    /// Takes the mark from a finding that was fixed and has come back.
    fn reopen(&mut self, bucket: &Bucket) -> anyhow::Result<()> {
        let directory = self.store.finding_directory(bucket);
        let mark = Mark::load(&directory)?;
        if mark.is_fixed_in(&self.store.description().build) {
            let mark = mark.reopened();
            mark.store(&directory)?;
            self.live.note(&format!("REGRESSION: {bucket}: {}", mark.reason));
        }
        Ok(())
    }

    /// Ends the live line and gives back what there is.
    pub fn close(mut self) -> Closed {
        self.live.interrupt();
        Closed { live: self.live, findings: self.findings, unconfirmed: self.unconfirmed }
    }
}

impl Outlet for Ledger<'_> {
    fn entry(&mut self, program: &Program) -> anyhow::Result<()> {
        self.add(program)?;
        Ok(())
    }

    fn original(&mut self, bucket: &Bucket, program: &Program) -> anyhow::Result<()> {
        self.store.add_finding(bucket, &[(ORIGINAL, text::print(program).as_bytes())])?;
        Ok(())
    }

    fn unconfirmed(&mut self, unconfirmed: Unconfirmed) -> anyhow::Result<()> {
        let Unconfirmed { bucket, summary, reproduction } = &unconfirmed;
        let data = serde_json::to_vec_pretty(&unconfirmed)?;
        self.store.add_finding(bucket, &[("unconfirmed.json", &data)])?;
        self.live.event(&json!({
            "event": "unconfirmed", "bucket": bucket, "reproduced": reproduction.reproduced, "runs": reproduction.runs,
        }));
        self.live.note(&format!(
            "not confirmed on a clean boot ({} of {} runs): {bucket}: {summary}",
            reproduction.reproduced, reproduction.runs,
        ));
        self.unconfirmed.insert(unconfirmed.bucket);
        Ok(())
    }

    fn finding(&mut self, bucket: Bucket, files: Files) -> anyhow::Result<()> {
        let content: Vec<_> =
            files.files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        let directory = self.store.add_finding(&bucket, &content)?;
        let report = String::from_utf8_lossy(files.get(REPORT).unwrap_or_default());
        let data = serde_json::from_slice(files.get(DATA).unwrap_or_default()).unwrap_or_default();
        self.live.finding(&report, &data);
        self.note_seen(&bucket, 1)?;
        self.reopen(&bucket)?;
        self.unconfirmed.remove(&bucket);
        self.findings.push((bucket, directory));
        if self.until_finding {
            self.stop.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn mismatch(&mut self, mismatch: Mismatch) -> anyhow::Result<()> {
        let content: Vec<_> =
            mismatch.files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
        let directory = self.store.add_mismatch(&content)?;
        let directory = directory.display().to_string();
        self.live.event(&json!({
            "event": "mismatch", "summary": mismatch.summary, "directory": directory,
        }));
        self.live.note(&format!(
            "MISMATCH: a machine did not do what a fresh one does, and was replaced ({}): {directory}",
            mismatch.summary
        ));
        Ok(())
    }

    fn progress(&mut self, statistics: &Statistics, checks: Tally) -> anyhow::Result<()> {
        if self.live.due() {
            self.live.progress(&Progress {
                statistics,
                edges: self.edges,
                findings: self.findings.len(),
                checks,
                workers: self.workers,
            });
        }
        if self.metrics_at.elapsed() >= METRICS_EVERY {
            self.metrics_at = Instant::now();
            self.recorded_at = self.metrics_at;
            self.write_metrics(statistics, checks)?;
        } else if self.recorded_at.elapsed() >= RECORD_EVERY {
            self.recorded_at = Instant::now();
            self.write_record(statistics, checks)?;
        }
        Ok(())
    }

    fn note(&mut self, text: &str) {
        self.live.note(text);
    }
}
