//! Oracles: what must hold whatever guests ask for. A violation leaves a crash record and ends the run.
//!
//! | oracle | kind | looks |
//! |---|---|---|
//! | [`frames`] | m2p identity, freed frame, references, isolation | at frames that a call touched or freed; [`Hypervisor::audit`] at all |
//! | [`locks`] | lock held | at each lock, and after each call |
//! | [`work`] | latency | at each step of a call |
//! | [`contract`] | return contract | at each call, those in a multicall included |
//! | [`canary`] | stack canary, heap canary | at each copy into a guarded buffer, after each call |
//! | [`output`] | uninitialised, isolation | at all that is copied to a guest |
//! | [`isolation`] | isolation | at what calls change, and at the end of a program |
//!
//! Where memory is allocated, [`crate::mem::frames`] looks whether anybody wrote to it while it was free. Privileged operations
//! ask for their privilege where they run. All of it is off with `oracles=off`.

pub(crate) mod canary;
pub(crate) mod contract;
pub(crate) mod frames;
pub(crate) mod isolation;
pub(crate) mod locks;
pub(crate) mod output;
pub(crate) mod work;

use crate::{
    address::Gfn,
    hypervisor::{Disposition, Hypervisor, VcpuId},
};
use alloc::vec::Vec;
use coverage_hypercall::crash::CrashKind;
use xen_abi::DomId;

impl Hypervisor {
    /// A call begins.
    pub(crate) fn before_call(&mut self, caller: VcpuId) {
        self.checks.involve(caller.domain);
        self.memory.touched.clear();
        self.memory.dangling.clear();
        self.memory.watch.begin();
    }

    /// A call has ended: looks at everything that it touched.
    pub(crate) fn after_call(&mut self, caller: VcpuId, disposition: Disposition) {
        self.memory.watch.end();
        if !self.options.oracles {
            return;
        }
        self.check_freed();
        let mut touched: Vec<(DomId, Gfn)> = core::mem::take(&mut self.memory.touched);
        if !touched.is_empty() {
            // A call may touch one frame hundreds of times.
            touched.sort_unstable();
            touched.dedup();
            self.check_touched(&touched);
        }
        self.check_reach(caller);
        if self.depth != 0 || self.batch.is_some() {
            self.violation(CrashKind::LockHeld, "a call is still going on after its return");
        }
        self.check_locks();
        self.check_table_users();
        self.check_heap(disposition == Disposition::Done);
        match disposition {
            Disposition::Ready => self.note_domains(),
            Disposition::Done => {
                self.check_uninvolved();
                if self.options.audit {
                    self.check_everything();
                }
            }
            Disposition::Return(_) | Disposition::Reschedule => {}
        }
    }
}
