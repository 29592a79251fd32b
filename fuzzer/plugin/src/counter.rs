// SPDX-License-Identifier: GPL-2.0-or-later
//! Counters that translated code adds to.
//!
//! Up to version 1 of the plugin API code adds to any place in memory. Later versions add to a *scoreboard* that QEMU allocates, so
//! that a counter moves there as soon as the vCPU exists; see `crate::api`.
#![expect(unsafe_code, reason = "a counter may lie in memory of QEMU's")]

use core::ops::Deref;
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// Translated blocks that were executed.
pub(crate) static BLOCKS: Counter = Counter::new();
/// Port instructions that were executed.
pub(crate) static PORT_ACCESSES: Counter = Counter::new();

/// A counter; it is used like the atomic number that it is.
pub(crate) struct Counter {
    own: AtomicU64,
    /// Where the number is, if not in `own`.
    elsewhere: AtomicPtr<AtomicU64>,
}

impl Counter {
    const fn new() -> Self {
        Self { own: AtomicU64::new(0), elsewhere: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Lets the number be at `place` from now on.
    ///
    /// # Safety
    /// `place` must be an aligned number that stays where it is while the process lives.
    pub(crate) unsafe fn move_to(&self, place: *mut u64) {
        self.elsewhere.store(place.cast(), Ordering::Release);
    }
}

impl Deref for Counter {
    type Target = AtomicU64;

    fn deref(&self) -> &AtomicU64 {
        let elsewhere = self.elsewhere.load(Ordering::Acquire);
        // SAFETY: null, or what `move_to` was promised. Everybody treats the number as atomic: code of the vCPU adds to it without
        // care for other threads, which do no more than look.
        unsafe { elsewhere.as_ref() }.unwrap_or(&self.own)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moves() {
        static COUNTER: Counter = Counter::new();
        static PLACE: AtomicU64 = AtomicU64::new(7);
        COUNTER.store(3, Ordering::Relaxed);
        assert_eq!(COUNTER.load(Ordering::Relaxed), 3);
        // SAFETY: a static number.
        unsafe { COUNTER.move_to(PLACE.as_ptr()) };
        assert_eq!(COUNTER.load(Ordering::Relaxed), 7);
        COUNTER.store(8, Ordering::Relaxed);
        assert_eq!(PLACE.load(Ordering::Relaxed), 8);
    }
}
