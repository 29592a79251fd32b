// SPDX-License-Identifier: GPL-2.0-or-later
//! Counts the edges of a hypervisor that does not do it itself: pairs of blocks that were executed one after the other.
//!
//! Only blocks of the hypervisor's code count, wherever the processor was in between. What is counted lies in the control file, out
//! of any guest's reach.
#![expect(unsafe_code, reason = "counts in the mapped control file")]

use core::ffi::{c_uint, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use hyperfuzz_control::{Control, EDGES_LEN, EDGES_OFFSET};

/// The counters. Null until [`clear`] is called first; nothing is counted during the boot.
static COUNTERS: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());
/// What is left of the block before this one.
static PREVIOUS: AtomicUsize = AtomicUsize::new(0);

const _: () = assert!(EDGES_LEN.is_power_of_two());

/// Number of a block, scattered over all counters: Knuth's multiplicative hash.
fn number(offset: u64) -> usize {
    let mixed = (offset as u32).wrapping_mul(0x9e37_79b1);
    (mixed >> (32 - EDGES_LEN.trailing_zeros())) as usize
}

/// The argument of [`block_reached`] for the block at this guest-virtual address, if it is to be counted.
pub(crate) fn argument(control: &Control, address: u64) -> Option<*mut c_void> {
    let offset = address.wrapping_sub(control.edges_base.load(Ordering::Relaxed));
    (offset < control.edges_len.load(Ordering::Relaxed)).then(|| ptr::without_provenance_mut(number(offset)))
}

/// Forgets what was counted. `control` is the start of the mapped control file.
pub(crate) fn clear(control: &'static Control) {
    if control.edges_len.load(Ordering::Relaxed) == 0 {
        return;
    }
    let counters = ptr::from_ref(control).cast::<u8>().cast_mut().wrapping_add(EDGES_OFFSET);
    // SAFETY: the mapping has FILE_LEN bytes and is never unmapped; the host reads the counters only while it has the machine.
    unsafe { counters.write_bytes(0, EDGES_LEN) };
    PREVIOUS.store(0, Ordering::Relaxed);
    COUNTERS.store(counters, Ordering::Relaxed);
}

/// Runs before each block of the hypervisor's code.
pub(crate) unsafe extern "C" fn block_reached(_: c_uint, argument: *mut c_void) {
    let counters = COUNTERS.load(Ordering::Relaxed);
    if counters.is_null() {
        return;
    }
    let block = argument.addr();
    let edge = (PREVIOUS.load(Ordering::Relaxed) ^ block) % EDGES_LEN;
    // The order of two blocks makes a difference.
    PREVIOUS.store(block >> 1, Ordering::Relaxed);
    // SAFETY: as in `clear`; the index is below EDGES_LEN.
    unsafe {
        let counter = counters.add(edge);
        *counter = (*counter).saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_numbers_below_the_number_of_counters() {
        let mut seen: Vec<usize> = (0..4096).map(|n| number(n * 16)).collect();
        assert!(seen.iter().all(|&number| number < EDGES_LEN));
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() > 3800, "neighbours hardly ever share a counter: {}", seen.len());
    }
}
