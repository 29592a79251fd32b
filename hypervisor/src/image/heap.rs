//! The heap: one range of RAM behind the image, reached by the direct map.
#![expect(unsafe_code, reason = "hands memory to the allocator")]

use core::ops::Range;

use spin::mutex::SpinMutex;
use talc::{TalcLock, source::Manual};
use x86_64::PhysAddr;

use super::layout;

/// Bytes of the heap on a machine with no more RAM than [`COVERED`]. It holds page tables, domains and what the boot module
/// unpacks to.
const LEN: u64 = 4 << 20;
/// RAM, in bytes, whose frame table fits into [`LEN`] with ease.
const COVERED: u64 = 64 << 20;
/// Bytes of heap for each page of RAM beyond it: its entry in the frame table, and some.
const PER_PAGE: u64 = 64;

/// Bytes of the heap on a machine with so many bytes of RAM.
pub(crate) const fn len(ram: u64) -> u64 {
    LEN + (ram.saturating_sub(COVERED) / layout::PAGE * PER_PAGE).next_multiple_of(layout::PAGE)
}

#[global_allocator]
static HEAP: TalcLock<SpinMutex<()>, Manual> = TalcLock::new(Manual);

/// Gives the allocator a range of physical memory.
///
/// # Safety
/// The range is RAM, mapped by the direct map, and nobody else uses it. Called once.
pub(crate) unsafe fn claim(range: Range<u64>) {
    let base = layout::direct(PhysAddr::new(range.start)).as_mut_ptr();
    let len = (range.end - range.start) as usize;
    // SAFETY: the caller owns the range, and the direct map makes it accessible.
    let end = unsafe { HEAP.lock().claim(base, len) };
    assert!(end.is_some(), "the heap is too small to begin with");
}
