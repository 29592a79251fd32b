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

    /// Guest frame where a frame that moves to `new` was mapped. With the bug, the old place is forgotten.
    #[inline(never)]
    pub fn old_place(&mut self, old: u64, new: u64) -> u64 {
        self.choose(Bug::M2pDesync, old != new, old, new)
    }
}
