//! Places of planted bugs: event channels.

use crate::{Bug, Plants};

impl Plants {
    /// Whether a port can be looked up. With the bug, that its bucket was never allocated is overlooked.
    #[inline(never)]
    pub fn port_exists(&mut self, right: bool) -> bool {
        self.choose_bool(Bug::PollUnalloc, !right, right, true)
    }

    /// Whether a vCPU has queues that an event can be put into. With the bug, that it was never given a control block is
    /// overlooked.
    #[inline(never)]
    pub fn has_queues(&mut self, right: bool) -> bool {
        self.choose_bool(Bug::FifoNocontrol, !right, right, true)
    }

    /// What a reset pays for closing a port. With the bug, nothing, though it takes `long`.
    #[inline(never)]
    pub fn price_of_close(&mut self, right: u64, long: bool) -> u64 {
        self.choose(Bug::ResetNonpreempt, long, right, 0)
    }

    /// Where a reset goes on to look for ports in use. With the bug, at the first one, again and again.
    #[inline(never)]
    pub fn search_from(&mut self, right: u32, first: u32) -> u32 {
        self.choose(Bug::ResetNonpreempt, false, right.into(), first.into()) as u32
    }
}
