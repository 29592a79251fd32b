//! Frames: physmaps and machine-to-physical table agree, nothing freed is mapped, references add up.

use crate::{
    address::{Gfn, Mfn},
    hypervisor::{Hypervisor, VcpuId},
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
    pub(crate) fn check_touched(&mut self, caller: VcpuId, touched: &[(DomId, Gfn)]) {
        // Who owns what comes first: a wrong count is only its consequence.
        let found = touched
            .iter()
            .find_map(|&(domain, gfn)| self.check_frame(domain, gfn).err())
            .or_else(|| touched.iter().find_map(|&(domain, gfn)| self.check_references(domain, gfn).err()))
            .or_else(|| self.check_reach(caller, touched).err());
        if let Some((kind, message)) = found {
            self.violation(kind, message);
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
            | (Kind::SharedInfo, Owner::Hypervisor)
            | (Kind::Region, Owner::Region)
            | (Kind::Instrumentation, Owner::Reserved) => {}
            _ => return Err((CrashKind::Isolation, "a frame is mapped as what it is not")),
        }
        if mapping.kind == Kind::Instrumentation && mapping.writable {
            return Err((CrashKind::Isolation, "instrumentation is mapped writable"));
        }
        Ok(())
    }

    /// Memory has one reference of its owner and one of its mapping.
    fn check_references(&self, domain: DomId, gfn: Gfn) -> Result<(), Finding> {
        match self.lookup(domain, gfn) {
            Some(mapping) if mapping.kind == Kind::Ram && self.memory.frames.references(mapping.mfn) != 2 => {
                Err((CrashKind::References, "memory has not one reference each of owner and mapping"))
            }
            _ => Ok(()),
        }
    }

    /// Looks at every frame of the machine and at every mapping of every domain: what must hold between two calls.
    ///
    /// # Errors
    /// The first violation.
    pub(crate) fn audit(&self) -> Result<(), Finding> {
        let mut mapped: BTreeMap<Mfn, u32> = BTreeMap::new();
        for domain in self.domains.iter() {
            let all: Vec<(Gfn, Mapping)> = domain.p2m.mappings(&self.memory).collect();
            for (gfn, mapping) in all {
                self.check_mapping(domain.id, gfn, mapping)?;
                *mapped.entry(mapping.mfn).or_default() += 1;
            }
        }
        let mut owned: BTreeMap<DomId, u64> = BTreeMap::new();
        let mut free = 0;
        for (mfn, owner) in self.memory.frames.iter() {
            let references = self.memory.frames.references(mfn);
            let mappings = mapped.get(&mfn).copied().unwrap_or(0);
            let expected = match owner {
                Owner::Reserved => continue,
                Owner::Free => {
                    free += 1;
                    0
                }
                Owner::Domain(id) => {
                    *owned.entry(id).or_default() += 1;
                    1 + mappings
                }
                Owner::Hypervisor | Owner::Region => 1 + mappings,
            };
            if references != expected {
                return Err((CrashKind::References, "references are not those of owner and mappings"));
            }
            if let (Owner::Domain(id), Some(gfn)) = (owner, self.memory.frames.gfn(mfn))
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
