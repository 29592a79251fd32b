// SPDX-License-Identifier: GPL-2.0-or-later
//! A hypervisor that knows nothing of us: where it gives up, and when it hangs.
//!
//! It may break long calls off, and lets the guest repeat them: but only when an interrupt has left it something to do, and while the
//! clock stands still none comes. So a call that uses up its budget is no hang yet. The clock then goes on, and with it the timers, and
//! the call gets far more, and time. If it is broken off, or comes back, it was a long one; if not, it hangs.
#![expect(unsafe_code, reason = "callbacks from and calls into QEMU")]

use core::ffi::{c_int, c_uint, c_void};
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use hyperfuzz_control::End;

use super::{Phase, Plugin, plugin};
use crate::api::Callback;
use crate::budget::Limits;
use crate::qemu::{CLOCK_VIRTUAL, Cpu};
use crate::translate::Spot;
use crate::{edges, path};

/// Privilege level of a hypervisor.
const HYPERVISOR: u32 = 0;

/// How long a run takes at least before it hangs: a call may wait for time to pass, and its way of waiting counts as many blocks.
const PATIENCE: Duration = Duration::from_millis(200);

/// Interrupts that are waited for before the snapshot.
const MAX_WAITS: u32 = 100;

/// Below it lie the guest-virtual addresses of guests, above it the hypervisor's and those that belong to nobody.
const LOWER_HALF: u64 = 1 << 47;

/// What is special about the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    AsAlways,
    /// The run goes on.
    GoesOn,
    /// It ended so.
    Ended(End),
}

impl Plugin {
    /// True where the hypervisor below the agent is not ours: it takes interrupts, and accesses devices by other means than ports.
    pub(super) fn foreign(&self) -> bool {
        self.marker_ring() != 0
    }

    /// True where hypervisor and guest share their tables, and nothing but the registers says what translations are.
    pub(super) fn on_one_set_of_tables(&self) -> bool {
        self.foreign() && !self.in_foreign_guest()
    }

    /// Stops the clock before the snapshot, and lets whatever was due by then happen first: each run would begin with it, or, where it is
    /// left to another thread, now and then. True where an interrupt is pending: the ready marker is executed again behind it.
    ///
    /// On the vCPU's thread, between two blocks, with the big lock held.
    pub(super) fn has_to_settle(&self, cpu: *mut Cpu) -> bool {
        let marker = self.marker.load(Ordering::Relaxed);
        if !self.foreign() || marker == 0 {
            return false;
        }
        // SAFETY: the big lock is held, as it is where QEMU itself stops its clock and runs timers.
        unsafe {
            (self.qemu.disable_ticks)();
            (self.qemu.run_timers)(CLOCK_VIRTUAL);
        }
        if self.layout.nothing_pending(cpu) || self.waits.fetch_add(1, Ordering::Relaxed) >= MAX_WAITS {
            return false;
        }
        self.layout.set_rip(cpu, marker);
        true
    }

    /// What is called at such a place, at this guest-virtual address.
    pub(super) fn foreign_spot(&self, spot: Spot, address: u64) -> Option<Callback> {
        if !self.foreign() {
            return None;
        }
        match (spot, address < LOWER_HALF) {
            (Spot::Block, true) => self.on_one_set_of_tables().then_some(guest_runs),
            (Spot::Block, false) => self.hypervisors_block(address),
            (Spot::Zeros, guests) => {
                let snapshot_taken = self.control.text_len.load(Ordering::Relaxed) != 0;
                (guests && snapshot_taken).then_some(strayed)
            }
            (Spot::Halt, _) => edges::argument(self.control, address).is_some().then_some(halting),
        }
    }

    /// What is called before a block of the hypervisor's.
    fn hypervisors_block(&self, address: u64) -> Option<Callback> {
        let is = |place: &AtomicU64| place.load(Ordering::Relaxed) == address;
        if self.control.ends.iter().any(is) {
            Some(gave_up)
        } else if self.control.domain_ends.iter().any(is) {
            Some(domain_ended)
        } else if is(&self.control.breaks_off) {
            Some(broke_off)
        } else if path::is_wanted(self.control) && is(&self.control.enters) {
            Some(entered)
        } else {
            None
        }
    }

    /// Judges a run that is over a limit or has reached an end. On the vCPU's thread, between two blocks, with the big lock held.
    pub(super) fn judge_foreign(&self, cpu: *mut Cpu, over: Option<End>, reached: End) -> Verdict {
        let limits = Limits::of(self.control);
        if over == Some(End::Hang) && reached == End::Hang {
            // An agent on its own way, not the hypervisor below it.
            if self.layout.runs_at(cpu, self.marker_ring()) {
                return Verdict::Ended(End::Runaway);
            }
            if self.account.extend(limits) {
                // SAFETY: the big lock is held. The next reset stops the clock again.
                unsafe { (self.qemu.enable_ticks)() };
                return Verdict::GoesOn;
            }
            let began = self.machine().run_began;
            let patient = began.is_some_and(|began| began.elapsed() < PATIENCE);
            return if patient { Verdict::GoesOn } else { Verdict::Ended(End::Hang) };
        }
        match reached {
            End::Crash | End::TripleFault => Verdict::Ended(reached),
            // It came back, if late; with a clock, what it did is not the same each time.
            _ if self.account.extended() || over == Some(End::Hang) => Verdict::Ended(End::Runaway),
            _ => Verdict::AsAlways,
        }
    }

    /// Ends the run from a callback of translated code, if it is the hypervisor that executes it, or a guest.
    fn end_foreign(&self, vcpu: c_uint, end: End, hypervisors: bool) {
        let Ok(index) = c_int::try_from(vcpu) else { return };
        // SAFETY: no precondition; the CPU exists, as it executes code.
        let cpu = unsafe { (self.qemu.get_cpu)(index) };
        if cpu.is_null() || self.layout.runs_at(cpu, HYPERVISOR) != hypervisors {
            return;
        }
        if self.phase.load(Ordering::SeqCst) == Phase::Boot as u32 {
            return;
        }
        self.reached.store(end as u32, Ordering::Relaxed);
        if self.request_end(cpu, end) || self.phase.load(Ordering::SeqCst) == Phase::Ending as u32 {
            // SAFETY: as in `ready_reached`.
            unsafe { (self.qemu.cpu_loop_exit)(cpu) };
        }
    }
}

/// Runs before each block at which the hypervisor has given up.
unsafe extern "C" fn gave_up(vcpu: c_uint, _: *mut c_void) {
    if let Some(plugin) = plugin() {
        plugin.end_foreign(vcpu, End::Crash, true);
    }
}

/// Runs before each block at which the hypervisor ends a domain: what it says of it would take longer than everything else.
unsafe extern "C" fn domain_ended(vcpu: c_uint, _: *mut c_void) {
    if let Some(plugin) = plugin() {
        plugin.end_foreign(vcpu, End::Idle, true);
    }
}

/// Runs before each instruction with which the hypervisor halts the processor: nothing can run any more, and nothing will wake it, as
/// its clock stands still.
unsafe extern "C" fn halting(vcpu: c_uint, _: *mut c_void) {
    let Some(plugin) = plugin().filter(|plugin| !plugin.account.extended()) else { return };
    let Ok(index) = c_int::try_from(vcpu) else { return };
    // SAFETY: no precondition; the CPU exists, as it executes code.
    let cpu = unsafe { (plugin.qemu.get_cpu)(index) };
    if !cpu.is_null() && plugin.layout.takes_interrupts(cpu) && plugin.layout.nothing_pending(cpu) {
        plugin.end_foreign(vcpu, End::Idle, true);
    }
}

/// Runs before each block at which the hypervisor breaks a call off.
unsafe extern "C" fn broke_off(vcpu: c_uint, _: *mut c_void) {
    if let Some(plugin) = plugin().filter(|plugin| plugin.account.extended()) {
        plugin.end_foreign(vcpu, End::Runaway, true);
    }
}

/// Runs before each block of a pv guest.
unsafe extern "C" fn guest_runs(_: c_uint, _: *mut c_void) {
    if let Some(plugin) = plugin() {
        plugin.account.guest_runs();
    }
}

/// Runs before each block at which a system call of a guest enters the hypervisor.
unsafe extern "C" fn entered(_: c_uint, _: *mut c_void) {
    path::exit();
}

/// Runs before each block of zeros, which a guest comes to that has gone astray, to a handler that is none, say. Zeros are code that
/// writes to memory, and where that is the code's own page, QEMU translates it anew at each step: a walk through a page takes as long
/// as thousands of programs.
unsafe extern "C" fn strayed(vcpu: c_uint, _: *mut c_void) {
    if let Some(plugin) = plugin().filter(|plugin| plugin.account.stray()) {
        plugin.end_foreign(vcpu, End::Runaway, false);
    }
}
