//! What all workers have done, from what each reports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    campaign::{
        check::Tally,
        statistics::{Operation, Statistics},
    },
    interface::known,
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

impl Report {
    /// Adds its counters, all but the edges.
    fn add_to(&self, sum: &mut Statistics) {
        sum.executions += self.executions;
        sum.calls += self.calls;
        sum.restarts += self.restarts;
        sum.idle += self.idle;
        sum.runaway += self.runaway;
        sum.corrupt += self.corrupt;
        for (bucket, count) in &self.crashes {
            *sum.crashes.entry(bucket.clone()).or_default() += count;
        }
        for (name, counters) in &self.operations {
            if let Some(operation) = known().by_name(name) {
                sum.operations.entry(operation.name).or_default().add(counters);
            }
        }
    }
}

/// Sums over all workers that there were.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// The last report of the worker in each place, by that and how many there had been in it before.
    reports: BTreeMap<(u32, u32), Report>,
    /// Workers that others have taken the place of. Edges of all: these are not added but united.
    united: Statistics,
    /// Checks of those workers.
    checks: Tally,
    covered: Vec<bool>,
}

/// Edges of a target at most: a worker that says otherwise is out of its mind.
const MAX_EDGES: usize = 1 << 20;

impl Totals {
    /// Takes a report.
    pub(super) fn heard(&mut self, worker: (u32, u32), mut report: Report) {
        for (edge, names) in std::mem::take(&mut report.first) {
            let names: Vec<_> =
                names.iter().filter_map(|name| known().by_name(name)).map(|o| o.name).collect();
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
        let (place, generation) = worker;
        if self
            .reports
            .range((place, generation)..=(place, u32::MAX))
            .any(|((_, other), _)| *other > generation)
        {
            return;
        }
        // Whose place is taken has nothing more to say: thousands of them shall not be remembered one by one.
        while let Some((&gone, _)) = self.reports.range((place, 0)..(place, generation)).next() {
            if let Some(report) = self.reports.remove(&gone) {
                report.add_to(&mut self.united);
                self.checks.add(report.checks);
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
        self.united.executions + self.reports.values().map(|report| report.executions).sum::<u64>()
    }

    /// Checks of all machines.
    pub(super) fn checks(&self) -> Tally {
        let mut sum = self.checks;
        self.reports.values().for_each(|report| sum.add(report.checks));
        sum
    }

    /// Everything added up, for a corpus of so many programs.
    pub(super) fn statistics(&self, corpus: usize) -> Statistics {
        let mut sum = self.united.clone();
        sum.corpus = corpus;
        sum.edges = self.covered.iter().filter(|covered| **covered).count();
        self.reports.values().for_each(|report| report.add_to(&mut sum));
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
    fn workers_that_were_replaced_are_counted_and_forgotten() {
        let mut statistics = Statistics::default();
        run(&mut statistics, "d1 sched_op.yield()", &[1]);
        let tally = Tally { passed: 1, ..Tally::default() };
        let mut totals = Totals::default();
        for generation in 0..5_000 {
            for place in 0..2 {
                totals.heard((place, generation), Report::new(&statistics, tally, 0, vec![1]));
            }
        }
        assert_eq!(totals.reports.len(), 2);
        let sum = totals.statistics(1);
        assert_eq!((totals.executions(), sum.executions, sum.calls, sum.edges), (10_000, 10_000, 10_000, 1));
        assert_eq!(sum.operations["sched_op.yield"].succeeded, 10_000);
        assert_eq!((totals.checks().passed, totals.executions_of((1, 4_999))), (10_000, 1));
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
