//! What the agent does in memory that Xen shares with it.

use coverage_hypercall::program::agent_op;

use super::{super::types::*, GRANTS_AT};

/// Entries of the first page of the grant table, as [`super::update_va_mapping`] lets it appear. Xen keeps the first eight.
const ENTRIES: &[Named] = &[
    ("ref8", GRANTS_AT + 8 * 8),
    ("ref9", GRANTS_AT + 9 * 8),
    ("ref10", GRANTS_AT + 10 * 8),
    ("ref11", GRANTS_AT + 11 * 8),
    ("ref0", GRANTS_AT),
];

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[Operation {
    name: "agent.write_grant",
    number: agent_op::WRITE,
    select: Select::Whole,
    args: &[field("address", int(8, Kind::Enum(ENTRIES))), field("entry", int(8, Kind::GrantEntry))],
    results: &[],
    returns: Returns::Anything,
}];
