//! Work: a call takes a bounded number of steps.
//!
//! A step is a frame that is looked up, moved or filled, or a piece that is copied from or to a guest. The functions that all
//! families are made of count them, and a family counts the turns of a loop over its own tables by [`Memory::work`]. The bound
//! is deterministic: more than three times what the longest calls of the clean build take, which a test asserts, and far below the budget of translated blocks at
//! which an exit passes for a hang: a call beyond it would end, but late. The record of the crash then shows which loop it was.

use crate::mem::Memory;
use core::cell::Cell;
use coverage_hypercall::crash::CrashKind;
use memory_scan::Tag;
use xen_abi::DomId;

/// Most steps of one call from a guest.
pub(crate) const LIMIT: u64 = 16384;

/// What the oracles know of the call that is being carried out.
#[derive(Debug)]
pub(crate) struct Watch {
    /// Oracles are on.
    on: bool,
    /// Steps of the call.
    steps: Cell<u64>,
    /// Most steps; without limit between calls.
    limit: Cell<u64>,
    /// Copies to the guest that were completed in the operation that is being carried out.
    pub written: u32,
    /// Domains whose physical map the call changed, one bit each.
    changed: u32,
    /// By what secrets and uninitialised memory are recognised.
    pub tag: Tag,
}

impl Watch {
    /// Nothing is watched until [`Self::begin`]. Tags are made of `seed`.
    pub(crate) const fn new(on: bool, seed: u64) -> Self {
        Self {
            on,
            steps: Cell::new(0),
            limit: Cell::new(u64::MAX),
            written: 0,
            changed: 0,
            tag: Tag::new(seed),
        }
    }

    /// Oracles are on.
    pub(crate) const fn is_on(&self) -> bool {
        self.on
    }

    /// A call begins.
    pub(crate) fn begin(&mut self) {
        self.steps.set(0);
        self.limit.set(if self.on { LIMIT } else { u64::MAX });
        self.written = 0;
        self.changed = 0;
    }

    /// The call changes the physical map of a domain.
    pub(crate) fn note_change(&mut self, domain: DomId) {
        self.changed |= 1u32.checked_shl(domain.into()).unwrap_or(0);
    }

    /// The call changed the physical map of no domain but this one.
    pub(crate) fn changed_only(&self, domain: DomId) -> bool {
        self.changed & !1u32.checked_shl(domain.into()).unwrap_or(0) == 0
    }

    /// The call has ended.
    pub(crate) fn end(&mut self) {
        self.limit.set(u64::MAX);
    }

    /// Steps of the last call.
    #[cfg(test)]
    pub(crate) fn steps(&self) -> u64 {
        self.steps.get()
    }
}

impl Memory {
    /// So many more steps would be more than a call may take.
    pub(crate) fn is_too_much(&self, steps: u64) -> bool {
        self.watch.steps.get().saturating_add(steps) > LIMIT
    }

    /// Counts steps of the current call.
    pub(crate) fn work(&self, steps: u64) {
        let all = self.watch.steps.get().saturating_add(steps);
        self.watch.steps.set(all);
        if all > self.watch.limit.get() {
            self.machine.report(CrashKind::Latency, "a call takes more steps than any call may");
        }
    }
}
