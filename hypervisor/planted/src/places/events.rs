//! Places of planted bugs: event channels.

use crate::{Bug, Plants};

impl Plants {
    // ANCHOR: port_exists
    /// Whether a port can be looked up. With the bug, that its bucket was never allocated is overlooked.
    #[inline(never)]
    pub fn port_exists(&mut self, right: bool) -> bool {
        self.choose_bool(Bug::PollUnalloc, !right, right, true)
    }
    // ANCHOR_END: port_exists

    /// Whether a vCPU has queues that an event can be put into. With the bug, that it was never given a control block is
    /// overlooked.
    #[inline(never)]
    pub fn has_queues(&mut self, right: bool) -> bool {
        self.choose_bool(Bug::FifoNocontrol, !right, right, true)
    }

    /// What a reset pays for closing a port. With the bug, nothing.
    #[inline(never)]
    pub fn price_of_close(&mut self, right: u64) -> u64 {
        self.choose(Bug::ResetNonpreempt, false, right, 0)
    }

    /// Ports that a reset looks at again after it has closed one. With the bug, `all` of them, which is `too_much` once
    /// there were enough to close.
    #[inline(never)]
    pub fn ports_to_look_at(&mut self, all: u32, too_much: bool) -> u32 {
        self.choose(Bug::ResetNonpreempt, too_much, 0, all.into()) as u32
    }
}
