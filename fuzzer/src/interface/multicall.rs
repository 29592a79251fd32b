//! `multicall`: several hypercalls at once (Xen `public/xen.h`, `multicall_entry`).

use xen_abi::hypercall;

use super::types::*;

const NUMBER: u32 = hypercall::MULTICALL as u32;

/// The one operation.
pub(super) const OPERATIONS: &[Operation] = &[Operation {
    name: "multicall.multicall",
    number: NUMBER,
    select: Select::Whole,
    args: &[
        field("call_list", ptr_inout(&Type::Array(&Type::Entry))),
        field("nr_calls", int(4, Kind::Len("call_list"))),
    ],
    results: &[],
    returns: Returns::Zero,
}];
