//! `set_timer_op`: the singleshot timer of the calling virtual processor.

use xen_abi::hypercall;

use super::types::*;

/// System time in nanoseconds; 0 stops the timer.
const TIMEOUTS: &[Named] = &[("past", 1), ("stop", 0), ("ms", 1_000_000), ("second", 1_000_000_000)];

/// The one operation.
pub(super) const OPERATIONS: &[Operation] = &[Operation {
    name: "set_timer_op.set",
    number: hypercall::SET_TIMER_OP as u32,
    select: Select::Whole,
    args: &[field("timeout", int(8, Kind::Enum(TIMEOUTS)))],
    results: &[],
    returns: Returns::Zero,
}];
