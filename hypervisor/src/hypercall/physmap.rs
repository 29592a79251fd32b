//! Changes of a domain's physical map: what all memory operations are made of.

use crate::{
    address::{Gfn, Mfn},
    hypervisor::Hypervisor,
    mem::{
        frames::Owner,
        p2m::{Kind, Mapping},
    },
};
use xen_abi::{DomId, errno::Errno, memory};

impl Hypervisor {
    /// What is mapped at a frame.
    pub(crate) fn lookup(&self, id: DomId, gfn: Gfn) -> Option<Mapping> {
        self.domain(id)?.p2m.lookup(&self.memory, gfn)
    }

    /// Static regions stay where the configuration put them, and grants are unmapped by their handles only.
    pub(crate) fn assert_not_static(&self, id: DomId, gfn: Gfn) -> Result<(), Errno> {
        match self.lookup(id, gfn) {
            Some(mapping) if matches!(mapping.kind, Kind::Region | Kind::Grant) => Err(Errno::Inval),
            _ => Ok(()),
        }
    }

    /// Maps a frame. Memory that was mapped there stays with the domain, without a place.
    pub(crate) fn add_page(&mut self, id: DomId, gfn: Gfn, mapping: Mapping) -> Result<(), Errno> {
        self.add_borrowed(id, gfn, mapping)?;
        self.memory.set_gfn(mapping.mfn, Some(gfn));
        Ok(())
    }

    /// As [`Self::add_page`], for a frame that has its place elsewhere.
    pub(crate) fn add_borrowed(&mut self, id: DomId, gfn: Gfn, mapping: Mapping) -> Result<(), Errno> {
        self.assert_not_static(id, gfn)?;
        let (memory, p2m) = self.memory_and_p2m(id).ok_or(Errno::Srch)?;
        let old = p2m.set(memory, gfn, mapping)?;
        if let Some(old) = old {
            self.displace(old, gfn);
        }
        Ok(())
    }

    /// Unmaps a frame; memory stays with the domain, without a place.
    pub(crate) fn unmap_page(&mut self, id: DomId, gfn: Gfn) -> Result<Mapping, Errno> {
        self.assert_not_static(id, gfn)?;
        let (memory, p2m) = self.memory_and_p2m(id).ok_or(Errno::Srch)?;
        let old = p2m.clear(memory, gfn).ok_or(Errno::Noent)?;
        self.displace(old, gfn);
        Ok(old)
    }

    /// What was mapped at a frame no longer is: it gives its reference back, and its place if that was it.
    pub(crate) fn displace(&mut self, old: Mapping, gfn: Gfn) {
        match old.kind {
            Kind::Grant | Kind::Resource => {}
            Kind::Foreign => self.memory.frames.count_foreign(old.mfn, false),
            _ if self.memory.frames.gfn(old.mfn) == Some(gfn) => self.memory.set_gfn(old.mfn, None),
            _ => {}
        }
        self.put_page(old.mfn);
    }

    /// Something was mapped at a frame once, and nothing is now.
    pub(crate) fn was_removed(&self, id: DomId, gfn: Gfn) -> bool {
        self.domain(id).is_some_and(|domain| domain.p2m.was_removed(&self.memory, gfn))
    }

    /// Unmaps a frame of the domain's memory and takes the memory away from it.
    pub(crate) fn remove_page(&mut self, id: DomId, gfn: Gfn) -> Result<(), Errno> {
        if self.lookup(id, gfn).ok_or(Errno::Noent)?.kind != Kind::Ram {
            return Err(Errno::Inval);
        }
        let old = self.unmap_page(id, gfn)?;
        self.give_back(id, old.mfn);
        Ok(())
    }

    /// Takes a frame of memory away from a domain that has it mapped nowhere. It counts as the domain's as long as
    /// somebody else has a reference to it.
    pub(crate) fn give_back(&mut self, id: DomId, mfn: Mfn) {
        self.memory.release(mfn);
        self.uncount(id, mfn);
    }

    /// Gives a reference to a frame of whichever domain back.
    pub(crate) fn put_page(&mut self, mfn: Mfn) {
        let owner = self.memory.frames.owner(mfn);
        self.memory.put(mfn);
        if let Owner::Domain(id) = owner {
            self.uncount(id, mfn);
        }
    }

    /// Counts a frame as the domain's no longer if it has become free.
    fn uncount(&mut self, id: DomId, mfn: Mfn) {
        if self.memory.frames.owner(mfn) == Owner::Free
            && let Some(domain) = self.domain_mut(id)
        {
            domain.pages = domain.pages.saturating_sub(1);
        }
    }

    /// Lets a frame of the memory of `from` appear at `gfn`.
    pub(crate) fn map_foreign(&mut self, id: DomId, from: DomId, idx: u64, gfn: Gfn) -> Result<(), Errno> {
        let theirs = match self.lookup(from, Gfn(idx)) {
            Some(mapping) if mapping.kind == Kind::Ram && from != id => mapping,
            _ => return Err(Errno::Inval),
        };
        let previous = self.lookup(id, gfn);
        self.add_borrowed(id, gfn, Mapping { kind: Kind::Foreign, ..theirs })?;
        self.memory.frames.count_foreign(theirs.mfn, true);
        if let Some(previous) = previous
            && previous.kind == Kind::Ram
        {
            self.give_back(id, previous.mfn);
        }
        Ok(())
    }

    /// Lets page `idx` of a space appear at `gfn`.
    pub(crate) fn map_space(&mut self, id: DomId, space: u32, idx: u64, gfn: Gfn) -> Result<(), Errno> {
        let mapping = match space {
            memory::MAPSPACE_SHARED_INFO if idx == 0 => {
                let mfn = self.domain(id).ok_or(Errno::Srch)?.shared_info;
                Mapping { mfn, kind: Kind::SharedInfo, writable: true }
            }
            memory::MAPSPACE_GRANT_TABLE => {
                let mfn = self.grant_table_frame(id, idx)?;
                Mapping { mfn, kind: Kind::GrantTable, writable: true }
            }
            memory::MAPSPACE_GMFN | memory::MAPSPACE_GMFN_RANGE => match self.lookup(id, Gfn(idx)) {
                Some(mapping) if mapping.kind == Kind::Ram => mapping,
                _ => return Err(Errno::Inval),
            },
            _ => return Err(Errno::Inval),
        };
        let old = self.memory.frames.gfn(mapping.mfn);
        if old == Some(gfn) {
            return Ok(());
        }
        let previous = self.lookup(id, gfn);
        self.add_page(id, gfn, mapping)?;
        if let Some(previous) = previous
            && previous.kind == Kind::Ram
            && previous.mfn != mapping.mfn
        {
            self.give_back(id, previous.mfn);
        }
        let place = old.map_or(gfn.0, |old| old.0);
        let place = match mapping.kind {
            Kind::Ram => self.plants.old_place(place, gfn.0),
            _ => place,
        };
        if place != gfn.0 {
            let (memory, p2m) = self.memory_and_p2m(id).ok_or(Errno::Srch)?;
            if let Some(left) = p2m.clear(memory, Gfn(place)) {
                memory.put(left.mfn);
            }
        }
        Ok(())
    }
}
