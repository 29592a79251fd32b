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
            place = self.place(call, request.mem_flags)?;
        }
        Some(Extents { id, array: request.extent_start, order, place })
    }

    /// Where memory has to lie according to its flags. The node is for privileged domains to choose: of others it is passed over,
    /// unless they insist, which they may not.
    fn place(&mut self, call: &Call, flags: u32) -> Option<Place> {
        let bits = memory::memf_address_bits(flags);
        let end = self.memory.frames.highest().address().0 | ((1 << PAGE_SHIFT) - 1);
        let below = match 1u64.checked_shl(bits) {
            Some(limit) if bits != 0 && limit <= end => {
                (bits > PAGE_SHIFT).then_some(Some(Mfn(limit >> PAGE_SHIFT)))?
            }
            _ => None,
        };
        let asked = memory::memf_node(flags);
        let (privileged, exact) = (self.is_privileged(call), flags & memory::MEMF_EXACT_NODE != 0);
        let there = (asked as usize) < NODES;
        let right = if privileged && there { asked } else { memory::NO_NODE };
        let node = self.plants.node_of(right, asked, NODES as u32);
        let given_up = asked != memory::NO_NODE && node == memory::NO_NODE;
        if given_up && (privileged || exact) {
            return None;
        }
        let node = (node != memory::NO_NODE).then_some(node as usize);
        Some(Place { node, exact: exact && node.is_some(), below })
    }

    /// `claim_pages`: sets frames aside for a domain that is being built. It holds one claim at a time.
    pub(crate) fn claim_pages(&mut self, call: &Call, arg: u64) -> Result<i64, Errno> {
        let request: memory::Reservation = self.read_struct(call, arg)?;
        let odd = request.extent_start != 0 || request.extent_order != 0 || request.mem_flags != 0;
        // A domain has to be named by its number.
        let id = request.domid;
        if odd || self.domain(id).is_none() {
            return Err(Errno::Inval);
        }
        if !self.is_privileged(call) {
            return Err(Errno::Perm);
        }
        let free = self.unclaimed(id);
        let domain = self.domain_mut(id).ok_or(Errno::Inval)?;
        if request.nr_extents == 0 {
            domain.claim = 0;
            return Ok(0);
        }
        if domain.claim != 0 || !(domain.pages + 1..=domain.max_pages).contains(&request.nr_extents) {
            return Err(Errno::Inval);
        }
        let claim = request.nr_extents - domain.pages;
        if claim > free {
            return Err(Errno::Nomem);
        }
        domain.claim = claim;
        Ok(0)
    }

    /// `{set,get}_pod_target`: nothing is populated on demand, so that all pages have their place, whatever the target.
    pub(crate) fn pod_target(&mut self, call: &Call, op: u32, arg: u64) -> Result<i64, Errno> {
        let mut request: memory::PodTarget = self.read_struct(call, arg)?;
        let id = self.own_domain(call, request.domid)?;
        if !self.is_privileged(call) {
            return Err(Errno::Perm);
        }
        let domain = self.domain(id).ok_or(Errno::Srch)?;
        if op == memory::SET_POD_TARGET && request.target_pages > domain.max_pages {
            return Err(Errno::Inval);
        }
        (request.tot_pages, request.pod_cache_pages, request.pod_entries) = (domain.pages, 0, 0);
        self.write_struct(call, arg, &request)?;
        Ok(0)
    }

    /// Allocates an extent for a domain, within its limit.
    fn own_pages(&mut self, extents: &Extents) -> Result<Mfn, Errno> {
        let (id, count) = (extents.id, 1 << extents.order);
        self.locked(Lock::Domain(id), |hypervisor| {
            let domain = hypervisor.domain(id).ok_or(Errno::Srch)?;
            let room = domain.max_pages.saturating_sub(domain.pages);
            if count > room.min(hypervisor.unclaimed(id)) {
                return Err(Errno::Nomem);
            }
            let mfn = hypervisor
                .memory
                .allocate_extent(Owner::Domain(id), count, extents.place)
                .ok_or(Errno::Nomem)?;
            if let Some(domain) = hypervisor.domain_mut(id) {
                domain.pages += count;
                domain.claim = domain.claim.saturating_sub(count);
            }
            Ok(mfn)
        })
    }

    /// Free frames that a domain may have: those that others have claimed are theirs.
    fn unclaimed(&self, id: DomId) -> u64 {
        let claimed = self.domains.iter().filter(|domain| domain.id != id).map(|domain| domain.claim).sum();
        self.memory.frames.free().saturating_sub(claimed)
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
        assert!(first.0.is_multiple_of(1 << order));
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
