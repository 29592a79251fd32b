//! The table of operations: what was called, what it answered, what was never reached.

use std::fmt::Write;

use serde::Serialize;

use crate::{
    campaign::statistics::{OTHER_VALUES, Operation, Statistics},
    interface::Interface,
    program::transcript::errno,
};

/// A row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `family.operation`.
    pub name: String,
    /// Whether a call of it came back from the hypervisor.
    pub reached: bool,
    /// Whether a call of it succeeded.
    pub succeeded: bool,
    /// What the calls came to.
    #[serde(flatten)]
    pub counters: Operation,
}

/// One row for each operation that the fuzzer knows, in the order of the interface.
pub fn rows(interface: &Interface, statistics: &Statistics) -> Vec<Row> {
    interface
        .operations()
        .iter()
        .map(|operation| {
            let counters = statistics.operations.get(operation.name).cloned().unwrap_or_default();
            Row {
                name: operation.name.to_owned(),
                reached: counters.returned() > 0 || counters.faulted > 0,
                succeeded: counters.succeeded > 0,
                counters,
            }
        })
        .collect()
}

/// Negative return values and how often there were, the most frequent first.
pub(super) fn by_frequency(counters: &Operation) -> Vec<(i64, u64)> {
    let mut errors: Vec<_> = counters.failed.iter().map(|(value, count)| (*value, *count)).collect();
    errors.sort_by_key(|&(value, count)| (std::cmp::Reverse(count), value));
    errors
}

/// The name of a negative return value, or the number where it has none.
pub(super) fn error_name(value: i64) -> String {
    if value == OTHER_VALUES {
        return "others".into();
    }
    errno(value).map_or_else(|| value.to_string(), Into::into)
}

/// The table as text.
pub fn render(rows: &[Row]) -> String {
    let mut out = String::new();
    let width = rows.iter().map(|r| r.name.len()).max().unwrap_or(0);
    for row in rows {
        let state = match (row.reached, row.succeeded) {
            (true, true) => "reached",
            (true, false) => "never succeeded",
            (false, _) => "NOT REACHED",
        };
        let _ = write!(out, "  {:width$}  {state:15}  {:>9} ok", row.name, row.counters.succeeded);
        for (value, count) in by_frequency(&row.counters).into_iter().take(4) {
            let _ = write!(out, "  {} {count}", error_name(value));
        }
        if row.counters.faulted > 0 {
            let _ = write!(out, "  faulted {}", row.counters.faulted);
        }
        out.push('\n');
    }
    out
}
