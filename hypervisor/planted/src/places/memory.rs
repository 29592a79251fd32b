//! Places of planted bugs: memory_op.

use crate::{Bug, Plants};

impl Plants {
    /// Whether the arrays of an exchange lie in the guest's part of the address space, below `end`. With the bug,
    /// only where the arrays begin is checked, not where the exchange goes on in the second.
    #[inline(never)]
    pub fn exchange_in_range(&mut self, right: bool, starts: [u64; 2], done: u64, end: u64) -> bool {
        let wrong = (starts[0] < end) & (starts[1] < end);
        let beyond = starts[1].wrapping_add(done.wrapping_mul(8)) >= end;
        self.choose_bool(Bug::ExchangeOob, wrong & beyond, right, wrong)
    }

    /// Whether the order of an extent is one that a domain may have. With the bug, any order is that is one at all: below
    /// `orders`.
    #[inline(never)]
    pub fn order_in_range(&mut self, right: bool, order: u32, orders: u32) -> bool {
        let wrong = order < orders;
        self.choose_bool(Bug::OrderUnbounded, wrong & !right, right, wrong)
    }

    /// Node whose memory is asked for. With the bug, the number in the flags is taken as it is, though there are only
    /// `nodes` of them.
    #[inline(never)]
    pub fn node_of(&mut self, right: u32, asked: u32, nodes: u32) -> u32 {
        let wild = (asked != right) & (asked >= nodes);
        self.choose(Bug::NodeOob, wild, right.into(), asked.into()) as u32
    }

    /// Whether a lock is kept after a frame was to be removed that is `gone` already: never, but for the bug.
    #[inline(never)]
    pub fn keeps_lock(&mut self, gone: bool) -> bool {
        self.choose_bool(Bug::LockLeak, gone, false, gone)
    }

    /// Whether an extent is taken away as a whole. With the bug, large ones are, wherever they begin.
    #[inline(never)]
    pub fn is_whole(&mut self, right: bool, order: u32) -> bool {
        let wrong = right | (order >= 3);
        self.choose_bool(Bug::PodOrder, wrong & !right, right, wrong)
    }

    /// Guest frame where a frame that moves to `new` was mapped. With the bug, the old place is forgotten.
    #[inline(never)]
    pub fn old_place(&mut self, old: u64, new: u64) -> u64 {
        self.choose(Bug::M2pDesync, old != new, old, new)
    }
}
