//! Oracles: what must hold after each call, whatever the guest asked for. A violation leaves a crash record.
//!
//! Only what the call touched is looked at: the log of touched guest frames keeps it cheap.

use crate::{
    address::Gfn,
    hypervisor::{Disposition, Hypervisor},
    mem::{frames::Owner, p2m::Kind},
};
use alloc::vec::Vec;
use coverage_hypercall::crash::CrashKind;
use xen_abi::{DomId, hypercall};

/// Largest error number that a call may return.
const MAX_ERRNO: i64 = 111;

impl Hypervisor {
    /// Looks at everything that the call touched.
    pub(crate) fn check_after_call(&mut self, number: u64, disposition: Disposition) {
        let mut touched: Vec<(DomId, Gfn)> = core::mem::take(&mut self.memory.touched);
        // A call may touch one frame hundreds of times.
        touched.sort_unstable();
        touched.dedup();
        // Who owns what comes first: a wrong count is only its consequence.
        for &(domain, gfn) in &touched {
            self.check_frame(domain, gfn);
        }
        for &(domain, gfn) in &touched {
            self.check_references(domain, gfn);
        }
        if self.depth != 0 || self.batch.is_some() {
            self.violation(CrashKind::LockHeld, "a call is still going on after its return");
        }
        self.check_table_users();
        if let Disposition::Return(value) = disposition {
            self.check_result(number, value);
        }
    }

    /// Physmap and machine-to-physical table agree about a guest frame, and what is mapped belongs to somebody.
    fn check_frame(&mut self, domain: DomId, gfn: Gfn) {
        let Some(mapping) = self.lookup(domain, gfn) else { return };
        let frames = &self.memory.frames;
        let (owner, place) = (frames.owner(mapping.mfn), frames.gfn(mapping.mfn));
        match (mapping.kind, owner) {
            (_, Owner::Free) => self.violation(CrashKind::FreedFrame, "a freed frame is mapped"),
            (Kind::Ram, Owner::Domain(id)) if id != domain => {
                self.violation(CrashKind::Isolation, "memory of another domain is mapped");
            }
            (Kind::Ram, Owner::Domain(_)) if place != Some(gfn) => {
                self.violation(CrashKind::M2pIdentity, "m2p does not lead back to where a frame is mapped");
            }
            (Kind::Ram, Owner::Domain(_))
            | (Kind::SharedInfo | Kind::Hole, Owner::Hypervisor)
            | (Kind::Region, Owner::Region)
            | (Kind::Resource, Owner::GrantTable(_))
            | (Kind::Instrumentation, Owner::Reserved) => {}
            (Kind::GrantTable, Owner::GrantTable(id)) if id == domain => {
                if place != Some(gfn) {
                    self.violation(
                        CrashKind::M2pIdentity,
                        "m2p does not lead back to where a frame is mapped",
                    );
                }
            }
            (Kind::Grant, Owner::Domain(owner)) => {
                let held =
                    self.domain(owner).map(|domain| domain.grants.held(mapping.mfn)).unwrap_or_default();
                if held.uses == 0 || (mapping.writable && held.writers == 0) {
                    self.violation(CrashKind::Isolation, "a frame is mapped that is not granted so");
                }
            }
            _ => self.violation(CrashKind::Isolation, "a frame is mapped as what it is not"),
        }
        if matches!(mapping.kind, Kind::Instrumentation | Kind::Hole) && mapping.writable {
            self.violation(CrashKind::Isolation, "instrumentation or a hole is mapped writable");
        }
    }

    /// Memory has one reference of its owner, one of its mapping, one of each use that others make of it,
    /// and one of each area in it.
    fn check_references(&mut self, domain: DomId, gfn: Gfn) {
        let Some(mapping) = self.lookup(domain, gfn) else { return };
        let Owner::Domain(owner) = self.memory.frames.owner(mapping.mfn) else { return };
        let references = self.memory.frames.references(mapping.mfn);
        let areas = self.area_references(owner, mapping.mfn);
        let uses = areas + self.domain(owner).map_or(0, |domain| domain.grants.held(mapping.mfn).uses);
        let right = match mapping.kind {
            Kind::Ram => references == 2 + uses,
            // The owner may have it mapped, have it without a place, or have given it back.
            Kind::Grant => (uses..=uses + 2).contains(&references),
            _ => true,
        };
        if !right {
            self.violation(
                CrashKind::References,
                "references to memory are not those of owner, mapping and uses",
            );
        }
    }

    /// The value lies in what the family may return.
    fn check_result(&mut self, number: u64, value: i64) {
        let most = match number {
            hypercall::EVENT_CHANNEL_OP
            | hypercall::GRANT_TABLE_OP
            | hypercall::MULTICALL
            | hypercall::CONSOLE_IO => 0,
            hypercall::SET_TIMER_OP | hypercall::VM_ASSIST => 0,
            hypercall::VCPU_OP => 1,
            hypercall::SCHED_OP => 2,
            _ => i64::MAX,
        };
        if value < -MAX_ERRNO || value > most {
            self.violation(CrashKind::ReturnContract, "a call returned what its family never returns");
        }
    }
}
