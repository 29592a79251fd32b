//! The engine that drives the distribution's QEMU through our plugin.
//!
//! One QEMU process runs at a time, on the same core as the thread that uses the engine: handing the machine over is then
//! two context switches. QEMU may die, stop or hang at any moment; it is then replaced, and the execution is repeated.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use coverage_hypercall::harness::Canary;
use coverage_hypercall::program::{MAX_LEN, Status};
use hyperfuzz_control::{EDGES_LEN, EXIT, End};

use super::aftermath::Aftermath;
pub use super::config::QemuConfig;
use super::error::EngineError;
use super::machine::{Machine, boot};
use super::results::{Reader, read_canaries, read_crash};
use super::version::{self, Reset, Version, Way};
use super::wait::Lost;
use super::{Engine, Execution, Outcome, Request, Split, Step, Timing};
use super::{probe, xen};
use crate::program::Environment;

/// How often an execution is tried on a fresh machine before the program is held responsible.
const ATTEMPTS: u32 = 3;
/// So many times its budget may an execution take whose comparisons are recorded: each is a call then.
const COMPARISONS_FACTOR: u64 = 3;

/// An execution of which nothing is known but its end.
fn lost(outcome: Outcome, counters: usize) -> Execution {
    Execution { outcome, counters: vec![0; counters], ..Execution::default() }
}

/// The engine.
#[derive(Debug)]
pub struct QemuEngine {
    config: QemuConfig,
    version: Version,
    way: Way,
    /// Why it is not reset in its own process, if nobody wanted that.
    why: Option<String>,
    machine: Option<Machine>,
    counters: usize,
    build_id: [u8; 32],
    restarts: u64,
    reader: Reader,
    round_trip: Duration,
    split: Split,
    /// Machines go on without a reset where they can.
    keep: bool,
    /// What people should hear.
    notices: Vec<String>,
    /// What numbers of programs stand for.
    environment: Environment,
}

impl QemuEngine {
    /// Boots the first machine. It dies with the calling thread, so the thread that starts the engine should be the one that
    /// uses it.
    ///
    /// # Errors
    /// If no machine can be had; the error says why and what to do.
    pub fn start(config: QemuConfig) -> Result<Self, EngineError> {
        let mut notices = Vec::new();
        let version = version::ask(&config.binary)?;
        let (mut way, mut why) = version.way(config.reset);
        let machine = match boot(&config, version, way, &mut notices) {
            Err(EngineError::Lacking(text)) if config.reset == Reset::Auto => {
                (way, why) = (Way::Loadvm, Some(text));
                boot(&config, version, way, &mut notices)
            }
            booted => booted,
        }?;
        let mut engine = Self {
            environment: config.foreign.as_ref().map_or_else(Environment::default, |_| {
                probe::layout(&machine.process.memory, machine.target.channel.base)
            }),
            counters: config.foreign.as_ref().map_or(machine.target.counters.len, |_| EDGES_LEN),
            build_id: machine.target.build_id,
            machine: Some(machine),
            config,
            version,
            way,
            why,
            restarts: 0,
            reader: Reader::default(),
            round_trip: Duration::ZERO,
            split: Split::default(),
            keep: false,
            notices,
        };
        if engine.config.foreign.is_some() {
            let layout = engine.environment;
            engine.environment = probe::ask(&mut engine, layout)?;
        }
        Ok(engine)
    }

    /// The machine; boots one if there is none.
    fn machine(&mut self) -> Result<&mut Machine, EngineError> {
        let machine = match self.machine.take() {
            Some(machine) => machine,
            None => boot(&self.config, self.version, self.way, &mut self.notices)?,
        };
        if self.config.foreign.is_none() && machine.target.counters.len != self.counters {
            let problem =
                format!("{} instead of {} after a restart", machine.target.counters.len, self.counters);
            return Err(EngineError::Beacon { field: "counters", problem });
        }
        Ok(self.machine.insert(machine))
    }

    /// How machines are reset, and where that is not in QEMU's process though nothing else was asked for, why not.
    #[must_use]
    pub fn way(&self) -> (Way, Option<&str>) {
        (self.way, self.why.as_deref())
    }

    /// True where the hypervisor knows nothing of us.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.config.foreign.is_some()
    }

    /// What the last execution cost.
    #[must_use]
    pub fn timing(&self) -> Timing {
        let Some(machine) = &self.machine else { return Timing::default() };
        let control = machine.process.control.control();
        Timing {
            round_trip: self.round_trip,
            reset: Duration::from_nanos(control.reset_ns.load(Ordering::Relaxed)),
            run: Duration::from_nanos(control.run_ns.load(Ordering::Relaxed)),
            dirty_pages: control.dirty_pages.load(Ordering::Relaxed),
            device_resets: control.device_resets.load(Ordering::Relaxed),
        }
    }

    /// Process number of QEMU, if it runs: for tests that kill it.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.machine.as_ref().map(|machine| machine.process.id())
    }

    /// The path of the last execution, if the configuration asks for one, and whether it is all of it: the end of one that is too long
    /// is missing. After a hang or a runaway how long it is depends on when that was noticed.
    #[must_use]
    pub fn path(&self) -> (Vec<Step>, bool) {
        let (Some(machine), Some(code)) = (&self.machine, &self.config.path_of) else {
            return (Vec::new(), false);
        };
        let step = |word| match word {
            EXIT => Step::Exit,
            offset => Step::Block(code.start + u64::from(offset)),
        };
        let steps: Vec<Step> = machine.process.control.path().into_iter().map(step).collect();
        let noted = machine.process.control.control().path_len.load(Ordering::Relaxed);
        let whole = noted == steps.len() as u64;
        (steps, whole)
    }

    /// Copies all of guest memory, as the last execution left it.
    #[must_use]
    pub fn memory(&self) -> Vec<u8> {
        let Some(machine) = &self.machine else { return Vec::new() };
        let mut bytes = vec![0; machine.process.memory.len()];
        if !machine.process.memory.read(0, &mut bytes) {
            bytes.clear();
        }
        bytes
    }
}

impl Engine for QemuEngine {
    fn counters(&self) -> usize {
        self.counters
    }

    fn build_id(&self) -> [u8; 32] {
        self.build_id
    }

    fn environment(&self) -> Environment {
        self.environment
    }

    fn execute(&mut self, request: &Request<'_>, execution: &mut Execution) -> Result<(), EngineError> {
        if request.program.len() > MAX_LEN {
            return Err(EngineError::ProgramTooLong { len: request.program.len(), max: MAX_LEN });
        }
        for _ in 0..ATTEMPTS {
            let limit = self.config.wall_limit;
            let keep = self.keep;
            let factor = if request.comparisons { COMPARISONS_FACTOR } else { 1 };
            let budget = self.config.budget.saturating_mul(factor);
            let machine = self.machine()?;
            machine.process.control.control().budget.store(budget, Ordering::Relaxed);
            let began = Instant::now();
            machine.stage(request, keep)?;
            let rung = Instant::now();
            let end = machine.run(limit);
            let answered = Instant::now();
            let in_guest = machine.in_guest();
            self.round_trip = answered - rung;
            let mut outcome = match end {
                Ok(End::Done) => Outcome::Done,
                Ok(End::Idle) => Outcome::Idle,
                Ok(End::Crash) => Outcome::Crash,
                Ok(End::Hang) => Outcome::Hang,
                Ok(End::Runaway) => Outcome::Runaway,
                Ok(End::TripleFault) => Outcome::TripleFault,
                Err(Lost::Late) if in_guest => {
                    // Whatever takes it so long, it is the guest.
                    self.machine = None;
                    self.restarts += 1;
                    *execution = lost(Outcome::Runaway, self.counters);
                    return Ok(());
                }
                Ok(End::Ready) | Err(Lost::Died(_) | Lost::Failed(_) | Lost::Late) => {
                    self.machine = None;
                    self.restarts += 1;
                    continue;
                }
            };
            let Some(machine) = &mut self.machine else { continue };
            self.reader.read(&machine.process.memory, &machine.target, request.comparisons, execution);
            let mut record = None;
            let blocks = machine.process.control.control().blocks.load(Ordering::Relaxed);
            if let Some(foreign) = &self.config.foreign {
                machine.process.control.edges(&mut execution.counters);
                if request.comparisons {
                    machine.process.control.comparisons(&mut execution.comparisons);
                }
                machine.process.new_console(&mut execution.console);
                (outcome, record) = xen::judge(outcome, foreign.breaks_off != 0, &execution.console);
            }
            let (memory, target) = (&machine.process.memory, &machine.target);
            if matches!(outcome, Outcome::Hang | Outcome::Runaway) {
                // These depend on when the watchdog looked.
                execution.counters.fill(0);
                execution.comparisons.clear();
            }
            if outcome == Outcome::Crash {
                execution.crash = record.or_else(|| read_crash(memory, target));
            }
            execution.outcome = outcome;
            execution.blocks = blocks;
            execution.environment = self.environment;
            let back = |status| matches!(status, Status::Returned(_) | Status::Faulted { .. });
            // Guests that carry out nothing any more are of no use to the next program.
            machine.can_go_on = keep
                && outcome == Outcome::Done
                && !execution.corrupt
                && execution.calls.iter().any(|call| back(call.status));
            self.split.add(&self.timing(), [began, rung, answered, Instant::now()]);
            return Ok(());
        }
        *execution = lost(Outcome::Timeout, self.counters);
        Ok(())
    }

    fn keep_state(&mut self, keep: bool) {
        self.keep = keep;
    }

    fn split(&self) -> Split {
        self.split
    }

    fn reboot(&mut self) -> Result<(), EngineError> {
        self.machine = None;
        self.machine().map(|_| ())
    }

    fn canaries(&self) -> Vec<Canary> {
        self.machine
            .as_ref()
            .map(|machine| read_canaries(&machine.process.memory, &machine.target))
            .unwrap_or_default()
    }

    fn restarts(&self) -> u64 {
        self.restarts
    }

    fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    fn aftermath(&self) -> Option<Aftermath> {
        let pristine = self.machine.as_ref()?.pristine.clone()?;
        // A hypervisor that knows nothing of us keeps times in its memory, which differ from boot to boot.
        let memory = if self.config.foreign.is_some() { Vec::new() } else { self.memory() };
        Some(Aftermath { memory, pristine })
    }
}
