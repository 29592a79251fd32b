// SPDX-License-Identifier: GPL-2.0-or-later
//! Lets the time-stamp counter go back.
//!
//! QEMU keeps what it last gave out as the counter, and never gives out less: the state of its timers, which a reset brings back, does not
//! hold that. Where the clock has gone on in a run, all later ones would begin later than the snapshot.
#![expect(unsafe_code, reason = "reads and writes an object of QEMU's")]

use core::ffi::c_void;
use core::ptr;

use crate::qemu::address;

/// The counter as it was last given out: `cpu_ticks_prev`, the first word of `TimersState` in QEMU's `softmmu/timers-state.h`. The
/// second, `cpu_ticks_offset`, is the counter itself while the clock stands still.
pub(crate) struct Ticks {
    last: *mut i64,
    at_snapshot: i64,
}

// SAFETY: the pointer leads to a static object of QEMU, which belongs to no thread.
unsafe impl Send for Ticks {}

impl Ticks {
    /// Notes it. The clock must stand still, and the big lock be held.
    ///
    /// # Errors
    /// If QEMU keeps it elsewhere.
    pub(crate) fn save() -> Result<Self, String> {
        let (state, get) = (address(c"timers_state").cast::<i64>(), address(c"cpu_get_ticks"));
        if state.is_null() || get.is_null() {
            return Err("this QEMU does not export what its time-stamp counter is made of".into());
        }
        // SAFETY: the symbols are those of a static object that begins with two such words, and of a function without arguments.
        let (given, words) = unsafe {
            let given = core::mem::transmute::<*mut c_void, unsafe extern "C" fn() -> i64>(get)();
            (given, [ptr::read_volatile(state), ptr::read_volatile(state.add(1))])
        };
        if words != [given; 2] {
            return Err("this QEMU keeps its time-stamp counter in an unknown form".into());
        }
        Ok(Self { last: state, at_snapshot: given })
    }

    /// Brings it back. The clock must stand still, and the big lock be held.
    pub(crate) fn restore(&self) {
        // SAFETY: as in `save`; nobody asks for the counter while the vCPU's thread is here and the lock is held.
        unsafe { ptr::write_volatile(self.last, self.at_snapshot) };
    }
}
