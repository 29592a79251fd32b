//! The escape: any hypercall number, any six words.

use super::types::*;

/// The one operation. Numbers beyond Xen's last one (55) are for the dispatcher to refuse.
pub(super) const OPERATIONS: &[Operation] = &[Operation {
    name: "raw.call",
    number: 0,
    select: Select::Raw,
    args: &[
        field("number", int(4, Kind::Range(0, 63))),
        field("a0", Type::Word),
        field("a1", Type::Word),
        field("a2", Type::Word),
        field("a3", Type::Word),
        field("a4", Type::Word),
        field("a5", Type::Word),
    ],
    results: &[returns(Resource::Number)],
    returns: Returns::Anything,
}];
