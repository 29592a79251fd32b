//! Frames of grant tables: how a table comes to be and grows, how its frames are mapped, and how it goes with its domain.

use crate::{
    address::{Gfn, Maddr, Mfn},
    grant::{MAX_FRAMES, STATUSES, Track, entries_per_frame, status_frames},
    hypervisor::Hypervisor,
    mem::{
        frames::Owner,
        guest::Call,
        p2m::{Kind, Mapping},
    },
};
use alloc::vec::Vec;
use core::mem::{offset_of, take};
use coverage_hypercall::crash::CrashKind;
use xen_abi::{DOMID_SELF, DomId, errno::Errno, memory};

/// Index of a frame that a table can have.
fn index(idx: u64, most: u32) -> Result<u32, Errno> {
    u32::try_from(idx).ok().filter(|idx| *idx < most).ok_or(Errno::Inval)
}

impl Hypervisor {
    /// Makes a table of version 1 if there is none, and lets it have at least so many frames; at most [`MAX_FRAMES`].
    pub(crate) fn grow_grant_table(&mut self, id: DomId, frames: u32) -> Result<(), Errno> {
        let grants = &mut self.domain_mut(id).ok_or(Errno::Srch)?.grants;
        let version = grants.version.max(1);
        while grants_len(self, id, false)? < frames.max(1) {
            self.add_table_frame(id, false)?;
        }
        self.domain_mut(id).ok_or(Errno::Srch)?.grants.version = version;
        self.fill_status_frames(id, version)
    }

    /// Gives a table of version 2 all the status frames that it needs.
    fn fill_status_frames(&mut self, id: DomId, version: u32) -> Result<(), Errno> {
        let needed = if version == 2 { status_frames(grants_len(self, id, false)?) } else { 0 };
        while grants_len(self, id, true)? < needed {
            self.add_table_frame(id, true)?;
        }
        Ok(())
    }

    fn add_table_frame(&mut self, id: DomId, status: bool) -> Result<(), Errno> {
        let frame = self.memory.allocate(Owner::GrantTable(id)).ok_or(Errno::Nomem)?;
        let grants = &mut self.domain_mut(id).ok_or(Errno::Srch)?.grants;
        let list = if status { &mut grants.status } else { &mut grants.shared };
        list.push(frame);
        Ok(())
    }

    /// The frame that index `idx` of the grant-table space names. The table grows so far.
    pub(crate) fn grant_table_frame(&mut self, id: DomId, idx: u64) -> Result<Mfn, Errno> {
        let version = self.domain(id).ok_or(Errno::Srch)?.grants.version;
        let status = version == 2 && idx & memory::MAPIDX_GRANT_TABLE_STATUS != 0;
        let idx = if status { idx & !memory::MAPIDX_GRANT_TABLE_STATUS } else { idx };
        let most = if status { status_frames(MAX_FRAMES) } else { MAX_FRAMES };
        let idx = index(idx, most)?;
        self.table_frame(id, status, idx)
    }

    /// Frame `idx`, which is below the limit. The table grows so far.
    fn table_frame(&mut self, id: DomId, status: bool, idx: u32) -> Result<Mfn, Errno> {
        let needed = if status { (idx * STATUSES / entries_per_frame(2)) + 1 } else { idx + 1 };
        self.grow_grant_table(id, needed)?;
        let grants = &self.domain(id).ok_or(Errno::Srch)?.grants;
        let list = if status { &grants.status } else { &grants.shared };
        list.get(idx as usize).copied().ok_or(Errno::Inval)
    }

    /// Where the domain sees each frame of a list: all bits set where it does not.
    pub(crate) fn places(&self, frames: &[Mfn]) -> Vec<u64> {
        frames.iter().map(|mfn| self.memory.frames.gfn(*mfn).map_or(u64::MAX, |gfn| gfn.0)).collect()
    }

    /// Takes the status frames of a table away from a domain: from its physmap, too. `EBUSY` if somebody has them mapped who
    /// is not listed.
    pub(crate) fn drop_status_frames(&mut self, id: DomId) -> Result<(), Errno> {
        let frames = self.domain(id).ok_or(Errno::Srch)?.grants.status.clone();
        let references = |hypervisor: &Self, mfn| hypervisor.memory.frames.references(mfn);
        let mapped = frames.iter().any(|mfn| references(self, *mfn) > 1);
        if !self.plants.forget_status_mappings(mapped) {
            let place = |mfn: Mfn| self.memory.frames.gfn(mfn);
            if frames.iter().any(|mfn| references(self, *mfn) > 1 + u32::from(place(*mfn).is_some())) {
                return Err(Errno::Busy);
            }
            for mfn in &frames {
                if let Some(gfn) = self.memory.frames.gfn(*mfn) {
                    self.unmap_page(id, gfn)?;
                }
            }
        }
        for mfn in frames {
            self.memory.set_gfn(mfn, None);
            // Nobody is left who could have a reference.
            for _ in 0..self.memory.frames.references(mfn) {
                self.memory.put(mfn);
            }
        }
        self.domain_mut(id).ok_or(Errno::Srch)?.grants.status.clear();
        Ok(())
    }

    /// Clears all frames of a table.
    pub(crate) fn clear_shared_frames(&mut self, id: DomId) {
        let frames = self.domain(id).map(|domain| domain.grants.shared.clone()).unwrap_or_default();
        for mfn in frames {
            self.memory.machine.fill_page(mfn, 0);
        }
    }

    /// Gives a table another version. Its status frames come or go.
    pub(crate) fn switch_version(&mut self, id: DomId, version: u32) -> Result<(), Errno> {
        if version == 2 {
            self.fill_status_frames(id, version)?;
        } else {
            self.drop_status_frames(id)?;
        }
        self.clear_shared_frames(id);
        self.domain_mut(id).ok_or(Errno::Srch)?.grants.version = version;
        Ok(())
    }

    /// Where entry `reference` of a table lies, if there is one.
    pub(crate) fn grant_entry(&self, id: DomId, reference: u32) -> Option<Maddr> {
        let grants = &self.domain(id)?.grants;
        if reference >= grants.entries() {
            return None;
        }
        let per_frame = entries_per_frame(grants.version);
        let frame = grants.shared.get((reference / per_frame) as usize)?;
        let size = u64::from(4096 / per_frame);
        Some(Maddr(frame.address().0 + u64::from(reference % per_frame) * size))
    }

    /// Where the reading and writing bits of an entry lie: in version 1 in the entry itself.
    pub(crate) fn grant_status(&self, id: DomId, reference: u32) -> Option<Maddr> {
        let entry = self.grant_entry(id, reference)?;
        let grants = &self.domain(id)?.grants;
        if grants.version == 1 {
            return Some(entry);
        }
        let frame = grants.status.get((reference / STATUSES) as usize)?;
        Some(Maddr(frame.address().0 + u64::from(reference % STATUSES) * 2))
    }

    /// `XENMEM_acquire_resource`: maps frames of a grant table. A domain may acquire its own; others' are for those that
    /// control them.
    pub(crate) fn acquire_resource(&mut self, call: &Call, arg: u64) -> Result<i64, Errno> {
        let request: memory::AcquireResource = self.read_struct(call, arg)?;
        if request.pad != 0 {
            return Err(Errno::Inval);
        }
        let end = request.frame.checked_add(u64::from(request.nr_frames));
        if end.is_none_or(|end| end > u64::from(u32::MAX)) {
            return Err(Errno::Inval);
        }
        let id = if request.domid == DOMID_SELF { call.caller.domain } else { request.domid };
        let id = self.own_domain(call, id)?;
        self.use_table(id, 1);
        match self.acquire_frames(call, arg, id, &request) {
            Ok(()) => {
                self.use_table(id, -1);
                Ok(0)
            }
            Err(error) => {
                let held = self.plants.references_on_error(1);
                self.use_table(id, -(held as i32));
                Err(error)
            }
        }
    }

    /// Takes references to a table, or gives them back.
    fn use_table(&mut self, id: DomId, change: i32) {
        if let Some(domain) = self.domain_mut(id) {
            domain.grants.users = domain.grants.users.saturating_add_signed(change);
        }
    }

    fn acquire_frames(
        &mut self,
        call: &Call,
        arg: u64,
        id: DomId,
        request: &memory::AcquireResource,
    ) -> Result<(), Errno> {
        let most = match (request.kind, request.id) {
            (memory::RESOURCE_GRANT_TABLE, memory::RESOURCE_GRANT_TABLE_SHARED) => MAX_FRAMES,
            (memory::RESOURCE_GRANT_TABLE, memory::RESOURCE_GRANT_TABLE_STATUS) => status_frames(MAX_FRAMES),
            _ => return Err(Errno::Inval),
        };
        if request.frame_list == 0 {
            if request.nr_frames != 0 {
                return Err(Errno::Inval);
            }
            let at = offset_of!(memory::AcquireResource, nr_frames) as u64;
            return self.write_struct(call, arg.wrapping_add(at), &most);
        }
        let status = request.id == memory::RESOURCE_GRANT_TABLE_STATUS;
        let version = self.domain(id).ok_or(Errno::Srch)?.grants.version;
        if request.nr_frames == 0 || (status && version != 2) {
            return Err(Errno::Inval);
        }
        // All of them have to be below the limit, so there are few.
        index(request.frame + u64::from(request.nr_frames) - 1, most)?;
        self.credit = self.credit.checked_sub(request.nr_frames.into()).ok_or(Errno::TooBig)?;
        for n in 0..request.nr_frames {
            let mfn = self.table_frame(id, status, request.frame as u32 + n)?;
            let gfn = Gfn(self.read_word(call, request.frame_list, n.into())?);
            let mapping = Mapping { mfn, kind: Kind::Resource, writable: true };
            let added = self.add_borrowed(call.caller.domain, gfn, mapping);
            // The first failure says why, a later one only that there was one.
            added.map_err(|error| if n == 0 { error } else { Errno::Io })?;
        }
        Ok(())
    }

    /// Nobody uses a table between calls.
    pub(crate) fn check_table_users(&mut self) {
        if self.domains.iter().any(|domain| domain.grants.users != 0) {
            self.violation(CrashKind::References, "a call kept a reference to a grant table");
        }
    }

    /// Undoes all that grants have done with a domain, before it goes: what it has mapped, what others have mapped of it,
    /// and its table. What others have mapped as a resource stays until they unmap it.
    pub(crate) fn release_grants(&mut self, id: DomId) {
        let users: Vec<DomId> = self.domains.iter().map(|domain| domain.id).collect();
        for user in users {
            for handle in self.domain(user).map(|domain| domain.grants.handles()).unwrap_or_default() {
                let Some(track) = self.domain(user).and_then(|domain| domain.grants.track(handle)) else {
                    continue;
                };
                if user == id || track.granter == id {
                    self.release_mapping(user, handle, track);
                }
            }
        }
        let Some(domain) = self.domain_mut(id) else { return };
        domain.grants.version = 0;
        let frames = [take(&mut domain.grants.shared), take(&mut domain.grants.status)].concat();
        for mfn in frames {
            if let Some(gfn) = self.memory.frames.gfn(mfn) {
                // A place of a grant table is neither static nor a grant.
                let _ = self.unmap_page(id, gfn);
            }
            self.memory.put(mfn);
        }
    }

    fn release_mapping(&mut self, user: DomId, handle: u32, track: Track) {
        if let Some(gfn) = track.gfn {
            self.unmap_grant(user, gfn);
        }
        self.give_up_parts(track, track.gfn.is_some(), track.device);
        if let Some(domain) = self.domain_mut(user) {
            domain.grants.set_track(handle, None);
        }
    }
}

/// Frames that a table has.
fn grants_len(hypervisor: &Hypervisor, id: DomId, status: bool) -> Result<u32, Errno> {
    let grants = &hypervisor.domain(id).ok_or(Errno::Srch)?.grants;
    Ok(if status { grants.status.len() } else { grants.shared.len() } as u32)
}
