//! What all workers have done, from what each reports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    campaign::{
        check::Tally,
        statistics::{Operation, Statistics},
    },
    interface::interface,
    triage::bucket::Bucket,
};

/// What one worker has done since it began; its edges since it last said so.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// Programs that were executed.
    pub executions: u64,
    calls: u64,
    restarts: u64,
    idle: u64,
    runaway: u64,
    corrupt: u64,
    crashes: Vec<(Bucket, u64)>,
    operations: Vec<(String, Operation)>,
    checks: Tally,
    /// Edges that it covered for the first time, with the operations that did.
    first: Vec<(u32, Vec<String>)>,
    /// Edges that its corpus covers now and did not before.
    covered: Vec<u32>,
}

impl Report {
    /// What a worker has to say: of the edges in its statistics those after the first `told`.
    pub(super) fn new(statistics: &Statistics, checks: Tally, told: usize, covered: Vec<u32>) -> Self {
        let first = statistics
            .first
            .get(told..)
            .unwrap_or_default()
            .iter()
            .map(|(edge, names)| (*edge, names.iter().map(|name| (*name).to_owned()).collect()));
        let operations = statistics.operations.iter();
        Self {
            executions: statistics.executions,
            calls: statistics.calls,
            restarts: statistics.restarts,
            idle: statistics.idle,
            runaway: statistics.runaway,
            corrupt: statistics.corrupt,
            crashes: statistics.crashes.iter().map(|(bucket, count)| (bucket.clone(), *count)).collect(),
            operations: operations.map(|(name, counters)| ((*name).to_owned(), counters.clone())).collect(),
            checks,
            first: first.collect(),
            covered,
        }
    }
}

/// Sums over all workers that there were.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// The last report of each worker, by its place and how many there had been in it.
    reports: BTreeMap<(u32, u32), Report>,
    /// Edges: these are not added but united.
    united: Statistics,
    covered: Vec<bool>,
}

/// Edges of a target at most: a worker that says otherwise is out of its mind.
const MAX_EDGES: usize = 1 << 20;

impl Totals {
    /// Takes a report.
    pub(super) fn heard(&mut self, worker: (u32, u32), mut report: Report) {
        for (edge, names) in std::mem::take(&mut report.first) {
            let names: Vec<_> =
                names.iter().filter_map(|name| interface().by_name(name)).map(|o| o.name).collect();
            if (edge as usize) < MAX_EDGES {
                self.united.cover_edge(edge, &names);
            }
        }
        for edge in std::mem::take(&mut report.covered) {
            let edge = edge as usize;
            if edge < MAX_EDGES {
                self.covered.resize(self.covered.len().max(edge + 1), false);
                self.covered[edge] = true;
            }
        }
        self.reports.insert(worker, report);
    }

    /// Programs that one worker has executed.
    pub(super) fn executions_of(&self, worker: (u32, u32)) -> u64 {
        self.reports.get(&worker).map_or(0, |report| report.executions)
    }

    /// Programs that all have executed.
    pub(super) fn executions(&self) -> u64 {
        self.reports.values().map(|report| report.executions).sum()
    }

    /// Checks of all machines.
    pub(super) fn checks(&self) -> Tally {
        let mut sum = Tally::default();
        self.reports.values().for_each(|report| sum.add(report.checks));
        sum
    }

    /// Everything added up, for a corpus of so many programs.
    pub(super) fn statistics(&self, corpus: usize) -> Statistics {
        let mut sum = self.united.clone();
        sum.corpus = corpus;
        sum.edges = self.covered.iter().filter(|covered| **covered).count();
        for report in self.reports.values() {
            sum.executions += report.executions;
            sum.calls += report.calls;
            sum.restarts += report.restarts;
            sum.idle += report.idle;
            sum.runaway += report.runaway;
            sum.corrupt += report.corrupt;
            for (bucket, count) in &report.crashes {
                *sum.crashes.entry(bucket.clone()).or_default() += count;
            }
            for (name, counters) in &report.operations {
                if let Some(operation) = interface().by_name(name) {
                    sum.operations.entry(operation.name).or_default().add(counters);
                }
            }
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        engine::{CallResult, Execution},
        program::text,
    };
    use coverage_hypercall::program::Status;

    fn run(statistics: &mut Statistics, source: &str, edges: &[usize]) {
        let program = text::parse(source).unwrap();
        let mut execution = Execution { counters: vec![0; 8], ..Execution::default() };
        edges.iter().for_each(|edge| execution.counters[*edge] = 1);
        execution.calls = vec![CallResult { call: 0, status: Status::Returned(0), changes: Vec::new() }];
        statistics.record(&program.operations(), Some(&program), &execution);
    }

    #[test]
    fn calls_add_up_and_edges_unite() {
        let (mut left, mut right) = (Statistics::default(), Statistics::default());
        run(&mut left, "d1 sched_op.yield()", &[1, 2]);
        run(&mut right, "d1 sched_op.yield()", &[2, 3]);
        let mut totals = Totals::default();
        totals.heard((0, 0), Report::new(&left, Tally::default(), 0, vec![1, 2]));
        totals.heard((1, 0), Report::new(&right, Tally { passed: 1, ..Tally::default() }, 0, vec![2]));
        // The same worker again: its counters replace the old ones, its edges are those since then.
        run(&mut left, "d1 sched_op.block()", &[4]);
        totals.heard((0, 0), Report::new(&left, Tally::default(), 2, vec![4]));
        // A worker that took the place of another adds to it.
        totals.heard((1, 1), Report::new(&right, Tally::default(), 0, vec![2]));
        let sum = totals.statistics(9);
        assert_eq!((sum.executions, sum.calls, sum.edges, sum.corpus), (4, 4, 3, 9));
        assert_eq!((totals.executions(), totals.executions_of((0, 0))), (4, 2));
        assert_eq!(sum.first.iter().map(|(edge, _)| *edge).collect::<Vec<_>>(), [1, 2, 3, 4]);
        let of = |name: &str| &sum.operations[name];
        assert_eq!((of("sched_op.yield").succeeded, of("sched_op.yield").edges), (3, 3));
        assert_eq!((of("sched_op.block").succeeded, of("sched_op.block").edges), (1, 1));
        assert_eq!(totals.checks().passed, 1);
    }
}
