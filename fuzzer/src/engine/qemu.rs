//! The engine that drives the distribution's QEMU through our plugin.
//!
//! One QEMU process runs at a time, on the same core as the thread that uses the engine: handing the machine over is then
//! two context switches. QEMU may die, stop or hang at any moment; it is then replaced, and the execution is repeated.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, atomic::Ordering};
use std::time::{Duration, Instant};

use coverage_hypercall::channel::{ChannelHeader, REQUEST_DATA, REQUEST_RING};
use coverage_hypercall::harness::{Canary, CmpHeader, ConsoleHeader};
use coverage_hypercall::program::{MAX_LEN, Status};
use coverage_hypercall::ring::SKIP;
use hyperfuzz_control::{CONTINUE, Control, EDGES_LEN, End, KEEP, MAGIC, VERSION};
use rustix::thread::{CpuSet, futex, sched_setaffinity};

use super::aftermath::{Aftermath, page_hashes};
use super::beacon::Target;
use super::error::EngineError;
use super::outside::Outside;
use super::process::Process;
use super::results::{Reader, read_canaries, read_crash};
use super::version::{self, Reset, Version, Way};
use super::wait::{Lost, given_up, wait};
use super::xen::{self, Foreign};
use super::{Engine, Execution, Outcome, Request, Split, Timing};

/// How often an execution is tried on a fresh machine before the program is held responsible.
const ATTEMPTS: u32 = 3;
/// So many times its budget may an execution take whose comparisons are recorded: each is a call then.
const COMPARISONS_FACTOR: u64 = 3;
/// How often a machine is booted where QEMU ends on the way, before there is none.
const BOOTS: u32 = 3;
/// How long QEMU may take to stop a machine at its snapshot, when it is reset from outside; each time longer, as the host may be
/// busy.
const SETTLE: [Duration; 4] = [
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(125),
    Duration::from_millis(625),
];

/// Offset of `request_produced` in the channel's header.
const REQUEST_PRODUCED: usize = core::mem::offset_of!(ChannelHeader, request_produced);

/// Offset of `completion_consumed` in the channel's header.
const COMPLETION_CONSUMED: usize = core::mem::offset_of!(ChannelHeader, completion_consumed);

const _: () = assert!(
    core::mem::offset_of!(CmpHeader, enabled) == 0 && core::mem::offset_of!(CmpHeader, count) == 4,
    "both are poked as one word"
);

/// What the engine needs to start a machine, as often as necessary.
#[derive(Clone)]
pub struct QemuConfig {
    /// QEMU: a path, or a name that is looked up in `PATH`.
    pub binary: PathBuf,
    /// How it is reset.
    pub reset: Reset,
    /// The hypervisor's ELF image, started by PVH.
    pub hypervisor: Vec<u8>,
    /// Its boot module; see [`super::bundle`].
    pub bundle: Vec<u8>,
    /// The plugin, a shared object.
    pub plugin: Vec<u8>,
    /// The hypervisor's command line: words separated by spaces.
    pub cmdline: String,
    /// What the plugin has to do for a hypervisor that knows nothing of us; `None` for one that does it itself.
    pub foreign: Option<Foreign>,
    /// Bytes of guest memory, a multiple of 1 MiB.
    pub ram_size: usize,
    /// Core for the calling thread and QEMU; `None` leaves both where they are.
    pub core: Option<usize>,
    /// Translated blocks that the hypervisor may execute in one exit, and before the first entry; more is a hang. On a
    /// machine without VMRUN this limits the whole execution. With the comparison log on it is
    /// three times as much.
    pub budget: u64,
    /// VM exits that an execution may have; more is a runaway.
    pub guest_exits: u64,
    /// Translated blocks that guests may execute in one execution; more is a runaway. A `xen_version` call takes
    /// about 1,300 blocks of guest and hypervisor together.
    pub guest_blocks: u64,
    /// Limit for one execution: wall-clock time in which QEMU had a processor. On a busy host it may take ten times as long.
    pub wall_limit: Duration,
    /// Limit for the boot.
    pub boot_limit: Duration,
    /// Note what each page holds at the snapshot, so that [`Engine::aftermath`] has an answer. Takes some milliseconds at each boot.
    pub note_pages: bool,
    /// Where to put guest memory and other files; `/dev/shm`, or else the directory for temporary files.
    pub work_directory: Option<PathBuf>,
}

/// Nobody reads megabytes of images.
impl fmt::Debug for QemuConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QemuConfig")
            .field("binary", &self.binary)
            .field("reset", &self.reset)
            .field("cmdline", &self.cmdline)
            .field("core", &self.core)
            .finish_non_exhaustive()
    }
}

impl QemuConfig {
    /// A configuration with the usual limits.
    #[must_use]
    pub fn new(hypervisor: Vec<u8>, bundle: Vec<u8>, plugin: Vec<u8>) -> Self {
        Self {
            binary: version::default_binary(),
            reset: Reset::Auto,
            hypervisor,
            bundle,
            plugin,
            cmdline: String::new(),
            foreign: None,
            ram_size: 32 << 20,
            core: None,
            budget: 4_000_000,
            guest_exits: 20_000,
            guest_blocks: 500_000,
            wall_limit: Duration::from_secs(10),
            boot_limit: Duration::from_secs(30),
            note_pages: false,
            work_directory: None,
        }
    }

    /// Fills in what the plugin reads at its start.
    pub(super) fn prepare(&self, control: &Control, version: Version) {
        control.qemu.store(version.0 << 16 | (version.1 & 0xffff), Ordering::Relaxed);
        control.ram_size.store(self.ram_size as u64, Ordering::Relaxed);
        control.budget.store(self.budget, Ordering::Relaxed);
        control.guest_exits.store(self.guest_exits, Ordering::Relaxed);
        control.guest_blocks.store(self.guest_blocks, Ordering::Relaxed);
        if let Some(foreign) = &self.foreign {
            control.edges_base.store(foreign.text.start, Ordering::Relaxed);
            control.edges_len.store(foreign.text.end - foreign.text.start, Ordering::Relaxed);
            control.marker_ring.store(xen::AGENT_RING, Ordering::Relaxed);
        }
        control.version.store(VERSION, Ordering::Relaxed);
        control.magic.store(MAGIC, Ordering::Release);
    }
}

/// A machine that stands at its snapshot, or at the end of an execution.
#[derive(Debug)]
struct Machine {
    process: Process,
    /// If it is reset from outside.
    outside: Option<Outside>,
    target: Target,
    /// Head of the channel at the snapshot.
    snapshot_header: ChannelHeader,
    /// Bytes that had been written to the console at the snapshot.
    snapshot_written: u64,
    /// Number of the last execution.
    serial: u32,
    /// The last execution left the machine where it can go on without a reset.
    can_go_on: bool,
    /// Hashes of the pages at the snapshot, where they are noted.
    pristine: Option<Arc<[u64]>>,
}

impl Machine {
    /// Boots a machine up to its snapshot.
    fn boot(config: &QemuConfig, version: Version, way: Way) -> Result<Self, EngineError> {
        if let Some(core) = config.core {
            let mut set = CpuSet::new();
            if core < CpuSet::MAX_CPU {
                set.set(core);
            }
            // QEMU inherits it.
            sched_setaffinity(None, &set).map_err(|error| EngineError::System {
                what: "cannot pin to the core",
                source: error.into(),
            })?;
        }
        for settle in SETTLE {
            let mut process = Process::start(config, version, way)?;
            Self::boot_to_marker(config, &mut process)?;
            if way == Way::InProcess {
                return Self::at_snapshot(config, process, None);
            }
            if let Some(outside) = Outside::take(&mut process, settle)? {
                return Self::at_snapshot(config, process, Some(outside));
            }
        }
        Err(EngineError::Plugin(
            "QEMU did not stop the machine in time for the snapshot, several times over: the host is too busy, or code \
             follows the ready marker without a jump"
                .into(),
        ))
    }

    /// Waits until a machine has reached the ready marker.
    fn boot_to_marker(config: &QemuConfig, process: &mut Process) -> Result<(), EngineError> {
        if let Some(monitor) = &mut process.monitor {
            // Why it does not answer shows itself below: QEMU has ended.
            let _ = monitor.begin();
        }
        let waited = wait(process, 1, config.boot_limit);
        process.check_files()?;
        let lost = match waited {
            Ok(()) => return Ok(()),
            Err(lost) => lost,
        };
        if let Some(error) = given_up(process.control.control()) {
            return Err(error);
        }
        Err(match lost {
            Lost::Died(status) => {
                let status = process.last_status().unwrap_or(status);
                process.death(status)
            }
            Lost::Failed(text) => EngineError::Plugin(text),
            Lost::Late => EngineError::BootTimeout {
                seconds: config.boot_limit.as_secs(),
                console: process.console_tail(),
            },
        })
    }

    /// A machine that stands at its snapshot.
    fn at_snapshot(
        config: &QemuConfig,
        mut process: Process,
        outside: Option<Outside>,
    ) -> Result<Self, EngineError> {
        process.forget_files();
        let control = process.control.control();
        let foreign = config.foreign.as_ref();
        let mut target =
            Target::read(&process.memory, control.beacon.load(Ordering::Relaxed), foreign.is_some())?;
        if let Some(foreign) = foreign {
            target.build_id = foreign.build_id;
        }
        control.text_base.store(target.text.base as u64, Ordering::Relaxed);
        control.text_len.store(target.text.len as u64, Ordering::Relaxed);
        // What was written during the boot is of no interest any more.
        process.new_console(&mut Vec::new());
        let (snapshot_header, snapshot_written) = (target.header, target.console_written);
        let pristine = if config.note_pages {
            let mut memory = vec![0; process.memory.len()];
            process.memory.read(0, &mut memory).then(|| page_hashes(&memory).into())
        } else {
            None
        };
        Ok(Self {
            process,
            outside,
            target,
            snapshot_header,
            snapshot_written,
            serial: 0,
            can_go_on: false,
            pristine,
        })
    }

    /// The machine as it stands, where it goes on from there; none if the guest has left it in no state to do so.
    fn standing(&self) -> Option<(ChannelHeader, u64)> {
        let (memory, target) = (&self.process.memory, &self.target);
        let header: ChannelHeader = memory.read_struct(target.channel.base)?;
        // The agent has taken the last request, and nothing else.
        (self.can_go_on && header.request_produced == header.request_consumed).then_some(())?;
        let written = target.console.and_then(|range| memory.read_struct::<ConsoleHeader>(range.base));
        Some((header, written.map_or(0, |console| console.written)))
    }

    /// Stages a request: after a reset, or where `keep` allows it and the machine can, without one.
    fn stage(&mut self, request: &Request<'_>, keep: bool) -> Result<(), EngineError> {
        let standing = if keep { self.standing() } else { None };
        let flags = if keep { KEEP } else { 0 } | if standing.is_some() { CONTINUE } else { 0 };
        self.process.control.control().state_flags.store(flags, Ordering::Relaxed);
        let (header, written) = standing.unwrap_or((self.snapshot_header, self.snapshot_written));
        self.target.header = header;
        self.target.console_written = written;
        self.poke(request, standing.is_some())
    }

    /// Stages the pokes of a request.
    fn poke(&self, request: &Request<'_>, goes_on: bool) -> Result<(), EngineError> {
        let too_long = || EngineError::ProgramTooLong { len: request.program.len(), max: MAX_LEN };
        let header = &self.target.header;
        let placement = REQUEST_RING
            .place(header.request_produced, header.request_consumed, request.program.len())
            .map_err(|_| too_long())?;
        let control = self.process.control.control();
        let channel = self.target.channel.base;
        let (mut used, mut count) = (0, 0);
        let mut poke = |at: usize, parts: &[&[u8]]| {
            let start = used;
            for part in parts {
                if !self.process.control.stage(used, part) {
                    return Err(too_long());
                }
                used += part.len();
            }
            let entry = &control.pokes[count];
            entry.ram_offset.store(at as u64, Ordering::Relaxed);
            // Both are at most DATA_LEN.
            entry.data_offset.store(u32::try_from(start).unwrap_or(u32::MAX), Ordering::Relaxed);
            entry.len.store(u32::try_from(used - start).unwrap_or(u32::MAX), Ordering::Relaxed);
            count += 1;
            Ok(())
        };
        let data = channel + REQUEST_DATA;
        if let Some(at) = placement.skip_at {
            poke(data + at, &[&SKIP.to_le_bytes()])?;
        }
        let length = u64::try_from(request.program.len()).unwrap_or(u64::MAX);
        // The length word and its padding are one little-endian number of eight bytes.
        poke(data + placement.length_at, &[&length.to_le_bytes(), request.program])?;
        poke(channel + REQUEST_PRODUCED, &[&placement.produced.to_le_bytes()])?;
        if goes_on {
            // What a reset does to these.
            poke(channel + COMPLETION_CONSUMED, &[&header.completion_produced.to_le_bytes()])?;
            if self.target.counters.len > 0 {
                poke(self.target.counters.base, &[&vec![0; self.target.counters.len]])?;
            }
        }
        if let Some(log) = self.target.comparisons.filter(|_| request.comparisons || goes_on) {
            // Enabled or not, and no entries.
            poke(log.base, &[&u64::from(request.comparisons).to_le_bytes()])?;
        }
        control.poke_count.store(u32::try_from(count).unwrap_or(u32::MAX), Ordering::Relaxed);
        Ok(())
    }

    /// True where a guest had the processor when the plugin last looked.
    fn in_guest(&self) -> bool {
        self.process.control.control().in_guest.load(Ordering::Relaxed) != 0
    }

    /// Rings, and waits for the answer.
    fn run(&mut self, limit: Duration) -> Result<End, Lost> {
        self.serial = self.serial.wrapping_add(1);
        match &mut self.outside {
            Some(outside) => outside.start(&mut self.process, self.serial).map_err(Lost::Failed)?,
            None => {
                let control = self.process.control.control();
                control.doorbell.store(self.serial, Ordering::Release);
                // Nobody waits if QEMU is gone, which the wait below notices.
                let _ = futex::wake(&control.doorbell, futex::Flags::empty(), 1);
            }
        }
        wait(&mut self.process, self.serial.wrapping_add(1), limit)?;
        let end = self.process.control.control().end.load(Ordering::Relaxed);
        End::from_u32(end).ok_or_else(|| Lost::Failed(format!("unknown end {end} of an execution")))
    }
}

/// Boots a machine, and again where QEMU ended on the way: on a host that is out of memory for a moment, say.
fn boot(
    config: &QemuConfig,
    version: Version,
    way: Way,
    notices: &mut Vec<String>,
) -> Result<Machine, EngineError> {
    for attempt in 1..BOOTS {
        match Machine::boot(config, version, way) {
            Err(error @ (EngineError::Died { .. } | EngineError::Tampered { .. })) => {
                notices.push(format!("no machine at attempt {attempt} of {BOOTS}, trying again: {error}"));
            }
            end => return end,
        }
    }
    Machine::boot(config, version, way)
}

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
        Ok(Self {
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
        })
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
            if self.config.foreign.is_some() {
                machine.process.control.edges(&mut execution.counters);
                machine.process.new_console(&mut execution.console);
                let over_budget = blocks >= budget;
                (outcome, record) = xen::judge(outcome, over_budget, &execution.console);
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
        Some(Aftermath { memory: self.memory(), pristine })
    }
}
