//! The shortest known trigger of each planted bug.

use planted_bugs::Bug;

/// Hypercalls of the shortest trigger that is known, as [`crate::program::walk::hypercalls`] counts them. They are those of the tests
/// (`tests/vm/planted*.rs`, without calls that only show what does no harm), but for four bugs of which campaigns found shorter ones:
/// `poll-hang`, `lock-leak`, `unmap-underflow` and `reset-nonpreempt`.
pub const fn shortest(bug: Bug) -> usize {
    match bug {
        Bug::ExchangeOob
        | Bug::PollUnalloc
        | Bug::CountSign
        | Bug::M2pDesync
        | Bug::NodeOob
        | Bug::OrderUnbounded
        | Bug::RefLeak
        | Bug::PodOrder
        | Bug::GrantUninit
        | Bug::TimerOverflow
        | Bug::StackLeak
        | Bug::SelfDeadlock
        | Bug::PollHang
        | Bug::LockLeak => 1,
        Bug::BatchPrivilege | Bug::RetvalSign => 2,
        Bug::StatusFreed | Bug::TransitiveCopy | Bug::UnmapUnderflow => 3,
        Bug::FifoNocontrol => 4,
        Bug::ResetNonpreempt => 10,
    }
}
