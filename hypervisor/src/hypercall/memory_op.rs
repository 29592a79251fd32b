//! `memory_op`: reservations, the physmap, and questions about them.
//!
//! Where a reservation is to go on stands in the upper bits of the command. Nothing is preempted, so what a guest may ask for in one call is bounded.

use crate::{
    address::{Gfn, Gva},
    hypervisor::Hypervisor,
    mem::guest::Call,
};
use alloc::{vec, vec::Vec};
use xen_abi::{
    DOMID_SELF, DomId,
    errno::Errno,
    memory::{self, E820_ENTRY_LEN, E820Entry},
};

/// Most entries of a memory map (`E820MAX` of Xen).
const MAX_MAP_ENTRIES: u32 = 128;

impl Hypervisor {
    pub(crate) fn memory_op(&mut self, call: Call, args: [u64; 6]) -> Result<i64, Errno> {
        let (cmd, arg) = (args[0] as u32, args[1]);
        let start = u64::from(cmd >> memory::CMD_START_SHIFT);
        match cmd & memory::CMD_MASK {
            op @ (memory::INCREASE_RESERVATION | memory::DECREASE_RESERVATION | memory::POPULATE_PHYSMAP) => {
                Ok(self.reservation(&call, op, arg, start) as i64)
            }
            _ if start != 0 => Err(Errno::Inval),
            memory::EXCHANGE => self.exchange(&call, arg),
            memory::MAXIMUM_RAM_PAGE => Ok(self.memory.frames.highest().0 as i64),
            memory::CURRENT_RESERVATION => self.about_domain(&call, arg, |_, domain| domain.pages),
            memory::MAXIMUM_RESERVATION => self.about_domain(&call, arg, |_, domain| domain.max_pages),
            memory::MAXIMUM_GPFN => self.about_domain(&call, arg, |hypervisor, domain| {
                domain.p2m.highest(&hypervisor.memory).unwrap_or_default().0
            }),
            memory::MACHPHYS_MFN_LIST | memory::MACHPHYS_COMPAT_MFN_LIST => {
                // Translated guests have no use for the table, and do not see it: the list is empty.
                let mut list: memory::MachphysMfnList = self.read_struct(&call, arg)?;
                list.nr_extents = 0;
                self.write_struct(&call, arg, &list).map(|()| 0)
            }
            memory::ADD_TO_PHYSMAP => self.add_to_physmap(&call, arg),
            memory::ADD_TO_PHYSMAP_BATCH => self.add_to_physmap_batch(&call, arg),
            memory::REMOVE_FROM_PHYSMAP => {
                let request: memory::RemoveFromPhysmap = self.read_struct(&call, arg)?;
                let id = self.own_domain(&call, request.domid)?;
                self.unmap_page(id, Gfn(request.gpfn)).map(|_| 0)
            }
            memory::MEMORY_MAP => self.memory_map(&call, arg),
            memory::ACQUIRE_RESOURCE => self.acquire_resource(&call, arg),
            memory::MACHINE_MEMORY_MAP => Err(Errno::Perm),
            memory::SET_MEMORY_MAP => self.set_memory_map(&call, arg),
            memory::SET_POD_TARGET | memory::GET_POD_TARGET => {
                let request: memory::PodTarget = self.read_struct(&call, arg)?;
                Err(self.domain_or_self(&call, request.domid).map_or(Errno::Srch, |_| Errno::Perm))
            }
            memory::CLAIM_PAGES => self.claim_pages(&call, arg),
            memory::GET_SHARING_FREED_PAGES | memory::GET_SHARING_SHARED_PAGES => Ok(0),
            _ => Err(Errno::Nosys),
        }
    }

    fn about_domain(
        &self,
        call: &Call,
        arg: u64,
        answer: fn(&Self, &crate::domain::Domain) -> u64,
    ) -> Result<i64, Errno> {
        let request: memory::Domain = self.read_struct(call, arg)?;
        let id = self.own_domain(call, request.domid)?;
        Ok(answer(self, self.domain(id).ok_or(Errno::Srch)?) as i64)
    }

    fn add_to_physmap(&mut self, call: &Call, arg: u64) -> Result<i64, Errno> {
        let mut request: memory::AddToPhysmap = self.read_struct(call, arg)?;
        // Foreign frames come in batches only.
        if request.space == memory::MAPSPACE_GMFN_FOREIGN {
            return Err(Errno::Nosys);
        }
        let id = self.own_domain(call, request.domid)?;
        if request.space != memory::MAPSPACE_GMFN_RANGE {
            self.map_space(id, request.space, request.idx, Gfn(request.gpfn))?;
            return Ok(0);
        }
        self.credit = self.credit.checked_sub(request.size.into()).ok_or(Errno::TooBig)?;
        let mut result = Ok(0);
        while request.size > 0 {
            if let Err(error) = self.map_space(id, request.space, request.idx, Gfn(request.gpfn)) {
                result = Err(error);
                break;
            }
            request.idx = request.idx.wrapping_add(1);
            request.gpfn = request.gpfn.wrapping_add(1);
            request.size -= 1;
        }
        self.write_struct(call, arg, &request)?;
        result
    }

    fn add_to_physmap_batch(&mut self, call: &Call, arg: u64) -> Result<i64, Errno> {
        let request: memory::AddToPhysmapBatch = self.read_struct(call, arg)?;
        let space = u32::from(request.space);
        if space == memory::MAPSPACE_GMFN_RANGE {
            return Err(Errno::Opnotsupp);
        }
        self.credit = self.credit.checked_sub(request.size.into()).ok_or(Errno::TooBig)?;
        let id = self.own_domain(call, request.domid)?;
        if space == memory::MAPSPACE_GMFN_FOREIGN {
            // Only a privileged domain maps what belongs to others.
            match self.domain(request.foreign_domid) {
                Some(domain) if domain.control.dying => return Err(Errno::Srch),
                None => return Err(Errno::Srch),
                Some(_) if !self.is_privileged(call) => return Err(Errno::Perm),
                Some(_) => {}
            }
        } else if request.foreign_domid != 0 {
            return Err(Errno::Opnotsupp);
        }
        for n in 0..u64::from(request.size) {
            let idx = self.read_word(call, request.idxs, n)?;
            let gfn = self.read_word(call, request.gpfns, n)?;
            let mapped = if space == memory::MAPSPACE_GMFN_FOREIGN {
                self.map_foreign(id, request.foreign_domid, idx, Gfn(gfn))
            } else {
                self.map_space(id, space, idx, Gfn(gfn))
            };
            let error = match mapped {
                Ok(()) => 0,
                Err(error) => error.code() as i32,
            };
            let at = request.errs.checked_add(n * 4).ok_or(Errno::Fault)?;
            self.write_struct(call, at, &error)?;
        }
        Ok(0)
    }

    /// The domain that `id` means, whoever asks.
    fn domain_or_self(&self, call: &Call, id: DomId) -> Option<DomId> {
        let id = if id == DOMID_SELF { call.caller.domain } else { id };
        self.domain(id).map(|domain| domain.id)
    }

    /// Claims are staked by those who build domains: others learn only what is wrong with theirs.
    fn claim_pages(&mut self, call: &Call, arg: u64) -> Result<i64, Errno> {
        let request: memory::Reservation = self.read_struct(call, arg)?;
        let odd = request.extent_start != 0 || request.extent_order != 0 || request.mem_flags != 0;
        // The caller has to be named by its number.
        if odd || self.domain(request.domid).is_none() {
            return Err(Errno::Inval);
        }
        Err(Errno::Perm)
    }

    /// Replaces what [`Self::memory_map`] answers: a domain may do so to itself.
    fn set_memory_map(&mut self, call: &Call, arg: u64) -> Result<i64, Errno> {
        let request: memory::ForeignMemoryMap = self.read_struct(call, arg)?;
        if request.map.nr_entries > MAX_MAP_ENTRIES {
            return Err(Errno::Inval);
        }
        let id = self.own_domain(call, request.domid)?;
        let mut bytes = vec![0; request.map.nr_entries as usize * E820_ENTRY_LEN];
        self.read_guest(call, Gva(request.map.buffer), &mut bytes)?;
        let entries = bytes.as_chunks::<E820_ENTRY_LEN>().0.iter().map(E820Entry::from_bytes).collect();
        self.domain_mut(id).ok_or(Errno::Srch)?.memory_map = entries;
        Ok(0)
    }

    fn memory_map(&mut self, call: &Call, arg: u64) -> Result<i64, Errno> {
        let mut request: memory::MemoryMap = self.read_struct(call, arg)?;
        let domain = self.domain(call.caller.domain).ok_or(Errno::Srch)?;
        let map = domain.memory_map.clone();
        if map.is_empty() {
            return Err(Errno::Nosys);
        }
        if (request.nr_entries as usize) < map.len() {
            return Err(Errno::Inval);
        }
        let bytes: Vec<u8> = map.iter().flat_map(|entry| entry.to_bytes()).collect();
        self.write_guest(call, Gva(request.buffer), &bytes)?;
        request.nr_entries = map.len() as u32;
        self.write_struct(call, arg, &request)?;
        Ok(0)
    }
}
