//! Machine frames: who owns each, how many references there are, and where its owner sees it (m2p).

use super::Memory;
use crate::address::{Gfn, Mfn};
use alloc::{vec, vec::Vec};
use core::ops::Range;
use coverage_hypercall::crash::CrashKind;
use xen_abi::DomId;

/// Byte that freed frames are filled with, so that stale use shows.
pub(crate) const POISON: u8 = 0xdf;

/// Frames that a word of the free map stands for.
const WORD: usize = 64;
/// Frames of the largest extent that is allocated aligned to its size.
const MAX_EXTENT: u64 = 512;

/// Nodes that memory is divided into.
pub(crate) const NODES: usize = 2;

/// Where an extent has to lie.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// On this node, as long as there is room.
    pub node: Option<usize>,
    /// Nowhere else.
    pub exact: bool,
    /// Below this frame.
    pub below: Option<Mfn>,
}

impl Place {
    /// Wherever there is room.
    pub(crate) const ANYWHERE: Self = Self { node: None, exact: false, below: None };
}

/// To whom a frame belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Not RAM that the hypervisor was given.
    Reserved,
    /// Nobody; the frame can be allocated.
    Free,
    /// The hypervisor: page tables, shared-info pages.
    Hypervisor,
    /// A domain.
    Domain(DomId),
    /// A static shared region.
    Region,
    /// A domain that gave it up, or is gone, while others still have it mapped. The last of them frees it.
    Orphan,
    /// The grant table of a domain.
    GrantTable(DomId),
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    owner: Owner,
    references: u32,
    gfn: Option<Gfn>,
    /// Its owner has given its reference back; others have not.
    released: bool,
    /// How often others have it mapped as memory of its owner.
    foreign: u32,
    /// How often it is mapped by whomever, as the oracles count: references are what they judge.
    mapped: u32,
    /// It was filled with [`POISON`] when it was freed, and nobody may have written to it since.
    poisoned: bool,
}

impl Frame {
    const fn new(owner: Owner, references: u32) -> Self {
        Self { owner, references, gfn: None, released: false, foreign: 0, mapped: 0, poisoned: false }
    }
}

/// The frame table.
#[derive(Debug)]
pub(crate) struct Frames {
    base: u64,
    table: Vec<Frame>,
    /// Number of frames that are, or can be, in use.
    total: u64,
    free: u64,
    /// A bit for each frame, set where it is free: the search looks at 64 frames at a time.
    free_map: Vec<u64>,
    /// Frames of each node, as indices.
    nodes: [Range<usize>; NODES],
    /// No frame of the words before this one is free.
    lowest: usize,
}

impl Frames {
    /// A table in which exactly the frames of `ram` are free.
    pub(crate) fn new(ram: &[Range<Mfn>]) -> Self {
        // Extents are aligned in the machine: where the table begins must not move them.
        let base = ram.iter().map(|range| range.start.0).min().unwrap_or(0) & !(MAX_EXTENT - 1);
        let end = ram.iter().map(|range| range.end.0).max().unwrap_or(0).max(base);
        let mut table = vec![Frame::new(Owner::Reserved, 0); (end - base) as usize];
        let mut free = 0;
        let mut free_map = vec![0; table.len().div_ceil(WORD)];
        for range in ram {
            for mfn in range.start.0..range.end.0 {
                let index = (mfn - base) as usize;
                table[index].owner = Owner::Free;
                free_map[index / WORD] |= 1 << (index % WORD);
                free += 1;
            }
        }
        let middle = table.len().next_multiple_of(2 * MAX_EXTENT as usize) / 2;
        let nodes = [0..middle.min(table.len()), middle.min(table.len())..table.len()];
        Self { base, table, total: free, free, free_map, nodes, lowest: 0 }
    }

    fn index(&self, mfn: Mfn) -> Option<usize> {
        let index = mfn.0.checked_sub(self.base)? as usize;
        (index < self.table.len()).then_some(index)
    }

    /// Owner of a frame.
    pub(crate) fn owner(&self, mfn: Mfn) -> Owner {
        self.index(mfn).map_or(Owner::Reserved, |i| self.table[i].owner)
    }

    /// Where the owner sees the frame (m2p).
    pub(crate) fn gfn(&self, mfn: Mfn) -> Option<Gfn> {
        self.index(mfn).and_then(|i| self.table[i].gfn)
    }

    /// References to the frame: one of its owner and one per mapping.
    pub(crate) fn references(&self, mfn: Mfn) -> u32 {
        self.index(mfn).map_or(0, |i| self.table[i].references)
    }

    /// How often others have the frame mapped as memory of its owner.
    pub(crate) fn foreign(&self, mfn: Mfn) -> u32 {
        self.index(mfn).map_or(0, |i| self.table[i].foreign)
    }

    /// Whether the frame was freed while somebody still had it mapped.
    pub(crate) fn dangles(&self, mfn: Mfn) -> bool {
        self.index(mfn).is_some_and(|i| self.table[i].owner == Owner::Free && self.table[i].mapped > 0)
    }

    /// A physmap maps the frame once more, or once less.
    pub(super) fn count_mapped(&mut self, mfn: Mfn, more: bool) {
        if let Some(index) = self.index(mfn) {
            let count = &mut self.table[index].mapped;
            *count = if more { *count + 1 } else { count.saturating_sub(1) };
        }
    }

    /// One more such mapping as [`Self::foreign`] counts, or one less.
    pub(crate) fn count_foreign(&mut self, mfn: Mfn, more: bool) {
        if let Some(index) = self.index(mfn) {
            let count = &mut self.table[index].foreign;
            *count = if more { *count + 1 } else { count.saturating_sub(1) };
        }
    }

    /// Up to `count` frames of a domain's memory, wherever they are mapped.
    pub(crate) fn owned_by(&self, domain: DomId, count: usize) -> Vec<Mfn> {
        let owned = self.table.iter().enumerate().filter(|(_, frame)| frame.owner == Owner::Domain(domain));
        owned.take(count).map(|(index, _)| Mfn(self.base + index as u64)).collect()
    }

    /// Number of frames that are, or can be, in use.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// Number of free frames.
    pub(crate) const fn free(&self) -> u64 {
        self.free
    }

    /// All frames and their owners.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Mfn, Owner)> {
        self.table.iter().enumerate().map(|(index, frame)| (Mfn(self.base + index as u64), frame.owner))
    }

    /// Highest frame that the table knows.
    pub(crate) fn highest(&self) -> Mfn {
        Mfn((self.base + self.table.len() as u64).saturating_sub(1))
    }

    /// First of `count` free frames in a row, aligned to `align` frames.
    fn find(&self, count: usize, align: u64) -> Option<usize> {
        if align == count as u64 && count.is_power_of_two() {
            return self.find_extent(count, 0..self.table.len());
        }
        let free = |start: usize| self.table[start..start + count].iter().all(|f| f.owner == Owner::Free);
        let starts = 0..(self.table.len() + 1).saturating_sub(count);
        starts.into_iter().find(|start| (self.base + *start as u64).is_multiple_of(align) && free(*start))
    }

    /// First free extent of `count` frames, a power of two, aligned to its size. The work does not depend on how the free frames
    /// are strewn: guests decide that.
    fn find_extent(&self, count: usize, within: Range<usize>) -> Option<usize> {
        // Extents start from `within.start` on, and before this.
        let end = (within.end + 1).saturating_sub(count);
        if count > WORD {
            let (first, last) = (within.start.div_ceil(count), end.div_ceil(count));
            return (first..last)
                .find(|n| {
                    let words = self.free_map.get(n * count / WORD..(n + 1) * count / WORD);
                    words.is_some_and(|words| words.iter().all(|word| *word == u64::MAX))
                })
                .map(|n| n * count);
        }
        // One bit for each place where an extent may start.
        let places = u64::MAX / (u64::MAX >> (WORD - count));
        self.free_map.iter().enumerate().skip(self.lowest).find_map(|(index, word)| {
            let mut starts = *word;
            let mut len = 1;
            while len < count {
                starts &= starts >> len;
                len *= 2;
            }
            starts &= places;
            starts &= u64::MAX.checked_shl(within.start.saturating_sub(index * WORD) as u32).unwrap_or(0);
            let beyond = end.saturating_sub(index * WORD) as u32;
            starts &= !u64::MAX.checked_shl(beyond).unwrap_or(0);
            (starts != 0).then(|| index * WORD + starts.trailing_zeros() as usize)
        })
    }
}

impl Memory {
    /// Allocates `count` frames in a row, aligned to `align` frames, zeroed, with one reference each.
    pub(crate) fn allocate_row(&mut self, owner: Owner, count: u64, align: u64) -> Option<Mfn> {
        if count == 0 || count > self.frames.free {
            return None;
        }
        let start = self.frames.find(count as usize, align)?;
        if count == 1 && align == 1 {
            // It was the first free one.
            self.frames.lowest = start / WORD;
        }
        Some(self.take(owner, start, count))
    }

    /// Allocates an extent of `count` frames, a power of two, in that place, as [`Self::allocate_row`] does.
    pub(crate) fn allocate_extent(&mut self, owner: Owner, count: u64, place: Place) -> Option<Mfn> {
        if count == 0 || count > self.frames.free {
            return None;
        }
        let frames = &self.frames;
        let end = place.below.map_or(frames.table.len(), |below| {
            (below.0.saturating_sub(frames.base) as usize).min(frames.table.len())
        });
        let preferred = place.node.map(|node| {
            let node = frames.nodes[node].clone();
            node.start..node.end.min(end)
        });
        let start = preferred
            .and_then(|node| frames.find_extent(count as usize, node))
            .or_else(|| if place.exact { None } else { frames.find_extent(count as usize, 0..end) })?;
        Some(self.take(owner, start, count))
    }

    /// Gives free frames to an owner.
    fn take(&mut self, owner: Owner, start: usize, count: u64) -> Mfn {
        let frames = &mut self.frames;
        let first = frames.base + start as u64;
        for index in start..start + count as usize {
            let frame = &mut frames.table[index];
            if frame.poisoned
                && self.watch.is_on()
                && !self.machine.is_filled(Mfn(frames.base + index as u64), POISON)
            {
                self.machine.report(CrashKind::FreedFrame, "a frame was written to while it was free");
            }
            *frame = Frame::new(owner, 1);
            frames.free_map[index / WORD] &= !(1 << (index % WORD));
        }
        frames.free -= count;
        self.work(count);
        for mfn in first..first + count {
            self.machine.fill_page(Mfn(mfn), 0);
        }
        Mfn(first)
    }

    /// Allocates one zeroed frame.
    pub(crate) fn allocate(&mut self, owner: Owner) -> Option<Mfn> {
        self.allocate_row(owner, 1, 1)
    }

    /// Takes another reference.
    pub(crate) fn get(&mut self, mfn: Mfn) {
        if let Some(index) = self.frames.index(mfn)
            && self.frames.table[index].owner != Owner::Reserved
        {
            self.frames.table[index].references += 1;
        }
    }

    /// Gives a reference back; the last one frees the frame and poisons it.
    pub(crate) fn put(&mut self, mfn: Mfn) {
        let Some(index) = self.frames.index(mfn) else { return };
        let frame = &mut self.frames.table[index];
        if frame.owner == Owner::Reserved {
            return;
        }
        let Some(left) = frame.references.checked_sub(1) else {
            self.machine.report(CrashKind::References, "a frame without references was given back");
        };
        frame.references = left;
        if left == 0 {
            let mapped = frame.mapped;
            *frame = Frame { poisoned: true, mapped, ..Frame::new(Owner::Free, 0) };
            if mapped > 0 {
                self.dangling.push(mfn);
            }
            self.frames.free += 1;
            self.frames.free_map[index / WORD] |= 1 << (index % WORD);
            self.frames.lowest = self.frames.lowest.min(index / WORD);
            self.machine.fill_page(mfn, POISON);
            self.work(1);
        }
    }

    /// Gives the owner's reference back. Where others have the frame mapped, it stays until they let it go.
    pub(crate) fn release(&mut self, mfn: Mfn) {
        self.set_gfn(mfn, None);
        if let Some(index) = self.frames.index(mfn) {
            self.frames.table[index].released = true;
        }
        self.put(mfn);
    }

    /// The owner of a frame is gone: gives its reference back, if it had not done so, and leaves the frame to whoever else has it
    /// mapped.
    pub(crate) fn orphan(&mut self, mfn: Mfn) {
        self.set_gfn(mfn, None);
        let Some(index) = self.frames.index(mfn) else { return };
        let frame = &mut self.frames.table[index];
        frame.owner = Owner::Orphan;
        if !core::mem::replace(&mut frame.released, true) {
            self.put(mfn);
        }
    }

    /// Says where the owner sees the frame. Both the old and the new place are checked after the call.
    pub(crate) fn set_gfn(&mut self, mfn: Mfn, gfn: Option<Gfn>) {
        let Some(index) = self.frames.index(mfn) else { return };
        let frame = &mut self.frames.table[index];
        if let Owner::Domain(domain) | Owner::GrantTable(domain) = frame.owner {
            self.touched.extend(frame.gfn.map(|old| (domain, old)));
            self.touched.extend(gfn.map(|new| (domain, new)));
        }
        frame.gfn = gfn;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The search by words finds what the search frame by frame finds.
        #[test]
        fn extents_are_found_wherever_they_are(free in prop::collection::vec(any::<bool>(), 1..2000), order in 0u32..10, part: (usize, usize)) {
            let mut frames = Frames::new(&[Mfn(512)..Mfn(512 + free.len() as u64)]);
            for (index, free) in free.iter().enumerate() {
                if !free {
                    frames.table[index].owner = Owner::Hypervisor;
                    frames.free_map[index / WORD] &= !(1 << (index % WORD));
                }
            }
            let count = 1usize << order;
            let found = (0..free.len()).step_by(count).find(|start| {
                free.get(*start..start + count).is_some_and(|row| row.iter().all(|free| *free))
            });
            prop_assert_eq!(frames.find(count, count as u64), found);
            let (start, end) = (part.0 % free.len(), part.1 % (free.len() + 1));
            let found = (0..free.len()).step_by(count).find(|first| {
                let row = free.get(*first..first + count);
                *first >= start && first + count <= end && row.is_some_and(|row| row.iter().all(|free| *free))
            });
            prop_assert_eq!(frames.find_extent(count, start..end.max(start)), found);
        }
    }
}
