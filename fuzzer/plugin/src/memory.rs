// SPDX-License-Identifier: GPL-2.0-or-later
//! Guest memory: a copy of it, and bringing back the pages that changed.
//!
//! QEMU itself marks pages that the guest or a device writes in its dirty bitmap. What the plugin writes on behalf of
//! the host is not marked there, so those pages are remembered. Code that was translated from a page must go when the
//! page is brought back; the plugin sees every translation and remembers which pages have code.
#![expect(unsafe_code, reason = "copies guest memory through host addresses")]

use core::ffi::{c_int, c_void};
use core::ops::Range;
use core::ptr;

use crate::pristine::{PAGE, Pristine};
use crate::qemu::{DIRTY_MEMORY_VGA, MemoryRegion, Qemu, RamBlock};
use crate::tables;

/// Guest memory.
pub(crate) struct Memory {
    host: *mut u8,
    len: usize,
    region: *mut MemoryRegion,
    /// Address of the block in QEMU's own numbering of all RAM blocks.
    ram_addr: u64,
    /// What it was at the snapshot.
    copy: Pristine,
    /// Pages that were written behind QEMU's back since the last reset.
    poked: Vec<usize>,
    /// Pages from which code was translated since it was last thrown away.
    has_code: Vec<bool>,
    /// Pages that hold page tables of the upper half at the snapshot.
    upper_tables: Vec<bool>,
    /// The same of the lower halves that were noted.
    lower_tables: Vec<bool>,
}

/// What [`Memory::restore`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Pages that were brought back.
    pub(crate) pages: usize,
    /// A table of the upper half was not what it was.
    pub(crate) upper_changed: bool,
    /// A table of one of the lower halves was not what it was.
    pub(crate) lower_changed: bool,
    /// A table of either was written to.
    pub(crate) table_written: bool,
}

/// What [`Memory::find`] looks for, and what it found.
struct Search {
    qemu: Qemu,
    len: u64,
    host: *mut u8,
}

/// Looks at one RAM block.
unsafe extern "C" fn visit(block: *mut RamBlock, search: *mut c_void) -> c_int {
    // SAFETY: `search` is the structure that `Memory::find` passes, alive and not aliased during the visit; `block` is a
    // live RAM block.
    unsafe {
        let search = &mut *search.cast::<Search>();
        if (search.qemu.block_len)(block) == search.len {
            search.host = (search.qemu.block_host)(block);
        }
    }
    0
}

impl Memory {
    /// Finds the guest's memory. The machine must exist.
    ///
    /// # Errors
    /// If there is no block of this size.
    pub(crate) fn find(qemu: &Qemu, len: u64) -> Result<Self, String> {
        let mut search = Search { qemu: *qemu, len, host: ptr::null_mut() };
        let mut offset = 0;
        // SAFETY: `visit` gets the pointer back unchanged while `search` lives.
        unsafe { (qemu.foreach_block)(visit, (&raw mut search).cast()) };
        if search.host.is_null() {
            return Err(format!("the machine has no memory block of {len} bytes"));
        }
        // SAFETY: the address is the start of a live RAM block, which is never freed or moved.
        let (region, base) = unsafe {
            let region = (qemu.region_from_host)(search.host, &raw mut offset);
            if region.is_null() {
                return Err("the machine's memory has no region".into());
            }
            (region, (qemu.region_ram_addr)(region))
        };
        let len = usize::try_from(len).map_err(|_| "the machine's memory is too large")?;
        Ok(Self {
            host: search.host,
            len,
            region,
            ram_addr: base + offset,
            copy: Pristine::default(),
            poked: Vec::with_capacity(64),
            has_code: vec![false; len.div_ceil(PAGE)],
            upper_tables: vec![false; len.div_ceil(PAGE)],
            lower_tables: vec![false; len.div_ceil(PAGE)],
        })
    }

    /// Offset of a host address in guest memory, if it lies there.
    pub(crate) fn offset_of(&self, host: *const u8) -> Option<usize> {
        let offset = host.addr().wrapping_sub(self.host.addr());
        (offset < self.len).then_some(offset)
    }

    /// Remembers that code was translated from the page of this offset.
    pub(crate) fn note_code(&mut self, offset: usize) {
        if let Some(page) = self.has_code.get_mut(offset / PAGE) {
            *page = true;
        }
    }

    /// Takes the copy. `root` is where the page tables begin.
    pub(crate) fn save(&mut self, qemu: &Qemu, root: usize) {
        self.copy = self.now(0..self.len).map(Pristine::of).unwrap_or_default();
        // SAFETY: the region is the block's; what is returned belongs to the caller.
        unsafe {
            let dirty = (qemu.take_dirty)(self.region, 0, self.len as u64, DIRTY_MEMORY_VGA);
            (qemu.free)(dirty.cast());
        }
        tables::note_upper(&self.copy, root, &mut self.upper_tables);
    }

    /// Notes the tables of the lower half of a root, after their entries were marked as used, in memory and in the copy: a walk has
    /// nothing to write to them then.
    pub(crate) fn use_lower(&mut self, root: usize) {
        let mut tables = tables::note_lower(&self.copy, root, &mut self.lower_tables);
        tables.push((root, 3));
        let half = |table: usize| if table == root { 0..PAGE / 2 } else { 0..PAGE };
        for (table, levels) in tables {
            for at in half(table).step_by(size_of::<u64>()).map(|at| table + at) {
                let Some(entry) = self.copy.word(at) else { break };
                // SAFETY: the word lies in the block, as the copy has no more pages than that, and is aligned. The vCPU stands still.
                unsafe { self.host.add(at).cast::<u64>().write_volatile(tables::used(entry, levels)) };
            }
        }
        self.copy = self.now(0..self.len).map(Pristine::of).unwrap_or_default();
    }

    /// A part of memory, if it lies there. To be used while the vCPU stands still.
    fn now(&self, range: Range<usize>) -> Option<&[u8]> {
        if range.start > range.end || range.end > self.len {
            return None;
        }
        // SAFETY: the range lies in the block (checked above). Nobody writes to it while the reference lives: the vCPU stands still or is
        // in a callback, and so does the host.
        Some(unsafe { core::slice::from_raw_parts(self.host.add(range.start), range.len()) })
    }

    /// True where two root tables have the same upper half.
    pub(crate) fn same_upper(&self, one: usize, other: usize) -> bool {
        let halves = [one, other].map(|root| self.now(tables::upper(root)));
        one == other || matches!(halves, [Some(one), Some(other)] if one == other)
    }

    /// True where a root table has the upper half that the snapshot's has.
    pub(crate) fn has_upper_of_snapshot(&self, root: usize, snapshot: usize) -> bool {
        let then = self.copy.page(snapshot / PAGE).and_then(|page| page.get(tables::upper(0)));
        then.is_some() && self.now(tables::upper(root)) == then
    }

    /// Notes the tables of the lower half of a root, as they are at the snapshot.
    pub(crate) fn note_lower(&mut self, root: usize) {
        tables::note_lower(&self.copy, root, &mut self.lower_tables);
    }

    /// Brings back one page.
    fn restore_page(&mut self, qemu: &Qemu, page: usize, restored: &mut Restored) {
        let at = page * PAGE;
        let Some(from) = self.copy.page(page) else { return };
        let [upper, lower] =
            [&self.upper_tables, &self.lower_tables].map(|tables| tables.get(page) == Some(&true));
        let changed = (upper || lower) && self.now(at..at + from.len()) != Some(from);
        // SAFETY: the page lies in the block, as the copy has no more pages than that.
        unsafe { self.host.add(at).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        self.drop_code(qemu, page);
        restored.pages += 1;
        restored.table_written |= upper || lower;
        restored.upper_changed |= upper && changed;
        restored.lower_changed |= lower && changed;
    }

    /// Throws away code that was translated from a page.
    fn drop_code(&mut self, qemu: &Qemu, page: usize) {
        if let Some(has_code) = self.has_code.get_mut(page).filter(|has_code| **has_code) {
            *has_code = false;
            let start = self.ram_addr + (page * PAGE) as u64;
            // SAFETY: the range lies in the block; called between two blocks with the big lock held.
            unsafe { (qemu.invalidate_code)(start, start + PAGE as u64) };
        }
    }

    /// Brings back all pages that changed since the last reset.
    pub(crate) fn restore(&mut self, qemu: &Qemu) -> Restored {
        let mut restored = Restored::default();
        // SAFETY: the region is the block's; the snapshot is a fresh allocation of QEMU that holds one bit for each page
        // from `start` to `end`, both multiples of 64 pages, and is freed below.
        let dirty = unsafe { (qemu.take_dirty)(self.region, 0, self.len as u64, DIRTY_MEMORY_VGA) };
        // SAFETY: see above.
        let (start, words) = unsafe {
            let (start, end) = ((*dirty).start, (*dirty).end);
            let pages = usize::try_from(end.saturating_sub(start)).unwrap_or(0) / PAGE;
            (start, core::slice::from_raw_parts((&raw const (*dirty).bits).cast::<u64>(), pages / 64))
        };
        for (index, &word) in words.iter().enumerate() {
            let mut rest = word;
            while rest != 0 {
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                let address = start + ((index * 64 + bit) * PAGE) as u64;
                // Neighbouring blocks share words of the bitmap: their pages are not ours.
                if let Some(offset) = address.checked_sub(self.ram_addr).filter(|o| *o < self.len as u64) {
                    #[expect(clippy::cast_possible_truncation, reason = "less than `len`, a usize")]
                    self.restore_page(qemu, offset as usize / PAGE, &mut restored);
                }
            }
        }
        // SAFETY: nobody refers to the bitmap any more.
        unsafe { (qemu.free)(dirty.cast()) };
        while let Some(page) = self.poked.pop() {
            self.restore_page(qemu, page, &mut restored);
        }
        restored
    }

    /// Writes `len` bytes at an offset, and remembers that. False where the range is not in memory.
    ///
    /// # Safety
    /// `from` must be readable for `len` bytes and lie outside of guest memory.
    pub(crate) unsafe fn poke(&mut self, qemu: &Qemu, at: u64, from: *const u8, len: usize) -> bool {
        let Ok(at) = usize::try_from(at) else { return false };
        if len == 0 || at.checked_add(len).is_none_or(|end| end > self.len) {
            return false;
        }
        // SAFETY: the target lies in the block (checked above), the source is the caller's promise.
        unsafe { self.host.add(at).copy_from_nonoverlapping(from, len) };
        for page in at / PAGE..=(at + len - 1) / PAGE {
            self.drop_code(qemu, page);
            if !self.poked.contains(&page) {
                self.poked.push(page);
            }
        }
        true
    }
}
