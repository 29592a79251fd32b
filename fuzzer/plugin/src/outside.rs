// SPDX-License-Identifier: GPL-2.0-or-later
//! The life of a machine that the host resets, through QEMU's monitor: the plugin does with its API alone.
//!
//! At a marker it tells the host and keeps the vCPU in the callback, so that nothing changes while the host looks. Then the host
//! has QEMU stop, and lets the vCPU go ([`Control::release`]): it stops before the next block. The host loads the machine's state, fills
//! memory in, rings the doorbell and lets the machine run.
//!
//! One thread does what the vCPU cannot do for itself: it notes the doorbell, and ends runs that are over a limit or that stand
//! still.
#![expect(unsafe_code, reason = "callbacks from QEMU")]

use core::ffi::{c_uint, c_void};
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use coverage_hypercall::harness::Marker;
use hyperfuzz_control::{Control, End, State};
use rustix::thread::{Pid, Timespec, futex, gettid};

use crate::budget::{Account, Limits};
use crate::counter::BLOCKS;
use crate::path;
use crate::process;
use crate::translate::{Callbacks, Observer};

/// The plugin. Set once, before the machine exists.
static OUTSIDE: OnceLock<Outside> = OnceLock::new();

/// Period of the thread.
const TICK: Duration = Duration::from_millis(1);
/// Ticks without a block after which the machine is looked at.
const STILL_TICKS: u32 = 100;
/// Processor time, in ticks of the kernel's, after which a guest that executes no block is taken to execute none ever
/// again: 200 ms on kernels as they are.
const FRUITLESS: u64 = 20;
/// Looks in a row at which all of QEMU sleeps, after which the machine is taken to be halted.
const ASLEEP_LOOKS: u32 = 3;

/// What the machine is doing.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Phase {
    /// No snapshot yet.
    Boot,
    /// A program runs.
    Running,
    /// The host has the machine.
    Held,
}

/// Everything.
struct Outside {
    control: &'static Control,
    /// Number of the file that is the machine's memory.
    ram_inode: u64,
    /// Where that memory is in this process.
    ram: OnceLock<(usize, usize)>,
    account: Account,
    phase: AtomicU32,
    /// When the run began.
    began: Mutex<Option<Instant>>,
    /// The vCPU's thread; 0 before it has executed a marker.
    vcpu: AtomicI32,
}

/// Installs the plugin and starts its thread.
///
/// # Errors
/// If there is no such file, or the thread cannot be started.
pub(crate) fn install(ram: &str, control: &'static Control) -> Result<&'static dyn Observer, String> {
    let ram_inode =
        fs::metadata(ram).map_err(|error| format!("cannot look at guest memory {ram}: {error}"))?.ino();
    let outside = OUTSIDE.get_or_init(|| Outside {
        control,
        ram_inode,
        ram: OnceLock::new(),
        account: Account::default(),
        phase: AtomicU32::new(Phase::Boot as u32),
        began: Mutex::default(),
        vcpu: AtomicI32::new(0),
    });
    std::thread::Builder::new()
        .name("hyperfuzz".into())
        .spawn(move || outside.serve())
        .map_err(|error| format!("cannot start the thread: {error}"))?;
    Ok(outside)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic cannot leave anything half changed: nothing in here panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes whoever waits for a change of this word.
fn wake(word: &AtomicU32) {
    // Nobody may be waiting; that is no error, and there is no other for a mapped word.
    let _ = futex::wake(word, futex::Flags::empty(), 1);
}

impl Outside {
    fn in_phase(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::SeqCst) == phase as u32
    }

    /// Changes the phase, if it is `from`.
    fn advance(&self, from: Phase, to: Phase) -> bool {
        self.phase.compare_exchange(from as u32, to as u32, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Hands the machine to the host.
    fn post(&self, end: End) {
        let control = self.control;
        control.end.store(end as u32, Ordering::Relaxed);
        control.state.store(State::Waiting as u32, Ordering::Relaxed);
        let next = control.doorbell.load(Ordering::Relaxed).wrapping_add(1);
        control.answer.store(next, Ordering::Release);
        wake(&control.answer);
    }

    /// Ends the run, if it is still going on. A run that is over a limit is judged by that, however it ended.
    fn end(&self, end: End) -> bool {
        if !self.advance(Phase::Running, Phase::Held) {
            return false;
        }
        let limits = Limits::of(self.control);
        let end = self.account.over(limits).unwrap_or(end);
        let ran = lock(&self.began).map_or(Duration::ZERO, |began| began.elapsed());
        self.control.run_ns.store(u64::try_from(ran.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.control.blocks.store(self.account.blocks(limits, end), Ordering::Relaxed);
        self.post(end);
        true
    }

    /// Keeps the vCPU here until the host lets it go. `seen` is the word as it was before the host could know.
    fn hold(&self, seen: u32) {
        while self.control.release.load(Ordering::Acquire) == seen {
            // Any error (a signal, a changed value) leads to another look at the word.
            let _ = futex::wait(&self.control.release, futex::Flags::empty(), seen, None);
        }
    }

    /// As [`Self::end`], in a callback of the vCPU.
    fn end_here(&self, end: End) {
        let seen = self.control.release.load(Ordering::Acquire);
        if self.end(end) {
            self.hold(seen);
        }
    }

    /// Notes doorbells and questions, and ends runs that have to be ended. Never returns.
    fn serve(&self) {
        let control = self.control;
        let tick = Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos().try_into().unwrap_or(0) };
        let mut begun = 0;
        let mut watch = Watch::default();
        loop {
            // Whatever the result, there may be something to do.
            let _ = futex::wait(&control.doorbell, futex::Flags::empty(), begun, Some(&tick));
            let doorbell = control.doorbell.load(Ordering::Acquire);
            if doorbell != begun {
                begun = doorbell;
                self.begin();
                watch = Watch::default();
                control.begun.store(begun, Ordering::Release);
                wake(&control.begun);
            }
            let asked = control.asked.load(Ordering::Acquire);
            if asked != control.told.load(Ordering::Relaxed) {
                if !self.end(End::TripleFault) {
                    control.blocks.store(BLOCKS.load(Ordering::Relaxed), Ordering::Relaxed);
                }
                control.told.store(asked, Ordering::Release);
                wake(&control.told);
            }
            if self.in_phase(Phase::Running) {
                control.in_guest.store(u32::from(self.account.in_guest()), Ordering::Relaxed);
                let over = self.account.over(Limits::of(control));
                let look = || {
                    let time = || process::time(Pid::from_raw(self.vcpu.load(Ordering::Relaxed))?);
                    watch.look(BLOCKS.load(Ordering::Relaxed), self.account.in_guest(), time, process::sleeps)
                };
                if let Some(end) = over.or_else(look) {
                    self.end(end);
                }
            }
        }
    }

    /// A run begins; the vCPU stands still.
    fn begin(&self) {
        self.account.reset(false);
        path::clear(self.control);
        *lock(&self.began) = Some(Instant::now());
        self.control.state.store(State::Running as u32, Ordering::Relaxed);
        self.phase.store(Phase::Running as u32, Ordering::SeqCst);
    }
}

/// Looks whether a machine stands still for good.
#[derive(Default)]
struct Watch {
    blocks: u64,
    /// Looks in a row at which there was no new block.
    still: u32,
    /// Processor time of the vCPU at the first of these.
    used: Option<u64>,
    /// Looks in a row at which all of QEMU slept.
    asleep: u32,
}

impl Watch {
    /// How the run ends, if it has to. To be called every tick, with the number of blocks, whether a guest has the processor, what
    /// processor time the vCPU has used, and whether all of QEMU sleeps.
    fn look(
        &mut self,
        blocks: u64,
        in_guest: bool,
        time: impl FnOnce() -> Option<u64>,
        sleeps: impl FnOnce() -> bool,
    ) -> Option<End> {
        // Before its first block the machine has not been started yet.
        if blocks == 0 || blocks != self.blocks {
            *self = Self { blocks, ..Self::default() };
            return None;
        }
        self.still += 1;
        if !self.still.is_multiple_of(STILL_TICKS) {
            return None;
        }
        let used = time()?;
        let before = *self.used.get_or_insert(used);
        if in_guest && used.saturating_sub(before) >= FRUITLESS {
            // Each exception raises the next one before the first instruction of its handler.
            return Some(End::Runaway);
        }
        self.asleep = if sleeps() { self.asleep + 1 } else { 0 };
        // The vCPU is halted: whoever waits for a processor does not sleep, nor do all threads wait for each other for so long.
        (self.asleep >= ASLEEP_LOOKS).then_some(End::Hang)
    }
}

impl Observer for Outside {
    fn translated(&self, host: *const u8) -> Option<usize> {
        let (base, len) = match self.ram.get() {
            Some(ram) => *ram,
            None => {
                let found = process::mapping(self.ram_inode)?;
                *self.ram.get_or_init(|| found)
            }
        };
        let offset = host.addr().wrapping_sub(base);
        (offset < len).then_some(offset)
    }

    fn control(&self) -> &'static Control {
        self.control
    }

    fn callbacks(&self) -> &'static Callbacks {
        &Callbacks { ready: ready_reached, end: end_reached, enter: guest_entered, leave: guest_left }
    }
}

/// Runs before each ready marker.
unsafe extern "C" fn ready_reached(_: c_uint, _: *mut c_void) {
    let Some(outside) = OUTSIDE.get() else { return };
    let seen = outside.control.release.load(Ordering::Acquire);
    if !outside.advance(Phase::Boot, Phase::Held) {
        return;
    }
    outside.vcpu.store(gettid().as_raw_nonzero().get(), Ordering::Relaxed);
    // If the machine then stops before the next block, this is what the host finds.
    BLOCKS.store(0, Ordering::Relaxed);
    outside.post(End::Ready);
    outside.hold(seen);
}

/// Runs before each marker that ends a run.
unsafe extern "C" fn end_reached(_: c_uint, argument: *mut c_void) {
    let argument = argument.addr();
    #[expect(clippy::cast_possible_truncation, reason = "the low byte is the marker")]
    let end = match Marker::from_u8(argument as u8) {
        Some(Marker::Done) => End::Done,
        Some(Marker::Idle) => End::Idle,
        Some(Marker::Crash) => End::Crash,
        Some(_) | None => return,
    };
    if let Some(outside) = OUTSIDE.get().filter(|outside| outside.control.in_text((argument >> 8) as u64)) {
        outside.end_here(end);
    }
}

/// Runs before each VMRUN of the hypervisor, and each marker that says the same.
unsafe extern "C" fn guest_entered(_: c_uint, argument: *mut c_void) {
    let Some(outside) = OUTSIDE.get().filter(|outside| outside.control.in_text(argument.addr() as u64))
    else {
        return;
    };
    if outside.in_phase(Phase::Running) && !outside.account.enter_guest(Limits::of(outside.control)) {
        outside.end_here(End::Hang);
    }
}

/// Runs before each instruction where the hypervisor goes on after a VM exit, and each marker that says the same.
unsafe extern "C" fn guest_left(_: c_uint, argument: *mut c_void) {
    let Some(outside) = OUTSIDE.get().filter(|outside| outside.control.in_text(argument.addr() as u64))
    else {
        return;
    };
    path::exit();
    if outside.in_phase(Phase::Running) && !outside.account.leave_guest(Limits::of(outside.control)) {
        outside.end_here(End::Hang);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What becomes of a run within a second in which there is no new block.
    fn stand(blocks: u64, in_guest: bool, busy: bool, sleeps: bool) -> Option<End> {
        let mut watch = Watch::default();
        (0..1000).find_map(|tick| {
            let time = || Some(if busy { tick / 10 } else { 7 });
            watch.look(blocks, in_guest, time, || sleeps)
        })
    }

    #[test]
    fn tells_who_stands_still_for_good() {
        assert_eq!(stand(1, false, false, true), Some(End::Hang), "halted");
        assert_eq!(stand(1, true, true, false), Some(End::Runaway), "exceptions without end");
        assert_eq!(stand(1, true, false, false), None, "waits for a processor");
        assert_eq!(stand(1, false, true, false), None, "the hypervisor's own standstill is no runaway");
        assert_eq!(stand(0, false, false, true), None, "has not been started");
        let mut watch = Watch::default();
        assert!((1..1000).all(|blocks| watch.look(blocks, false, || Some(7), || true).is_none()), "runs");
    }
}
