//! Engines: things that run one lowered program on a freshly reset machine.
//!
//! [`Engine`] is the only thing that the rest of the fuzzer knows of a machine. [`qemu`] implements it with the
//! distribution's QEMU and our plugin. Everything that an engine returns was copied out of guest memory
//! once and validated; the guest may have written anything.

pub mod aftermath;
pub mod boot;
pub mod bundle;
pub mod debug;
pub mod qemu;
pub mod xen;

mod beacon;
mod config;
mod directory;
mod error;
mod machine;
mod memory;
mod monitor;
mod outside;
mod probe;
mod process;
mod qcow2;
mod results;
mod stub;
mod timing;
pub mod version;
mod wait;

pub use error::EngineError;
pub use timing::{Split, Timing};

use std::fmt;

use coverage_hypercall::{
    crash::{CrashKind, CrashRecord},
    harness::{Canary, CmpEntry},
    program::Status,
};

use crate::program::Environment;

/// A build identifier as people know it: without the zeros that fill its field.
pub fn build_name(id: &[u8]) -> String {
    let len = id.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    id[..len].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One execution to be done.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The lowered program, as `coverage_hypercall::program` describes it.
    pub program: &'a [u8],
    /// Record comparisons during this execution. Slower; the outcome is the same. There are no edge counters of a hypervisor then that
    /// does not count for itself.
    pub comparisons: bool,
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The agent said that the program is done.
    Done,
    /// No vCPU could run any more: every domain is blocked or dead. Not a defect.
    Idle,
    /// The hypervisor, or an oracle in it, left a crash record.
    Crash,
    /// The hypervisor did not come back from one exit, or came back only after its budget of translated blocks; or the machine
    /// was halted for ever.
    Hang,
    /// A guest ran on without end: more blocks of guests or more VM exits than an execution may have, exceptions one after the
    /// other without an instruction in between, or the host's wall-clock limit while a guest had the processor. Not a defect of
    /// the hypervisor.
    Runaway,
    /// The machine shut down or reset: a triple fault.
    TripleFault,
    /// The wall-clock limit of the host was reached before any budget, in the hypervisor.
    Timeout,
}

/// A step of the hypervisor's path through an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A translated block of its code, by its guest-virtual address.
    Block(u64),
    /// It goes on after a VM exit, in a block that was noted before this.
    Exit,
}

/// What one call of the program reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallResult {
    /// Which call of the program; [`coverage_hypercall::program::WHOLE_PROGRAM`] if none.
    pub call: u16,
    /// How it ended.
    pub status: Status,
    /// Watched regions that changed: offset in the arena, content.
    pub changes: Vec<(u32, Vec<u8>)>,
}

/// Everything that is known of one execution. Reused between executions to spare allocations.
#[derive(Clone)]
pub struct Execution {
    /// How it ended.
    pub outcome: Outcome,
    /// The calls in the order in which they returned. After a hang: those before the exit from which the hypervisor did not
    /// come back. After a runaway, calls at the end may be there or not: it depends on when it was noticed.
    pub calls: Vec<CallResult>,
    /// Edge counters of the hypervisor, one byte each. All zero after a hang or a runaway: they would depend on when
    /// it was noticed.
    pub counters: Vec<u8>,
    /// Comparisons, if they were asked for. None after a hang or a runaway, for the same reason.
    pub comparisons: Vec<CmpEntry>,
    /// The crash record, if there is a valid one.
    pub crash: Option<Box<CrashRecord>>,
    /// What the hypervisor wrote to its console during the execution.
    pub console: Vec<u8>,
    /// Translated blocks that were executed: a measure of work that does not depend on the host. After a hang those up to the
    /// budget, after a runaway the limit for guests.
    pub blocks: u64,
    /// True where the agent's completion ring could not be parsed: a corrupted guest, not a defect.
    pub corrupt: bool,
    /// What numbers of programs stand for on the machine.
    pub environment: Environment,
}

/// Counters and crash record in short: nobody reads thousands of zeros.
impl fmt::Debug for Execution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let crash = self.crash.as_ref().map(|record| {
            let kind = CrashKind::from_u32(record.kind).map_or("unknown", CrashKind::name);
            let len = (record.message_len as usize).min(record.message.len());
            format!("{kind}: {}", String::from_utf8_lossy(&record.message[..len]))
        });
        f.debug_struct("Execution")
            .field("outcome", &self.outcome)
            .field("calls", &self.calls)
            .field("edges", &self.counters.iter().filter(|counter| **counter != 0).count())
            .field("comparisons", &self.comparisons.len())
            .field("crash", &crash)
            .field("console", &String::from_utf8_lossy(&self.console))
            .field("blocks", &self.blocks)
            .field("corrupt", &self.corrupt)
            .finish()
    }
}

impl Default for Execution {
    fn default() -> Self {
        Self {
            outcome: Outcome::Done,
            calls: Vec::new(),
            counters: Vec::new(),
            comparisons: Vec::new(),
            crash: None,
            console: Vec::new(),
            blocks: 0,
            corrupt: false,
            environment: Environment::default(),
        }
    }
}

/// A machine that executes programs, each from the same state.
pub trait Engine {
    /// Number of edge counters of the target; constant while the engine lives.
    fn counters(&self) -> usize;

    /// Identifies the target's build: coverage of two builds must not be mixed.
    fn build_id(&self) -> [u8; 32];

    /// What numbers of programs stand for on this machine: programs are lowered for it.
    fn environment(&self) -> Environment {
        Environment::default()
    }

    /// Resets the machine, runs one program, and fills `execution`.
    ///
    /// A machine that died is started again here, and the execution is repeated on it; an error means that it cannot be had
    /// any more.
    ///
    /// # Errors
    /// [`EngineError`] when no machine can be had.
    fn execute(&mut self, request: &Request<'_>, execution: &mut Execution) -> Result<(), EngineError>;

    /// From now on, goes on in the state that the last execution left instead of resetting the machine, as long as that
    /// execution ended well and carried out a call. For comparison with fuzzers that work so; an engine that cannot do it
    /// resets always.
    fn keep_state(&mut self, _keep: bool) {}

    /// Where the time of all executions went, as far as the engine knows.
    fn split(&self) -> Split {
        Split::default()
    }

    /// Throws the machine away and boots a fresh one: for confirmation of findings.
    ///
    /// # Errors
    /// [`EngineError`] when no machine can be had.
    fn reboot(&mut self) -> Result<(), EngineError>;

    /// Canaries of the planted bugs after the last execution. For evaluation only, never for feedback.
    fn canaries(&self) -> Vec<Canary>;

    /// How often the machine had to be replaced since the engine was made.
    fn restarts(&self) -> u64;

    /// What happened to machines that people should hear of, since this was last called.
    fn notices(&mut self) -> Vec<String> {
        Vec::new()
    }

    /// How the last execution left the machine, for comparison with another machine. None where the machine is gone, or the
    /// engine does not note what would be needed.
    fn aftermath(&self) -> Option<aftermath::Aftermath> {
        None
    }
}

impl<E: Engine> Engine for &mut E {
    fn counters(&self) -> usize {
        (**self).counters()
    }

    fn build_id(&self) -> [u8; 32] {
        (**self).build_id()
    }

    fn environment(&self) -> Environment {
        (**self).environment()
    }

    fn execute(&mut self, request: &Request<'_>, execution: &mut Execution) -> Result<(), EngineError> {
        (**self).execute(request, execution)
    }

    fn keep_state(&mut self, keep: bool) {
        (**self).keep_state(keep);
    }

    fn split(&self) -> Split {
        (**self).split()
    }

    fn reboot(&mut self) -> Result<(), EngineError> {
        (**self).reboot()
    }

    fn canaries(&self) -> Vec<Canary> {
        (**self).canaries()
    }

    fn restarts(&self) -> u64 {
        (**self).restarts()
    }

    fn notices(&mut self) -> Vec<String> {
        (**self).notices()
    }

    fn aftermath(&self) -> Option<aftermath::Aftermath> {
        (**self).aftermath()
    }
}
