//! What a campaign has done with each operation, over all of its sessions: the file `operations.json`.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{
    check::Tally,
    json,
    statistics::{Operation, Statistics},
    store::{StoreError, write_atomically},
};

/// Name of the file in a campaign's directory.
const NAME: &str = "operations.json";

/// The record of a campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Programs that were executed.
    pub executions: u64,
    /// Edges that the target has.
    pub edges_total: usize,
    /// Edges that some program has covered, in ascending order.
    pub covered: Vec<u32>,
    /// Per operation, by its name.
    pub operations: BTreeMap<String, Operation>,
    /// For each edge in `covered`, the operations of the program that covered it first: positions in `names`.
    #[serde(default)]
    pub by: Vec<Vec<u16>>,
    /// Names of operations, in the order in which they were met.
    #[serde(default)]
    pub names: Vec<String>,
    /// What was done besides.
    #[serde(default)]
    pub counters: Counters,
}

/// What a campaign has done that no operation is to blame or to praise for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counters {
    /// Calls that came back, or faulted in the guest.
    pub calls: u64,
    /// Executions that ended in a bucket.
    pub crashes: u64,
    /// Buckets with a confirmed finding.
    pub findings: u64,
    /// Machines that had to be replaced.
    pub restarts: u64,
    /// Checks of machines.
    pub checks: Tally,
    /// Time that sessions took.
    pub time: Duration,
}

impl Record {
    /// What lies in a campaign's directory; nothing where it has recorded nothing yet.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn load(campaign: &Path) -> Result<Option<Self>, StoreError> {
        json::read(&campaign.join(NAME))
    }

    /// Puts it into a campaign's directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store(&self, campaign: &Path) -> Result<(), StoreError> {
        let path: PathBuf = campaign.join(NAME);
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        write_atomically(&path, text.as_bytes())
    }

    /// The operations of the program that covered an edge first.
    pub fn covered_by(&self, edge: u32) -> impl Iterator<Item = &str> {
        let place = self.covered.binary_search(&edge).ok();
        let positions = place.and_then(|place| self.by.get(place)).map_or(&[][..], Vec::as_slice);
        positions.iter().filter_map(|at| self.names.get(usize::from(*at)).map(String::as_str))
    }

    /// This record with the statistics of a session added to it. An edge that an earlier session has covered is not counted again.
    pub fn with(&self, session: &Statistics, edges_total: usize) -> Self {
        let mut sum = self.clone();
        sum.executions += session.executions;
        sum.edges_total = edges_total;
        sum.counters.calls += session.calls;
        sum.counters.crashes += session.crashes.values().sum::<u64>();
        sum.counters.restarts += session.restarts;
        for (name, counters) in &session.operations {
            sum.operations.entry((*name).to_owned()).or_default().add(counters);
        }
        // A record of before this was kept has nothing to say of its edges.
        sum.by.resize(sum.covered.len(), Vec::new());
        let mut edges: Vec<_> =
            std::mem::take(&mut sum.covered).into_iter().zip(std::mem::take(&mut sum.by)).collect();
        // There are some hundred operations.
        let mut at: HashMap<String, u16> = sum.names.iter().cloned().zip(0..).collect();
        for (edge, names) in
            session.first.iter().filter(|(edge, _)| self.covered.binary_search(edge).is_err())
        {
            let mut positions = Vec::with_capacity(names.len());
            for name in names {
                if !at.contains_key(*name) {
                    at.insert((*name).to_owned(), sum.names.len() as u16);
                    sum.names.push((*name).to_owned());
                }
                positions.push(at[*name]);
                sum.operations.entry((*name).to_owned()).or_default().edges += 1;
            }
            edges.push((*edge, positions));
        }
        edges.sort_unstable_by_key(|(edge, _)| *edge);
        (sum.covered, sum.by) = edges.into_iter().unzip();
        sum
    }
}

#[cfg(test)]
mod tests {
    use coverage_hypercall::program::Status;

    use super::*;
    use crate::{
        engine::{CallResult, Execution},
        program::text,
    };

    fn session(source: &str, value: i64, edges: &[usize]) -> Statistics {
        let program = text::parse(source).unwrap();
        let mut execution = Execution { counters: vec![0; 8], ..Execution::default() };
        for edge in edges {
            execution.counters[*edge] = 1;
        }
        execution.calls = vec![CallResult { call: 0, status: Status::Returned(value), changes: Vec::new() }];
        let mut statistics = Statistics::default();
        let names: Vec<_> = program.calls.iter().map(|call| call.op.operation().name).collect();
        statistics.record(&names, Some(&program), &execution);
        statistics
    }

    #[test]
    fn sessions_add_up_and_edges_count_once() {
        let first = session("d1 sched_op.yield()", 0, &[1, 5]);
        let second = session("d1 sched_op.block()", -22, &[1, 2]);
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Record::load(dir.path()).unwrap(), None);
        Record::default().with(&first, 8).store(dir.path()).unwrap();
        let record = Record::load(dir.path()).unwrap().unwrap().with(&second, 8);
        assert_eq!((record.executions, record.counters.calls, record.edges_total), (2, 2, 8));
        assert_eq!(record.covered, [1, 2, 5]);
        let by: Vec<_> =
            record.covered.iter().map(|edge| record.covered_by(*edge).collect::<Vec<_>>()).collect();
        assert_eq!(by, [["sched_op.yield"], ["sched_op.block"], ["sched_op.yield"]]);
        assert_eq!(record.covered_by(3).count(), 0);
        let of = |name: &str| &record.operations[name];
        assert_eq!((of("sched_op.yield").succeeded, of("sched_op.yield").edges), (1, 2));
        assert_eq!((of("sched_op.block").failed[&-22], of("sched_op.block").edges), (1, 1));
    }

    #[test]
    fn an_edge_counts_for_each_operation_of_its_program() {
        let both = session("d1 sched_op.yield()\nd1 multicall.multicall(&[sched_op.block()], 1)", 0, &[3]);
        let record = Record::default().with(&both, 8);
        for name in ["sched_op.yield", "multicall.multicall", "sched_op.block"] {
            assert_eq!(record.operations[name].edges, 1, "{name}");
        }
    }

    #[test]
    fn a_record_without_the_newer_counters_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let old = r#"{"executions":5,"edges_total":8,"covered":[1],"operations":{}}"#;
        std::fs::write(dir.path().join(NAME), old).unwrap();
        let record = Record::load(dir.path()).unwrap().unwrap();
        assert_eq!((record.executions, record.counters), (5, Counters::default()));
    }

    #[test]
    fn a_damaged_record_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NAME), "{\"executions\": []}").unwrap();
        assert!(Record::load(dir.path()).unwrap_err().to_string().contains(NAME));
    }
}
