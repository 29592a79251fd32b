//! Switches and canaries of the planted bugs.
//!
//! A planted bug is a deliberate mistake in the reference hypervisor, off unless the boot line names it. The code
//! that holds it asks this crate for a value: the right one while the bug is off, the wrong one while it is on. The
//! choice is arithmetic, not a branch, and this crate is left out of the coverage instrumentation, so that a build
//! with its bugs switched off shows a fuzzer nothing of them, and one with a bug switched on looks like a build that
//! simply has it. The canaries tell an evaluation, never the fuzzer, how often the place was reached and how often
//! the condition of the bug held.
#![no_std]

mod places;
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
    /// `memory_op`: the node of an allocation indexes a table unchecked (after XSA-231).
    NodeOob = 6,
    /// `memory_op`: the order of an extent is not limited (after XSA-158).
    OrderUnbounded = 7,
    /// `memory_op`: an error path keeps a lock (after XSA-277).
    LockLeak = 8,
    /// `memory_op`: an error path keeps a reference (after XSA-334).
    RefLeak = 9,
    /// `memory_op`: a misaligned extent of a higher order is accepted (after XSA-388).
    PodOrder = 10,
    /// `grant_table_op`: a table is used before it was set up (after XSA-134).
    GrantUninit = 11,
    /// `grant_table_op`: the second part of a mapping takes the first one's reference along again (after XSA-224).
    UnmapUnderflow = 12,
    /// `grant_table_op`: status frames are freed while they are mapped (after XSA-255).
    StatusFreed = 13,
    /// `grant_table_op`: a transitive grant is followed without limit (after XSA-226).
    TransitiveCopy = 14,
    /// `grant_table_op`: an error is reported with the wrong sign (after XSA-316).
    RetvalSign = 15,
    /// `event_channel_op`: an event is queued for a vCPU without a control block (after XSA-107).
    FifoNocontrol = 16,
    /// `event_channel_op`: a reset closes all ports at once (after XSA-344).
    ResetNonpreempt = 17,
    /// `vcpu_op`: the deadline of a periodic timer wraps around (after XSA-20).
    TimerOverflow = 18,
    /// `xen_version`: an output is not initialised in full (after XSA-122).
    StackLeak = 19,
    /// `domctl`: a domain may pause itself (after XSA-127).
    SelfDeadlock = 20,
}

impl Bug {
    /// All of them, in the order of their canaries.
    pub const ALL: [Self; 21] = [
        Self::ExchangeOob,
        Self::PollUnalloc,
        Self::CountSign,
        Self::BatchPrivilege,
        Self::M2pDesync,
        Self::PollHang,
        Self::NodeOob,
        Self::OrderUnbounded,
        Self::LockLeak,
        Self::RefLeak,
        Self::PodOrder,
        Self::GrantUninit,
        Self::UnmapUnderflow,
        Self::StatusFreed,
        Self::TransitiveCopy,
        Self::RetvalSign,
        Self::FifoNocontrol,
        Self::ResetNonpreempt,
        Self::TimerOverflow,
        Self::StackLeak,
        Self::SelfDeadlock,
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
            Self::NodeOob => "node-oob",
            Self::OrderUnbounded => "order-unbounded",
            Self::LockLeak => "lock-leak",
            Self::RefLeak => "ref-leak",
            Self::PodOrder => "pod-order",
            Self::GrantUninit => "grant-uninit",
            Self::UnmapUnderflow => "unmap-underflow",
            Self::StatusFreed => "status-freed",
            Self::TransitiveCopy => "transitive-copy",
            Self::RetvalSign => "retval-sign",
            Self::FifoNocontrol => "fifo-nocontrol",
            Self::ResetNonpreempt => "reset-nonpreempt",
            Self::TimerOverflow => "timer-overflow",
            Self::StackLeak => "stack-leak",
            Self::SelfDeadlock => "self-deadlock",
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
    on: u64,
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
        canary.triggered = canary.triggered.wrapping_add(on as u32 & u32::from(condition));
        let mask = on.wrapping_neg();
        (wrong & mask) | (right & !mask)
    }

    fn choose_bool(&mut self, bug: Bug, condition: bool, right: bool, wrong: bool) -> bool {
        self.choose(bug, condition, u64::from(right), u64::from(wrong)) != 0
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
