//! The end of a domain: everything that it has is given back, and everything that others have of it is cut off.
//!
//! [`Hypervisor::relinquish`] is one sequence of steps, one per family. Each takes what it needs from the call's credit and
//! can be called again: it goes on with what is still there. A domain in between is *dying*; its vCPUs are dead.

use crate::{address::Mfn, hypervisor::Hypervisor, mem::p2m::Kind};
use xen_abi::{DomId, errno::Errno, sched};

/// Work that looking through a table of 512 entries is.
const TABLE: u64 = 4;

impl Hypervisor {
    /// Destroys a domain, as far as the credit of the call goes.
    ///
    /// # Errors
    /// `EAGAIN` when there is more to do: the next call goes on.
    pub(crate) fn destroy(&mut self, id: DomId) -> Result<(), Errno> {
        let domain = self.domain_mut(id).ok_or(Errno::Srch)?;
        domain.control.dying = true;
        domain.watchdogs.fill(0);
        self.shut_down(id, sched::SHUTDOWN_POWEROFF);
        self.relinquish(id)?;
        self.domains.remove(id);
        self.gone.push(id);
        Ok(())
    }

    /// Gives back what a dying domain has. The order matters: what others may use of it goes before its memory.
    fn relinquish(&mut self, id: DomId) -> Result<(), Errno> {
        self.relinquish_ports(id)?;
        self.end_argo(id);
        self.forget_areas(id);
        self.release_grants(id);
        self.relinquish_map(id)?;
        self.relinquish_memory(id)?;
        self.relinquish_regions(id)?;
        self.relinquish_tables(id);
        Ok(())
    }

    /// One unit of work.
    fn charge(&mut self) -> Result<(), Errno> {
        self.charge_for(1)
    }

    /// So much work.
    fn charge_for(&mut self, units: u64) -> Result<(), Errno> {
        self.spend(units)
    }

    /// Closes its event channels, and lets go of the frames in which events are queued. The other ends wait for somebody new.
    fn relinquish_ports(&mut self, id: DomId) -> Result<(), Errno> {
        self.close_all(id)?;
        self.end_fifo(id);
        Ok(())
    }

    /// Empties its physmap: its own memory becomes free, the rest loses a reference.
    fn relinquish_map(&mut self, id: DomId) -> Result<(), Errno> {
        loop {
            self.charge_for(TABLE)?;
            let (memory, p2m) = self.memory_and_p2m(id).ok_or(Errno::Srch)?;
            let Some(mapped) = p2m.first_table(memory) else { return Ok(()) };
            for (gfn, mapping) in mapped {
                self.charge()?;
                let (memory, p2m) = self.memory_and_p2m(id).ok_or(Errno::Srch)?;
                p2m.clear(memory, gfn);
                self.displace(mapping, gfn);
                match mapping.kind {
                    Kind::Ram => self.orphan(id, mapping.mfn),
                    Kind::Hole => self.memory.put(mapping.mfn),
                    _ => {}
                }
            }
            let (memory, p2m) = self.memory_and_p2m(id).ok_or(Errno::Srch)?;
            p2m.free_first_table(memory);
        }
    }

    /// The owner of a frame goes. The frame is free, or belongs to whoever else has it mapped.
    fn orphan(&mut self, id: DomId, mfn: Mfn) {
        self.memory.orphan(mfn);
        if let Some(domain) = self.domain_mut(id) {
            domain.pages = domain.pages.saturating_sub(1);
        }
    }

    /// Frees its memory that is mapped nowhere, and leaves to others what they have mapped.
    fn relinquish_memory(&mut self, id: DomId) -> Result<(), Errno> {
        let left = self.memory.frames.owned_by(id, self.credit as usize + 1);
        for mfn in left {
            self.charge()?;
            self.orphan(id, mfn);
        }
        Ok(())
    }

    /// Gives up the shared regions that it owns. Borrowers keep the pages that they see.
    fn relinquish_regions(&mut self, id: DomId) -> Result<(), Errno> {
        for index in 0..self.regions.len() {
            while let Some(region) = self.regions.get(index)
                && region.owner == Some(id)
                && let Some(last) = region.held.checked_sub(1)
            {
                let mfn = Mfn(region.first.0 + last);
                self.charge()?;
                self.memory.orphan(mfn);
                self.regions[index].held = last;
            }
            if self.regions[index].owner == Some(id) {
                self.regions[index].owner = None;
            }
        }
        Ok(())
    }

    /// Frees the page tables, of which there is a bounded number, and the shared-info page.
    fn relinquish_tables(&mut self, id: DomId) {
        let Some(domain) = self.domains.get_mut(id) else { return };
        domain.p2m.free_tables(&mut self.memory);
        self.memory.put(domain.shared_info);
    }

    /// A domain that was destroyed since the last question. Whoever keeps something for its vCPUs forgets it.
    pub fn gone(&mut self) -> Option<DomId> {
        self.gone.pop()
    }
}
