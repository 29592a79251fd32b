//! A finding as text and as data.

use std::fmt::Write;

use coverage_hypercall::crash::{CrashKind, CrashRecord};
use serde::Serialize;

use crate::{
    engine::{Execution, Outcome},
    program::{Program, lower, text, transcript},
    triage::{
        bucket::{self, Bucket, Classifier, SourceLine},
        disassembly::Listing,
        verify::{Elsewhere, Reproduction},
    },
};

/// Names of the entries of [`CrashRecord::gpr`].
const REGISTERS: [&str; 16] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
    "r15",
];

/// Everything that is stored of a finding.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// Where it belongs.
    pub bucket: Bucket,
    /// One line that says what happened.
    pub summary: String,
    /// How often the minimised program reproduced it.
    pub reproduction: Reproduction,
    /// What it does on the same hypervisor in the other mode, where that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<Elsewhere>,
    /// Calls of the program that was found first, and of the minimised one.
    pub calls_before: usize,
    /// Calls of the minimised program.
    pub calls: usize,
    /// Executions of the session when it was found.
    pub after_executions: u64,
    /// Seconds of the session when it was found.
    pub after_seconds: f64,
    /// Seed of the session.
    pub seed: u64,
    /// Name of the target.
    pub target: String,
    /// Build of the target, in hexadecimal.
    pub build: String,
    /// Planted bugs that were switched on.
    pub plants: Vec<String>,
    /// The minimised program.
    #[serde(serialize_with = "as_text")]
    pub program: Program,
    /// Symbolised stack, innermost first.
    pub stack: Vec<String>,
    /// The instructions around the one that faulted, if one of the hypervisor's did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disassembly: Option<Listing>,
    /// The source line that it is best shown at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<SourceLine>,
    /// Each call with what it returned.
    pub transcript: String,
    /// The crash record, decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crash: Option<Crash>,
}

fn as_text<S: serde::Serializer>(program: &Program, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text::print(program))
}

/// A crash record in words.
#[derive(Clone, Debug, Serialize)]
pub struct Crash {
    /// Kind, as in bucket names.
    pub kind: &'static str,
    /// What the hypervisor said.
    pub message: String,
    /// Exception vector, for faults.
    pub vector: Option<u32>,
    /// Error code of the exception.
    pub error: u64,
    /// Instruction that faulted, or that reported.
    pub rip: u64,
    /// Faulting address of the last page fault.
    pub cr2: u64,
    /// Page tables that were active.
    pub cr3: u64,
    /// Flags.
    pub rflags: u64,
    /// Hypercall that was being carried out.
    pub hypercall: Option<u64>,
    /// Domain that had issued it.
    pub domain: Option<u32>,
    /// General registers by name.
    pub registers: Vec<(&'static str, u64)>,
}

impl Crash {
    /// Decodes a record. Every field is the hypervisor's word, and it had just crashed: nothing is trusted.
    pub fn from_record(record: &CrashRecord) -> Self {
        let message = &record.message[..(record.message_len as usize).min(record.message.len())];
        Self {
            kind: bucket::kind_name(record),
            message: printable(&String::from_utf8_lossy(message)),
            vector: faulted(record).then_some(record.vector),
            error: record.error,
            rip: record.rip,
            cr2: record.cr2,
            cr3: record.cr3,
            rflags: record.rflags,
            hypercall: (record.hypercall != u64::MAX).then_some(record.hypercall),
            domain: (record.domain != u32::MAX).then_some(record.domain),
            registers: REGISTERS.into_iter().zip(record.gpr).collect(),
        }
    }
}

/// Whether the record is about an instruction that the processor could not execute. In others it is the one that reported.
fn faulted(record: &CrashRecord) -> bool {
    matches!(CrashKind::from_u32(record.kind), Some(CrashKind::Fault | CrashKind::DoubleFault))
}

/// Takes the control characters out of text that a guest or a broken hypervisor wrote: it goes to a terminal.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// One line that says what an execution ended with.
pub fn summary(program: &Program, execution: &Execution) -> String {
    let operation = bucket::current_operation(program, execution);
    match (execution.outcome, execution.crash.as_deref()) {
        (Outcome::Done, _) => "all calls returned".into(),
        (Outcome::Idle, _) => "every domain is blocked or dead (not a defect)".into(),
        (Outcome::Runaway, _) => "a guest ran on without end (not a defect)".into(),
        (Outcome::Hang, _) => format!("hang: the hypervisor did not come back from {operation}"),
        (Outcome::TripleFault, _) => format!("triple fault in {operation}: the machine reset"),
        (Outcome::Timeout, _) => format!("the machine stopped answering in {operation}"),
        (Outcome::Crash, None) => format!("crash in {operation}; the crash record was overwritten"),
        (Outcome::Crash, Some(record)) => {
            let crash = Crash::from_record(record);
            format!("{} in {operation}: {}", crash.kind, crash.message.trim())
        }
    }
}

/// The symbolised stack of an execution, innermost first; empty where it left no record.
pub fn stack(classifier: &Classifier, execution: &Execution) -> Vec<String> {
    let Some(record) = execution.crash.as_deref() else { return Vec::new() };
    bucket::stack(record)
        .flat_map(|address| {
            classifier.symbols().frames(address).into_iter().enumerate().map(move |(depth, frame)| {
                if depth == 0 { format!("{address:016x} {frame}") } else { format!("{:16} {frame}", "") }
            })
        })
        .collect()
}

/// The instructions around the one that faulted; none where nothing did, or not in a function of the hypervisor's.
pub fn disassembly(classifier: &Classifier, execution: &Execution) -> Option<Listing> {
    let record = execution.crash.as_deref().filter(|record| faulted(record))?;
    classifier.symbols().listing(record.rip)
}

/// The decoded calls of an execution.
pub fn transcript(program: &Program, execution: &Execution) -> String {
    match lower::lower_in(program, 1, &execution.environment) {
        Ok(lowered) => printable(&transcript::render(program, &lowered, &execution.calls)),
        Err(error) => format!("the program cannot be lowered: {error}\n"),
    }
}

impl Finding {
    /// The report that people read.
    pub fn render(&self) -> String {
        let mut out = String::new();
        self.write(&mut out).map_or_else(|_| String::new(), |()| out)
    }

    /// The minimised program as a file for `hyperfuzz regress`: what it needs and what it showed stand in comments.
    pub fn regression(&self) -> String {
        // A comment ends with its line.
        let line = |text: &str| printable(text).split_whitespace().collect::<Vec<_>>().join(" ");
        let mut out = format!(
            "# Found by hyperfuzz: `hyperfuzz regress` fails on it until the defect is fixed.\n# bucket: {}\n# what: {}\n# target: \
             {}\n# build: {}\n",
            self.bucket,
            line(&self.summary),
            self.target,
            self.build
        );
        if !self.plants.is_empty() {
            out.push_str(&format!("# plant: {}\n", self.plants.join(",")));
        }
        out.push_str(&text::print(&self.program));
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "finding     {}", self.bucket)?;
        writeln!(out, "what        {}", self.summary)?;
        let clean =
            if self.reproduction.on_clean_boot { "first run on a clean boot" } else { "not on a clean boot" };
        writeln!(
            out,
            "reproduced  {} of {} runs, {clean}",
            self.reproduction.reproduced, self.reproduction.runs
        )?;
        if let Some(elsewhere) = &self.elsewhere {
            writeln!(out, "also in     {}", elsewhere.describe(&self.bucket))?;
        }
        writeln!(
            out,
            "found       after {} executions, {:.1} s; seed {}",
            self.after_executions, self.after_seconds, self.seed
        )?;
        writeln!(out, "build       {}", self.build)?;
        writeln!(out, "\nprogram ({} calls, minimised from {})\n", self.calls, self.calls_before)?;
        for line in text::print(&self.program).lines() {
            writeln!(out, "  {line}")?;
        }
        writeln!(out, "\ncalls\n")?;
        for line in self.transcript.lines() {
            writeln!(out, "  {line}")?;
        }
        if !self.stack.is_empty() {
            writeln!(out, "\nstack of the hypervisor\n")?;
            for line in &self.stack {
                writeln!(out, "  {line}")?;
            }
        }
        if let Some(listing) = &self.disassembly {
            write!(out, "\ninstruction that faulted: {listing}")?;
        }
        if let Some(crash) = &self.crash {
            writeln!(out, "\ncrash record\n")?;
            writeln!(out, "  {}", crash.message.trim())?;
            if let Some(vector) = crash.vector {
                writeln!(out, "  vector {vector}, error code {:#x}, cr2 {:016x}", crash.error, crash.cr2)?;
            }
            writeln!(out, "  rip {:016x} rflags {:016x} cr3 {:016x}", crash.rip, crash.rflags, crash.cr3)?;
            for row in crash.registers.chunks(4) {
                write!(out, " ")?;
                for (name, value) in row {
                    write!(out, " {name:>3} {value:016x}")?;
                }
                writeln!(out)?;
            }
        }
        Ok(())
    }
}
