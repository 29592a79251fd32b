//! The line that shows a running session, and its last word.

use std::{
    io::{IsTerminal, Write},
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::json;

use super::output::say;
use crate::campaign::{check::Tally, statistics::Statistics};

/// How often the line is refreshed in a terminal.
const IN_TERMINAL: Duration = Duration::from_millis(500);
/// How often a line is written to a file or a pipe.
const IN_LOG: Duration = Duration::from_secs(10);

/// How far a session is.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// What was done.
    pub statistics: &'a Statistics,
    /// Edges of the target.
    pub edges: usize,
    /// Findings so far.
    pub findings: usize,
    /// Checks of the machine so far.
    pub checks: Tally,
    /// Workers, where there are several.
    pub workers: Option<usize>,
}

/// Writes progress to standard error for people, or events to standard output for programs.
#[derive(Debug)]
pub struct Live {
    json: bool,
    terminal: bool,
    started: Instant,
    last: Instant,
    last_executions: u64,
    last_calls: u64,
    /// Whether the cursor stands behind the line.
    open: bool,
}

impl Live {
    /// Starts the clock.
    pub fn new(json: bool) -> Self {
        let now = Instant::now();
        Self {
            json,
            terminal: std::io::stderr().is_terminal(),
            started: now,
            last: now,
            last_executions: 0,
            last_calls: 0,
            open: false,
        }
    }

    /// Time since the session began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether [`Self::progress`] would write something now.
    pub fn due(&self) -> bool {
        self.last.elapsed() >= if self.terminal && !self.json { IN_TERMINAL } else { IN_LOG }
    }

    /// Writes the line.
    pub fn progress(&mut self, progress: &Progress<'_>) {
        let Progress { statistics, edges, findings, checks, workers } = *progress;
        let seconds = self.last.elapsed().as_secs_f64().max(1e-3);
        let rate = statistics.executions.saturating_sub(self.last_executions) as f64 / seconds;
        let calls = statistics.calls.saturating_sub(self.last_calls) as f64 / seconds;
        self.last = Instant::now();
        self.last_executions = statistics.executions;
        self.last_calls = statistics.calls;
        if self.json {
            emit(&json!({
                "event": "progress", "seconds": self.elapsed().as_secs_f64(), "executions": statistics.executions,
                "calls": statistics.calls, "executions_per_second": rate, "calls_per_second": calls,
                "edges": statistics.edges, "corpus": statistics.corpus, "findings": findings,
                "restarts": statistics.restarts, "checks": checks, "workers": workers.unwrap_or(1),
            }));
            return;
        }
        let workers = workers.map_or_else(String::new, |n| format!("  {n} workers"));
        let mismatches = match checks.mismatches {
            0 => String::new(),
            n => format!("  MISMATCHES {n}"),
        };
        let line = format!(
            "{}{workers}  {rate:>6.0} exec/s  {calls:>7.0} calls/s  edges {}/{edges}  corpus {}  findings {findings}{mismatches}",
            clock(self.elapsed()),
            statistics.edges,
            statistics.corpus,
        );
        let mut err = std::io::stderr().lock();
        // A closed standard error must not end a campaign.
        let _ = if self.terminal { write!(err, "\r{line}\x1b[K") } else { writeln!(err, "{line}") };
        let _ = err.flush();
        self.open = self.terminal;
    }

    /// Ends the line, so that something else can be written.
    pub fn interrupt(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = writeln!(std::io::stderr());
        }
    }

    /// Announces a finding, by its report for people and that for programs.
    pub fn finding(&mut self, report: &str, data: &serde_json::Value) {
        self.interrupt();
        if self.json {
            emit(&json!({ "event": "finding", "finding": data }));
        } else {
            say!("NEW FINDING\n\n{report}");
        }
    }

    /// Says something to people; programs do not get it.
    pub fn note(&mut self, text: &str) {
        self.interrupt();
        if !self.json {
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// Tells programs something; people do not get it.
    pub fn event(&mut self, event: &impl Serialize) {
        if self.json {
            emit(event);
        }
    }
}

/// Writes one event as a line of JSON.
pub fn emit(event: &impl Serialize) {
    match serde_json::to_string(event) {
        Ok(text) => say!("{text}"),
        // Every event is made of maps with text for keys, so this is a defect: a reader shall not miss it.
        Err(error) => say!("{{\"event\":\"error\",\"message\":\"{}\"}}", error.to_string().escape_default()),
    }
}

/// Hours, minutes and seconds.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
