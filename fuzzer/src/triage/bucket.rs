//! Buckets: which misbehaviours are the same defect.
//!
//! A bucket is the kind of misbehaviour and where it happened. *Where* is the innermost functions of the hypervisor's
//! own code, inlining and generic parameters undone, so that it survives a rebuild. An oracle that looks around
//! after each call always reports from the same place: there it is the hypercall. A hang leaves no stack: there it is
//! the operation that had begun.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::Path,
};

use coverage_hypercall::crash::{CrashKind, CrashRecord};
use serde::{Deserialize, Serialize};

use super::symbols::{Frame, Symbols, without_generics};
use crate::{
    engine::{Execution, Outcome},
    interface::interface,
    program::Program,
};

/// Functions of the stack that take part in a bucket.
const DEPTH: usize = 3;

/// Source folders and files whose functions report a defect, or carry a planted one, but are not where it is.
const REPORTERS: &[&str] = &[
    "hypervisor/planted/",
    "hypervisor/covrt/",
    "hypervisor/src/oracle",
    "hypervisor/src/image/crash",
    "hypervisor/src/image/machine",
    "hypervisor/src/image/arch/",
    "hypervisor/src/image/runtime",
];

/// Functions among the rest of the code whose only task is to report.
const ORACLES: &[&str] = &["violation", "assert_privilege"];

/// Source folders of the hypervisor's own code; the rest is its libraries.
const OWN: &[&str] = &["hypervisor/", "coverage-hypercall/"];

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
    cache: RefCell<BTreeMap<u64, Vec<String>>>,
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

    /// The hypervisor's own functions at an address, innermost first. Inlined ones count like the others: what the compiler
    /// inlines differs from build to build.
    fn functions(&self, address: u64) -> Vec<String> {
        let mut cache = self.cache.borrow_mut();
        let functions = cache.entry(address).or_insert_with(|| {
            let frames = self.symbols.frames(address);
            frames.iter().filter_map(place_of).collect()
        });
        functions.clone()
    }

    /// The bucket of an execution, or none where the hypervisor behaved.
    pub fn classify(&self, program: &Program, execution: &Execution) -> Option<Bucket> {
        self.classify_calls(&program.operations(), execution)
    }

    /// As [`Self::classify`], for a program of which only the operations of its calls are known.
    pub fn classify_calls(&self, operations: &[&'static str], execution: &Execution) -> Option<Bucket> {
        let operation = first_without_result(operations, execution);
        match (&execution.outcome, execution.crash.as_deref()) {
            (Outcome::Done | Outcome::Idle | Outcome::Runaway, _) => None,
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
        let place = if reports_in_place(kind) { self.place(record) } else { Vec::new() };
        match place.first() {
            Some(innermost) => Bucket::new(&name, innermost, &place.join("\n")),
            None => {
                let mut operations = interface().operations().iter();
                let number = operations.find(|o| u64::from(o.number) == record.hypercall);
                let place = number.map_or(operation, |o| o.family());
                Bucket::new(&name, place, place)
            }
        }
    }

    /// The innermost functions of the hypervisor's own code.
    fn place(&self, record: &CrashRecord) -> Vec<String> {
        let mut place = Vec::new();
        for address in stack(record) {
            place.extend(self.functions(address));
            if place.len() >= DEPTH {
                place.truncate(DEPTH);
                break;
            }
        }
        place
    }
}

/// Module and name of a function that can be where a defect is: `sched_op::poll`.
fn place_of(frame: &Frame) -> Option<String> {
    let (file, _) = frame.location.as_ref()?;
    if REPORTERS.iter().any(|reporter| file.starts_with(reporter)) {
        return None;
    }
    let place = own_function(frame)?;
    let reports = place.rsplit("::").next().is_some_and(|name| ORACLES.contains(&name));
    (!reports).then_some(place)
}

/// Module and name of a function of the hypervisor's own code: `sched_op::poll`.
pub fn own_function(frame: &Frame) -> Option<String> {
    let (file, _) = frame.location.as_ref()?;
    if !OWN.iter().any(|root| file.starts_with(root)) {
        return None;
    }
    let path = Path::new(file);
    let stem = path.file_stem()?.to_str()?;
    let module = match stem {
        "mod" | "lib" => path.parent()?.file_name()?.to_str()?,
        stem => stem,
    };
    let name = without_generics(&frame.function);
    let name = name.rsplit("::").find(|part| !part.starts_with('{'))?;
    Some(format!("{module}::{name}"))
}

/// Whether the stack of a crash of this kind leads to the defect. The other oracles look around after each call.
fn reports_in_place(kind: Option<CrashKind>) -> bool {
    use CrashKind::{Assertion, DoubleFault, Fault, HeapCanary, Latency, Panic, Privilege, StackCanary};
    matches!(
        kind,
        Some(Panic | Assertion | Fault | DoubleFault | StackCanary | HeapCanary | Privilege | Latency)
    )
}

/// The addresses to symbolise, innermost first: the instruction itself, then the call sites.
pub fn stack(record: &CrashRecord) -> impl Iterator<Item = u64> + '_ {
    let frames = (record.frame_count as usize).min(record.frames.len());
    // A return address points behind its call, perhaps into the next function.
    std::iter::once(record.rip).chain(record.frames[..frames].iter().map(|a| a.wrapping_sub(1)))
}

/// Name of the operation that had begun and not returned when the execution ended: the first without a completion.
pub fn current_operation(program: &Program, execution: &Execution) -> &'static str {
    first_without_result(&program.operations(), execution)
}

fn first_without_result(operations: &[&'static str], execution: &Execution) -> &'static str {
    operations.get(current_call(execution)).copied().unwrap_or("end")
}

/// Index of the call that had begun and not returned when the execution ended; as many as there are calls if all returned.
pub fn current_call(execution: &Execution) -> usize {
    let returned: BTreeSet<u16> = execution.calls.iter().map(|c| c.call).collect();
    // Numbers of calls fit into 16 bits, and a program has fewer.
    (0u16..=u16::MAX).find(|n| !returned.contains(n)).map_or(usize::MAX, usize::from)
}

/// Kind of a crash record in words, for reports.
pub fn kind_name(record: &CrashRecord) -> &'static str {
    CrashKind::from_u32(record.kind).map_or("unknown", CrashKind::name)
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
    fn a_place_is_module_and_function_of_our_own_code() {
        let frame = |function: &str, file: &str| {
            place_of(&Frame { function: function.into(), location: Some((file.into(), 1)), inlined: true })
        };
        let poll = Some("sched_op::poll".to_owned());
        assert_eq!(frame("poll", "hypervisor/src/hypercall/sched_op.rs"), poll);
        assert_eq!(
            frame(
                "hypervisor::hypercall::sched_op::poll::{closure#0}",
                "hypervisor/src/hypercall/sched_op.rs"
            ),
            poll
        );
        assert_eq!(
            frame("dispatch<u8>", "hypervisor/src/hypercall/mod.rs"),
            Some("hypercall::dispatch".into())
        );
        assert_eq!(frame("wild_read", "hypervisor/planted/src/wild.rs"), None);
        assert_eq!(frame("push", "library/alloc/src/vec/mod.rs"), None);
    }
}
