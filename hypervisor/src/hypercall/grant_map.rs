//! Mappings of granted frames: they appear in the physical map of whoever maps them, until they are unmapped by their
//! handle.
//!
//! `host_addr` is a guest-physical address. What the domain had there loses its place, as where Xen maps for translated
//! guests; a static region and another grant stay, which is an error. A mapping for devices is a reference only: there are no
//! devices.

use crate::{
    address::{Gfn, Gpa, Mfn},
    grant::{Active, Pins, Track},
    hypervisor::Hypervisor,
    mem::{
        guest::Call,
        p2m::{Kind, Mapping},
    },
};
use xen_abi::{
    DomId,
    grant::{
        EntryHeader, EntryV1, EntryV2, GNTMAP_DEVICE_MAP, GNTMAP_HOST_MAP, GNTMAP_READONLY,
        GTF_PERMIT_ACCESS, GTF_READING, GTF_READONLY, GTF_SUB_PAGE, GTF_TRANSITIVE, GTF_TYPE_MASK,
        GTF_WRITING, MapGrantRef, Status, UnmapGrantRef,
    },
};
use zerocopy::{FromBytes, IntoBytes};

/// For what an entry is to be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// To be mapped.
    Map,
    /// To be copied from or to.
    Copy,
}

/// What an entry says: version 1 says less.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// Flags and domain.
    pub header: EntryHeader,
    /// Sub-page: first byte. Transitive: the other domain.
    pub page_off: u16,
    /// Sub-page: bytes.
    pub length: u16,
    /// Guest frame. Transitive: the lower half is the other domain's reference.
    pub frame: u64,
    /// It is of version 2.
    pub second: bool,
}

impl Entry {
    /// The type.
    pub(crate) const fn kind(&self) -> u16 {
        self.header.flags & GTF_TYPE_MASK
    }

    /// It leads to another grant.
    pub(crate) const fn is_transitive(&self) -> bool {
        self.second && self.kind() == GTF_TRANSITIVE
    }

    /// `user` may use it so.
    fn permits(&self, user: DomId, what: Use) -> bool {
        let direct = self.kind() == GTF_PERMIT_ACCESS;
        let granted = match what {
            Use::Map => direct && self.header.flags & GTF_SUB_PAGE == 0,
            Use::Copy => direct || self.is_transitive(),
        };
        granted && self.header.domid == user
    }
}

impl Hypervisor {
    /// Copies an entry of a table. The guest may change it at any time.
    pub(crate) fn read_entry(&self, id: DomId, reference: u32) -> Result<Entry, Status> {
        let at = self.grant_entry(id, reference).ok_or(Status::BAD_GNTREF)?;
        if self.domain(id).is_some_and(|domain| domain.grants.version == 2) {
            let mut bytes = [0; size_of::<EntryV2>()];
            self.memory.machine.read(at, &mut bytes);
            let EntryV2 { header, page_off, length, frame } =
                EntryV2::read_from_bytes(&bytes).map_err(|_| Status::GENERAL_ERROR)?;
            return Ok(Entry { header, page_off, length, frame, second: true });
        }
        let mut bytes = [0; size_of::<EntryV1>()];
        self.memory.machine.read(at, &mut bytes);
        let EntryV1 { header, frame } =
            EntryV1::read_from_bytes(&bytes).map_err(|_| Status::GENERAL_ERROR)?;
        Ok(Entry { header, page_off: 0, length: 0, frame: frame.into(), second: false })
    }

    /// Changes the reading and writing bits of an entry.
    fn change_status(&mut self, id: DomId, reference: u32, set: u16, clear: u16) {
        let Some(at) = self.grant_status(id, reference) else { return };
        let mut word = 0u16;
        self.memory.machine.read(at, word.as_mut_bytes());
        let new = (word & !clear) | set;
        if new != word {
            self.memory.machine.write(at, new.as_bytes());
        }
    }

    /// Checks that an entry permits a use, unless it is in use already, and says in it that it is being used.
    pub(crate) fn claim_entry(
        &mut self,
        id: DomId,
        reference: u32,
        entry: &Entry,
        user: DomId,
        readonly: bool,
        what: Use,
    ) -> Result<(), Status> {
        let active = self.domain(id).and_then(|domain| domain.grants.active(reference));
        if active.is_none() && !entry.permits(user, what) {
            return Err(Status::GENERAL_ERROR);
        }
        if !readonly && entry.header.flags & GTF_READONLY != 0 {
            let refused = Status::GENERAL_ERROR;
            return Err(match what {
                Use::Map => Status(self.plants.readonly_status(refused.0)),
                Use::Copy => refused,
            });
        }
        let bits = if readonly { GTF_READING } else { GTF_READING | GTF_WRITING };
        self.change_status(id, reference, bits, 0);
        Ok(())
    }

    /// Takes those bits back that say more than is so.
    pub(crate) fn reduce_status(&mut self, id: DomId, reference: u32, readonly: bool) {
        let active = self.domain(id).and_then(|domain| domain.grants.active(reference));
        let pins = active.map(|active| active.pins).unwrap_or_default();
        let mut clear = 0;
        if pins.total() == 0 {
            clear |= GTF_READING;
        }
        if !readonly && pins.writers() == 0 {
            clear |= GTF_WRITING;
        }
        self.change_status(id, reference, 0, clear);
    }

    /// The memory of a domain at a frame.
    pub(crate) fn granted_frame(&self, id: DomId, gfn: u64) -> Result<Mfn, Status> {
        match self.lookup(id, Gfn(gfn)) {
            Some(Mapping { kind: Kind::Ram, mfn, .. }) => Ok(mfn),
            _ => Err(Status::BAD_PAGE),
        }
    }

    /// Has everything checked that has to do with a frame.
    fn touch_frame(&mut self, mfn: Mfn) {
        let place = self.memory.frames.gfn(mfn);
        if let crate::mem::frames::Owner::Domain(owner) = self.memory.frames.owner(mfn) {
            self.memory.touched.extend(place.map(|gfn| (owner, gfn)));
        }
    }

    pub(crate) fn map_grant(&mut self, call: &Call, op: &mut MapGrantRef) -> Result<(), Status> {
        let user = call.caller.domain;
        let (host, device) = (op.flags & GNTMAP_HOST_MAP != 0, op.flags & GNTMAP_DEVICE_MAP != 0);
        let readonly = op.flags & GNTMAP_READONLY != 0;
        if !host && !device {
            return Err(Status::BAD_GNTREF);
        }
        // Translated guests name no page-table entries, and have no bits of them to set.
        if op.flags & !(GNTMAP_HOST_MAP | GNTMAP_DEVICE_MAP | GNTMAP_READONLY) != 0 {
            return Err(Status::GENERAL_ERROR);
        }
        let (granter, reference) = (op.dom, op.grant);
        let version = self.domain(granter).ok_or(Status::BAD_DOMAIN)?.grants.version;
        let own = &self.domain(user).ok_or(Status::BAD_DOMAIN)?.grants;
        let handle = own.free_handle().ok_or(Status::NO_SPACE)?;
        if version == 0 {
            return Err(Status::GENERAL_ERROR);
        }
        let entry = self.read_entry(granter, reference)?;
        let pins = Pins::of(host, device, readonly);
        let active = self.domain(granter).and_then(|domain| domain.grants.active(reference));
        if let Some(active) = active
            && (active.user != user || active.pins.plus(pins).is_none() || active.partial)
        {
            return Err(Status::GENERAL_ERROR);
        }
        if active.is_none_or(|active| !readonly && active.pins.writers() == 0) {
            self.claim_entry(granter, reference, &entry, user, readonly, Use::Map)?;
        }
        let gfn = host.then(|| Gpa(op.host_addr).frame());
        let mapped = match active {
            Some(active) => Ok(active.mfn),
            None => self.granted_frame(granter, entry.frame),
        };
        let mapped = mapped.and_then(|mfn| {
            let mapping = Mapping { mfn, kind: Kind::Grant, writable: !readonly };
            match gfn {
                Some(gfn) => {
                    self.add_borrowed(user, gfn, mapping).map(|()| mfn).map_err(|_| Status::GENERAL_ERROR)
                }
                None => Ok(mfn),
            }
        });
        let mfn = match mapped {
            Ok(mfn) => mfn,
            Err(status) => {
                self.reduce_status(granter, reference, readonly);
                return Err(status);
            }
        };
        if device {
            self.memory.get(mfn);
        }
        let grants = &mut self.domain_mut(granter).ok_or(Status::BAD_DOMAIN)?.grants;
        let source = (granter, reference);
        let entry = Active { user, mfn, start: 0, len: 4096, partial: false, source, pins: Pins::default() };
        grants.pin(reference, entry, pins);
        grants.hold(mfn, pins);
        let track = Track { granter, reference, gfn, device, dual: host && device, readonly };
        self.domain_mut(user).ok_or(Status::BAD_DOMAIN)?.grants.set_track(handle, Some(track));
        self.touch_frame(mfn);
        op.handle = handle;
        op.dev_bus_addr = mfn.address().0;
        Ok(())
    }

    /// Takes a mapping out of a physical map, and its reference with it.
    pub(crate) fn unmap_grant(&mut self, user: DomId, gfn: Gfn) {
        let Some((memory, p2m)) = self.memory_and_p2m(user) else { return };
        if let Some(old) = p2m.clear(memory, gfn) {
            self.put_page(old.mfn);
        }
    }

    /// Gives up what parts of a mapping hold: their uses of the entry, and the devices' reference.
    pub(crate) fn give_up_parts(&mut self, track: Track, host: bool, device: bool) {
        let Track { granter, reference, readonly, .. } = track;
        let pins = Pins::of(host, device, readonly);
        let Some(domain) = self.domain_mut(granter) else { return };
        let Some(active) = domain.grants.active(reference) else { return };
        domain.grants.unpin(reference, pins);
        domain.grants.unhold(active.mfn, pins);
        self.touch_frame(active.mfn);
        let last_of_two = track.dual && host != device && (track.gfn.is_some() != track.device);
        let references = self.plants.references_of_parts(device.into(), last_of_two);
        for _ in 0..references {
            self.put_page(active.mfn);
        }
        self.reduce_status(granter, reference, readonly);
    }

    /// Unmaps the parts that are named. `new_addr` is where the page lies that is to come there, which translated guests
    /// cannot have.
    pub(crate) fn unmap_parts(
        &mut self,
        call: &Call,
        op: &UnmapGrantRef,
        new_addr: u64,
    ) -> Result<(), Status> {
        let user = call.caller.domain;
        let own = &self.domain(user).ok_or(Status::BAD_DOMAIN)?.grants;
        let track = own.track(op.handle).ok_or(Status::BAD_HANDLE)?;
        let granter = &self.domain(track.granter).ok_or(Status::BAD_DOMAIN)?.grants;
        let active = granter.active(track.reference).ok_or(Status::BAD_HANDLE)?;
        let device = op.dev_bus_addr != 0 && track.device;
        if device && op.dev_bus_addr != active.mfn.address().0 {
            return Err(Status::BAD_DEV_ADDR);
        }
        let gfn = track.gfn.filter(|_| op.host_addr != 0);
        if let Some(gfn) = gfn {
            let there = self.lookup(user, gfn);
            let same = there.is_some_and(|there| there.kind == Kind::Grant && there.mfn == active.mfn);
            if new_addr != 0 || gfn != Gpa(op.host_addr).frame() || !same {
                return Err(Status::GENERAL_ERROR);
            }
            self.unmap_grant(user, gfn);
        }
        let host = gfn.is_some();
        if host || device {
            self.give_up_parts(track, host, device);
        }
        let left = Track { gfn: track.gfn.filter(|_| !host), device: track.device && !device, ..track };
        let gone = left.gfn.is_none() && !left.device;
        if let Some(domain) = self.domain_mut(user) {
            domain.grants.set_track(op.handle, (!gone).then_some(left));
        }
        Ok(())
    }
}
