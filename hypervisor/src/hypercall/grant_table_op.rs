//! `grant_table_op`: what domains let each other do with their memory.
//!
//! Most operations take an array and note in each entry how it ended. The entries are carried out one after the other,
//! within the call's credit; more of them at once than that are refused.

use crate::{
    address::{Maddr, Mfn},
    grant::MAX_FRAMES,
    hypervisor::Hypervisor,
    mem::{frames::Owner, guest::Call},
};
use alloc::vec::Vec;
use core::mem::offset_of;
use coverage_hypercall::crash::CrashKind;
use xen_abi::{
    DomId,
    errno::Errno,
    grant::{
        self, CACHE_CLEAN, CACHE_INVAL, CACHE_SOURCE_GREF, EntryHeader, EntryV1, EntryV2, GTF_PERMIT_ACCESS,
        GTF_READING, GTF_TRANSITIVE, GTF_TYPE_MASK, GTF_WRITING, RESERVED_ENTRIES, Status,
    },
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

impl Hypervisor {
    pub(crate) fn grant_table_op(&mut self, call: Call, args: [u64; 6]) -> Result<i64, Errno> {
        let (cmd, arg, count) = (args[0] as u32, args[1], args[2] as u32);
        if (count as i32) < 0 {
            return Err(Errno::Inval);
        }
        // The upper bits say where an interrupted flush goes on; here none is.
        if cmd & !grant::CMD_MASK != 0 {
            return Err(Errno::Inval);
        }
        match cmd {
            grant::MAP_GRANT_REF => {
                self.each(&call, arg, count, |hypervisor, op: &mut grant::MapGrantRef| {
                    op.status = hypervisor.status(|hypervisor| hypervisor.map_grant(&call, op));
                })
            }
            grant::UNMAP_GRANT_REF => {
                self.each(&call, arg, count, |hypervisor, op: &mut grant::UnmapGrantRef| {
                    op.status = hypervisor.status(|hypervisor| hypervisor.unmap_parts(&call, op, 0));
                })
            }
            grant::UNMAP_AND_REPLACE => {
                self.each(&call, arg, count, |hypervisor, op: &mut grant::UnmapAndReplace| {
                    let grant::UnmapAndReplace { host_addr, new_addr, handle, .. } = *op;
                    let parts = grant::UnmapGrantRef { host_addr, handle, ..Default::default() };
                    op.status =
                        hypervisor.status(|hypervisor| hypervisor.unmap_parts(&call, &parts, new_addr));
                })
            }
            grant::COPY => self.each(&call, arg, count, |hypervisor, op: &mut grant::Copy| {
                op.status = hypervisor.status(|hypervisor| hypervisor.copy_grants(&call, op));
            }),
            grant::SWAP_GRANT_REF => {
                self.each(&call, arg, count, |hypervisor, op: &mut grant::SwapGrantRef| {
                    let id = call.caller.domain;
                    op.status =
                        hypervisor.status(|hypervisor| hypervisor.swap_grants(id, op.ref_a, op.ref_b));
                })
            }
            grant::CACHE_FLUSH => self.flush_caches(&call, arg, count),
            grant::SETUP_TABLE => self.single(&call, arg, count, Self::setup_table),
            grant::QUERY_SIZE => self.single(&call, arg, count, Self::query_size),
            grant::GET_STATUS_FRAMES => self.single(&call, arg, count, Self::get_status_frames),
            grant::SET_VERSION => self.set_version(&call, arg),
            grant::GET_VERSION => {
                let request: grant::GetVersion = self.read_struct(&call, arg)?;
                let id = self.own_domain(&call, request.dom)?;
                let version = self.domain(id).ok_or(Errno::Srch)?.grants.version;
                let at = offset_of!(grant::GetVersion, version) as u64;
                self.write_struct(&call, arg.wrapping_add(at), &version).map(|()| 0)
            }
            // Memory of translated guests changes hands by other means, and the console is not for tables.
            _ => Err(Errno::Nosys),
        }
    }

    /// Carries out `operation` on each entry of an array.
    fn each<T: FromBytes + IntoBytes + Immutable>(
        &mut self,
        call: &Call,
        array: u64,
        count: u32,
        mut operation: impl FnMut(&mut Self, &mut T),
    ) -> Result<i64, Errno> {
        self.credit = self.credit.checked_sub(count.into()).ok_or(Errno::TooBig)?;
        for n in 0..u64::from(count) {
            let at = array.checked_add(n * size_of::<T>() as u64).ok_or(Errno::Fault)?;
            let mut op: T = self.read_struct(call, at)?;
            operation(self, &mut op);
            self.write_struct(call, at, &op)?;
        }
        Ok(0)
    }

    /// An operation that takes exactly one structure.
    fn single<T: FromBytes + IntoBytes + Immutable>(
        &mut self,
        call: &Call,
        arg: u64,
        count: u32,
        operation: fn(&mut Self, &Call, &mut T),
    ) -> Result<i64, Errno> {
        if count != 1 {
            return Err(Errno::Inval);
        }
        self.each(call, arg, 1, |hypervisor, op| operation(hypervisor, call, op))
    }

    /// How an entry ended. That it is one of the known ways is part of the contract.
    fn status(&mut self, operation: impl FnOnce(&mut Self) -> Result<(), Status>) -> i16 {
        let status = operation(self).err().unwrap_or(Status::OKAY);
        if self.options.oracles && !status.is_known() {
            self.violation(CrashKind::ReturnContract, "an entry ended with a status that does not exist");
        }
        status.0
    }

    /// The domain whose table the caller means.
    fn table_owner(&self, call: &Call, id: DomId) -> Result<DomId, Status> {
        self.own_domain(call, id).map_err(|error| match error {
            Errno::Srch => Status::BAD_DOMAIN,
            _ => Status::PERMISSION_DENIED,
        })
    }

    fn setup_table(&mut self, call: &Call, op: &mut grant::SetupTable) {
        let grant::SetupTable { dom, nr_frames, frame_list, .. } = *op;
        op.status = self.status(|hypervisor| {
            let id = hypervisor.table_owner(call, dom)?;
            if nr_frames > MAX_FRAMES {
                return Err(Status::GENERAL_ERROR);
            }
            hypervisor.grow_grant_table(id, nr_frames).map_err(|_| Status::GENERAL_ERROR)?;
            let shared = hypervisor.domain(id).map(|domain| domain.grants.shared.clone()).unwrap_or_default();
            hypervisor.list_frames(call, frame_list, &shared, nr_frames)
        });
    }

    /// Tells the guest where it sees the first frames of a list.
    fn list_frames(&mut self, call: &Call, at: u64, frames: &[Mfn], count: u32) -> Result<(), Status> {
        let places: Vec<u64> = self.places(frames);
        for (n, place) in places.iter().take(count as usize).enumerate() {
            let at = at.checked_add(n as u64 * 8).ok_or(Status::BAD_VIRT_ADDR)?;
            self.write_struct(call, at, place).map_err(|_| Status::BAD_VIRT_ADDR)?;
        }
        Ok(())
    }

    fn query_size(&mut self, call: &Call, op: &mut grant::QuerySize) {
        let found = self.table_owner(call, op.dom);
        if let Ok(id) = found {
            op.nr_frames = self.domain(id).map_or(0, |domain| domain.grants.shared.len() as u32);
            op.max_nr_frames = MAX_FRAMES;
        }
        op.status = self.status(|_| found.map(drop));
    }

    fn get_status_frames(&mut self, call: &Call, op: &mut grant::GetStatusFrames) {
        let grant::GetStatusFrames { dom, nr_frames, frame_list, .. } = *op;
        op.status = self.status(|hypervisor| {
            let id = hypervisor.table_owner(call, dom)?;
            let status = hypervisor.domain(id).map(|domain| domain.grants.status.clone()).unwrap_or_default();
            if nr_frames as usize > status.len() {
                return Err(Status::GENERAL_ERROR);
            }
            hypervisor.list_frames(call, frame_list, &status, nr_frames)
        });
    }

    fn set_version(&mut self, call: &Call, arg: u64) -> Result<i64, Errno> {
        let mut request: grant::SetVersion = self.read_struct(call, arg)?;
        let id = call.caller.domain;
        let result = match request.version {
            1 | 2 => self.change_version(id, request.version),
            _ => Err(Errno::Inval),
        };
        request.version = self.domain(id).ok_or(Errno::Srch)?.grants.version;
        self.write_struct(call, arg, &request)?;
        result.map(|()| 0)
    }

    fn change_version(&mut self, id: DomId, version: u32) -> Result<(), Errno> {
        let grants = &self.domain(id).ok_or(Errno::Srch)?.grants;
        if grants.version == version {
            return Ok(());
        }
        if grants.is_busy() {
            return Err(Errno::Busy);
        }
        // Each frame is cleared.
        let frames = grants.shared.len() as u64;
        self.credit = self.credit.checked_sub(frames).ok_or(Errno::Again)?;
        let grants = &self.domain(id).ok_or(Errno::Srch)?.grants;
        let kept = if grants.version == 0 { Vec::new() } else { self.reserved_entries(id)? };
        self.grow_grant_table(id, 1)?;
        self.switch_version(id, version)?;
        for (reference, entry) in kept.into_iter().enumerate() {
            self.restore_entry(id, reference as u32, entry);
        }
        Ok(())
    }

    /// The entries that outlive a change of the version, as both versions can express them.
    fn reserved_entries(&self, id: DomId) -> Result<Vec<EntryV1>, Errno> {
        let mut kept = Vec::new();
        for reference in 0..RESERVED_ENTRIES {
            let Ok(entry) = self.read_entry(id, reference) else { break };
            if !entry.second {
                kept.push(EntryV1 { header: entry.header, frame: entry.frame as u32 });
                continue;
            }
            let mut status = 0u16;
            if let Some(at) = self.grant_status(id, reference) {
                self.memory.machine.read(at, status.as_mut_bytes());
            }
            let EntryHeader { flags, domid } = entry.header;
            kept.push(match flags & GTF_TYPE_MASK {
                GTF_TRANSITIVE => return Err(Errno::Range),
                GTF_PERMIT_ACCESS => {
                    let frame = u32::try_from(entry.frame).map_err(|_| Errno::Range)?;
                    EntryV1 { header: EntryHeader { flags: flags | status, domid }, frame }
                }
                _ => EntryV1::default(),
            });
        }
        Ok(kept)
    }

    fn restore_entry(&mut self, id: DomId, reference: u32, kept: EntryV1) {
        let Some(at) = self.grant_entry(id, reference) else { return };
        if self.domain(id).is_some_and(|domain| domain.grants.version == 1) {
            self.memory.machine.write(at, kept.as_bytes());
            return;
        }
        let used = GTF_READING | GTF_WRITING;
        let header = EntryHeader { flags: kept.header.flags & !used, ..kept.header };
        let entry = EntryV2 { header, frame: kept.frame.into(), ..Default::default() };
        self.memory.machine.write(at, entry.as_bytes());
        if let Some(at) = self.grant_status(id, reference) {
            self.memory.machine.write(at, (kept.header.flags & used).as_bytes());
        }
    }

    fn swap_grants(&mut self, id: DomId, a: u32, b: u32) -> Result<(), Status> {
        let grants = &self.domain(id).ok_or(Status::BAD_DOMAIN)?.grants;
        let (version, entries) = (grants.version, grants.entries());
        if !self.plants.table_exists(version != 0) {
            return Err(Status::GENERAL_ERROR);
        }
        if version == 0 {
            // Entries of a table that begins nowhere.
            self.memory.machine.wild_read(u64::from(a % grant::RESERVED_ENTRIES) * 8);
        }
        if a >= entries || b >= entries {
            return Err(Status::BAD_GNTREF);
        }
        if a == b {
            return Ok(());
        }
        let grants = &self.domain(id).ok_or(Status::BAD_DOMAIN)?.grants;
        if grants.active(a).is_some() || grants.active(b).is_some() {
            return Err(Status::EAGAIN);
        }
        let size = if version == 2 { size_of::<EntryV2>() } else { size_of::<EntryV1>() };
        self.swap_bytes(self.grant_entry(id, a), self.grant_entry(id, b), size);
        if version == 2 {
            self.swap_bytes(self.grant_status(id, a), self.grant_status(id, b), 2);
        }
        Ok(())
    }

    fn swap_bytes(&mut self, a: Option<Maddr>, b: Option<Maddr>, size: usize) {
        let (Some(a), Some(b)) = (a, b) else { return };
        let mut bytes = [[0; size_of::<EntryV2>()]; 2];
        self.memory.machine.read(a, &mut bytes[0][..size]);
        self.memory.machine.read(b, &mut bytes[1][..size]);
        self.memory.machine.write(a, &bytes[1][..size]);
        self.memory.machine.write(b, &bytes[0][..size]);
    }

    /// Caches are coherent, so only the arguments matter.
    fn flush_caches(&mut self, call: &Call, array: u64, count: u32) -> Result<i64, Errno> {
        self.credit = self.credit.checked_sub(count.into()).ok_or(Errno::TooBig)?;
        for n in 0..u64::from(count) {
            let at = array.checked_add(n * size_of::<grant::CacheFlush>() as u64).ok_or(Errno::Fault)?;
            let op: grant::CacheFlush = self.read_struct(call, at)?;
            self.flush_cache(call.caller.domain, &op)?;
        }
        Ok(0)
    }

    fn flush_cache(&self, id: DomId, op: &grant::CacheFlush) -> Result<(), Errno> {
        if u32::from(op.offset) >= 4096
            || u32::from(op.offset) + u32::from(op.length) > 4096
            || op.op & !(CACHE_CLEAN | CACHE_INVAL | CACHE_SOURCE_GREF) != 0
        {
            return Err(Errno::Inval);
        }
        if op.length == 0 || op.op == 0 {
            return Ok(());
        }
        if op.op & CACHE_SOURCE_GREF != 0 {
            return Err(Errno::Opnotsupp);
        }
        let mfn = Maddr(op.a).frame();
        match self.memory.frames.owner(mfn) {
            Owner::Reserved => Err(Errno::Inval),
            Owner::Domain(owner) if owner == id => Ok(()),
            Owner::Domain(owner) => {
                let grants = &self.domain(owner).ok_or(Errno::Perm)?.grants;
                if grants.is_used_by(id, mfn) { Ok(()) } else { Err(Errno::Inval) }
            }
            _ => Err(Errno::Perm),
        }
    }
}
