//! Buckets: which misbehaviours are the same defect.
//!
//! A bucket is the kind of misbehaviour and where it happened. *Where* is the innermost functions of the hypervisor's
//! own code up to the first that belongs to a hypercall, inlining and generic parameters undone, so that it survives a
//! rebuild: what a family calls may fail for many families, and who calls the family does not matter. An oracle that
//! looks around after each call always reports from the same place: there it is what was violated and the family of the
//! hypercall. A hang leaves no stack: there it is the operation that had begun.

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
    interface::known,
    program::Program,
};

/// Functions of the stack that take part in a bucket, at most.
const DEPTH: usize = 3;

/// Source folder of the hypercalls.
const HYPERCALLS: &str = "hypervisor/src/hypercall/";

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
const ORACLES: &[&str] = &["violation", "assert_privilege", "check_table_users"];

/// Kinds of misbehaviour that leave no crash record.
pub const KINDS_WITHOUT_RECORD: [&str; 4] = ["hang", "timeout", "triple-fault", "lost-record"];

/// Source folders of the hypervisor's own code; the rest is its libraries.
const OWN: &[&str] = &["hypervisor/", "coverage-hypercall/"];

/// A kind of misbehaviour at a place. Its text is a directory name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bucket(String);

impl Bucket {
    fn new(kind: &str, place: &str, detail: &str) -> Self {
        let place = plain(place);
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

    /// The kind of misbehaviour: the name of a [`CrashKind`], or one of [`KINDS_WITHOUT_RECORD`].
    pub fn kind(&self) -> &str {
        let with_record = (0..u32::from(u8::MAX)).filter_map(CrashKind::from_u32).map(CrashKind::name);
        let begins = |kind: &&str| self.0.strip_prefix(kind).is_some_and(|rest| rest.starts_with('-'));
        let known = with_record.chain(KINDS_WITHOUT_RECORD).find(begins);
        known.unwrap_or_else(|| self.0.split('-').next().unwrap_or_default())
    }

    /// Kind and place as reports name them: `fault`, `sched_op::poll`. As far as the name tells, which has neither colons nor dots.
    pub fn parts(&self) -> (&str, String) {
        let whole = self.0.rsplit_once('-').map_or(self.0.as_str(), |(front, _)| front);
        let kind = self.kind();
        let place = whole.strip_prefix(kind).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
        let operation = known().operations().iter().find(|operation| plain(operation.name) == place);
        let name = operation.map(|operation| operation.name.to_owned());
        (kind, name.unwrap_or_else(|| place.replace("--", "::").replace('-', "_")))
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

/// A place in letters, digits and hyphens.
fn plain(place: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    place.chars().map(plain).collect::<String>().trim_matches('-').to_owned()
}

/// FNV-1a, 64 bits: stable between builds and machines, which the standard hashers are not.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// A function in which a defect can be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    /// Module and name: `sched_op::poll`.
    name: String,
    /// It is part of a hypercall.
    hypercall: bool,
}

/// Sorts executions into buckets.
pub struct Classifier {
    symbols: Symbols,
    /// Symbolising takes milliseconds, and campaigns crash at the same places over and over.
    cache: RefCell<BTreeMap<u64, Vec<Place>>>,
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
    fn functions(&self, address: u64) -> Vec<Place> {
        let mut cache = self.cache.borrow_mut();
        let functions = cache.entry(address).or_insert_with(|| {
            let frames = self.symbols.frames(address);
            frames.iter().filter_map(place_of).collect()
        });
        functions.clone()
    }

    /// Lets an address stand for functions, whatever the image has there.
    #[cfg(test)]
    pub(super) fn teach(&self, address: u64, frames: &[Frame]) {
        self.cache.borrow_mut().insert(address, frames.iter().filter_map(place_of).collect());
    }

    /// The bucket of an execution, or none where the hypervisor behaved.
    pub fn classify(&self, program: &Program, execution: &Execution) -> Option<Bucket> {
        if ended_well(execution) {
            return None;
        }
        self.classify_calls(&program.asked(), execution)
    }

    /// As [`Self::classify`], for a program of which only the operations of its calls are known: those that it asks for.
    pub fn classify_calls(&self, operations: &[&'static str], execution: &Execution) -> Option<Bucket> {
        if ended_well(execution) {
            return None;
        }
        let operation = operation_at_the_end(operations, execution);
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

    /// The source line that a crash is best shown at: the innermost of the hypervisor's own code that does more than report,
    /// or the innermost of it where all of it does.
    pub fn source_line(&self, record: &CrashRecord) -> Option<SourceLine> {
        let frames: Vec<_> = stack(record).flat_map(|address| self.symbols.frames(address)).collect();
        let own = frames.iter().find(|frame| place_of(frame).is_some()).or_else(|| {
            frames.iter().find(|frame| frame.location.as_ref().is_some_and(|(file, _)| is_own(file)))
        })?;
        let (file, line) = own.location.clone()?;
        Some(SourceLine { file, line, function: own.function.clone() })
    }

    fn crash(&self, record: &CrashRecord, operation: &str) -> Bucket {
        let kind = CrashKind::from_u32(record.kind);
        let name = kind.map_or_else(|| format!("kind{}", record.kind), |k| k.name().to_owned());
        let place = self.place(record);
        let names: Vec<_> = place.iter().map(|function| function.name.as_str()).collect();
        // An oracle that looks around after each call has no hypercall on its stack. Others may report from what hypercalls share.
        let hypercall =
            place.last().filter(|function| function.hypercall).map(|function| function.name.as_str());
        match if reports_in_place(kind) { names.first().copied() } else { hypercall } {
            Some(called) => Bucket::new(&name, called, &names.join("\n")),
            None => {
                let place = family(record, operation);
                Bucket::new(&name, place, &format!("{place}\n{}", violated(record)))
            }
        }
    }

    /// The innermost functions of the hypervisor's own code, up to the first that belongs to a hypercall.
    fn place(&self, record: &CrashRecord) -> Vec<Place> {
        let mut place = Vec::new();
        for function in stack(record).flat_map(|address| self.functions(address)) {
            let last = function.hypercall;
            place.push(function);
            if last || place.len() == DEPTH {
                break;
            }
        }
        place
    }
}

/// A place in the source code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceLine {
    /// Path below the repository.
    pub file: String,
    /// Line, from one on; zero where it is not known.
    pub line: u32,
    /// The function that it belongs to.
    pub function: String,
}

/// Whether a source file is the hypervisor's own.
fn is_own(file: &str) -> bool {
    OWN.iter().any(|root| file.starts_with(root))
}

fn ended_well(execution: &Execution) -> bool {
    matches!(execution.outcome, Outcome::Done | Outcome::Idle | Outcome::Runaway)
}

/// The family that a crash record is about: that of its hypercall. A multicall is carried out for the families of its entries, which
/// are one where `operation`, what the program asks for, says so.
fn family<'a>(record: &CrashRecord, operation: &'a str) -> &'a str {
    let asked = operation.split_once('.').map_or(operation, |(family, _)| family);
    let mut operations = known().operations().iter();
    let carried_out = operations.find(|o| u64::from(o.number) == record.hypercall).map(|o| o.family());
    match carried_out {
        Some(MULTICALL) | None => asked,
        Some(family) => family,
    }
}

/// The family of calls that are made of others.
const MULTICALL: &str = "multicall";

/// What an oracle says, without numbers: they differ from crash to crash.
fn violated(record: &CrashRecord) -> String {
    let len = (record.message_len as usize).min(record.message.len());
    let message = String::from_utf8_lossy(&record.message[..len]);
    message.trim().chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Module and name of a function that can be where a defect is: `sched_op::poll`.
fn place_of(frame: &Frame) -> Option<Place> {
    let (file, _) = frame.location.as_ref()?;
    if REPORTERS.iter().any(|reporter| file.starts_with(reporter)) {
        return None;
    }
    let name = own_function(frame)?;
    if name.rsplit("::").next().is_some_and(|name| ORACLES.contains(&name)) {
        return None;
    }
    // What hands calls on belongs to all of them.
    let shared = ["hypercall", "multicall"].contains(&module_of(file)?);
    Some(Place { name, hypercall: file.starts_with(HYPERCALLS) && !shared })
}

/// Module and name of a function of the hypervisor's own code: `sched_op::poll`.
pub fn own_function(frame: &Frame) -> Option<String> {
    let (file, _) = frame.location.as_ref()?;
    if !is_own(file) {
        return None;
    }
    let module = module_of(file)?;
    let name = without_generics(&frame.function);
    let name = name.rsplit("::").find(|part| !part.starts_with('{'))?;
    Some(format!("{module}::{name}"))
}

/// What buckets call the module in a source file.
pub fn module_of(file: &str) -> Option<&str> {
    let path = Path::new(file);
    match path.file_stem()?.to_str()? {
        "mod" | "lib" => path.parent()?.file_name()?.to_str(),
        stem => Some(stem),
    }
}

/// Whether the stack of each crash of this kind leads to the defect. Of the other oracles some look around after each call.
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

/// Name of the operation that had begun and not returned when the execution ended.
pub fn current_operation(program: &Program, execution: &Execution) -> &'static str {
    operation_at_the_end(&program.asked(), execution)
}

fn operation_at_the_end(operations: &[&'static str], execution: &Execution) -> &'static str {
    operations.get(current_call(execution, operations.len())).copied().unwrap_or("end")
}

/// Index of the call that had begun and not returned when the execution of so many calls ended; their number if all returned.
///
/// Calls begin in their order, and those that block are overtaken: it is the one behind the last that returned. Where that was the
/// last of all, it is the first that did not return.
pub fn current_call(execution: &Execution, calls: usize) -> usize {
    let returned: BTreeSet<usize> = execution.calls.iter().map(|c| usize::from(c.call)).collect();
    let next = returned.iter().rfind(|n| **n < calls).map_or(0, |last| last + 1);
    if next < calls { next } else { (0..calls).find(|n| !returned.contains(n)).unwrap_or(calls) }
}

/// Kind of a crash record in words, for reports.
pub fn kind_name(record: &CrashRecord) -> &'static str {
    CrashKind::from_u32(record.kind).map_or("unknown", CrashKind::name)
}

#[cfg(test)]
mod tests {
    use coverage_hypercall::program::Status;
    use zerocopy::FromZeros;

    use super::*;
    use crate::engine::CallResult;

    #[test]
    fn names_are_file_names_and_round_trip() {
        let bucket = Bucket::new("fault", "hypercall::memory_op::exchange", "x");
        assert!(bucket.name().starts_with("fault-hypercall--memory-op--exchange-"));
        assert_eq!(Bucket::from_name(bucket.name()), Some(bucket));
        assert_eq!(Bucket::from_name("../etc"), None);
        assert_eq!(Bucket::from_name("README.md"), None);
    }

    #[test]
    fn a_name_tells_kind_and_place() {
        for (kind, place) in [
            ("fault", "sched_op::poll"),
            ("double-fault", "grant_table_op::copy"),
            ("freed-frame", "memory_op"),
            ("triple-fault", "event_channel_op.send"),
            ("hang", "memory_op.exchange"),
        ] {
            assert_eq!(Bucket::new(kind, place, "x").parts(), (kind, place.to_owned()));
        }
        assert_eq!(Bucket::from_name("odd-name").unwrap().parts().0, "odd");
    }

    #[test]
    fn a_bucket_begins_with_its_kind() {
        for kind in ["fault", "double-fault", "hang", "triple-fault", "isolation", "panic"] {
            assert_eq!(Bucket::new(kind, "fault::poll", "x").kind(), kind);
        }
        assert_eq!(Bucket::new("kind99", "a::b", "x").kind(), "kind99");
    }

    #[test]
    fn the_detail_separates_buckets_of_one_name() {
        assert_ne!(Bucket::new("fault", "f", "f\ng"), Bucket::new("fault", "f", "f\nh"));
    }

    #[test]
    fn a_place_is_module_and_function_of_our_own_code() {
        let frame = |function: &str, file: &str| {
            let location = Some((file.into(), 1));
            place_of(&Frame { function: function.into(), location, inlined: true })
        };
        let place = |name: &str, hypercall| Some(Place { name: name.into(), hypercall });
        let poll = place("sched_op::poll", true);
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
            place("hypercall::dispatch", false)
        );
        assert_eq!(frame("take", "hypervisor/src/mem/frames.rs"), place("frames::take", false));
        assert_eq!(frame("wild_read", "hypervisor/planted/src/wild.rs"), None);
        assert_eq!(frame("push", "library/alloc/src/vec/mod.rs"), None);
    }

    fn record(hypercall: u64, message: &str) -> CrashRecord {
        let mut record = CrashRecord::new_zeroed();
        record.hypercall = hypercall;
        record.message_len = message.len() as u32;
        record.message[..message.len()].copy_from_slice(message.as_bytes());
        record
    }

    #[test]
    fn an_oracle_is_about_a_family_and_what_was_violated() {
        use xen_abi::hypercall::{MEMORY_OP, MULTICALL};
        assert_eq!(family(&record(MEMORY_OP, ""), "sched_op.yield"), "memory_op");
        assert_eq!(family(&record(MULTICALL, ""), "sched_op.yield"), "sched_op");
        assert_eq!(family(&record(MULTICALL, ""), "sched_op"), "sched_op");
        assert_eq!(family(&record(u64::MAX, ""), "end"), "end");
        assert_eq!(
            violated(&record(0, "frame 0x12 of domain 3\n")),
            violated(&record(0, "frame 0x7 of domain 1"))
        );
        assert_ne!(violated(&record(0, "a lock is held")), violated(&record(0, "a lock is taken twice")));
    }

    #[test]
    fn the_call_at_the_end_is_the_one_behind_the_last_that_returned() {
        let ended = |returned: &[u16]| Execution {
            calls: returned
                .iter()
                .map(|call| CallResult { call: *call, status: Status::Returned(0), changes: Vec::new() })
                .collect(),
            ..Execution::default()
        };
        assert_eq!(current_call(&ended(&[]), 3), 0);
        assert_eq!(current_call(&ended(&[0, 1]), 3), 2);
        assert_eq!(current_call(&ended(&[0, 2]), 4), 3, "the second call blocks and was overtaken");
        assert_eq!(current_call(&ended(&[0, 2]), 3), 1, "nothing else is left");
        assert_eq!(current_call(&ended(&[0, 1, 2, u16::MAX]), 3), 3);
    }
}
