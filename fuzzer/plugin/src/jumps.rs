// SPDX-License-Identifier: GPL-2.0-or-later
//! QEMU's tables of where jumps lead: one for the hypervisor, and one for each of its guests' address spaces.
//!
//! A vCPU has one table from virtual addresses to translated blocks. Whatever forgets a translation of an address empties all of it, and each block is
//! then looked up once more, by a search that costs several times what a short block does: a hypervisor and its guests, which
//! take turns, do little else. So each gets a table of its own here, which is put in place when it gets the processor, and is emptied only
//! when its own addresses may lead elsewhere. QEMU compares the state of the CPU and the validity of a block at each use of a table.
//!
//! | table | emptied |
//! |---|---|
//! | the hypervisor's | where a reset brings back another table of the upper half, or registers that decide about translation |
//! | a guest's | when its physical map may have changed, which the marker of new tables says; where a reset brings back another table of the lower half |
//! | all | when QEMU throws all blocks away |
//!
//! The vCPU's table is private to QEMU. `tcg_flush_jmp_cache` begins by loading its address out of the CPU's structure, which says where that is,
//! and leaves everything alone where there is no table; and what the function does to a table of ours proves the layout. Where any of this is
//! not so, nothing is kept, and all is as before, only slower.
#![expect(unsafe_code, reason = "reads a function's code, and a private table of QEMU's")]

use core::ffi::c_void;
use core::ptr;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous};

use crate::pristine::PAGE;
use crate::qemu::{Cpu, address};

/// Entries of the table: `TB_JMP_CACHE_SIZE` in QEMU's `accel/tcg/tb-jmp-cache.h`.
const ENTRIES: usize = 4096;
/// Words of an entry: the block, and its virtual address.
const ENTRY: usize = 2;
/// Words before the first entry at most; 10.0 has two, 7.2 none.
const MAX_FIRST: usize = 8;
/// Bytes of the beginning of the function that are looked at.
const PROLOGUE: usize = 20;
/// What our own table is filled with.
const FILL: usize = 0x5a5a_5a5a;

type Flush = unsafe extern "C" fn(*mut Cpu);

/// Bytes that a table takes, with room for what is before the first entry.
const TABLE: usize = (ENTRIES * ENTRY + MAX_FIRST) * size_of::<usize>();
/// No CR3: the bits above physical addresses are zero there.
const NO_ROOT: u64 = u64::MAX;
/// Guests that have a table at most. With more address spaces than that, they take it from each other.
const MAX_GUESTS: usize = 16;

/// The offset in the CPU's structure from which a function first loads a pointer that it then compares with null. Instructions: Intel SDM
/// volume 2, `MOV r64, r/m64` and `TEST r/m64, r64`.
fn loaded_from(code: &[u8]) -> Option<usize> {
    let code = code.strip_prefix(&[0xf3, 0x0f, 0x1e, 0xfa]).unwrap_or(code);
    let [0x48, 0x8b, load, a, b, c, d, 0x48, 0x85, test, jump, ..] = *code else { return None };
    // [rdi + disp32] to a register, which is tested against itself.
    let register = load >> 3 & 7;
    let matches = load & 0xc7 == 0x87 && test == 0xc0 | register << 3 | register && jump == 0x74;
    let offset = usize::try_from(i32::from_le_bytes([a, b, c, d])).ok()?;
    (matches && offset % size_of::<usize>() == 0).then_some(offset)
}

/// The number of words before the first entry of a table that was emptied: the first word of each entry is zero, and nothing else.
fn first_entry(table: &[usize]) -> Option<usize> {
    let first = table.iter().position(|word| *word == 0).filter(|first| *first <= MAX_FIRST)?;
    let emptied = |index: usize| {
        (first..first + ENTRIES * ENTRY).contains(&index) && (index - first).is_multiple_of(ENTRY)
    };
    table.iter().enumerate().all(|(index, word)| (*word == 0) == emptied(index)).then_some(first)
}

/// Where the vCPU's table is.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// Offset of its address in the CPU's structure.
    field: usize,
    /// Words before its first entry.
    first: usize,
}

impl Place {
    /// Finds it. On the vCPU's own thread, between two blocks; the table is empty afterwards.
    fn find(cpu: *mut Cpu) -> Option<Self> {
        let flush = address(c"tcg_flush_jmp_cache");
        if flush.is_null() {
            return None;
        }
        // SAFETY: the text of a function that is far from the end of QEMU's.
        let code = unsafe { core::slice::from_raw_parts(flush.cast_const().cast::<u8>(), PROLOGUE) };
        let field = loaded_from(code)?;
        // SAFETY: the symbol is that of a function which takes a CPU and returns nothing.
        let flush = unsafe { core::mem::transmute::<*mut c_void, Flush>(flush) };
        let mut ours = vec![FILL; MAX_FIRST + ENTRIES * ENTRY + MAX_FIRST];
        let place = Self { field, first: 0 };
        let theirs = place.get(cpu);
        place.set(cpu, ours.as_mut_ptr());
        // SAFETY: the function reads the table's address from the field, and empties what is there.
        unsafe { flush(cpu) };
        place.set(cpu, theirs);
        // SAFETY: as above.
        unsafe { flush(cpu) };
        let first = first_entry(&ours)?;
        (!theirs.is_null()).then_some(Self { field, first })
    }

    /// The table that is in place.
    fn get(self, cpu: *mut Cpu) -> *mut usize {
        // SAFETY: `tcg_flush_jmp_cache` itself reads the table's address there.
        unsafe { cpu.cast::<u8>().add(self.field).cast::<*mut usize>().read_volatile() }
    }

    /// Puts a table in place, or none where nothing runs that needs one. On the vCPU's own thread: nobody else uses it; what another thread
    /// invalidates is marked in the block itself.
    fn set(self, cpu: *mut Cpu, table: *mut usize) {
        // SAFETY: as for `get`.
        unsafe { cpu.cast::<u8>().add(self.field).cast::<*mut usize>().write_volatile(table) };
    }
}

/// A table of one page that stands for all pages of a table: entries that are a page apart are the same entry. A guest's code is
/// small, and a small table is emptied, and stays in the processor's caches, for less.
struct Folded {
    table: *mut usize,
}

impl Folded {
    /// An empty one. It stays for as long as the process.
    fn new() -> rustix::io::Result<Self> {
        let memory = memfd_create("hyperfuzz-jumps", MemfdFlags::CLOEXEC)?;
        ftruncate(&memory, PAGE as u64)?;
        let len = TABLE.next_multiple_of(PAGE);
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the kernel likes it, and then others in its place that are as long together.
        unsafe {
            let table = mmap_anonymous(ptr::null_mut(), len, protection, MapFlags::PRIVATE)?;
            for at in (0..len).step_by(PAGE) {
                mmap(table.byte_add(at), PAGE, protection, MapFlags::SHARED | MapFlags::FIXED, &memory, 0)?;
            }
            Ok(Self { table: table.cast() })
        }
    }

    /// Empties it.
    fn empty(&mut self) {
        // SAFETY: the first page of the mapping, and thereby all of it. It is used by the vCPU's thread, which is this one or stands still.
        unsafe { self.table.cast::<u8>().write_bytes(0, PAGE) };
    }
}

/// A guest's table.
struct Guest {
    /// CR3.
    root: u64,
    /// [`Jumps::state`] when it was used last.
    state: u64,
    table: Folded,
}

impl Guest {
    fn new(root: u64) -> rustix::io::Result<Self> {
        Ok(Self { root, state: 0, table: Folded::new()? })
    }
}

/// All tables.
pub(crate) struct Jumps {
    place: Place,
    /// The one that QEMU has made: the hypervisor's.
    own: *mut usize,
    /// One at least.
    guests: Vec<Guest>,
    /// What the marker of new tables said last of the lower halves: 0 where they are those of the snapshot.
    state: u64,
}

impl Jumps {
    /// Finds QEMU's table. On the vCPU's own thread, between two blocks.
    pub(crate) fn find(cpu: *mut Cpu) -> Option<Self> {
        let place = Place::find(cpu)?;
        let first = Guest::new(NO_ROOT).ok()?;
        Some(Self { place, own: place.get(cpu), guests: vec![first], state: 0 })
    }

    /// Has translations forgotten by `forget`, but no jumps. On the vCPU's own thread, between two blocks or in a callback that does not return to
    /// its block.
    pub(crate) fn spare(&self, cpu: *mut Cpu, forget: impl FnOnce()) {
        let table = self.place.get(cpu);
        // QEMU empties no table where it finds none.
        self.place.set(cpu, ptr::null_mut());
        forget();
        self.place.set(cpu, table);
    }

    /// The hypervisor has loaded tables, and says this of all lower halves.
    pub(crate) fn tables_loaded(&mut self, state: u64) {
        self.state = state;
    }

    /// A guest gets the processor. True where it has none of the tables that are there.
    pub(crate) fn enter(&mut self, cpu: *mut Cpu, root: u64) -> bool {
        let found = self.guests.iter().position(|guest| guest.root == root);
        if found.is_none() && self.guests.len() < MAX_GUESTS {
            // Without memory for another one, guests take those that there are from each other.
            self.guests.extend(Guest::new(root).ok());
        }
        let last = self.guests.len() - 1;
        let guest = &mut self.guests[found.unwrap_or(last)];
        if (guest.root, guest.state) != (root, self.state) {
            guest.table.empty();
            (guest.root, guest.state) = (root, self.state);
        }
        self.place.set(cpu, guest.table.table);
        found.is_none()
    }

    /// The hypervisor gets the processor.
    pub(crate) fn leave(&self, cpu: *mut Cpu) {
        self.place.set(cpu, self.own);
    }

    /// The machine is brought back to the snapshot, and the hypervisor gets the processor. What guests' jumps rest on is what it was
    /// if `lower` says so, and likewise the hypervisor's.
    pub(crate) fn reset(&mut self, cpu: *mut Cpu, lower: bool, upper: bool) {
        self.leave(cpu);
        self.state = 0;
        for guest in self.guests.iter_mut().filter(|guest| !lower || guest.state != 0) {
            guest.table.empty();
            guest.state = 0;
        }
        if !upper {
            self.empty_own();
        }
    }

    /// QEMU has thrown all blocks away.
    pub(crate) fn blocks_gone(&mut self) {
        self.guests.iter_mut().for_each(|guest| guest.table.empty());
        self.empty_own();
    }

    fn empty_own(&self) {
        // SAFETY: `find` has shown that this many words belong to the table. It is used by the vCPU's thread, which is this one or stands
        // still.
        unsafe { self.own.add(self.place.first).write_bytes(0, ENTRIES * ENTRY) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_where_the_table_is_loaded_from() {
        let load = [0x48, 0x8b, 0x97, 0x18, 0x02, 0, 0, 0x48, 0x85, 0xd2, 0x74, 0x24, 0x90];
        assert_eq!(loaded_from(&load), Some(0x218), "QEMU 10.0");
        let mut marked = vec![0xf3, 0x0f, 0x1e, 0xfa];
        marked.extend(load);
        assert_eq!(loaded_from(&marked), Some(0x218), "with ENDBR64");
        for (at, byte) in [(1, 0x8d), (2, 0x96), (3, 0x19), (6, 0xff), (9, 0xc0), (10, 0x75)] {
            let mut other = load;
            other[at] = byte;
            assert_eq!(loaded_from(&other), None, "byte {at}");
        }
        assert_eq!(loaded_from(&load[..8]), None);
    }

    #[test]
    fn a_folded_table_is_empty_after_one_page_was() {
        let mut folded = Folded::new().unwrap();
        let word = |index: usize| {
            // SAFETY: within the table.
            unsafe { folded.table.add(index) }
        };
        let last = ENTRIES * ENTRY + MAX_FIRST - 1;
        // SAFETY: the table is ours, and nobody refers to it.
        unsafe {
            word(0).write_volatile(1);
            word(last).write_volatile(2);
            assert_eq!(word(PAGE / size_of::<usize>()).read_volatile(), 1, "a page further is the same");
        }
        folded.empty();
        // SAFETY: as above.
        let rest = unsafe { core::slice::from_raw_parts(folded.table, last + 1) };
        assert!(rest.iter().all(|word| *word == 0));
    }

    #[test]
    fn finds_the_first_entry_of_an_emptied_table() {
        let emptied = |first: usize, entries: usize, step: usize| {
            let mut table = vec![FILL; MAX_FIRST + ENTRIES * ENTRY + MAX_FIRST];
            (0..entries).for_each(|entry| table[first + entry * step] = 0);
            table
        };
        assert_eq!(first_entry(&emptied(0, ENTRIES, 2)), Some(0), "QEMU 7.2");
        assert_eq!(first_entry(&emptied(2, ENTRIES, 2)), Some(2), "QEMU 10.0");
        assert_eq!(first_entry(&emptied(0, ENTRIES, 1)), None, "entries of one word");
        assert_eq!(first_entry(&emptied(0, ENTRIES - 1, 2)), None, "too few");
        assert_eq!(first_entry(&emptied(0, 0, 2)), None, "none");
    }
}
