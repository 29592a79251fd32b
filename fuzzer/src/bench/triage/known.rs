//! The shortest known trigger of each planted bug.

use planted_bugs::Bug;

/// Hypercalls of the shortest trigger that is known, as [`crate::program::walk::hypercalls`] counts them. All are hand-written ones of the tests
/// (`tests/vm/planted*.rs`), but for three that campaigns found shorter: an unmapping that is done twice at once, one call that
/// fails where a lock is taken before, and a reset with ports of several kinds.
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
