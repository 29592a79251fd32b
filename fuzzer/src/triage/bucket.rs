//! Buckets: which misbehaviours are the same defect.
//!
//! A bucket is the kind of misbehaviour and where it happened. *Where* is the innermost functions of the hypervisor's
//! own code, inlining and generic parameters undone, so that it survives a rebuild; for an oracle, which always reports
//! from the same place, and for a hang, which leaves no stack, it is the operation that was being carried out.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use coverage_hypercall::crash::{CrashKind, CrashRecord};
use serde::{Deserialize, Serialize};

use super::symbols::{Symbols, without_generics};
use crate::{
    engine::{Execution, Outcome},
    program::Program,
};

/// Functions of the stack that take part in a bucket.
const DEPTH: usize = 3;

/// Functions that every crash passes through on its way out, or that are not the hypervisor's own.
const NOISE: &[&str] = &[
    "core::",
    "alloc::",
    "compiler_builtins::",
    "rust_begin_unwind",
    "rust_panic",
    "__rust",
    "memcpy",
    "memset",
    "memmove",
];

/// Parts of the names of functions that report a defect but are not where it is.
const REPORTERS: &[&str] = &["::crash::", "::oracle::", "::panic", "::report", "::machine::"];

/// A kind of misbehaviour at a place. Its text is a directory name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bucket(String);

impl Bucket {
    fn new(kind: &str, place: &str, detail: &str) -> Self {
        let place: String = place
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        let place = place.trim_matches('-');
        let hash = fnv(format!("{kind}\n{detail}").as_bytes());
        Self(format!("{kind}-{place}-{:08x}", (hash >> 32) as u32 ^ hash as u32))
    }

    /// The name, fit for a file system: lower-case letters, digits, hyphens.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// Takes a directory name for a bucket, if it has the form of one.
    pub fn from_name(name: &str) -> Option<Self> {
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        (plain && name.contains('-')).then(|| Self(name.to_owned()))
    }

    /// True for a hang, false for everything that leaves a crash record or resets the machine.
    pub fn is_hang(&self) -> bool {
        self.0.starts_with("hang-")
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// FNV-1a, 64 bits: stable between builds and machines, which the standard hashers are not.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// Sorts executions into buckets.
pub struct Classifier {
    symbols: Symbols,
    /// Symbolising takes milliseconds, and campaigns crash at the same places over and over.
    cache: RefCell<BTreeMap<u64, String>>,
}

impl Classifier {
    /// A classifier with the symbols of the image under test.
    pub fn new(symbols: Symbols) -> Self {
        Self { symbols, cache: RefCell::default() }
    }

    /// The symbols it works with.
    pub fn symbols(&self) -> &Symbols {
        &self.symbols
    }

    fn function(&self, address: u64) -> String {
        self.cache.borrow_mut().entry(address).or_insert_with(|| self.symbols.function(address)).clone()
    }

    /// The bucket of an execution, or none where the hypervisor behaved.
    pub fn classify(&self, program: &Program, execution: &Execution) -> Option<Bucket> {
        let operation = current_operation(program, execution);
        match (&execution.outcome, execution.crash.as_deref()) {
            (Outcome::Done | Outcome::Idle, _) => None,
            (Outcome::Hang, _) => Some(Bucket::new("hang", operation, operation)),
            (Outcome::Timeout, _) => Some(Bucket::new("timeout", operation, operation)),
            (Outcome::TripleFault, _) => Some(Bucket::new("triple-fault", operation, operation)),
            // The crash marker without a record: the record itself was overwritten.
            (Outcome::Crash, None) => Some(Bucket::new("lost-record", operation, operation)),
            (Outcome::Crash, Some(record)) => Some(self.crash(record, operation)),
        }
    }

    fn crash(&self, record: &CrashRecord, operation: &str) -> Bucket {
        let kind = CrashKind::from_u32(record.kind);
        let name = kind.map_or_else(|| format!("kind{}", record.kind), |k| k.name().to_owned());
        let at_place = matches!(
            kind,
            Some(CrashKind::Panic | CrashKind::Assertion | CrashKind::Fault | CrashKind::DoubleFault)
        );
        let place = if at_place { self.place(record) } else { Vec::new() };
        match place.first() {
            Some(innermost) => Bucket::new(&name, short(innermost), &place.join("\n")),
            None => Bucket::new(&name, operation, operation),
        }
    }

    /// The innermost functions of the hypervisor's own code.
    fn place(&self, record: &CrashRecord) -> Vec<String> {
        let mut place: Vec<String> = Vec::new();
        for address in stack(record) {
            let function = self.function(address);
            let noise = function == "?"
                || NOISE.iter().any(|n| function.starts_with(n))
                || REPORTERS.iter().any(|r| function.contains(r));
            if !noise && place.last() != Some(&function) {
                place.push(function);
            }
            if place.len() == DEPTH {
                break;
            }
        }
        place
    }
}

/// The addresses to symbolise, innermost first: the instruction itself, then the call sites.
pub fn stack(record: &CrashRecord) -> impl Iterator<Item = u64> + '_ {
    let frames = (record.frame_count as usize).min(record.frames.len());
    // A return address points behind its call, perhaps into the next function.
    std::iter::once(record.rip).chain(record.frames[..frames].iter().map(|a| a.wrapping_sub(1)))
}

/// Name of the operation that had begun and not returned when the execution ended: the first without a completion.
pub fn current_operation(program: &Program, execution: &Execution) -> &'static str {
    let returned: BTreeSet<u16> = execution.calls.iter().map(|c| c.call).collect();
    let current = (0u16..).zip(&program.calls).find(|(n, _)| !returned.contains(n));
    current.map_or("end", |(_, call)| call.op.operation().name)
}

/// The last two parts of a path: module and function.
fn short(function: &str) -> &str {
    let function = function.trim();
    match function.rmatch_indices("::").nth(1) {
        Some((at, _)) => &function[at + 2..],
        None => function,
    }
}

/// Kind of a crash record in words, for reports.
pub fn kind_name(record: &CrashRecord) -> &'static str {
    CrashKind::from_u32(record.kind).map_or("unknown", CrashKind::name)
}

/// A function's name as reports show it.
pub fn display_name(function: &str) -> String {
    without_generics(function)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_file_names_and_round_trip() {
        let bucket = Bucket::new("fault", "hypercall::memory_op::exchange", "x");
        assert!(bucket.name().starts_with("fault-hypercall--memory-op--exchange-"));
        assert_eq!(Bucket::from_name(bucket.name()), Some(bucket));
        assert_eq!(Bucket::from_name("../etc"), None);
        assert_eq!(Bucket::from_name("README.md"), None);
    }

    #[test]
    fn the_detail_separates_buckets_of_one_name() {
        assert_ne!(Bucket::new("fault", "f", "f\ng"), Bucket::new("fault", "f", "f\nh"));
    }

    #[test]
    fn short_names_keep_module_and_function() {
        assert_eq!(short("hypervisor::hypercall::memory_op::exchange"), "memory_op::exchange");
        assert_eq!(short("memcpy"), "memcpy");
    }
}
