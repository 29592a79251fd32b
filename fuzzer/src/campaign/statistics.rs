//! What a session has done: counters that reports, the live line and metrics read.

use std::{collections::BTreeMap, time::Duration};

use coverage_hypercall::program::Status;
use serde::{Deserialize, Serialize};

use crate::{
    engine::{Execution, Outcome, Split},
    program::{Call, Program, model::Value, walk},
    triage::bucket::Bucket,
};

/// Counters of one session.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Statistics {
    /// Programs that were executed.
    pub executions: u64,
    /// Calls in those programs that came back, or faulted in the guest.
    pub calls: u64,
    /// Edges of the hypervisor that the corpus covers.
    pub edges: usize,
    /// Programs in the corpus.
    pub corpus: usize,
    /// Machines that had to be replaced.
    pub restarts: u64,
    /// Executions after which no vCPU could run.
    pub idle: u64,
    /// Executions in which a guest ran on without end.
    pub runaway: u64,
    /// Executions that left nonsense in the completion ring.
    pub corrupt: u64,
    /// Executions in each bucket.
    pub crashes: BTreeMap<Bucket, u64>,
    /// Per operation.
    pub operations: BTreeMap<&'static str, Operation>,
    /// Where the engine's time went.
    #[serde(skip)]
    pub split: Split,
    /// Time in which programs were lowered.
    #[serde(skip)]
    pub lowering: Duration,
    /// Edges in the order in which they were first covered, with the operations of the program that did it.
    #[serde(skip)]
    pub first: Vec<(u32, Vec<&'static str>)>,
    /// Edges that are in there.
    #[serde(skip)]
    seen: Seen,
}

/// A byte for each edge: all ones for those that were covered.
#[derive(Clone, Debug, Default)]
struct Seen(Vec<u8>);

impl Seen {
    /// Counters that are looked at together: what the compiler makes of it has no branch for each of them.
    const GROUP: usize = 64;

    /// True where these counters cover an edge that is not there.
    fn lacks(&self, counters: &[u8]) -> bool {
        let groups = counters.chunks(Self::GROUP).zip(self.0.chunks(Self::GROUP));
        let new = |(counts, seen): (&[u8], &[u8])| {
            counts.iter().zip(seen).fold(0, |new, (count, seen)| new | (count & !seen)) != 0
        };
        counters.len() > self.0.len() || groups.into_iter().any(new)
    }

    /// Takes an edge. True where it was not there.
    fn take(&mut self, edge: usize) -> bool {
        if self.0.len() <= edge {
            self.0.resize(edge + 1, 0);
        }
        std::mem::replace(&mut self.0[edge], u8::MAX) == 0
    }
}

/// Different negative values of an operation that are counted one by one: Xen has not half as many error numbers.
const VALUES: usize = 256;
/// What all others are counted as. No error number is so low.
pub const OTHER_VALUES: i64 = i64::MIN;

/// Counters of one operation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Calls that returned zero or more.
    pub succeeded: u64,
    /// Calls that returned a negative number, by that number; [`OTHER_VALUES`] where there are very many.
    pub failed: BTreeMap<i64, u64>,
    /// Calls that raised an exception in the guest.
    pub faulted: u64,
    /// Calls whose domain could not run, or that the agent refused.
    pub not_issued: u64,
    /// Edges that no program had covered before one in which the operation occurs. Such an edge counts for each operation of that
    /// program, since nobody knows which of them it was.
    #[serde(default)]
    pub edges: u64,
}

impl Operation {
    /// Calls that reached the hypervisor and came back.
    pub fn returned(&self) -> u64 {
        self.succeeded + self.failed.values().sum::<u64>()
    }

    /// Counts calls that returned this negative number.
    fn fail(&mut self, value: i64, count: u64) {
        let known = self.failed.contains_key(&value) || self.failed.len() < VALUES;
        *self.failed.entry(if known { value } else { OTHER_VALUES }).or_default() += count;
    }

    /// Adds the calls of another session. Edges are not added: both sessions may have covered the same.
    pub fn add(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        for (value, count) in &other.failed {
            self.fail(*value, *count);
        }
        self.faulted += other.faulted;
        self.not_issued += other.not_issued;
    }
}

impl Statistics {
    /// Adds one execution whose calls are of these operations, and the program where there is a typed one.
    pub fn record(&mut self, operations: &[&'static str], program: Option<&Program>, execution: &Execution) {
        self.executions += 1;
        self.idle += u64::from(execution.outcome == Outcome::Idle);
        self.runaway += u64::from(execution.outcome == Outcome::Runaway);
        self.corrupt += u64::from(execution.corrupt);
        self.cover(operations, program, &execution.counters);
        if execution.outcome == Outcome::Runaway {
            // How many calls came back depends on when the guest was noticed.
            return;
        }
        for result in &execution.calls {
            let Some(name) = operations.get(usize::from(result.call)) else { continue };
            let operation = self.operations.entry(name).or_default();
            match result.status {
                Status::Returned(value) if value < 0 => {
                    operation.fail(value, 1);
                    self.calls += 1;
                }
                Status::Returned(_) => {
                    operation.succeeded += 1;
                    self.calls += 1;
                }
                Status::Faulted { .. } => {
                    operation.faulted += 1;
                    self.calls += 1;
                }
                Status::Skipped | Status::Rejected(_) => operation.not_issued += 1,
            }
        }
    }

    /// Notes edges that no program has covered before.
    fn cover(&mut self, operations: &[&'static str], program: Option<&Program>, counters: &[u8]) {
        // Nearly always there is nothing new, and this is all that it costs.
        if !self.seen.lacks(counters) {
            return;
        }
        self.seen.0.resize(self.seen.0.len().max(counters.len()), 0);
        let names = operations_of(operations, program);
        for name in &names {
            self.operations.entry(name).or_default();
        }
        for (edge, count) in counters.iter().enumerate() {
            if *count != 0 {
                // Counters are counted in 32 bits everywhere.
                self.cover_edge(edge as u32, &names);
            }
        }
    }

    /// Notes that programs with these operations cover an edge, unless others were faster.
    pub(super) fn cover_edge(&mut self, edge: u32, names: &[&'static str]) {
        if self.seen.take(edge as usize) {
            self.first.push((edge, names.to_vec()));
            for name in names {
                self.operations.entry(name).or_default().edges += 1;
            }
        }
    }

    /// Counts an execution that ended in a bucket.
    pub fn crashed(&mut self, bucket: &Bucket) {
        *self.crashes.entry(bucket.clone()).or_default() += 1;
    }
}

/// Names of the operations of these calls and of those in the program's multicalls, each once.
fn operations_of(calls: &[&'static str], program: Option<&Program>) -> Vec<&'static str> {
    let mut names = calls.to_vec();
    for call in program.into_iter().flat_map(|program| &program.calls) {
        let Call { op, mut args, .. } = call.clone();
        walk::values_mut(op, &mut args, &mut |_, value| {
            if let Value::Entry(entry) = value {
                names.push(entry.op.operation().name);
            }
        });
    }
    names.sort_unstable();
    names.dedup();
    names
}
