// SPDX-License-Identifier: GPL-2.0-or-later
//! Which translations QEMU may keep while page tables change.
//!
//! QEMU forgets all translations whenever CR3 is written, global ones included, and after a reset they would have to go as well. The
//! hypervisor's half of the address space is the same in all of its page tables, so its translations stay right. They are in a TLB of
//! their own: that of supervisor code which may not touch user pages (`MMU_KSMAP_IDX`, number 0 in all versions).
//!
//! What is kept must be what a walk of the tables at the snapshot would find, or executions would depend on those before them. So
//! all goes whenever a table of that half has changed, or a register that decides about translation.
//!
//! A hypervisor that knows nothing of us runs its pv guest on one set of tables, and executes its own code with the same TLB as accesses
//! to the guest's memory. There everything is kept where nobody has written to any table. A walk writes, too, where it is the
//! first to use an entry; so at the snapshot all entries are marked as used.
#![expect(unsafe_code, reason = "reads page tables through host addresses")]

use crate::jumps::Jumps;
use crate::pristine::Pristine;
use crate::qemu::{Cpu, Qemu};

/// The TLBs that are kept: that of supervisor code and, where its number is known, that of physical addresses
/// (`MMU_PHYS_IDX`), which serves walks of page tables. Each version numbers it anew.
const fn kept(version: (u32, u32)) -> u32 {
    let physical = match version {
        (7, 2) => 1 << 4,
        (10, 0) => 1 << 6,
        _ => 0,
    };
    1 | physical
}

/// All TLBs that there can be.
const ALL: u32 = 0xffff;
/// First entry of the upper half in a root table.
const UPPER: usize = 256;
/// Entries of a table.
const ENTRIES: usize = 512;
/// Bytes of a table.
const TABLE: usize = 4096;
/// Entry of a table: present (AMD APM volume 2, section 5.4).
const PRESENT: u64 = 1;
/// Entry of a table: was used, and was written through.
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// Entry of a table: maps a large page.
const LARGE: u64 = 1 << 7;
/// Entry of a table: where it leads.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Forgets the translations of the lower half. Jumps are kept where there are tables for each half. QEMU is of this version.
pub(crate) fn forget_lower(qemu: &Qemu, cpu: *mut Cpu, version: (u32, u32), jumps: Option<&Jumps>) {
    // SAFETY: called on the vCPU's own thread.
    spare(cpu, jumps, || unsafe { (qemu.tlb_flush_some)(cpu, ALL & !kept(version)) });
}

/// Forgets all translations. Jumps are kept where there are tables for each half.
pub(crate) fn forget_all(qemu: &Qemu, cpu: *mut Cpu, jumps: Option<&Jumps>) {
    // SAFETY: called on the vCPU's own thread.
    spare(cpu, jumps, || unsafe { (qemu.tlb_flush)(cpu) });
}

fn spare(cpu: *mut Cpu, jumps: Option<&Jumps>, forget: impl FnOnce()) {
    match jumps {
        Some(jumps) => jumps.spare(cpu, forget),
        None => forget(),
    }
}

/// The root table that a value of CR3 names.
pub(crate) const fn root(cr3: u64) -> usize {
    // Memory is far smaller than a usize.
    (cr3 & ADDRESS) as usize
}

/// An entry of a table in a copy of guest memory; an absent one where the copy ends before it.
fn entry(memory: &Pristine, table: usize, index: usize) -> u64 {
    memory.word(table.wrapping_add(index * 8)).unwrap_or(0)
}

/// Notes in `pages` which pages of memory are tables behind the upper half of a root.
pub(crate) fn note_upper(memory: &Pristine, root: usize, pages: &mut [bool]) {
    note(memory, root, UPPER..ENTRIES, pages);
}

/// A table, and how many levels of tables are behind it.
pub(crate) type Table = (usize, u32);

/// Notes in `pages` which pages of memory are tables behind the lower half of a root, that one included. Returns those that were not
/// noted before, without the root.
pub(crate) fn note_lower(memory: &Pristine, root: usize, pages: &mut [bool]) -> Vec<Table> {
    if let Some(noted) = pages.get_mut(root / TABLE) {
        *noted = true;
    }
    note(memory, root, 0..UPPER, pages)
}

/// An entry as it is when its page has been used, and written to if it maps one.
pub(crate) const fn used(entry: u64, levels: u32) -> u64 {
    let maps = levels == 0 || (levels < 3 && entry & LARGE != 0);
    match (entry & PRESENT != 0, maps) {
        (false, _) => entry,
        (true, false) => entry | ACCESSED,
        (true, true) => entry | ACCESSED | DIRTY,
    }
}

fn note(memory: &Pristine, root: usize, half: core::ops::Range<usize>, pages: &mut [bool]) -> Vec<Table> {
    let (mut all, mut tables): (_, Vec<Table>) = (Vec::new(), Vec::new());
    let mut visit = |table: usize, indexes: core::ops::Range<usize>, levels: u32, found: &mut Vec<Table>| {
        for index in indexes {
            let entry = entry(memory, table, index);
            let next = (entry & ADDRESS) as usize;
            if entry & PRESENT == 0 || (levels < 3 && entry & LARGE != 0) {
                continue;
            }
            // A table that was noted was visited: entries may lead in circles.
            if let Some(noted) = pages.get_mut(next / TABLE).filter(|noted| !**noted) {
                *noted = true;
                found.push((next, levels - 1));
            }
        }
    };
    visit(root, half, 3, &mut tables);
    while let Some((table, levels)) = tables.pop() {
        all.push((table, levels));
        if levels > 0 {
            visit(table, 0..ENTRIES, levels, &mut tables);
        }
    }
    all
}

/// The part of guest memory that is the upper half of a root table.
pub(crate) const fn upper(root: usize) -> core::ops::Range<usize> {
    root + UPPER * 8..root + TABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_tables_of_the_upper_half() {
        let mut memory = vec![0; 16 * TABLE];
        let at = |page: usize| (page * TABLE) as u64;
        let mut put = |table: usize, index: usize, entry: u64| {
            memory[table * TABLE + index * 8..][..8].copy_from_slice(&entry.to_le_bytes());
        };
        put(1, 0, at(2) | PRESENT);
        put(1, 256, at(3) | PRESENT);
        put(1, 511, at(4));
        put(3, 7, at(5) | PRESENT);
        put(3, 8, at(6) | PRESENT | LARGE);
        put(3, 9, at(3) | PRESENT);
        put(3, 10, 1 << 40 | PRESENT);
        put(5, 0, at(7) | PRESENT);
        put(5, 1, at(8) | PRESENT | LARGE);
        put(7, 3, at(9) | PRESENT);
        let memory = Pristine::of(&memory);
        let mut pages = vec![false; 16];
        note_upper(&memory, TABLE, &mut pages);
        let found: Vec<usize> = (0..16).filter(|page| pages[*page]).collect();
        assert_eq!(found, [3, 5, 7], "the last level's pages are no tables, and neither is the lower half's");

        let mut pages = vec![false; 16];
        assert_eq!(note_lower(&memory, TABLE, &mut pages), [(2 * TABLE, 2)]);
        let found: Vec<usize> = (0..16).filter(|page| pages[*page]).collect();
        assert_eq!(found, [1, 2], "the root, and what is behind its lower half");
    }

    #[test]
    fn entries_that_map_something_are_marked_as_written() {
        assert_eq!(used(PRESENT, 0), PRESENT | ACCESSED | DIRTY);
        assert_eq!(used(PRESENT | LARGE, 1), PRESENT | LARGE | ACCESSED | DIRTY);
        assert_eq!(used(PRESENT, 1), PRESENT | ACCESSED, "a table");
        assert_eq!(used(PRESENT | LARGE, 3), PRESENT | LARGE | ACCESSED, "the bit means nothing there");
        assert_eq!(used(LARGE, 0), LARGE, "not present");
    }
}
