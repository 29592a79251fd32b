//! Resets a machine from outside, through QEMU's monitor: for a QEMU that lacks what the plugin needs to do it from inside.
//!
//! The state of the CPU and the devices is a snapshot of QEMU's own (`savevm`, `loadvm`) in an empty disk image. Guest memory is shared
//! with us and is left out of it (`x-ignore-shared`); we fill it in ourselves. QEMU throws all translated code away when it
//! loads a snapshot, so that a reset takes ten to twenty milliseconds, a thousand times as long as from inside.
//!
//! The machine's clock counts instructions (`-icount`), so that it does not depend on ours. The plugin's side of this is
//! its module `outside`.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use coverage_hypercall::harness::BEACON_MAGIC;
use hyperfuzz_control::CONTINUE;
use rustix::thread::futex;
use serde_json::json;

use super::beacon::Target;
use super::error::EngineError;
use super::memory::GuestMemory;
use super::monitor::Monitor;
use super::process::Process;

/// Name of the snapshot.
const NAME: &str = "hyperfuzz";
/// How long the plugin may take to note something: less than a millisecond, if the host is not busy.
const LIMIT: Duration = Duration::from_secs(20);
/// How often the host looks whether QEMU still lives while it waits.
const SLICE: futex::Timespec = futex::Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
/// Bytes of a page: the unit in which memory is compared and filled in.
const PAGE: usize = 4096;

/// What is needed for a reset.
pub(super) struct Outside {
    /// Guest memory at the snapshot.
    copy: Vec<u8>,
    /// The machine stands at the snapshot.
    fresh: bool,
}

impl std::fmt::Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").field("bytes", &self.copy.len()).field("fresh", &self.fresh).finish()
    }
}

/// The monitor of a machine that has one.
fn monitor(process: &mut Process) -> Result<&mut Monitor, String> {
    process.monitor.as_mut().ok_or_else(|| "this machine has no monitor".to_owned())
}

/// Waits until the plugin has set a word to what is expected of it.
fn wait_for(
    process: &mut Process,
    expected: u32,
    word: impl Fn(&hyperfuzz_control::Control) -> &std::sync::atomic::AtomicU32,
) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let word = word(process.control.control());
        let now = word.load(Ordering::Acquire);
        if now == expected {
            return Ok(());
        }
        let woken = futex::wait(word, futex::Flags::empty(), now, Some(&SLICE)).is_ok();
        if woken {
            continue;
        }
        if let Some(status) = process.ended() {
            return Err(format!("QEMU ended ({status})"));
        }
        if began.elapsed() >= LIMIT {
            return Err(format!("the plugin has not answered for {} s", LIMIT.as_secs()));
        }
    }
}

/// Lets the vCPU go from the marker where it waits, if it does.
fn release(process: &Process) {
    let word = &process.control.control().release;
    word.fetch_add(1, Ordering::Release);
    // Nobody waits where the run ended in another way.
    let _ = futex::wake(word, futex::Flags::empty(), 1);
}

/// Asks the plugin how many blocks were executed, and to end the run if it goes on.
pub(super) fn ask(process: &Process) -> u32 {
    let control = process.control.control();
    let question = control.asked.fetch_add(1, Ordering::Release).wrapping_add(1);
    // It looks every millisecond anyway.
    let _ = futex::wake(&control.doorbell, futex::Flags::empty(), 1);
    question
}

/// Stops the machine before the next block: the vCPU, which waits at a marker, goes on only when QEMU wants it to stop.
fn stop(process: &mut Process, settle: Duration) -> Result<(), String> {
    monitor(process)?.send("stop", &json!({}))?;
    // QEMU does not say when it has asked the vCPU to stop, only when that has stopped.
    if !settle.is_zero() {
        std::thread::sleep(settle);
    }
    release(process);
    monitor(process)?.answer().map_err(|error| format!("stop: {error}"))?;
    Ok(())
}

/// The beacon: plugins of old QEMUs cannot read the register in which the ready marker says where it is.
fn find_beacon(memory: &GuestMemory) -> Result<u64, EngineError> {
    let mut page = [0; PAGE];
    let mut first = None;
    for at in (0..memory.len()).step_by(PAGE) {
        if !memory.read(at, &mut page) {
            break;
        }
        let magic = BEACON_MAGIC.to_le_bytes();
        for (index, _) in page.chunks_exact(8).enumerate().filter(|(_, chunk)| **chunk == magic) {
            let address = (at + 8 * index) as u64;
            match Target::read(memory, address, false) {
                Ok(_) => return Ok(address),
                // Something else that looks like its beginning, or the reason why it cannot be used.
                Err(error) => first = first.or(Some(error)),
            }
        }
    }
    Err(first.unwrap_or_else(|| EngineError::Beacon { field: "magic", problem: "is not in memory".into() }))
}

impl Outside {
    /// Takes the snapshot of a machine whose vCPU waits at the ready marker. None where the vCPU went on, as QEMU was slower than
    /// `settle` to stop it: then there is no machine any more.
    ///
    /// # Errors
    /// What QEMU refused, or what is wrong with the beacon.
    pub(super) fn take(process: &mut Process, settle: Duration) -> Result<Option<Self>, EngineError> {
        let beacon = find_beacon(&process.memory)?;
        process.control.control().beacon.store(beacon, Ordering::Relaxed);
        let taken = Self::snapshot(process, settle);
        taken.map_err(|error| EngineError::Plugin(format!("the machine cannot be saved: {error}")))
    }

    fn snapshot(process: &mut Process, settle: Duration) -> Result<Option<Self>, String> {
        stop(process, settle)?;
        let question = ask(process);
        wait_for(process, question, |control| &control.told)?;
        if process.control.control().blocks.load(Ordering::Relaxed) != 0 {
            return Ok(None);
        }
        let capabilities = json!({ "capabilities": [{ "capability": "x-ignore-shared", "state": true }] });
        monitor(process)?.call("migrate-set-capabilities", &capabilities)?;
        monitor(process)?.human(&format!("savevm {NAME}"))?;
        let mut copy = vec![0; process.memory.len()];
        if !process.memory.read(0, &mut copy) {
            return Err("guest memory cannot be copied".into());
        }
        Ok(Some(Self { copy, fresh: true }))
    }

    /// Brings the machine back to the snapshot. Returns the number of pages that had changed.
    fn reset(&mut self, process: &mut Process) -> Result<u32, String> {
        if !std::mem::take(&mut self.fresh) {
            stop(process, Duration::ZERO)?;
            let monitor = monitor(process)?;
            if monitor.status()? == "shutdown" {
                // QEMU goes on from there only by a reset, which the machine was told not to make.
                monitor.call("set-action", &json!({ "reboot": "reset" }))?;
                monitor.call("system_reset", &json!({}))?;
                let began = Instant::now();
                while monitor.status()? == "shutdown" {
                    if began.elapsed() >= LIMIT {
                        return Err("QEMU does not reset the machine".into());
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
                monitor.call("set-action", &json!({ "reboot": "shutdown" }))?;
            }
            monitor.human(&format!("loadvm {NAME}"))?;
        }
        // Only now: QEMU resets the machine before it loads, and puts its images into memory again.
        Ok(process.memory.make_equal(&self.copy))
    }

    /// Resets the machine, unless it goes on, applies the pokes and lets it run.
    ///
    /// # Errors
    /// What went wrong: the machine is of no use any more.
    pub(super) fn start(&mut self, process: &mut Process, serial: u32) -> Result<(), String> {
        let began = Instant::now();
        let goes_on = process.control.control().state_flags.load(Ordering::Relaxed) & CONTINUE != 0;
        let pages = if goes_on { 0 } else { self.reset(process)? };
        if !process.apply_pokes() {
            return Err("a poke is outside of guest memory".into());
        }
        let control = process.control.control();
        control.dirty_pages.store(pages, Ordering::Relaxed);
        control.device_resets.fetch_add(u64::from(!goes_on), Ordering::Relaxed);
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        control.reset_ns.store(took, Ordering::Relaxed);
        control.doorbell.store(serial, Ordering::Release);
        // It looks every millisecond anyway.
        let _ = futex::wake(&control.doorbell, futex::Flags::empty(), 1);
        wait_for(process, serial, |control| &control.begun)?;
        if goes_on {
            release(process);
            return Ok(());
        }
        let monitor = monitor(process)?;
        // What shut down before was another run.
        monitor.has_shut_down()?;
        monitor.call("cont", &json!({})).map(|_| ())
    }
}
