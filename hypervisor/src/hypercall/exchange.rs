//! `memory_op.exchange`: a domain gives extents away and gets others of the same size together.

use super::reservation::MAX_ORDER;
use crate::{
    address::{Gfn, Mfn},
    hypervisor::Hypervisor,
    mem::{
        frames::Owner,
        guest::Call,
        p2m::{Kind, Mapping},
    },
};
use alloc::{collections::BTreeSet, vec::Vec};
use xen_abi::{DomId, errno::Errno, memory};

/// Guests keep their buffers below this: the lower half of a 48-bit address space.
const GUEST_END: u64 = 1 << 47;

impl Hypervisor {
    pub(crate) fn exchange(&mut self, call: &Call, arg: u64) -> Result<i64, Errno> {
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
}
