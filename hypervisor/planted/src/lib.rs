//! Switches and canaries of the planted bugs.
//!
//! A planted bug is a deliberate mistake in the reference hypervisor, off unless the boot line names it. The code
//! that holds it asks this crate for a value: the right one while the bug is off, the wrong one while it is on. The
//! choice is arithmetic, not a branch, and this crate is left out of the coverage instrumentation, so that a build
//! with its bugs switched off shows a fuzzer nothing of them, and one with a bug switched on looks like a build that
//! simply has it. The canaries tell an evaluation, never the fuzzer, how often the place was reached and how often
//! the condition of the bug held.
#![no_std]

mod wild;

use core::hint::black_box;
use coverage_hypercall::harness::Canary;
pub use wild::{wild_read, wild_write};

/// A planted bug. The number is its index in the canaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Bug {
    /// `memory_op`: the resume offset of an exchange is trusted (after XSA-212).
    ExchangeOob = 0,
    /// `sched_op`: a poll looks into a bucket of event channels that was never allocated (after XSA-221).
    PollUnalloc = 1,
    /// `console_io`: the count is compared as a signed number.
    CountSign = 2,
    /// `multicall`: a permission is looked up once for all calls (after XSA-213).
    BatchPrivilege = 3,
    /// `memory_op`: a frame is moved without unmapping it where it was (after XSA-22).
    M2pDesync = 4,
    /// `sched_op`: the deadline of a poll wraps around and is never reached.
    PollHang = 5,
}

impl Bug {
    /// All of them, in the order of their canaries.
    pub const ALL: [Self; 6] = [
        Self::ExchangeOob,
        Self::PollUnalloc,
        Self::CountSign,
        Self::BatchPrivilege,
        Self::M2pDesync,
        Self::PollHang,
    ];

    /// Name on the boot line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ExchangeOob => "exchange-oob",
            Self::PollUnalloc => "poll-unalloc",
            Self::CountSign => "count-sign",
            Self::BatchPrivilege => "batch-privilege",
            Self::M2pDesync => "m2p-desync",
            Self::PollHang => "poll-hang",
        }
    }

    /// The bug of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

/// Which bugs are on, and how often each was met.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub struct Plants {
    canaries: [Canary; Bug::ALL.len()],
    on: u32,
}

impl Plants {
    /// All bugs off.
    pub const fn new() -> Self {
        Self { canaries: [Canary { reached: 0, triggered: 0 }; Bug::ALL.len()], on: 0 }
    }

    /// Switches a bug on.
    pub fn plant(&mut self, bug: Bug) {
        self.on |= 1 << bug as u32;
    }

    /// True if the bug is on. For set-up and reports only: a branch on it would show a fuzzer the switch.
    pub const fn is_planted(&self, bug: Bug) -> bool {
        self.on >> bug as u32 & 1 == 1
    }

    /// The canaries, indexed by [`Bug`].
    pub const fn canaries(&self) -> &[Canary; Bug::ALL.len()] {
        &self.canaries
    }

    /// `right` while the bug is off, `wrong` while it is on; counts the visit, and counts it as triggered if
    /// `condition` holds while the bug is on.
    #[inline(never)]
    fn choose(&mut self, bug: Bug, condition: bool, right: u64, wrong: u64) -> u64 {
        let on = black_box(self.on >> bug as u32 & 1);
        let canary = &mut self.canaries[bug as usize];
        canary.reached = canary.reached.wrapping_add(1);
        canary.triggered = canary.triggered.wrapping_add(on & u32::from(condition));
        let mask = u64::from(on).wrapping_neg();
        (wrong & mask) | (right & !mask)
    }

    fn choose_bool(&mut self, bug: Bug, condition: bool, right: bool, wrong: bool) -> bool {
        self.choose(bug, condition, u64::from(right), u64::from(wrong)) != 0
    }
}

/// The places that hold a bug. Each is given the right answer and what the wrong one is made of.
impl Plants {
    /// Whether the arrays of an exchange lie in the guest's part of the address space, below `end`. With the bug,
    /// only where the arrays begin is checked, not where the exchange goes on in the second.
    #[inline(never)]
    pub fn exchange_in_range(&mut self, right: bool, starts: [u64; 2], done: u64, end: u64) -> bool {
        let wrong = (starts[0] < end) & (starts[1] < end);
        let beyond = starts[1].wrapping_add(done.wrapping_mul(8)) >= end;
        self.choose_bool(Bug::ExchangeOob, wrong & beyond, right, wrong)
    }

    /// Whether a port can be looked up. With the bug, that its bucket was never allocated is overlooked.
    #[inline(never)]
    pub fn port_exists(&mut self, right: bool) -> bool {
        self.choose_bool(Bug::PollUnalloc, !right, right, true)
    }

    /// Bytes of the next piece of console text. With the bug, the `left` bytes are compared with the size of a piece as
    /// signed numbers; what comes of that is cut off at `room`, so that nothing but the canary is hurt.
    #[inline(never)]
    pub fn piece_len(&mut self, right: usize, left: u32, piece: usize, room: usize) -> usize {
        let wrong = ((left as i32).min(piece as i32) as u32 as usize).min(room);
        self.choose(Bug::CountSign, wrong > piece, right as u64, wrong as u64) as usize
    }

    /// Whether a call goes by the right that was looked up when its multicall began: never, but for the bug. `now` and
    /// `then` say whether the right is, and was, held; `batched` whether there is a multicall.
    #[inline(never)]
    pub fn use_stale_right(&mut self, batched: bool, then: bool, now: bool) -> bool {
        let stale = batched & then & !now;
        self.choose_bool(Bug::BatchPrivilege, stale, false, stale)
    }

    /// Guest frame where a frame that moves to `new` was mapped. With the bug, the old place is forgotten.
    #[inline(never)]
    pub fn old_place(&mut self, old: u64, new: u64) -> u64 {
        self.choose(Bug::M2pDesync, old != new, old, new)
    }

    /// The time after the next stretch of at most `stretch`. With the bug, every stretch is a whole one, and beyond the
    /// end of time it begins anew.
    #[inline(never)]
    pub fn next_time(&mut self, right: u64, now: u64, stretch: u64) -> u64 {
        let wrong = now.wrapping_add(stretch);
        self.choose(Bug::PollHang, wrong < now, right, wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_indices_agree() {
        for (index, bug) in Bug::ALL.into_iter().enumerate() {
            assert_eq!(bug as usize, index);
            assert_eq!(Bug::from_name(bug.name()), Some(bug));
        }
        assert_eq!(Bug::from_name("poll"), None);
    }

    #[test]
    fn a_planted_bug_chooses_the_wrong_value_and_counts() {
        let mut plants = Plants::new();
        assert_eq!(plants.choose(Bug::CountSign, true, 3, 9), 3);
        assert_eq!(plants.canaries()[2], Canary { reached: 1, triggered: 0 });
        plants.plant(Bug::CountSign);
        assert!(plants.is_planted(Bug::CountSign) && !plants.is_planted(Bug::PollHang));
        assert_eq!(plants.choose(Bug::CountSign, true, 3, 9), 9);
        assert!(plants.choose_bool(Bug::CountSign, false, false, true));
        assert_eq!(plants.canaries()[2], Canary { reached: 3, triggered: 1 });
        assert_eq!(plants.choose(Bug::PollHang, true, 3, 9), 3);
    }
}
