//! Two executions of one program on two machines that should be alike: what differs.
//!
//! The outcome, the calls, the edge counters, the console, the work and all of guest memory are compared. Boots need not be
//! alike to the last byte (firmware notes the time of day), so a page that differs is excused where neither execution has
//! written to it: what each machine had in it at its snapshot is known by a hash.

use std::fmt::Write as _;

use serde::Serialize;

use zerocopy::IntoBytes;

use super::symbols::Symbols;
use crate::engine::{
    Execution, Outcome,
    aftermath::{Aftermath, PAGE, page_hash},
};

/// Differences of each kind that are listed; all are counted.
const MOST: usize = 64;
/// Bytes of a page that are shown, from the first that differs on.
const SHOWN: usize = 16;

/// What an execution did, and how it left its machine.
#[derive(Clone, Debug)]
pub struct Observed {
    /// What came of it.
    pub execution: Execution,
    /// Guest memory afterwards.
    pub left: Aftermath,
}

/// What the two machines said about one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Both<T> {
    /// The machine that is checked.
    pub worker: T,
    /// A machine that was booted for the comparison.
    pub fresh: T,
}

/// An edge counter that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counter {
    /// Which one.
    pub edge: usize,
    /// How often the edge was taken, modulo 256.
    #[serde(flatten)]
    pub taken: Both<u8>,
    /// Where it is in the hypervisor.
    pub place: String,
}

/// A page of guest memory that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Page {
    /// Physical address of the page.
    pub address: usize,
    /// Bytes that differ.
    pub bytes: usize,
    /// Physical address of the first byte that differs.
    pub first: usize,
    /// Bytes from there on, in hexadecimal.
    #[serde(flatten)]
    pub content: Both<String>,
    /// What the hypervisor has there, if it is its own memory.
    pub place: Option<String>,
}

/// What differs between two executions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// How they ended, if that differs.
    pub outcome: Option<Both<String>>,
    /// Calls whose results differ: position, and what was reported.
    pub calls: Vec<(usize, Both<String>)>,
    /// Other things that differ, in words.
    pub others: Vec<String>,
    /// Edge counters that differ, the first of them.
    pub counters: Vec<Counter>,
    /// How many do.
    pub counters_total: usize,
    /// Pages of guest memory that differ, the first of them.
    pub pages: Vec<Page>,
    /// How many do.
    pub pages_total: usize,
}

impl Difference {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// True where two executions of a program that ends like this leave the same memory. The others are ended from outside, at
/// a moment that depends on the host.
fn leaves_the_same(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Done | Outcome::Idle | Outcome::Crash)
}

/// Compares what a worker's machine did with what a fresh one did; none if nothing differs that has to be the same.
#[must_use]
pub fn compare(worker: &Observed, fresh: &Observed, symbols: &Symbols) -> Option<Difference> {
    let (ours, theirs) = (&worker.execution, &fresh.execution);
    let mut difference = Difference::default();
    if ours.outcome != theirs.outcome {
        let [worker, fresh] = [ours, theirs].map(|execution| format!("{:?}", execution.outcome));
        difference.outcome = Some(Both { worker, fresh });
    }
    if ours.outcome != Outcome::Runaway || theirs.outcome != Outcome::Runaway {
        for index in 0..ours.calls.len().max(theirs.calls.len()) {
            let (a, b) = (ours.calls.get(index), theirs.calls.get(index));
            if a != b {
                let [worker, fresh] =
                    [a, b].map(|call| call.map_or("(none)".to_owned(), |c| format!("{c:?}")));
                difference.calls.push((index, Both { worker, fresh }));
            }
        }
    }
    if leaves_the_same(ours.outcome) && leaves_the_same(theirs.outcome) {
        compare_rest(worker, fresh, symbols, &mut difference);
    }
    (!difference.is_empty()).then_some(difference)
}

/// Compares everything that does not depend on when an execution was ended.
fn compare_rest(worker: &Observed, fresh: &Observed, symbols: &Symbols, difference: &mut Difference) {
    let (ours, theirs) = (&worker.execution, &fresh.execution);
    for (edge, (a, b)) in ours.counters.iter().zip(&theirs.counters).enumerate().filter(|(_, (a, b))| a != b)
    {
        difference.counters_total += 1;
        if difference.counters.len() < MOST {
            let taken = Both { worker: *a, fresh: *b };
            difference.counters.push(Counter { edge, taken, place: symbols.counter(edge) });
        }
    }
    let texts = [ours, theirs].map(|execution| String::from_utf8_lossy(&execution.console));
    if texts[0] != texts[1] {
        difference.others.push(format!("console: {:?} / {:?}", texts[0], texts[1]));
    }
    let record = |execution: &Execution| execution.crash.as_ref().map(|record| record.as_bytes().to_vec());
    if record(ours) != record(theirs) {
        difference.others.push("the crash record".into());
    }
    if ours.corrupt != theirs.corrupt {
        difference.others.push(format!("nonsense in the ring: {} / {}", ours.corrupt, theirs.corrupt));
    }
    if ours.blocks != theirs.blocks {
        difference.others.push(format!("translated blocks: {} / {}", ours.blocks, theirs.blocks));
    }
    let (a, b) = (&worker.left, &fresh.left);
    if a.memory.len() != b.memory.len() {
        difference.others.push(format!("bytes of memory: {} / {}", a.memory.len(), b.memory.len()));
    }
    for (index, (left, right)) in a.memory.chunks(PAGE).zip(b.memory.chunks(PAGE)).enumerate() {
        let untouched = || {
            let (before, after) = (a.pristine.get(index), b.pristine.get(index));
            before == Some(&page_hash(left)) && after == Some(&page_hash(right)) && before != after
        };
        if left != right && !untouched() {
            difference.pages_total += 1;
            if difference.pages.len() < MOST {
                difference.pages.push(page(index * PAGE, left, right, symbols));
            }
        }
    }
}

/// Describes a page that differs.
fn page(address: usize, left: &[u8], right: &[u8], symbols: &Symbols) -> Page {
    let differs = |(a, b): &(&u8, &u8)| a != b;
    let bytes = left.iter().zip(right).filter(differs).count();
    let at = left.iter().zip(right).position(|pair| differs(&pair)).unwrap_or(0);
    let [worker, fresh] = [left, right].map(|content| {
        content.iter().skip(at).take(SHOWN).fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    });
    let first = address + at;
    Page { address, bytes, first, content: Both { worker, fresh }, place: symbols.data_at(first as u64) }
}

impl Difference {
    /// One line.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        if let Some(Both { worker, fresh }) = &self.outcome {
            parts.push(format!("outcome {worker} instead of {fresh}"));
        }
        if !self.calls.is_empty() {
            parts.push(format!("{} calls", self.calls.len()));
        }
        if self.counters_total > 0 {
            parts.push(format!("{} edge counters", self.counters_total));
        }
        if self.pages_total > 0 {
            parts.push(format!("{} pages of memory", self.pages_total));
        }
        if !self.others.is_empty() {
            parts.push(self.others.join(", "));
        }
        parts.join("; ")
    }

    /// All of it, for people.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        if let Some(Both { worker, fresh }) = &self.outcome {
            let _ = writeln!(out, "outcome\n  worker {worker}\n  fresh  {fresh}\n");
        }
        if !self.calls.is_empty() {
            let _ = writeln!(out, "calls");
            for (index, Both { worker, fresh }) in &self.calls {
                let _ = writeln!(out, "  #{index}\n    worker {worker}\n    fresh  {fresh}");
            }
            out.push('\n');
        }
        for other in &self.others {
            let _ = writeln!(out, "differs  {other} (worker / fresh)");
        }
        if self.counters_total > 0 {
            let _ = writeln!(out, "edge counters: {} differ", self.counters_total);
            for Counter { edge, taken: Both { worker, fresh }, place } in &self.counters {
                let _ = writeln!(out, "  {edge:>6}  worker {worker:>3}  fresh {fresh:>3}  {place}");
            }
            out.push('\n');
        }
        if self.pages_total > 0 {
            let _ = writeln!(out, "pages of guest memory: {} differ", self.pages_total);
            for Page { address, bytes, first, content: Both { worker, fresh }, place } in &self.pages {
                let _ = writeln!(
                    out,
                    "  {address:08x}  {bytes:>4} bytes, from {first:08x} on{}\n    worker {worker}\n    fresh  {fresh}",
                    place.as_ref().map_or_else(String::new, |place| format!(" ({place})"))
                );
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::aftermath::page_hashes, images};

    fn observed(outcome: Outcome) -> Observed {
        let memory = vec![7; 4 * PAGE];
        let left = Aftermath { pristine: page_hashes(&memory).into(), memory };
        Observed { execution: Execution { outcome, counters: vec![0; 64], ..Execution::default() }, left }
    }

    #[test]
    fn each_thing_that_differs_is_named() {
        let symbols = Symbols::from_elf(images::HYPERVISOR).unwrap();
        let fresh = observed(Outcome::Done);
        assert_eq!(compare(&fresh, &fresh, &symbols), None);
        let mut worker = fresh.clone();
        worker.execution.counters[5] = 3;
        worker.execution.blocks = 9;
        worker.left.memory[2 * PAGE + 17] = 0xab;
        let difference = compare(&worker, &fresh, &symbols).unwrap();
        assert_eq!(difference.summary(), "1 edge counters; 1 pages of memory; translated blocks: 9 / 0");
        let [counter] = difference.counters.as_slice() else { panic!("{difference:?}") };
        assert_eq!((counter.edge, &counter.taken), (5, &Both { worker: 3, fresh: 0 }));
        assert!(counter.place.contains(".rs:"), "{}", counter.place);
        let [page] = difference.pages.as_slice() else { panic!("{difference:?}") };
        assert_eq!((page.address, page.bytes, page.first), (2 * PAGE, 1, 2 * PAGE + 17));
        assert!(page.content.worker.starts_with("ab07") && page.content.fresh.starts_with("0707"));
        for word in ["edge counters: 1", "worker   3  fresh   0", "00002000", "translated blocks"] {
            assert!(difference.render().contains(word), "no {word} in\n{}", difference.render());
        }
    }

    #[test]
    fn pages_that_differ_from_boot_on_are_excused_until_they_are_written() {
        let symbols = Symbols::from_elf(images::HYPERVISOR).unwrap();
        let fresh = observed(Outcome::Done);
        let mut worker = fresh.clone();
        worker.left.memory[3] = 1;
        worker.left.pristine = page_hashes(&worker.left.memory).into();
        assert_eq!(compare(&worker, &fresh, &symbols), None);
        worker.left.memory[4] = 1;
        assert_eq!(compare(&worker, &fresh, &symbols).unwrap().pages_total, 1);
    }

    #[test]
    fn what_depends_on_the_hosts_clock_is_not_compared() {
        let symbols = Symbols::from_elf(images::HYPERVISOR).unwrap();
        for outcome in [Outcome::Runaway, Outcome::Hang] {
            let fresh = observed(outcome);
            let mut worker = fresh.clone();
            worker.left.memory[3] = 1;
            worker.execution.blocks = 1;
            assert_eq!(compare(&worker, &fresh, &symbols), None);
            worker.execution.outcome = Outcome::Done;
            assert!(compare(&worker, &fresh, &symbols).unwrap().outcome.is_some());
        }
    }
}
