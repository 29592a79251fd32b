//! One machine: booted up to its snapshot, then given one request after the other.

use std::sync::{Arc, atomic::Ordering};
use std::time::Duration;

use coverage_hypercall::channel::{ChannelHeader, REQUEST_DATA, REQUEST_RING};
use coverage_hypercall::harness::{CmpHeader, ConsoleHeader};
use coverage_hypercall::program::MAX_LEN;
use coverage_hypercall::ring::SKIP;
use hyperfuzz_control::{COMPARE, CONTINUE, End, KEEP};
use rustix::thread::{CpuSet, futex, sched_setaffinity};

use super::Request;
use super::aftermath::page_hashes;
use super::beacon::Target;
use super::config::QemuConfig;
use super::error::EngineError;
use super::outside::Outside;
use super::process::{Driver, Process};
use super::version::{Version, Way};
use super::wait::{Lost, given_up, wait};
use super::xen;

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

/// A machine that stands at its snapshot, or at the end of an execution.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) process: Process,
    /// If it is reset from outside.
    outside: Option<Outside>,
    pub(super) target: Target,
    /// Head of the channel at the snapshot.
    snapshot_header: ChannelHeader,
    /// Bytes that had been written to the console at the snapshot.
    snapshot_written: u64,
    /// Number of the last execution.
    serial: u32,
    /// The last execution left the machine where it can go on without a reset.
    pub(super) can_go_on: bool,
    /// Hashes of the pages at the snapshot, where they are noted.
    pub(super) pristine: Option<Arc<[u64]>>,
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
            let mut process = Process::start(config, version, Driver::Plugin(way))?;
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
    pub(super) fn at_snapshot(
        config: &QemuConfig,
        mut process: Process,
        outside: Option<Outside>,
    ) -> Result<Self, EngineError> {
        process.forget_files();
        let control = process.control.control();
        let foreign = config.foreign.as_ref();
        let mut target = if foreign.is_some_and(|foreign| foreign.guest.is_translated()) {
            Target::of(&process.memory, xen::locate(&process.memory, &config.bundle)?, true)
        } else {
            Target::read(&process.memory, control.beacon.load(Ordering::Relaxed), foreign.is_some())
        }?;
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
    pub(super) fn stage(&mut self, request: &Request<'_>, keep: bool) -> Result<(), EngineError> {
        let standing = if keep { self.standing() } else { None };
        // Where the hypervisor notes them itself, it is told so by a poke.
        let flags = if keep { KEEP } else { 0 }
            | if standing.is_some() { CONTINUE } else { 0 }
            | if request.comparisons { COMPARE } else { 0 };
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
    pub(super) fn in_guest(&self) -> bool {
        self.process.control.control().in_guest.load(Ordering::Relaxed) != 0
    }

    /// Rings, and waits for the answer.
    pub(super) fn run(&mut self, limit: Duration) -> Result<End, Lost> {
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
///
/// # Errors
/// Why there is none.
pub(super) fn boot(
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
