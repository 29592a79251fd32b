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
            | (Kind::Instrumentation, Owner::Reserved) => {}
            _ => self.violation(CrashKind::Isolation, "a frame is mapped as what it is not"),
        }
        if matches!(mapping.kind, Kind::Instrumentation | Kind::Hole) && mapping.writable {
            self.violation(CrashKind::Isolation, "instrumentation or a hole is mapped writable");
        }
    }

    /// Memory has one reference of its owner, one of its mapping, and one of each area in it.
    fn check_references(&mut self, domain: DomId, gfn: Gfn) {
        let Some(mapping) = self.lookup(domain, gfn) else { return };
        let references = self.memory.frames.references(mapping.mfn);
        if mapping.kind == Kind::Ram
            && references != 2
            && references != 2 + self.area_references(domain, mapping.mfn)
        {
            self.violation(
                CrashKind::References,
                "memory has not one reference each of owner, mapping and areas",
            );
        }
    }

    /// The value lies in what the family may return.
    fn check_result(&mut self, number: u64, value: i64) {
        let most = match number {
            hypercall::EVENT_CHANNEL_OP | hypercall::MULTICALL | hypercall::CONSOLE_IO => 0,
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
