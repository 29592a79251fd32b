//! The physical map of a domain: AMD nested page tables, in the format of ordinary long-mode ones.
//!
//! AMD manual volume 2, section 15.25: nested tables are walked as user accesses, so every entry has the user bit.
//! In pv mode they are the guest's page tables as they are: the lower half is the guest's, the image fills the upper half with
//! the hypervisor's own tables, for supervisors only. Leaves are 4 KiB pages. What kind of page it is stands in the bits that hardware leaves to software.

use super::{Memory, frames::Owner};
use crate::{
    address::{Gfn, Maddr, Mfn},
    config::Cache,
};
use alloc::{collections::BTreeMap, vec::Vec};
use core::{cell::Cell, mem};
use xen_abi::{DomId, errno::Errno};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// PWT and PCD: which entry of the page attribute table holds, of the first four, as they are after reset (AMD manual volume
/// 2, section 7.8.2).
const WRITE_THROUGH: u64 = 1 << 3;
const CACHE_DISABLE: u64 = 1 << 4;
/// The processor sets these when it uses an entry, and to write. They are set from the beginning: nobody reads them, and what
/// the processor need not write costs it nothing.
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// Mapped, but not present for the processor: page 0 of pv guests, so that null pointers fault in guest and hypervisor
/// alike. Bit 52 is left to software.
const HIDDEN: u64 = 1 << 52;
/// Bits 53 to 56 are left to software, too.
const KIND_SHIFT: u32 = 53;
const KIND_MASK: u64 = 0xf;
/// Of an entry that is not present: something was mapped there.
const REMOVED: u64 = 1 << 9;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Guest frames are numbered below this: the lower half of a 48-bit address space.
pub(crate) const GFN_LIMIT: u64 = 1 << 35;
/// Most frames that the page tables of one domain take, beside those that its memory at the start needs.
pub(crate) const MAX_TABLES: usize = 64;

/// What a guest frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// Memory of the domain.
    Ram = 0,
    /// The shared-info page.
    SharedInfo = 1,
    /// A static shared region.
    Region = 2,
    /// Memory of the instrumentation.
    Instrumentation = 3,
    /// Memory of whoever granted it.
    Grant = 4,
    /// A frame of the domain's grant table.
    GrantTable = 5,
    /// A frame of some domain's grant table, as a resource.
    Resource = 6,
    /// A page of ones that stands for a device which is not there. What a guest writes to it stays.
    Hole = 7,
    /// Memory of another domain.
    Foreign = 8,
}

/// A mapped guest frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Where it is.
    pub mfn: Mfn,
    /// What it is.
    pub kind: Kind,
    /// The guest may write to it.
    pub writable: bool,
}

impl Mapping {
    /// Memory of the domain.
    pub(crate) const fn ram(mfn: Mfn) -> Self {
        Self { mfn, kind: Kind::Ram, writable: true }
    }

    const fn encode(self) -> u64 {
        let writable = if self.writable { WRITABLE } else { 0 };
        let used = ACCESSED | DIRTY;
        self.mfn.address().0 | PRESENT | USER | writable | used | (self.kind as u64) << KIND_SHIFT
    }

    const fn decode(entry: u64) -> Option<Self> {
        if entry & (PRESENT | HIDDEN) == 0 {
            return None;
        }
        let kind = match entry >> KIND_SHIFT & KIND_MASK {
            0 => Kind::Ram,
            1 => Kind::SharedInfo,
            2 => Kind::Region,
            3 => Kind::Instrumentation,
            4 => Kind::Grant,
            5 => Kind::GrantTable,
            6 => Kind::Resource,
            7 => Kind::Hole,
            _ => Kind::Foreign,
        };
        Some(Self { mfn: Maddr(entry & ADDRESS).frame(), kind, writable: entry & WRITABLE != 0 })
    }
}

/// The tables of one domain.
#[derive(Debug)]
pub(crate) struct P2m {
    domain: DomId,
    root: Mfn,
    /// Most tables.
    limit: usize,
    /// Tables of the last level, by the upper bits of the frames that they map.
    leaves: BTreeMap<u64, Mfn>,
    /// The table of the last level that was used last: most calls stay within one. It counts as long as there are as many
    /// tables as then.
    recent: Cell<Option<(u64, Mfn, usize)>>,
    /// Tables of the middle levels, by level and upper bits.
    inner: BTreeMap<(u32, u64), Mfn>,
    /// How often an entry was changed.
    changes: u64,
}

impl P2m {
    /// An empty map.
    pub(crate) fn new(memory: &mut Memory, domain: DomId) -> Option<Self> {
        let root = memory.allocate(Owner::Hypervisor)?;
        memory.machine.prepare_root(root);
        let (leaves, inner) = (BTreeMap::new(), BTreeMap::new());
        Some(Self { domain, root, limit: MAX_TABLES, leaves, recent: Cell::new(None), inner, changes: 0 })
    }

    /// Allows for the tables of this many pages at guest frame 0 beside all others.
    pub(crate) fn make_room(&mut self, pages: u64) {
        self.limit = MAX_TABLES + (pages / 512) as usize;
    }

    /// The root table: nested CR3.
    pub(crate) const fn root(&self) -> Maddr {
        self.root.address()
    }

    fn entry(leaf: Mfn, gfn: Gfn) -> Maddr {
        Maddr(leaf.address().0 + (gfn.0 & 511) * 8)
    }

    /// What is mapped at a frame.
    pub(crate) fn lookup(&self, memory: &Memory, gfn: Gfn) -> Option<Mapping> {
        memory.work(1);
        self.peek(memory, gfn)
    }

    /// [`Self::lookup`], as a part of a step that is counted.
    pub(crate) fn peek(&self, memory: &Memory, gfn: Gfn) -> Option<Mapping> {
        let leaf = self.find_leaf(gfn)?;
        Mapping::decode(memory.machine.read_u64(Self::entry(leaf, gfn)))
    }

    /// The table of the last level for a frame, if there is one.
    fn find_leaf(&self, gfn: Gfn) -> Option<Mfn> {
        let key = gfn.0 >> 9;
        if let Some((recent, leaf, tables)) = self.recent.get()
            && recent == key
            && tables == self.leaves.len()
        {
            return Some(leaf);
        }
        let leaf = *self.leaves.get(&key)?;
        self.recent.set(Some((key, leaf, self.leaves.len())));
        Some(leaf)
    }

    /// The table of the last level for a frame, made if there is none.
    fn leaf(&mut self, memory: &mut Memory, gfn: Gfn) -> Result<Mfn, Errno> {
        if let Some(leaf) = self.find_leaf(gfn) {
            return Ok(leaf);
        }
        if gfn.0 >= GFN_LIMIT {
            return Err(Errno::Inval);
        }
        if self.leaves.len() + self.inner.len() + 3 > self.limit {
            return Err(Errno::Nomem);
        }
        let mut table = self.root;
        for level in [27, 18, 9] {
            let key = gfn.0 >> level;
            let found = if level == 9 { None } else { self.inner.get(&(level, key)).copied() };
            let next = match found {
                Some(next) => next,
                None => {
                    let next = memory.allocate(Owner::Hypervisor).ok_or(Errno::Nomem)?;
                    let at = Maddr(table.address().0 + (key & 511) * 8);
                    memory.machine.write_u64(at, next.address().0 | PRESENT | WRITABLE | USER | ACCESSED);
                    if level == 9 {
                        self.leaves.insert(key, next);
                    } else {
                        self.inner.insert((level, key), next);
                    }
                    next
                }
            };
            table = next;
        }
        Ok(table)
    }

    /// Maps a frame, whatever was there, and takes a reference to what is mapped. The reference of what was mapped
    /// goes to the caller.
    ///
    /// # Errors
    /// `ENOMEM` when no table can be had, `EINVAL` for a frame beyond [`GFN_LIMIT`].
    pub(crate) fn set(
        &mut self,
        memory: &mut Memory,
        gfn: Gfn,
        mapping: Mapping,
    ) -> Result<Option<Mapping>, Errno> {
        let leaf = self.leaf(memory, gfn)?;
        let at = Self::entry(leaf, gfn);
        let old = Mapping::decode(memory.machine.read_u64(at));
        let entry = mapping.encode();
        let hidden = memory.pv && gfn.0 == 0;
        memory.machine.write_u64(at, if hidden { entry & !PRESENT | HIDDEN } else { entry });
        memory.changes += 1;
        memory.get(mapping.mfn);
        memory.frames.count_mapped(mapping.mfn, true);
        if let Some(old) = old {
            memory.frames.count_mapped(old.mfn, false);
        }
        memory.work(1);
        self.changes += 1;
        memory.watch.note_change(self.domain);
        memory.touched.push((self.domain, gfn));
        Ok(old)
    }

    /// Unmaps a frame. The reference of what was mapped goes to the caller.
    pub(crate) fn clear(&mut self, memory: &mut Memory, gfn: Gfn) -> Option<Mapping> {
        let leaf = *self.leaves.get(&(gfn.0 >> 9))?;
        let at = Self::entry(leaf, gfn);
        let old = Mapping::decode(memory.machine.read_u64(at))?;
        memory.machine.write_u64(at, REMOVED);
        memory.frames.count_mapped(old.mfn, false);
        memory.work(1);
        self.changes += 1;
        memory.watch.note_change(self.domain);
        memory.changes += 1;
        memory.touched.push((self.domain, gfn));
        Some(old)
    }

    /// Says how accesses to a mapped frame are cached. It holds until something else is mapped there.
    pub(crate) fn set_cache(&mut self, memory: &mut Memory, gfn: Gfn, cache: Cache) {
        let bits = match cache {
            Cache::WriteBack => 0,
            Cache::WriteThrough => WRITE_THROUGH,
            Cache::Uncached => CACHE_DISABLE,
            Cache::StrongUncached => CACHE_DISABLE | WRITE_THROUGH,
        };
        if let Some(leaf) = self.leaves.get(&(gfn.0 >> 9)) {
            let at = Self::entry(*leaf, gfn);
            let entry = memory.machine.read_u64(at) & !(CACHE_DISABLE | WRITE_THROUGH);
            memory.machine.write_u64(at, entry | bits);
        }
    }

    /// The bits of an entry that say how accesses are cached.
    #[cfg(test)]
    pub(crate) fn cache_bits(&self, memory: &Memory, gfn: Gfn) -> u64 {
        let leaf = self.leaves[&(gfn.0 >> 9)];
        memory.machine.read_u64(Self::entry(leaf, gfn)) & (CACHE_DISABLE | WRITE_THROUGH)
    }

    /// Lets a mapped frame be writable or not.
    pub(crate) fn protect(&mut self, memory: &mut Memory, gfn: Gfn, writable: bool) {
        let Some(mapping) = self.lookup(memory, gfn) else { return };
        if let Ok(Some(old)) = self.set(memory, gfn, Mapping { writable, ..mapping }) {
            memory.put(old.mfn);
        }
    }

    /// What is mapped by the lowest table of the last level; none if there is no table.
    pub(crate) fn first_table(&self, memory: &Memory) -> Option<Vec<(Gfn, Mapping)>> {
        let (&key, &leaf) = self.leaves.first_key_value()?;
        let entry = |gfn| Mapping::decode(memory.machine.read_u64(Self::entry(leaf, gfn)));
        Some((0..512).map(|n| Gfn(key << 9 | n)).filter_map(|gfn| Some((gfn, entry(gfn)?))).collect())
    }

    /// Frees the lowest table of the last level, in which nothing is mapped any more. The map is not used by hardware.
    pub(crate) fn free_first_table(&mut self, memory: &mut Memory) {
        if let Some((_, table)) = self.leaves.pop_first() {
            memory.put(table);
        }
    }

    /// Frees all tables of a map in which nothing is mapped any more.
    pub(crate) fn free_tables(&mut self, memory: &mut Memory) {
        for table in mem::take(&mut self.leaves).into_values().chain(mem::take(&mut self.inner).into_values())
        {
            memory.put(table);
        }
        memory.put(self.root);
    }

    /// Something was mapped at a frame once, and nothing is now.
    pub(crate) fn was_removed(&self, memory: &Memory, gfn: Gfn) -> bool {
        let leaf = self.leaves.get(&(gfn.0 >> 9));
        leaf.is_some_and(|leaf| memory.machine.read_u64(Self::entry(*leaf, gfn)) == REMOVED)
    }

    /// How often an entry was changed since the map was made.
    pub(crate) const fn changes(&self) -> u64 {
        self.changes
    }

    /// All that is mapped.
    pub(crate) fn mappings(&self, memory: &Memory) -> impl Iterator<Item = (Gfn, Mapping)> {
        self.leaves.iter().flat_map(move |(&key, &leaf)| {
            (0..512).map(move |n| Gfn(key << 9 | n)).filter_map(move |gfn| {
                let entry = memory.machine.read_u64(Self::entry(leaf, gfn));
                Mapping::decode(entry).map(|mapping| (gfn, mapping))
            })
        })
    }

    /// Highest frame that is mapped.
    pub(crate) fn highest(&self, memory: &Memory) -> Option<Gfn> {
        self.leaves.iter().rev().find_map(|(&key, &leaf)| {
            (0..512)
                .rev()
                .map(|n| Gfn(key << 9 | n))
                .find(|gfn| memory.machine.read_u64(Self::entry(leaf, *gfn)) & (PRESENT | HIDDEN) != 0)
        })
    }
}
