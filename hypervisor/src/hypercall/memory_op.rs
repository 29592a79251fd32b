//! `memory_op`: reservations, the physmap, and questions about them.
//!
//! Reservations answer with the number of extents that were done, whatever stopped them; where to go on stands in the
//! upper bits of the command. Nothing is preempted, so what a guest may ask for in one call is bounded.

use crate::{
    address::{Gfn, Gva, Mfn},
    hypervisor::Hypervisor,
    mem::{
        frames::Owner,
        guest::Call,
        p2m::{Kind, Mapping},
    },
};
use alloc::{collections::BTreeSet, vec::Vec};
use xen_abi::{DomId, errno::Errno, memory};

/// Largest extent of an unprivileged domain (`CONFIG_DOMU_MAX_ORDER` of Xen).
const MAX_ORDER: u32 = 9;
/// Guests keep their buffers below this: the lower half of a 48-bit address space.
const GUEST_END: u64 = 1 << 47;

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
            memory::MACHINE_MEMORY_MAP
            | memory::SET_MEMORY_MAP
            | memory::SET_POD_TARGET
            | memory::GET_POD_TARGET
            | memory::CLAIM_PAGES => Err(Errno::Perm),
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

    /// Extents that were done, counted from the first of the array.
    fn reservation(&mut self, call: &Call, op: u32, arg: u64, start: u64) -> u64 {
        let Ok(request) = self.read_struct::<memory::Reservation>(call, arg) else { return start };
        let encodable = u64::from(u32::MAX >> memory::CMD_START_SHIFT);
        if request.nr_extents > encodable || start >= request.nr_extents {
            return start;
        }
        let Ok(id) = self.own_domain(call, request.domid) else { return start };
        if request.extent_order > MAX_ORDER || request.mem_flags & memory::MEMF_POPULATE_ON_DEMAND != 0 {
            return start;
        }
        for n in start..request.nr_extents {
            if self.credit == 0 {
                return n;
            }
            self.credit = self.credit.saturating_sub(1 << request.extent_order);
            let done = match op {
                memory::POPULATE_PHYSMAP => self.populate(call, id, &request, n),
                memory::DECREASE_RESERVATION => self.decrease(call, id, &request, n),
                _ => self.own_pages(id, request.extent_order).map(drop),
            };
            if done.is_err() {
                return n;
            }
        }
        request.nr_extents
    }

    /// Allocates an extent for a domain, within its limit.
    fn own_pages(&mut self, id: DomId, order: u32) -> Result<Mfn, Errno> {
        let count = 1 << order;
        let domain = self.domain(id).ok_or(Errno::Srch)?;
        if domain.pages + count > domain.max_pages {
            return Err(Errno::Nomem);
        }
        let mfn = self.memory.allocate_row(Owner::Domain(id), count, count).ok_or(Errno::Nomem)?;
        if let Some(domain) = self.domain_mut(id) {
            domain.pages += count;
        }
        Ok(mfn)
    }

    fn populate(
        &mut self,
        call: &Call,
        id: DomId,
        request: &memory::Reservation,
        n: u64,
    ) -> Result<(), Errno> {
        let gfn = self.read_word(call, request.extent_start, n)?;
        let mfn = self.own_pages(id, request.extent_order)?;
        for page in 0..1 << request.extent_order {
            let placed = gfn
                .checked_add(page)
                .ok_or(Errno::Inval)
                .and_then(|gfn| self.add_page(id, Gfn(gfn), Mapping::ram(Mfn(mfn.0 + page))));
            if let Err(error) = placed {
                // What has no place yet goes back; what was placed stays.
                for rest in page..1 << request.extent_order {
                    self.give_back(id, Mfn(mfn.0 + rest));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn decrease(
        &mut self,
        call: &Call,
        id: DomId,
        request: &memory::Reservation,
        n: u64,
    ) -> Result<(), Errno> {
        let gfn = self.read_word(call, request.extent_start, n)?;
        for page in 0..1 << request.extent_order {
            self.remove_page(id, Gfn(gfn.checked_add(page).ok_or(Errno::Inval)?))?;
        }
        Ok(())
    }

    fn exchange(&mut self, call: &Call, arg: u64) -> Result<i64, Errno> {
        let mut request: memory::Exchange = self.read_struct(call, arg)?;
        let (from, to) = (request.input, request.output);
        if from.extent_order > MAX_ORDER || to.extent_order > MAX_ORDER {
            return Err(Errno::Perm);
        }
        if request.nr_exchanged > from.nr_extents
            || from.domid != to.domid
            || u64::MAX >> from.extent_order < from.nr_extents
            || u64::MAX >> to.extent_order < to.nr_extents
            || from.nr_extents << from.extent_order != to.nr_extents << to.extent_order
        {
            return Err(Errno::Inval);
        }
        let id = self.own_domain(call, from.domid)?;
        let end = |array: u64, count: u64| count.checked_mul(8).and_then(|len| array.checked_add(len));
        let whole = [end(from.extent_start, from.nr_extents), end(to.extent_start, to.nr_extents)];
        let whole = whole.into_iter().all(|end| end.is_some_and(|end| end <= GUEST_END));
        let starts = [from.extent_start, to.extent_start];
        let there = self.plants.exchange_in_range(whole, starts, request.nr_exchanged, GUEST_END);
        if !there {
            return Err(Errno::Fault);
        }
        let chunk = from.extent_order.max(to.extent_order);
        let (inputs, outputs) = (1 << (chunk - from.extent_order), 1 << (chunk - to.extent_order));
        let first = request.nr_exchanged / inputs;
        let chunks = from.nr_extents / inputs;
        let mut result = Ok(0);
        let mut done = first;
        for n in first..chunks {
            let Some(left) = self.credit.checked_sub(1 << chunk) else {
                result = Err(Errno::Again);
                break;
            };
            self.credit = left;
            if let Err(error) = self.exchange_chunk(call, id, &request, n, inputs, outputs) {
                result = Err(error);
                break;
            }
            done = n + 1;
        }
        request.nr_exchanged = done.wrapping_mul(inputs);
        self.write_struct(call, arg.wrapping_add(64), &request.nr_exchanged)?;
        result
    }

    /// Exchanges `inputs` extents for `outputs` extents of the same size together.
    fn exchange_chunk(
        &mut self,
        call: &Call,
        id: DomId,
        request: &memory::Exchange,
        n: u64,
        inputs: u64,
        outputs: u64,
    ) -> Result<(), Errno> {
        let (from, to) = (request.input, request.output);
        let mut given = BTreeSet::new();
        for extent in n * inputs..(n + 1) * inputs {
            let gfn = self.read_word(call, from.extent_start, extent)?;
            for page in 0..1 << from.extent_order {
                let gfn = Gfn(gfn.checked_add(page).ok_or(Errno::Inval)?);
                let mapping = self.lookup(id, gfn).ok_or(Errno::Inval)?;
                if mapping.kind != Kind::Ram || !given.insert(gfn) {
                    return Err(Errno::Inval);
                }
            }
        }
        let mut places = Vec::new();
        for extent in n * outputs..(n + 1) * outputs {
            let at = to.extent_start.wrapping_add(extent.wrapping_mul(8));
            // Where the array leaves the guest's half, only the unchecked write below can tell.
            places.push(if at < GUEST_END { self.read_struct(call, at)? } else { GUEST_END });
        }
        let size = 1 << to.extent_order;
        let mut taken = Vec::new();
        for _ in 0..outputs {
            match self.memory.allocate_row(Owner::Domain(id), size, size) {
                Some(mfn) => taken.push(mfn),
                None => {
                    for mfn in taken.iter().flat_map(|mfn| mfn.0..mfn.0 + size) {
                        self.memory.put(Mfn(mfn));
                    }
                    return Err(Errno::Nomem);
                }
            }
        }
        if let Some(domain) = self.domain_mut(id) {
            domain.pages += given.len() as u64;
        }
        for gfn in given {
            self.remove_page(id, gfn)?;
        }
        let mut result = Ok(());
        for (index, (&place, &mfn)) in places.iter().zip(&taken).enumerate() {
            for page in 0..size {
                let placed = place
                    .checked_add(page)
                    .ok_or(Errno::Inval)
                    .and_then(|gfn| self.add_page(id, Gfn(gfn), Mapping::ram(Mfn(mfn.0 + page))));
                result = result.and(placed);
            }
            let extent = n * outputs + index as u64;
            let at = to.extent_start.wrapping_add(extent.wrapping_mul(8));
            if at < GUEST_END {
                result = result.and(self.write_struct(call, at, &place));
            } else {
                self.memory.machine.wild_write(at, place);
            }
        }
        result
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
            let there = self.domain(request.foreign_domid).is_some();
            return Err(if there { Errno::Perm } else { Errno::Srch });
        }
        if request.foreign_domid != 0 {
            return Err(Errno::Opnotsupp);
        }
        for n in 0..u64::from(request.size) {
            let idx = self.read_word(call, request.idxs, n)?;
            let gfn = self.read_word(call, request.gpfns, n)?;
            let error = match self.map_space(id, space, idx, Gfn(gfn)) {
                Ok(()) => 0,
                Err(error) => error.code() as i32,
            };
            let at = request.errs.checked_add(n * 4).ok_or(Errno::Fault)?;
            self.write_struct(call, at, &error)?;
        }
        Ok(0)
    }

    fn memory_map(&mut self, call: &Call, arg: u64) -> Result<i64, Errno> {
        let mut request: memory::MemoryMap = self.read_struct(call, arg)?;
        let domain = self.domain(call.caller.domain).ok_or(Errno::Srch)?;
        let map = domain.memory_map.clone();
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
