//! Argo rings of a domain: messages that others put into its memory.
//!
//! The pages of a ring are the domain's own and stay writable to it. Each is referenced as long as the ring is registered. Where
//! the next message goes is kept here; where the domain reads on is taken from the ring, and made to fit.

use crate::address::{Maddr, Mfn, PAGE_SHIFT, PAGE_SIZE};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use xen_abi::{DomId, argo};

/// Most rings of a domain.
pub(crate) const MAX_RINGS: usize = 16;
/// Most pages of all rings of a domain.
pub(crate) const MAX_PAGES: usize = 256;
/// Most domains that wait for space in a ring.
pub(crate) const MAX_WAITING: usize = 8;
/// Bytes before the content of a message.
pub(crate) const HEADER: u32 = size_of::<argo::MessageHeader>() as u32;

/// Bytes that a message of so many bytes takes, without its header.
pub(crate) const fn round_up(len: u32) -> u32 {
    len.saturating_add(argo::MSG_SLOT_SIZE - 1) & !(argo::MSG_SLOT_SIZE - 1)
}

/// Pages of a ring for so many bytes of messages.
pub(crate) const fn pages(len: u32) -> u32 {
    ((len as u64 + argo::RING_HEADER_LEN as u64).div_ceil(PAGE_SIZE)) as u32
}

/// A ring: its port, and who may send to it.
pub(crate) type RingId = (u32, DomId);

/// A ring.
#[derive(Debug)]
pub(crate) struct Ring {
    /// Its pages.
    pub pages: Vec<Mfn>,
    /// Bytes for messages, a multiple of the size of a slot.
    pub len: u32,
    /// Where the next message goes: below `len`, a multiple of the size of a slot.
    pub tx: u32,
    /// Who is to be told once there is space, and how much.
    pub waiting: BTreeMap<DomId, u32>,
}

impl Ring {
    /// Where a byte of the ring is, its header included.
    pub(crate) fn byte(&self, at: u32) -> Option<Maddr> {
        let page = self.pages.get((at >> PAGE_SHIFT) as usize)?;
        Some(Maddr(page.address().0 + u64::from(at) % PAGE_SIZE))
    }

    /// Where the domain reads on, made of what it wrote.
    pub(crate) const fn sanitize(&self, rx: u32) -> u32 {
        let rx = round_up(rx);
        if rx >= self.len { 0 } else { rx }
    }

    /// Bytes that are free when the domain reads on at `rx`.
    pub(crate) const fn free(&self, rx: u32) -> u32 {
        if rx > self.tx { rx - self.tx } else { rx + self.len - self.tx }
    }

    /// Most bytes of a message that fits when the domain reads on at `rx`.
    pub(crate) const fn space(&self, rx: u32) -> u32 {
        self.free(rx).saturating_sub(HEADER + argo::MSG_SLOT_SIZE)
    }
}

/// The rings of a domain.
#[derive(Debug, Default)]
pub(crate) struct Argo {
    /// All of them.
    pub rings: BTreeMap<RingId, Ring>,
}

impl Argo {
    /// There is none.
    pub(crate) const fn new() -> Self {
        Self { rings: BTreeMap::new() }
    }

    /// The ring that a message of `sender` to a port goes to: the one for it alone, or the one for all.
    pub(crate) fn find(&self, port: u32, sender: DomId) -> Option<RingId> {
        [(port, sender), (port, argo::DOMID_ANY)].into_iter().find(|id| self.rings.contains_key(id))
    }

    /// Pages of all rings.
    pub(crate) fn pages(&self) -> usize {
        self.rings.values().map(|ring| ring.pages.len()).sum()
    }

    /// References that the rings hold to a frame.
    pub(crate) fn uses(&self, mfn: Mfn) -> u32 {
        self.rings.values().flat_map(|ring| &ring.pages).filter(|page| **page == mfn).count() as u32
    }

    /// Domains that wait for space in a ring and now have it, given where each ring's domain reads on.
    pub(crate) fn take_served(&mut self, mut rx: impl FnMut(&Ring) -> u32) -> BTreeSet<DomId> {
        let mut served = BTreeSet::new();
        for ring in self.rings.values_mut() {
            let space = ring.space(rx(ring));
            ring.waiting.retain(|domain, len| {
                let wait = *len > space;
                if !wait {
                    served.insert(*domain);
                }
                wait
            });
        }
        served
    }
}
