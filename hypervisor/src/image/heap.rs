//! The heap: one range of RAM behind the image, reached by the direct map.
//!
//! Each block lies between two *zones* that say when something ran over one of its ends. What is freed is filled with
//! [`FREED`] and stays in *quarantine* for a while, so that a late write to it shows. Blocks are looked at when they are freed and
//! when they leave quarantine, those that were allocated last after each call too ([`damage`]).
#![expect(unsafe_code, reason = "is the allocator")]

use core::{
    alloc::{GlobalAlloc, Layout},
    ops::Range,
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use spin::mutex::SpinMutex;
use talc::{TalcLock, source::Manual};
use x86_64::PhysAddr;

use super::{global::Global, layout};

/// Bytes of the heap on a machine with no more RAM than [`COVERED`]. It holds page tables, domains and what the boot module
/// unpacks to.
const LEN: u64 = 4 << 20;
/// RAM, in bytes, whose frame table fits into [`LEN`] with ease.
const COVERED: u64 = 64 << 20;
/// Bytes of heap for each page of RAM beyond it: its entry in the frame table, and some.
const PER_PAGE: u64 = 64;

/// Bytes of each zone; the one in front of a block is as long as its alignment, if that is more.
const ZONE: usize = 16;
/// What zones hold.
const CANARY: u64 = 0x9b1e_55ed_6a7e_4eed;
/// What freed blocks are filled with.
const FREED: u8 = 0xdf;
/// Blocks in quarantine.
const QUARANTINE: usize = 16;
/// Bytes of the largest block that goes there.
const LARGEST: usize = 1024;
/// Allocated blocks that are remembered.
const RECENT: usize = 8;

/// Bytes of the heap on a machine with so many bytes of RAM.
pub(crate) const fn len(ram: u64) -> u64 {
    LEN + (ram.saturating_sub(COVERED) / layout::PAGE * PER_PAGE).next_multiple_of(layout::PAGE)
}

static HEAP: TalcLock<SpinMutex<()>, Manual> = TalcLock::new(Manual);

#[global_allocator]
static GUARDED: Guarded = Guarded;

/// A block as its user sees it.
#[derive(Clone, Copy)]
struct Block {
    at: *mut u8,
    layout: Layout,
}

/// What is known of blocks.
struct State {
    /// Blocks that were allocated last and are in use.
    recent: [Option<Block>; RECENT],
    /// Where the next one goes.
    next_recent: usize,
    /// Blocks that were freed last.
    freed: [Option<Block>; QUARANTINE],
    /// Where the next one goes.
    next_freed: usize,
    /// What was found first.
    damage: Option<&'static str>,
}

static STATE: Global<State> = Global::new(State {
    recent: [None; RECENT],
    next_recent: 0,
    freed: [None; QUARANTINE],
    next_freed: 0,
    damage: None,
});
static CHECKED: AtomicBool = AtomicBool::new(true);

/// Switches the checks on or off. Blocks have their zones either way.
pub(crate) fn check(on: bool) {
    CHECKED.store(on, Ordering::Relaxed);
}

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

/// What is wrong with the heap, if anything is: of the blocks in quarantine only if the look is to be thorough.
pub(crate) fn damage(thorough: bool) -> Option<&'static str> {
    if !CHECKED.load(Ordering::Relaxed) {
        return None;
    }
    // SAFETY: the static is used by the functions of this module only, and none of them calls another while it does.
    let state = unsafe { &mut *STATE.as_ptr() };
    for block in state.recent.iter().flatten() {
        state.damage = state.damage.or(block.overrun());
    }
    if thorough {
        for block in state.freed.iter().flatten() {
            state.damage = state.damage.or(block.late_write());
        }
    }
    state.damage
}

impl Block {
    /// Bytes in front of the block.
    fn front(self) -> usize {
        self.layout.align().max(ZONE)
    }

    /// The block with its zones, as the allocator knows it.
    fn whole(layout: Layout) -> Option<Layout> {
        let front = layout.align().max(ZONE);
        let size = layout.size().checked_add(front + ZONE)?;
        Layout::from_size_align(size, front).ok()
    }

    /// The words of both zones. They lie inside the block with its zones, if the block was allocated and not yet returned.
    fn zones(self) -> [*mut u64; 4] {
        let (front, back) = (self.at.wrapping_sub(ZONE), self.at.wrapping_add(self.layout.size()));
        [front, front.wrapping_add(8), back, back.wrapping_add(8)].map(<*mut u8>::cast)
    }

    fn mark(self) {
        for word in self.zones() {
            // SAFETY: see `zones`; they belong to this module alone.
            unsafe { word.write_unaligned(CANARY) };
        }
    }

    /// What ran over an end of the block.
    fn overrun(self) -> Option<&'static str> {
        // After each call for many blocks: one branch for all words.
        // SAFETY: see `zones`.
        let differs =
            self.zones().into_iter().fold(0, |bits, word| bits | unsafe { word.read_unaligned() } ^ CANARY);
        (differs != 0).then_some("something ran over an end of a block of the heap")
    }

    /// What was written to the block since it was freed.
    fn late_write(self) -> Option<&'static str> {
        // SAFETY: a block in quarantine is still allocated, and nobody uses it.
        let bytes = unsafe { core::slice::from_raw_parts(self.at, self.layout.size()) };
        (!memory_scan::is_filled(bytes, FREED))
            .then_some("a block of the heap was written to after it was freed")
    }

    /// Gives the block back to the allocator.
    fn release(self) {
        if let Some(whole) = Self::whole(self.layout) {
            // SAFETY: it was allocated with this layout, at this address, and is given back once.
            unsafe { HEAP.dealloc(self.at.sub(self.front()), whole) };
        }
    }
}

/// The allocator with zones and quarantine.
struct Guarded;

// SAFETY: blocks come from an allocator that keeps the contract; the zones around them are outside of what the user is given,
// and the front zone is a multiple of the alignment. A block in quarantine is not given to anybody.
unsafe impl GlobalAlloc for Guarded {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(whole) = Block::whole(layout) else { return ptr::null_mut() };
        // SAFETY: the size is not zero.
        let start = unsafe { HEAP.alloc(whole) };
        if start.is_null() {
            return start;
        }
        let block = Block { at: start.wrapping_add(layout.align().max(ZONE)), layout };
        block.mark();
        // SAFETY: as in `damage`.
        let state = unsafe { &mut *STATE.as_ptr() };
        state.recent[state.next_recent] = Some(block);
        state.next_recent = (state.next_recent + 1) % RECENT;
        block.at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        let block = Block { at, layout };
        // SAFETY: as in `damage`.
        let state = unsafe { &mut *STATE.as_ptr() };
        for recent in &mut state.recent {
            if recent.is_some_and(|recent| recent.at == at) {
                *recent = None;
            }
        }
        if !CHECKED.load(Ordering::Relaxed) {
            return block.release();
        }
        state.damage = state.damage.or(block.overrun());
        if layout.size() > LARGEST {
            return block.release();
        }
        // SAFETY: the user has given the block back.
        unsafe { at.write_bytes(FREED, layout.size()) };
        let before = state.freed[state.next_freed].replace(block);
        state.next_freed = (state.next_freed + 1) % QUARANTINE;
        if let Some(before) = before {
            state.damage = state.damage.or(before.late_write());
            before.release();
        }
    }
}
