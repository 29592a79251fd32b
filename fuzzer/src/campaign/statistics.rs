//! What a session has done: counters that reports, the live line and metrics read.

use std::collections::BTreeMap;

use coverage_hypercall::program::Status;
use serde::Serialize;

use crate::{
    engine::{Execution, Outcome},
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
}

/// Counters of one operation.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Operation {
    /// Calls that returned zero or more.
    pub succeeded: u64,
    /// Calls that returned a negative number, by that number.
    pub failed: BTreeMap<i64, u64>,
    /// Calls that raised an exception in the guest.
    pub faulted: u64,
    /// Calls whose domain could not run, or that the agent refused.
    pub not_issued: u64,
}

impl Operation {
    /// Calls that reached the hypervisor and came back.
    pub fn returned(&self) -> u64 {
        self.succeeded + self.failed.values().sum::<u64>()
    }
}

impl Statistics {
    /// Adds one execution of a program whose calls are of these operations.
    pub fn record(&mut self, operations: &[&'static str], execution: &Execution) {
        self.executions += 1;
        self.idle += u64::from(execution.outcome == Outcome::Idle);
        self.runaway += u64::from(execution.outcome == Outcome::Runaway);
        self.corrupt += u64::from(execution.corrupt);
        for result in &execution.calls {
            let Some(name) = operations.get(usize::from(result.call)) else { continue };
            let operation = self.operations.entry(name).or_default();
            match result.status {
                Status::Returned(value) if value < 0 => {
                    *operation.failed.entry(value).or_default() += 1;
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

    /// Counts an execution that ended in a bucket.
    pub fn crashed(&mut self, bucket: &Bucket) {
        *self.crashes.entry(bucket.clone()).or_default() += 1;
    }
}
