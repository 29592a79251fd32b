//! Frames: physmaps and machine-to-physical table agree, nothing freed is mapped, references add up.

use crate::{
    address::{Gfn, Mfn},
    grant::Held,
    hypervisor::Hypervisor,
    mem::{
        frames::Owner,
        p2m::{Kind, Mapping},
    },
};
use alloc::{collections::BTreeMap, vec::Vec};
use coverage_hypercall::crash::CrashKind;
use xen_abi::DomId;

/// What an oracle has to say: the kind of the violation, and a sentence.
pub(crate) type Finding = (CrashKind, &'static str);

impl Hypervisor {
    /// Looks at the frames that a call touched, each once.
    pub(crate) fn check_touched(&mut self, touched: &[(DomId, Gfn)]) {
        // Who owns what comes first: a wrong count is only its consequence.
        let found = touched
            .iter()
            .find_map(|&(domain, gfn)| self.check_frame(domain, gfn).err())
            .or_else(|| touched.iter().find_map(|&(domain, gfn)| self.check_references(domain, gfn).err()));
        if let Some((kind, message)) = found {
            self.violation(kind, message);
        }
    }

    /// Nobody has a frame mapped that the call freed. Between the two a call may take any order.
    pub(crate) fn check_freed(&mut self) {
        let freed = core::mem::take(&mut self.memory.dangling);
        if freed.iter().any(|mfn| self.memory.frames.dangles(*mfn)) {
            self.violation(CrashKind::FreedFrame, "a frame was freed that somebody has mapped");
        }
    }

    /// Physmap and machine-to-physical table agree about a guest frame, and what is mapped belongs to somebody.
    fn check_frame(&self, domain: DomId, gfn: Gfn) -> Result<(), Finding> {
        let Some(mapping) = self.lookup(domain, gfn) else { return Ok(()) };
        self.check_mapping(domain, gfn, mapping)
    }

    fn check_mapping(&self, domain: DomId, gfn: Gfn, mapping: Mapping) -> Result<(), Finding> {
        let frames = &self.memory.frames;
        let (owner, place) = (frames.owner(mapping.mfn), frames.gfn(mapping.mfn));
        match (mapping.kind, owner) {
            (_, Owner::Free) => return Err((CrashKind::FreedFrame, "a freed frame is mapped")),
            (Kind::Ram, Owner::Domain(id)) if id != domain => {
                return Err((CrashKind::Isolation, "memory of another domain is mapped"));
            }
            (Kind::Ram, Owner::Domain(_)) if place != Some(gfn) => {
                return Err((CrashKind::M2pIdentity, "m2p does not lead back to where a frame is mapped"));
            }
            (Kind::Ram, Owner::Domain(_))
            | (Kind::SharedInfo | Kind::Hole, Owner::Hypervisor)
            | (Kind::Region, Owner::Region | Owner::Orphan)
            | (Kind::Foreign, Owner::Domain(_) | Owner::Orphan)
            | (Kind::Resource, Owner::GrantTable(_))
            | (Kind::Instrumentation, Owner::Reserved) => {}
            (Kind::GrantTable, Owner::GrantTable(id)) if id == domain => {
                if place != Some(gfn) {
                    return Err((
                        CrashKind::M2pIdentity,
                        "m2p does not lead back to where a frame is mapped",
                    ));
                }
            }
            (Kind::Grant, Owner::Domain(owner)) => {
                let held = self.granted(owner, mapping.mfn);
                if held.uses == 0 || (mapping.writable && held.writers == 0) {
                    return Err((CrashKind::Isolation, "a frame is mapped that is not granted so"));
                }
            }
            _ => return Err((CrashKind::Isolation, "a frame is mapped as what it is not")),
        }
        if mapping.kind == Kind::Instrumentation && mapping.writable {
            return Err((CrashKind::Isolation, "instrumentation is mapped writable"));
        }
        Ok(())
    }

    /// What others make of a domain's frame.
    fn granted(&self, owner: DomId, mfn: Mfn) -> Held {
        self.domains.get(owner).map(|domain| domain.grants.held(mfn)).unwrap_or_default()
    }

    /// References to a domain's frame beside those of owner and mapping: grants, and what it shares with
    /// the hypervisor.
    fn uses(&self, owner: DomId, mfn: Mfn) -> u32 {
        let shared =
            self.domains.get(owner).map_or(0, |domain| domain.events.uses(mfn) + domain.argo.uses(mfn));
        self.granted(owner, mfn).uses + shared + self.area_references(owner, mfn)
    }

    /// Memory has one reference of its owner, one of its mapping, and one of each use that others make of it.
    fn check_references(&self, domain: DomId, gfn: Gfn) -> Result<(), Finding> {
        let Some(mapping) = self.lookup(domain, gfn) else { return Ok(()) };
        let Owner::Domain(owner) = self.memory.frames.owner(mapping.mfn) else { return Ok(()) };
        let references = self.memory.frames.references(mapping.mfn);
        let uses = self.uses(owner, mapping.mfn) + self.memory.frames.foreign(mapping.mfn);
        let right = match mapping.kind {
            Kind::Ram => references == 2 + uses,
            // The owner may have it mapped, have it without a place, or have given it back.
            Kind::Grant | Kind::Foreign => (uses..=uses + 2).contains(&references),
            _ => true,
        };
        if right {
            Ok(())
        } else {
            Err((CrashKind::References, "references to memory are not those of owner, mapping and uses"))
        }
    }

    /// [`Self::audit`], as an oracle.
    pub(crate) fn check_everything(&mut self) {
        if let Err((kind, message)) = self.audit() {
            self.violation(kind, message);
        }
    }

    /// Looks at every frame of the machine and at every mapping of every domain: what must hold between two calls.
    ///
    /// # Errors
    /// The first violation.
    pub(crate) fn audit(&self) -> Result<(), Finding> {
        // How often each frame is mapped, and as a grant.
        let mut mapped: BTreeMap<Mfn, (u32, u32)> = BTreeMap::new();
        for domain in self.domains.iter() {
            let all: Vec<(Gfn, Mapping)> = domain.p2m.mappings(&self.memory).collect();
            for (gfn, mapping) in all {
                self.check_mapping(domain.id, gfn, mapping)?;
                let (places, grants) = mapped.entry(mapping.mfn).or_default();
                *(if mapping.kind == Kind::Grant { grants } else { places }) += 1;
            }
        }
        let mut owned: BTreeMap<DomId, u64> = BTreeMap::new();
        let mut free = 0;
        for (mfn, owner) in self.memory.frames.iter() {
            let references = self.memory.frames.references(mfn);
            let (places, grants) = mapped.get(&mfn).copied().unwrap_or_default();
            let right = match owner {
                Owner::Reserved => continue,
                Owner::Free => {
                    free += 1;
                    references == 0
                }
                Owner::Domain(id) => {
                    *owned.entry(id).or_default() += 1;
                    let uses = self.uses(id, mfn);
                    // Who has given a frame back that others use has no reference to it.
                    let own = places.saturating_sub(self.memory.frames.foreign(mfn));
                    let least = uses + places + u32::from(own != 0);
                    grants <= uses && (least..=uses + places + 1).contains(&references)
                }
                Owner::Orphan => references == places,
                // Others may have frames mapped of a table that is gone.
                Owner::GrantTable(id) => {
                    let listed = self.domains.get(id).is_some_and(|domain| domain.grants.has_frame(mfn));
                    references == u32::from(listed) + places
                }
                Owner::Hypervisor | Owner::Region => references == 1 + places,
            };
            if !right {
                return Err((CrashKind::References, "references are not those of owner and mappings"));
            }
            if let (Owner::Domain(id) | Owner::GrantTable(id), Some(gfn)) =
                (owner, self.memory.frames.gfn(mfn))
                && self.lookup(id, gfn).is_none_or(|mapping| mapping.mfn != mfn)
            {
                return Err((CrashKind::M2pIdentity, "m2p leads to where a frame is not mapped"));
            }
        }
        if free != self.memory.frames.free() {
            return Err((CrashKind::References, "the count of free frames is wrong"));
        }
        for domain in self.domains.iter() {
            if owned.get(&domain.id).copied().unwrap_or(0) != domain.pages {
                return Err((CrashKind::References, "a domain's count of pages is not what it owns"));
            }
        }
        Ok(())
    }
}
