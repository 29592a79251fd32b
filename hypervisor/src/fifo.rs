//! Event channels of a domain in the FIFO ABI: the pages of its event array, its control blocks, and the tails of its
//! queues.
//!
//! The words of the array and the control blocks lie in the guest's memory, and the guest writes to them at any time. Only
//! bits of single words are taken from there; no link is ever followed. What a queue ends with is kept here.

use crate::address::{Maddr, Mfn};
use alloc::{boxed::Box, vec::Vec};
use xen_abi::event;

/// Event words in a page of the array.
pub(crate) const WORDS: u32 = 1024;
/// Most pages of an array (`EVTCHN_FIFO_NR_CHANNELS` words).
pub(crate) const MAX_PAGES: usize = (event::FIFO_NR_CHANNELS / WORDS) as usize;

/// The queues of a vCPU: its control block in the guest, and the last event of each queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Queues {
    /// Where the control block is. It does not leave its page.
    pub block: Maddr,
    /// Last event of each queue; 0: none.
    pub tails: [u32; event::FIFO_MAX_QUEUES as usize],
}

impl Queues {
    /// The word that says which queues are not empty.
    pub(crate) const fn ready(&self) -> Maddr {
        Maddr(self.block.0 + event::FIFO_READY as u64)
    }

    /// The word with the first event of a queue.
    pub(crate) const fn head(&self, priority: u8) -> Maddr {
        Maddr(self.block.0 + event::FIFO_HEAD as u64 + priority as u64 * 4)
    }
}

/// State of the FIFO ABI.
#[derive(Debug)]
pub(crate) struct Fifo {
    /// Pages of the event array. Each is referenced.
    pub array: Vec<Mfn>,
    /// Queues, by vCPU. The page of each control block is referenced.
    queues: Vec<Option<Box<Queues>>>,
}

impl Fifo {
    /// No page, no control block.
    pub(crate) fn new(vcpus: usize) -> Self {
        Self { array: Vec::new(), queues: (0..vcpus).map(|_| None).collect() }
    }

    /// Where the word of a port is, if the array has it.
    pub(crate) fn word(&self, port: u32) -> Option<Maddr> {
        let page = self.array.get((port / WORDS) as usize)?;
        Some(Maddr(page.address().0 + u64::from(port % WORDS) * 4))
    }

    /// The queues of a vCPU, if it has a control block.
    pub(crate) fn queues(&self, vcpu: u8) -> Option<&Queues> {
        self.queues.get(usize::from(vcpu))?.as_deref()
    }

    /// The queues of a vCPU, to be changed.
    pub(crate) fn queues_mut(&mut self, vcpu: u8) -> Option<&mut Queues> {
        self.queues.get_mut(usize::from(vcpu))?.as_deref_mut()
    }

    /// Gives a vCPU its control block.
    pub(crate) fn set_block(&mut self, vcpu: u8, block: Maddr) {
        // A domain of which the first vCPU was not yet there may have more of them now.
        let index = usize::from(vcpu);
        if self.queues.len() <= index {
            self.queues.resize(index + 1, None);
        }
        self.queues[index] = Some(Box::new(Queues { block, tails: Default::default() }));
    }

    /// All frames that are referenced, once per reference.
    pub(crate) fn frames(&self) -> impl Iterator<Item = Mfn> + '_ {
        let blocks = self.queues.iter().flatten().map(|queues| queues.block.frame());
        self.array.iter().copied().chain(blocks)
    }
}
