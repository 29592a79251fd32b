//! Copies between pages that are granted, or the caller's own.
//!
//! For the time of a copy the entries that it goes by are in use. A transitive entry is based on a grant that another
//! domain made to the one whose entry it is; that one has to be direct.

use super::grant_map::Use;
use crate::{
    address::{Maddr, Mfn},
    grant::{Active, Pins},
    hypervisor::Hypervisor,
    mem::guest::Call,
};
use coverage_hypercall::crash::CrashKind;
use xen_abi::{
    DOMID_SELF, DomId,
    grant::{self, GNTCOPY_DEST_GREF, GNTCOPY_SOURCE_GREF, GTF_SUB_PAGE, Status},
};

/// Bytes that are copied at a time.
const CHUNK: usize = 256;
/// Bytes of a page.
const PAGE: u32 = 4096;

/// What a copy may touch.
#[derive(Clone, Copy, Debug)]
struct Extent {
    mfn: Mfn,
    start: u32,
    len: u32,
}

impl Extent {
    fn holds(&self, offset: u16, len: u16) -> bool {
        let (offset, len) = (u32::from(offset), u32::from(len));
        offset >= self.start && offset + len <= self.start + self.len
    }
}

impl Hypervisor {
    pub(crate) fn copy_grants(&mut self, call: &Call, op: &grant::Copy) -> Result<(), Status> {
        if op.len == 0 {
            return Ok(());
        }
        let source = self.copy_domain(call, op.source.domid, op.flags & GNTCOPY_SOURCE_GREF != 0)?;
        let dest = self.copy_domain(call, op.dest.domid, op.flags & GNTCOPY_DEST_GREF != 0)?;
        let from = self.claim_end(call, source, op.source, op.flags & GNTCOPY_SOURCE_GREF != 0, true)?;
        let to = self.claim_end(call, dest, op.dest, op.flags & GNTCOPY_DEST_GREF != 0, false);
        let result = to.and_then(|to| {
            let copied = self.copy_bytes(op, from, to);
            self.release_end(dest, op.dest, op.flags & GNTCOPY_DEST_GREF != 0, false);
            copied
        });
        self.release_end(source, op.source, op.flags & GNTCOPY_SOURCE_GREF != 0, true);
        result
    }

    /// Frames can be named of the caller's own memory only.
    fn copy_domain(&self, call: &Call, id: DomId, granted: bool) -> Result<DomId, Status> {
        if id != DOMID_SELF && !granted {
            return Err(Status::PERMISSION_DENIED);
        }
        let id = if id == DOMID_SELF { call.caller.domain } else { id };
        self.domain(id).map(|domain| domain.id).ok_or(Status::BAD_DOMAIN)
    }

    fn claim_end(
        &mut self,
        call: &Call,
        id: DomId,
        end: grant::CopyEnd,
        granted: bool,
        readonly: bool,
    ) -> Result<Extent, Status> {
        if granted {
            return self.claim_for_copy(id, end.u as u32, call.caller.domain, readonly, false);
        }
        Ok(Extent { mfn: self.granted_frame(id, end.u)?, start: 0, len: PAGE })
    }

    fn release_end(&mut self, id: DomId, end: grant::CopyEnd, granted: bool, readonly: bool) {
        if granted {
            self.release_from_copy(id, end.u as u32, readonly);
        }
    }

    fn copy_bytes(&mut self, op: &grant::Copy, from: Extent, to: Extent) -> Result<(), Status> {
        let beyond = |offset: u16| u32::from(offset) + u32::from(op.len) > PAGE;
        if beyond(op.source.offset) || beyond(op.dest.offset) {
            return Err(Status::BAD_COPY_ARG);
        }
        if !from.holds(op.source.offset, op.len) || !to.holds(op.dest.offset, op.len) {
            return Err(Status::GENERAL_ERROR);
        }
        let from = from.mfn.address().0 + u64::from(op.source.offset);
        let to = to.mfn.address().0 + u64::from(op.dest.offset);
        self.memory.work(2);
        let mut done = 0;
        let mut chunk = [0; CHUNK];
        while done < usize::from(op.len) {
            let len = (usize::from(op.len) - done).min(CHUNK);
            self.memory.machine.read(Maddr(from + done as u64), &mut chunk[..len]);
            self.memory.machine.write(Maddr(to + done as u64), &chunk[..len]);
            done += len;
        }
        Ok(())
    }

    /// Uses an entry for a copy by `user`. `deep` says that a transitive entry led here.
    fn claim_for_copy(
        &mut self,
        id: DomId,
        reference: u32,
        user: DomId,
        readonly: bool,
        deep: bool,
    ) -> Result<Extent, Status> {
        let grants = &self.domain(id).ok_or(Status::BAD_DOMAIN)?.grants;
        if grants.version == 0 {
            return Err(Status::GENERAL_ERROR);
        }
        let active = grants.active(reference);
        let entry = self.read_entry(id, reference)?;
        let pins = Pins::of(true, false, readonly);
        if active.is_some_and(|active| active.user != user || active.pins.plus(pins).is_none()) {
            return Err(Status::GENERAL_ERROR);
        }
        let fresh = active.is_none_or(|active| !readonly && active.pins.writers() == 0);
        if fresh {
            self.claim_entry(id, reference, &entry, user, readonly, Use::Copy)?;
        }
        let found = if entry.is_transitive() {
            let other = (entry.page_off, entry.frame as u32);
            self.claim_source(id, other, readonly, deep)
        } else {
            match active {
                Some(active) if !fresh => Ok(active),
                _ => self.direct_grant(id, reference, &entry),
            }
        };
        let found = found.and_then(|found| match active {
            // What is in use already must still be what it was.
            Some(old) if Active { user, pins: old.pins, ..found } != old => {
                self.release_source(id, reference, &found, readonly);
                Err(Status::GENERAL_ERROR)
            }
            _ => Ok(found),
        });
        let found = match found {
            Ok(found) => found,
            Err(status) => {
                self.reduce_status(id, reference, readonly);
                return Err(status);
            }
        };
        let own = found.source == (id, reference);
        let Some(domain) = self.domain_mut(id) else { return Err(Status::BAD_DOMAIN) };
        domain.grants.pin(reference, Active { user, ..found }, pins);
        // The frame belongs to whoever granted it directly.
        if own {
            domain.grants.hold(found.mfn, pins);
            self.memory.get(found.mfn);
        }
        Ok(Extent { mfn: found.mfn, start: found.start, len: found.len })
    }

    /// What an entry grants by itself.
    fn direct_grant(
        &self,
        id: DomId,
        reference: u32,
        entry: &super::grant_map::Entry,
    ) -> Result<Active, Status> {
        let mfn = self.granted_frame(id, entry.frame)?;
        let partial = entry.second && entry.header.flags & GTF_SUB_PAGE != 0;
        let (start, len) =
            if partial { (u32::from(entry.page_off), u32::from(entry.length)) } else { (0, PAGE) };
        Ok(Active { user: id, mfn, start, len, partial, source: (id, reference), pins: Pins::default() })
    }

    /// Uses the grant that a transitive entry of `id` is based on.
    fn claim_source(
        &mut self,
        id: DomId,
        other: (DomId, u32),
        readonly: bool,
        deep: bool,
    ) -> Result<Active, Status> {
        if other.0 == id || self.domain(other.0).is_none() {
            return Err(Status::GENERAL_ERROR);
        }
        if self.plants.is_too_transitive(deep) {
            return Err(Status::GENERAL_ERROR);
        }
        let found = self.claim_for_copy(other.0, other.1, id, readonly, true);
        // Whatever it has found, or not.
        if deep && self.options.oracles {
            self.violation(CrashKind::Isolation, "a transitive grant leads to another one");
        }
        let Extent { mfn, start, len } = found?;
        let below = self.domain(other.0).and_then(|domain| domain.grants.active(other.1));
        if self.options.oracles && below.is_none_or(|below| below.source != other || below.mfn != mfn) {
            self.violation(CrashKind::Isolation, "a copy goes by more than one transitive grant");
        }
        Ok(Active { user: id, mfn, start, len, partial: true, source: other, pins: Pins::default() })
    }

    /// Gives up the grant that a transitive one is based on.
    fn release_source(&mut self, id: DomId, reference: u32, active: &Active, readonly: bool) {
        if active.source != (id, reference) {
            self.release_from_copy(active.source.0, active.source.1, readonly);
        }
    }

    /// Ends a use of an entry for a copy, and of the one that it is based on.
    fn release_from_copy(&mut self, id: DomId, reference: u32, readonly: bool) {
        let Some(domain) = self.domain_mut(id) else { return };
        let Some(active) = domain.grants.active(reference) else { return };
        let pins = Pins::of(true, false, readonly);
        domain.grants.unpin(reference, pins);
        if active.source == (id, reference) {
            domain.grants.unhold(active.mfn, pins);
            self.put_page(active.mfn);
        }
        self.reduce_status(id, reference, readonly);
        self.release_source(id, reference, &active, readonly);
    }
}
