//! What a trial leaves behind: one file of JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::mode::{Corpus, Mode};

/// Version of the files of a benchmark.
pub const FORMAT: u32 = 1;

/// A point of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// Seconds since the trial began.
    pub seconds: f64,
    /// Executions until then, this one included.
    pub executions: u64,
    /// Hypercalls until then, those of this execution included.
    pub calls: u64,
}

/// How often something happened, and when first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Executions in which it happened.
    pub executions: u64,
    /// The first of them.
    pub first: Option<Moment>,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, now: Moment) {
        self.executions += 1;
        self.first.get_or_insert(now);
    }
}

/// What became of one planted bug.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BugRecord {
    /// The place of the bug was executed.
    pub reached: Tally,
    /// Its condition was true.
    pub triggered: Tally,
    /// An oracle said so.
    pub detected: Tally,
    /// Executions that triggered it and did not detect it.
    pub undetected: u64,
    /// Of those, executions that ended badly because of another bug.
    pub interfered: u64,
    /// Symptoms of the executions that detected it.
    pub symptoms: BTreeMap<String, u64>,
    /// The first typed program that triggered it and ended well.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub missed: Option<String>,
    /// The program that detected it first, replayed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub replay: Option<Replay>,
}

/// A detection, replayed after the trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// Replays that detected the bug again.
    pub reproduced: u32,
    /// Replays, the first on a machine that had executed nothing before.
    pub runs: u32,
    /// Whether that first one detected it.
    pub on_clean_boot: bool,
    /// Calls of the program as it was found.
    pub calls_found: usize,
    /// Calls of the minimised program.
    pub calls: usize,
    /// The minimised program.
    pub program: String,
}

/// Executions that ended badly without a planted bug that explains it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unexplained {
    /// How they ended.
    pub symptom: String,
    /// What the crash record says.
    pub message: String,
    /// Bugs that the first of them had triggered, none of which ends so.
    pub triggered: Vec<String>,
    /// Executions, and when first.
    pub tally: Tally,
    /// The first program, where programs are typed.
    pub program: Option<String>,
}

/// Outcomes of the calls of one operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// Calls that returned zero or more.
    pub succeeded: u64,
    /// Calls that returned a negative number, by that number.
    pub failed: BTreeMap<i64, u64>,
    /// Calls that raised an exception in the guest.
    pub faulted: u64,
}

impl Answers {
    /// Calls that came back.
    pub fn total(&self) -> u64 {
        self.succeeded + self.failed.values().sum::<u64>() + self.faulted
    }
}

/// What is done in a cell of the benchmark, and which of its trials this is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// What is fuzzed.
    pub target: String,
    /// How.
    pub mode: Mode,
    /// From what.
    pub corpus: Corpus,
    /// Planted bugs; none for a clean run.
    pub plants: Vec<String>,
    /// The name of the only one, where bugs are measured one at a time.
    pub alone: Option<String>,
    /// Number of the trial in its cell, from 0.
    pub trial: u32,
    /// Seed of everything random.
    pub seed: u64,
    /// Longest time, in seconds.
    pub cap_seconds: u64,
    /// Most hypercalls.
    pub cap_calls: Option<u64>,
    /// The trial ends when all of these have been detected, if there are any.
    pub until: Vec<String>,
}

impl Task {
    /// Name of its file, without the extension: it tells the cell and the trial.
    pub fn name(&self) -> String {
        let set = match (&self.alone, self.plants.is_empty()) {
            (Some(bug), _) => format!("-{bug}"),
            (None, true) => "-clean".into(),
            (None, false) => String::new(),
        };
        format!("{}-{}-{}{set}-{:03}", self.target, self.corpus.name(), self.mode.name(), self.trial)
    }
}

/// A finished trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// [`FORMAT`].
    pub format: u32,
    /// What was done.
    #[serde(flatten)]
    pub task: Task,
    /// Build of the hypervisor that ran.
    pub build: String,
    /// Processor that it was pinned to.
    pub core: Option<usize>,
    /// Processes that wanted to run, per processor, while it ran (average over a minute at its end).
    pub load: f64,
    /// Why it ended: `time`, `calls` or `all-detected`.
    pub ended: String,
    /// Seconds that the loop took.
    pub seconds: f64,
    /// Programs that were executed.
    pub executions: u64,
    /// Hypercalls that were begun.
    pub calls: u64,
    /// Executions that ended badly: each costs a reset.
    pub bad_ends: u64,
    /// Machines that had to be replaced.
    pub restarts: u64,
    /// Edges covered, by whatever was executed.
    pub edges: usize,
    /// Edges of the target.
    pub edges_total: usize,
    /// Programs in the corpus.
    pub corpus_size: usize,
    /// Edges over time: seconds and edges.
    pub edge_series: Vec<(f64, usize)>,
    /// Programs whose coverage or results on a fresh machine differ from those on the used one, and programs that were compared.
    pub reset_mismatches: Option<(u32, u32)>,
    /// By planted bug.
    pub bugs: BTreeMap<String, BugRecord>,
    /// Executions that detected one of several bugs, by their names.
    pub ambiguous: BTreeMap<String, u64>,
    /// Executions that no planted bug explains.
    pub unexplained: Vec<Unexplained>,
    /// By operation.
    pub operations: BTreeMap<String, Answers>,
}
