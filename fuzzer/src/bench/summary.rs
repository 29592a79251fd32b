//! What all trials together say.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    compare::{Comparison, compare},
    mode::{Corpus, Mode},
    record::{Answers, BugRecord, Moment, Trial},
    survival::{Median, Observation, Step, kaplan_meier, median, probability, restricted_mean},
};

/// Cells that are compared with each other: the same target, the same beginnings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct GroupKey {
    /// What is fuzzed.
    pub target: String,
    /// From what.
    pub corpus: Corpus,
    /// Each bug had trials of its own.
    pub one_at_a_time: bool,
}

/// Everything that was computed.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// One for each target and corpus.
    pub groups: Vec<Group>,
    /// Trials without planted bugs.
    pub clean: Vec<Clean>,
    /// Ends that no planted bug explains, in all trials: how often, by symptom and message.
    pub unexplained: BTreeMap<String, u64>,
}

/// A trial in which nothing may be found.
#[derive(Clone, Debug, Serialize)]
pub struct Clean {
    /// What was fuzzed.
    pub target: String,
    /// For how many seconds.
    pub seconds: f64,
    /// Programs.
    pub executions: u64,
    /// Executions that ended badly.
    pub bad_ends: u64,
}

/// Cells that are compared with each other.
#[derive(Clone, Debug, Serialize)]
pub struct Group {
    /// Which.
    #[serde(flatten)]
    pub key: GroupKey,
    /// Time up to which everything is compared, in seconds: the shortest cap.
    pub horizon_seconds: f64,
    /// The same in hypercalls: what the slowest trial that used all of its time had done.
    pub horizon_calls: f64,
    /// Planted bugs, in the order of their names.
    pub bugs: Vec<String>,
    /// One for each way to fuzz, in the order of [`Mode`].
    pub cells: Vec<Cell>,
    /// What a bug needs, by its name.
    pub needs: BTreeMap<String, Vec<Need>>,
}

/// One way to fuzz in a group.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// Which.
    pub mode: Mode,
    /// Trials.
    pub trials: usize,
    /// Programs per second, of all trials together.
    pub executions_per_second: f64,
    /// Hypercalls per second, of all trials together.
    pub calls_per_second: f64,
    /// Edges at the end, the median of trials.
    pub edges: usize,
    /// Edges of the target.
    pub edges_total: usize,
    /// Mean number of bugs detected, over time: seconds and bugs.
    pub detected_over_time: Vec<(f64, f64)>,
    /// By bug.
    pub bugs: BTreeMap<String, Outcome>,
    /// Executions that detected one of several bugs, by their names.
    pub ambiguous: BTreeMap<String, u64>,
    /// By operation: all calls, and the shares of them that were answered so.
    pub operations: BTreeMap<String, Shares>,
    /// Programs whose result on a fresh machine differed, and programs that were compared.
    pub reset_mismatches: (u32, u32),
    /// Machines that had to be replaced.
    pub restarts: u64,
    /// Load per processor, the highest of trials.
    pub load: f64,
}

/// Answers of an operation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Shares {
    /// Calls that came back.
    pub calls: u64,
    /// Success, as a share of them.
    pub success: f64,
    /// −EFAULT.
    pub efault: f64,
    /// −EINVAL.
    pub einval: f64,
    /// −ENOSYS.
    pub enosys: f64,
}

/// One bug in one cell.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// Trials in which it was planted.
    pub trials: usize,
    /// Trials in which its place was executed.
    pub reached: usize,
    /// Trials in which its condition held.
    pub triggered: usize,
    /// Trials in which it was detected.
    pub detected: usize,
    /// Executions that triggered it and did not detect it, in all trials.
    pub undetected_executions: u64,
    /// Of those, executions that ended badly because of another bug.
    pub interfered_executions: u64,
    /// By wall clock, in seconds.
    pub by_time: Survival,
    /// By hypercalls.
    pub by_calls: Survival,
    /// Replays that reproduced it, and replays, of all trials.
    pub reproduced: (u32, u32),
    /// Calls of minimised programs, the median and the least of trials.
    pub minimised: Option<(usize, usize)>,
}

/// Time to detection on one axis.
#[derive(Clone, Debug, Serialize)]
pub struct Survival {
    /// The estimator.
    pub steps: Vec<Step>,
    /// P(detected ≤ horizon).
    pub probability: f64,
    /// The median time to detection.
    #[serde(flatten)]
    pub median: Median,
    /// Restricted mean, up to the horizon.
    pub restricted_mean: f64,
    /// B5 against this cell: its A12 is the probability that B5 is the faster one.
    pub b5: Option<Comparison>,
}

/// A part of the fuzzer that finding a bug depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feature {
    /// Edges as feedback.
    Coverage,
    /// Results of earlier calls.
    Handles,
    /// The comparison log.
    Comparisons,
    /// A reset before each program.
    Reset,
    /// Typed programs.
    Types,
}

impl Feature {
    /// The features with the ways to fuzz that lack each, and nothing else.
    pub const ALL: [(Self, Mode); 5] = [
        (Self::Coverage, Mode::Coin),
        (Self::Handles, Mode::NoHandles),
        (Self::Comparisons, Mode::NoComparisons),
        (Self::Reset, Mode::NoReset),
        (Self::Types, Mode::B2),
    ];

    /// Name for tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Coverage => "coverage",
            Self::Handles => "handles",
            Self::Comparisons => "comparisons",
            Self::Reset => "reset",
            Self::Types => "types",
        }
    }
}

/// How much finding a bug depends on a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// B5 finds it in at least half of its trials, without the feature it was never found.
    Needed,
    /// B5 is faster: A12 ≥ 0.71, p < 0.05.
    Helps,
    /// It cannot be told apart.
    None,
    /// B5 is slower: A12 ≤ 0.29, p < 0.05.
    Hinders,
    /// B5 does not find it either.
    Unknown,
}

/// A feature and its effect on one bug.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Need {
    /// Which feature.
    pub feature: Feature,
    /// How much it matters.
    pub effect: Effect,
}

/// A large effect (Vargha and Delaney, 2000).
const LARGE: f64 = 0.71;
const SIGNIFICANT: f64 = 0.05;

const EFAULT: i64 = -14;
const EINVAL: i64 = -22;
const ENOSYS: i64 = -38;

/// Summarises all trials.
pub fn summarise(trials: &[Trial]) -> Summary {
    let mut groups: BTreeMap<GroupKey, Vec<&Trial>> = BTreeMap::new();
    let mut clean = Vec::new();
    let mut unexplained = BTreeMap::new();
    for trial in trials {
        for end in &trial.unexplained {
            *unexplained.entry(format!("{}: {}", end.symptom, end.message)).or_default() +=
                end.tally.executions;
        }
        if trial.task.plants.is_empty() {
            clean.push(Clean {
                target: trial.task.target.clone(),
                seconds: trial.seconds,
                executions: trial.executions,
                bad_ends: trial.bad_ends,
            });
            continue;
        }
        let key = GroupKey {
            target: trial.task.target.clone(),
            corpus: trial.task.corpus,
            one_at_a_time: trial.task.alone.is_some(),
        };
        groups.entry(key).or_default().push(trial);
    }
    let groups = groups.into_iter().map(|(key, trials)| group(key, &trials)).collect();
    Summary { groups, clean, unexplained }
}

fn group(key: GroupKey, trials: &[&Trial]) -> Group {
    let horizon_seconds = trials.iter().map(|t| t.task.cap_seconds as f64).fold(f64::INFINITY, f64::min);
    // A trial that ended because it had found everything says nothing about how far it would have come.
    let horizon_calls = trials
        .iter()
        .filter(|t| t.ended != "all-detected")
        .map(|t| t.calls as f64)
        .fold(f64::INFINITY, f64::min);
    let most_calls = trials.iter().map(|t| t.calls as f64).fold(0.0, f64::max);
    let horizon_calls = if horizon_calls.is_finite() { horizon_calls } else { most_calls };
    let bugs: BTreeSet<String> = trials.iter().flat_map(|trial| trial.bugs.keys().cloned()).collect();
    let modes: BTreeSet<Mode> = trials.iter().map(|trial| trial.task.mode).collect();
    let of = |mode: Mode| trials.iter().copied().filter(|t| t.task.mode == mode).collect::<Vec<_>>();
    let horizons = [horizon_seconds, horizon_calls];
    let best = of(Mode::B5);
    let cells: Vec<Cell> =
        modes.into_iter().map(|mode| cell(mode, &of(mode), &best, &bugs, horizons)).collect();
    let needs = bugs.iter().map(|bug| (bug.clone(), needs(bug, &cells))).collect();
    Group { key, horizon_seconds, horizon_calls, bugs: bugs.into_iter().collect(), cells, needs }
}

fn cell(mode: Mode, trials: &[&Trial], best: &[&Trial], bugs: &BTreeSet<String>, horizons: [f64; 2]) -> Cell {
    let seconds: f64 = trials.iter().map(|t| t.seconds).sum::<f64>().max(1e-9);
    let sum = |count: fn(&Trial) -> u64| trials.iter().map(|t| count(t)).sum::<u64>();
    let mut ambiguous = BTreeMap::new();
    let mut operations: BTreeMap<String, Vec<&Answers>> = BTreeMap::new();
    for trial in trials {
        for (names, count) in &trial.ambiguous {
            *ambiguous.entry(names.clone()).or_default() += count;
        }
        for (name, answers) in &trial.operations {
            operations.entry(name.clone()).or_default().push(answers);
        }
    }
    let bugs: BTreeMap<String, Outcome> =
        bugs.iter().map(|bug| (bug.clone(), outcome(bug, trials, best, horizons))).collect();
    let mut times: Vec<f64> = bugs.values().flat_map(|b| b.by_time.steps.iter().map(|s| s.time)).collect();
    times.sort_by(f64::total_cmp);
    times.dedup();
    let detected_over_time = times
        .into_iter()
        .map(|time| (time, bugs.values().map(|bug| probability(&bug.by_time.steps, time)).sum()))
        .collect();
    let mismatches = trials.iter().filter_map(|t| t.reset_mismatches);
    Cell {
        mode,
        trials: trials.len(),
        executions_per_second: sum(|t| t.executions) as f64 / seconds,
        calls_per_second: sum(|t| t.calls) as f64 / seconds,
        edges: middle(trials.iter().map(|t| t.edges)).unwrap_or(0),
        edges_total: trials.first().map_or(0, |t| t.edges_total),
        detected_over_time,
        bugs,
        ambiguous,
        operations: operations.into_iter().map(|(name, answers)| (name, shares(&answers))).collect(),
        reset_mismatches: mismatches.fold((0, 0), |(a, b), (c, d)| (a + c, b + d)),
        restarts: sum(|t| t.restarts),
        load: trials.iter().map(|t| t.load).fold(0.0, f64::max),
    }
}

/// The median, the lower one of two.
fn middle(values: impl Iterator<Item = usize>) -> Option<usize> {
    let mut values: Vec<usize> = values.collect();
    values.sort_unstable();
    values.get(values.len().saturating_sub(1) / 2).copied()
}

fn shares(answers: &[&Answers]) -> Shares {
    let calls: u64 = answers.iter().map(|a| a.total()).sum();
    let share = |count: u64| if calls == 0 { 0.0 } else { count as f64 / calls as f64 };
    let failed = |errno: i64| share(answers.iter().filter_map(|a| a.failed.get(&errno)).sum());
    Shares {
        calls,
        success: share(answers.iter().map(|a| a.succeeded).sum()),
        efault: failed(EFAULT),
        einval: failed(EINVAL),
        enosys: failed(ENOSYS),
    }
}

/// The trials in which a bug was planted, with what became of it.
fn records<'a>(bug: &'a str, trials: &'a [&Trial]) -> impl Iterator<Item = (&'a Trial, &'a BugRecord)> + 'a {
    trials.iter().filter_map(move |trial| trial.bugs.get(bug).map(|record| (*trial, record)))
}

/// Detections on one axis, censored at the end of each trial and at the horizon.
fn observations(
    bug: &str,
    trials: &[&Trial],
    horizon: f64,
    at: fn(Moment) -> f64,
    end: fn(&Trial) -> f64,
) -> Vec<Observation> {
    records(bug, trials)
        .map(|(trial, record)| match record.detected.first.map(at) {
            Some(time) if time <= horizon => Observation { time, event: true },
            _ => Observation { time: end(trial).min(horizon), event: false },
        })
        .collect()
}

/// Until when a trial would have noticed a detection: it may end a little after its cap, or long before it.
fn time_limit(trial: &Trial) -> f64 {
    let cap = trial.task.cap_seconds as f64;
    if trial.ended == "time" { cap } else { cap.min(trial.seconds) }
}

fn survival(own: &[Observation], best: &[Observation], horizon: f64) -> Survival {
    let steps = kaplan_meier(own);
    // What is censored ties at the horizon, also where a trial came less far.
    let times = |observations: &[Observation]| -> Vec<f64> {
        observations.iter().map(|o| if o.event { o.time } else { horizon }).collect()
    };
    Survival {
        probability: probability(&steps, horizon),
        median: median(&steps),
        restricted_mean: restricted_mean(&steps, horizon),
        b5: compare(&times(best), &times(own)),
        steps,
    }
}

fn outcome(bug: &str, trials: &[&Trial], best: &[&Trial], [seconds, calls]: [f64; 2]) -> Outcome {
    let count = |yes: fn(&BugRecord) -> bool| records(bug, trials).filter(|(_, record)| yes(record)).count();
    let by_time = |trials: &[&Trial]| observations(bug, trials, seconds, |m| m.seconds, time_limit);
    let by_calls =
        |trials: &[&Trial]| observations(bug, trials, calls, |m| m.calls as f64, |t| t.calls as f64);
    let replays = || records(bug, trials).filter_map(|(_, record)| record.replay.as_ref());
    let minimised = || replays().map(|replay| replay.calls);
    Outcome {
        trials: count(|_| true),
        reached: count(|b| b.reached.executions > 0),
        triggered: count(|b| b.triggered.executions > 0),
        detected: count(|b| b.detected.executions > 0),
        undetected_executions: records(bug, trials).map(|(_, b)| b.undetected).sum(),
        interfered_executions: records(bug, trials).map(|(_, b)| b.interfered).sum(),
        by_time: survival(&by_time(trials), &by_time(best), seconds),
        by_calls: survival(&by_calls(trials), &by_calls(best), calls),
        reproduced: replays().fold((0, 0), |(a, b), r| (a + r.reproduced, b + r.runs)),
        minimised: middle(minimised()).zip(minimised().min()),
    }
}

fn needs(bug: &str, cells: &[Cell]) -> Vec<Need> {
    let of = |mode: Mode| cells.iter().find(|cell| cell.mode == mode)?.bugs.get(bug);
    let Some(full) = of(Mode::B5) else { return Vec::new() };
    Feature::ALL
        .into_iter()
        .filter_map(|(feature, mode)| {
            let without = of(mode)?;
            let comparison = without.by_time.b5?;
            let effect = if full.detected == 0 && without.detected == 0 {
                Effect::Unknown
            } else if without.detected == 0 && 2 * full.detected >= full.trials {
                Effect::Needed
            } else if comparison.p < SIGNIFICANT && comparison.a12 >= LARGE {
                Effect::Helps
            } else if comparison.p < SIGNIFICANT && comparison.a12 <= 1.0 - LARGE {
                Effect::Hinders
            } else {
                Effect::None
            };
            Some(Need { feature, effect })
        })
        .collect()
}

#[cfg(test)]
#[path = "summary_tests.rs"]
mod tests;
