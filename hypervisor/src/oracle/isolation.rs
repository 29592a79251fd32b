//! Isolation: a call changes nothing of a domain that its caller has no business with.
//!
//! Each domain holds a page of words that only it may see, its *secret*. Calls that reach into others, and the state of a domain
//! that a program neither ran in nor named, are compared with what they may be.

use crate::{
    address::{Maddr, Mfn, PAGE_SIZE},
    domains::MAX_DOMAINS,
    hypervisor::{Hypervisor, VcpuId},
    mem::{Memory, frames::Owner, p2m::Mapping},
    oracle::{locks::Locks, output},
};
use coverage_hypercall::crash::CrashKind;
use memory_scan::{mix, mix_bytes};
use xen_abi::DomId;

/// Bytes from one word of a secret to the next that is looked at.
const SAMPLE: usize = 256;

/// What the oracles remember between calls.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    /// The locks that are held.
    pub locks: Locks,
    /// State of each domain when the program began.
    digests: [u64; MAX_DOMAINS],
    /// Domains that have run or been looked at since, one bit each.
    involved: core::cell::Cell<u32>,
}

impl Checks {
    /// A call has to do with this domain.
    pub(crate) fn involve(&self, id: DomId) {
        self.involved.set(self.involved.get() | 1u32.checked_shl(id.into()).unwrap_or(0));
    }

    /// A call has to do with this domain, which exists, if `depth` calls, less than 2^31, are being carried out. All calls look
    /// domains up, again and again: no branches.
    pub(crate) fn involve_if(&self, depth: u32, id: DomId) {
        const { assert!(MAX_DOMAINS <= 32) };
        let any = depth.wrapping_neg() >> 31;
        self.involved.set(self.involved.get() | any << (id & 31));
    }

    fn is_involved(&self, id: DomId) -> bool {
        self.involved.get() & 1u32.checked_shl(id.into()).unwrap_or(0) != 0
    }
}

/// Puts a domain's secret into one of its frames.
pub(crate) fn hide_secret(memory: &mut Memory, domain: DomId, mfn: Mfn) {
    let mut page = [0; 512];
    memory.watch.tag.fill(&mut page, output::secret(domain));
    for part in 0..PAGE_SIZE / page.len() as u64 {
        memory.machine.write(Maddr(mfn.address().0 + part * page.len() as u64), &page);
    }
}

impl Memory {
    /// Looks at a guest frame that a call writes to on behalf of its caller: what is mapped as memory is the caller's.
    pub(crate) fn check_write(&self, caller: DomId, mapping: Mapping) {
        if self.watch.is_on()
            && let (crate::mem::p2m::Kind::Ram, Owner::Domain(owner)) =
                (mapping.kind, self.frames.owner(mapping.mfn))
            && owner != caller
        {
            self.machine.report(CrashKind::Isolation, "a call writes to memory of another domain");
        }
    }
}

impl Hypervisor {
    /// A call changes its caller's physical map and no other, unless the caller is the control domain.
    pub(crate) fn check_reach(&mut self, caller: VcpuId) {
        let control = self.domains.get(caller.domain).is_some_and(|domain| domain.control.privileged);
        if !control && !self.memory.watch.changed_only(caller.domain) {
            self.violation(CrashKind::Isolation, "a call changes the physical map of another domain");
        }
    }

    /// All domains are ready, and a program may begin: notes the state of each.
    pub(crate) fn note_domains(&mut self) {
        for id in 0..MAX_DOMAINS as DomId {
            self.checks.digests[usize::from(id)] = self.digest(id);
        }
        self.checks.involved.set(0);
    }

    /// A program has ended: who had no part in it is as before.
    pub(crate) fn check_uninvolved(&mut self) {
        for id in self.domains.ids() {
            let before = self.checks.digests[usize::from(id)];
            // Zero: it was made in the meantime.
            if !self.checks.is_involved(id) && before != 0 && before != self.digest(id) {
                self.violation(CrashKind::Isolation, "a domain changed that had no part in the program");
            }
        }
    }

    /// State of a domain as one number; 0 where there is none.
    fn digest(&self, id: DomId) -> u64 {
        let Some(domain) = self.domains.get(id) else { return 0 };
        let mut digest = [domain.pages, domain.max_pages, domain.p2m.root().0, domain.p2m.changes()]
            .into_iter()
            .fold(1, mix);
        digest = mix(digest, u64::from(domain.shutdown.unwrap_or(u32::MAX)));
        // Words from all over the page that holds the secret: all of it would take longer than many a program.
        let mut word = [0; 8];
        for at in (0..PAGE_SIZE).step_by(SAMPLE) {
            self.memory.machine.read(Maddr(domain.secret.address().0 + at), &mut word);
            digest = mix_bytes(digest, &word);
        }
        digest
    }
}
