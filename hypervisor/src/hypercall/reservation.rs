//! `memory_op.{increase,decrease}_reservation` and `populate_physmap`: extents of memory that a domain gets or gives back.
//!
//! They answer with the number of extents that were done, whatever stopped them.

use crate::{
    address::{Gfn, Mfn},
    hypervisor::Hypervisor,
    mem::{
        frames::{NODES, Owner, Place},
        guest::Call,
        p2m::Mapping,
    },
    oracle::locks::Lock,
};
use xen_abi::{DomId, PAGE_SHIFT, errno::Errno, memory};

/// Largest extent of an unprivileged domain (`CONFIG_DOMU_MAX_ORDER` of Xen).
pub(crate) const MAX_ORDER: u32 = 9;
/// Orders below this are numbers of pages.
const ORDERS: u32 = u64::BITS;

/// A reservation whose fields have been checked.
struct Extents {
    id: DomId,
    array: u64,
    order: u32,
    place: Place,
}

impl Hypervisor {
    /// Extents that were done, counted from the first of the array.
    pub(crate) fn reservation(&mut self, call: &Call, op: u32, arg: u64, start: u64) -> u64 {
        let Ok(request) = self.read_struct::<memory::Reservation>(call, arg) else { return start };
        let encodable = u64::from(u32::MAX >> memory::CMD_START_SHIFT);
        if request.nr_extents > encodable || start >= request.nr_extents {
            return start;
        }
        let Some(extents) = self.extents(call, op, &request) else { return start };
        for n in start..request.nr_extents {
            if self.credit == 0 {
                return n;
            }
            self.credit = self.credit.saturating_sub(1 << extents.order);
            let done = match op {
                memory::POPULATE_PHYSMAP => self.populate(call, &extents, n),
                memory::DECREASE_RESERVATION => self.decrease(call, &extents, n),
                _ => self.own_pages(&extents).map(drop),
            };
            if done.is_err() {
                return n;
            }
        }
        request.nr_extents
    }

    /// Checks what is asked for.
    fn extents(&mut self, call: &Call, op: u32, request: &memory::Reservation) -> Option<Extents> {
        let id = self.own_domain(call, request.domid).ok()?;
        let order = request.extent_order;
        let mut in_range = order <= MAX_ORDER;
        let mut place = Place::ANYWHERE;
        if op == memory::POPULATE_PHYSMAP {
            in_range = self.plants.order_in_range(in_range, order, ORDERS);
            // Nobody populates itself on demand.
            if request.mem_flags & memory::MEMF_POPULATE_ON_DEMAND != 0 {
                return None;
            }
        }
        if !in_range {
            return None;
        }
        if op != memory::DECREASE_RESERVATION {
            place = self.place(request.mem_flags)?;
        }
        Some(Extents { id, array: request.extent_start, order, place })
    }

    /// Where memory has to lie according to its flags. The node is a wish of privileged domains: of others it is passed over,
    /// unless they insist, which they may not.
    fn place(&mut self, flags: u32) -> Option<Place> {
        let bits = memory::memf_address_bits(flags);
        let end = self.memory.frames.highest().address().0 | ((1 << PAGE_SHIFT) - 1);
        let below = match 1u64.checked_shl(bits) {
            Some(limit) if bits != 0 && limit <= end => {
                (bits > PAGE_SHIFT).then_some(Some(Mfn(limit >> PAGE_SHIFT)))?
            }
            _ => None,
        };
        let asked = memory::memf_node(flags);
        if asked != memory::NO_NODE && flags & memory::MEMF_EXACT_NODE != 0 {
            return None;
        }
        let node = self.plants.node_of(memory::NO_NODE, asked, NODES as u32);
        let node = (node != memory::NO_NODE).then_some(node as usize);
        Some(Place { node, below })
    }

    /// Allocates an extent for a domain, within its limit.
    fn own_pages(&mut self, extents: &Extents) -> Result<Mfn, Errno> {
        let (id, count) = (extents.id, 1 << extents.order);
        self.locked(Lock::Domain(id), |hypervisor| {
            let domain = hypervisor.domain(id).ok_or(Errno::Srch)?;
            if domain.pages.saturating_add(count) > domain.max_pages {
                return Err(Errno::Nomem);
            }
            let mfn = hypervisor
                .memory
                .allocate_extent(Owner::Domain(id), count, extents.place)
                .ok_or(Errno::Nomem)?;
            if let Some(domain) = hypervisor.domain_mut(id) {
                domain.pages += count;
            }
            Ok(mfn)
        })
    }

    fn populate(&mut self, call: &Call, extents: &Extents, n: u64) -> Result<(), Errno> {
        let id = extents.id;
        let gfn = self.read_word(call, extents.array, n)?;
        // What has its place for good keeps it: an extent over that gets no memory at all.
        for page in 0..1 << extents.order {
            self.assert_not_static(id, Gfn(gfn.checked_add(page).ok_or(Errno::Inval)?))?;
        }
        let mfn = self.own_pages(extents)?;
        for page in 0..1 << extents.order {
            let mapping = Mapping::ram(Mfn(mfn.0 + page));
            let at = Gfn(gfn.saturating_add(page));
            let placed = self.locked(Lock::P2m(id), |hypervisor| hypervisor.add_page(id, at, mapping));
            if let Err(error) = placed {
                // What has no place yet goes back; what was placed stays.
                for rest in page..1 << extents.order {
                    self.give_back(id, Mfn(mfn.0 + rest));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn decrease(&mut self, call: &Call, extents: &Extents, n: u64) -> Result<(), Errno> {
        let (id, order) = (extents.id, extents.order);
        let gfn = self.read_word(call, extents.array, n)?;
        let aligned = gfn.is_multiple_of(1 << order);
        if self.plants.is_whole(aligned && order > 0, order) {
            return self.locked(Lock::P2m(id), |hypervisor| hypervisor.remove_extent(id, Gfn(gfn), order));
        }
        for page in 0..1 << order {
            self.remove_single(id, Gfn(gfn.checked_add(page).ok_or(Errno::Inval)?))?;
        }
        Ok(())
    }

    /// Takes an aligned extent away, up to the first frame that is not the domain's memory.
    fn remove_extent(&mut self, id: DomId, first: Gfn, order: u32) -> Result<(), Errno> {
        assert!(first.0.is_multiple_of(1 << order), "an extent of order {order} begins at {:#x}", first.0);
        for page in 0..1 << order {
            self.remove_page(id, Gfn(first.0 | page))?;
        }
        Ok(())
    }

    /// Takes a frame away.
    fn remove_single(&mut self, id: DomId, gfn: Gfn) -> Result<(), Errno> {
        let lock = Lock::P2m(id);
        self.lock(lock);
        let removed = self.remove_page(id, gfn);
        let gone = removed.is_err() && self.was_removed(id, gfn);
        if !self.plants.keeps_lock(gone) {
            self.unlock(lock);
        }
        removed
    }
}
