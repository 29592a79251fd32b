//! Machine frames: who owns each, how many references there are, and where its owner sees it (m2p).

use super::Memory;
use crate::address::{Gfn, Mfn};
use alloc::{vec, vec::Vec};
use core::ops::Range;
use coverage_hypercall::crash::CrashKind;
use xen_abi::DomId;

/// Byte that freed frames are filled with, so that stale use shows.
pub(crate) const POISON: u8 = 0xdf;

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
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    owner: Owner,
    references: u32,
    gfn: Option<Gfn>,
}

/// The frame table.
#[derive(Debug)]
pub(crate) struct Frames {
    base: u64,
    table: Vec<Frame>,
    free: u64,
    /// A bit for each frame, set where it is free: the search looks at 64 frames at a time.
    free_map: Vec<u64>,
}

impl Frames {
    /// A table in which exactly the frames of `ram` are free.
    pub(crate) fn new(ram: &[Range<Mfn>]) -> Self {
        let base = ram.iter().map(|range| range.start.0).min().unwrap_or(0);
        let end = ram.iter().map(|range| range.end.0).max().unwrap_or(0).max(base);
        let mut table =
            vec![Frame { owner: Owner::Reserved, references: 0, gfn: None }; (end - base) as usize];
        let mut free = 0;
        let mut free_map = vec![0; table.len().div_ceil(64)];
        for range in ram {
            for mfn in range.start.0..range.end.0 {
                let index = (mfn - base) as usize;
                table[index].owner = Owner::Free;
                free_map[index / 64] |= 1 << (index % 64);
                free += 1;
            }
        }
        Self { base, table, free, free_map }
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

    /// Highest frame that the table knows.
    pub(crate) fn highest(&self) -> Mfn {
        Mfn((self.base + self.table.len() as u64).saturating_sub(1))
    }

    /// First of `count` free frames in a row, aligned to `align` frames.
    fn find(&self, count: usize, align: u64) -> Option<usize> {
        let word = self.free_map.iter().position(|word| *word != 0)?;
        let lowest = word * 64 + self.free_map[word].trailing_zeros() as usize;
        let misaligned = (self.base + lowest as u64) % align;
        let mut start = lowest + if misaligned == 0 { 0 } else { (align - misaligned) as usize };
        while start + count <= self.table.len() {
            match self.table[start..start + count].iter().rposition(|frame| frame.owner != Owner::Free) {
                None => return Some(start),
                Some(taken) => start = (start + taken + 1).next_multiple_of(align as usize),
            }
            let misaligned = (self.base + start as u64) % align;
            start += if misaligned == 0 { 0 } else { (align - misaligned) as usize };
        }
        None
    }
}

impl Memory {
    /// Allocates `count` frames in a row, aligned to `align` frames, zeroed, with one reference each.
    pub(crate) fn allocate_row(&mut self, owner: Owner, count: u64, align: u64) -> Option<Mfn> {
        let frames = &mut self.frames;
        if count == 0 || count > frames.free {
            return None;
        }
        let start = frames.find(count as usize, align)?;
        for frame in &mut frames.table[start..start + count as usize] {
            *frame = Frame { owner, references: 1, gfn: None };
        }
        for index in start..start + count as usize {
            frames.free_map[index / 64] &= !(1 << (index % 64));
        }
        frames.free -= count;
        let first = frames.base + start as u64;
        for mfn in first..first + count {
            self.machine.fill_page(Mfn(mfn), 0);
        }
        Some(Mfn(first))
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
            *frame = Frame { owner: Owner::Free, references: 0, gfn: None };
            self.frames.free += 1;
            self.frames.free_map[index / 64] |= 1 << (index % 64);
            self.machine.fill_page(mfn, POISON);
        }
    }

    /// Says where the owner sees the frame. Both the old and the new place are checked after the call.
    pub(crate) fn set_gfn(&mut self, mfn: Mfn, gfn: Option<Gfn>) {
        let Some(index) = self.frames.index(mfn) else { return };
        let frame = &mut self.frames.table[index];
        if let Owner::Domain(domain) = frame.owner {
            self.touched.extend(frame.gfn.map(|old| (domain, old)));
            self.touched.extend(gfn.map(|new| (domain, new)));
        }
        frame.gfn = gfn;
    }
}
