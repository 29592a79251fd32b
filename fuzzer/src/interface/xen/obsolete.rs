//! Numbers that mean nothing any more, or the same as another: Xen `public/xen.h`. A family of its own as the escape `raw` reaches too
//! much.

use super::super::types::*;

const fn op(name: &'static str, number: u32) -> Operation {
    const WORDS: &[Field] = &[
        field("a0", int(8, Kind::Range(0, 32))),
        field("a1", Type::Word),
        field("a2", Type::Word),
        field("a3", Type::Word),
    ];
    Operation { name, number, select: Select::Whole, args: WORDS, results: &[], returns: Returns::Anything }
}

/// `evtchn_op` and `physdev_op`: the command, and a union of what the new numbers have as arguments.
const OLD: StructType = StructType {
    name: "evtchn_op",
    fields: &[field("cmd", int(4, Kind::Range(0, 13))), field("u", Type::Blob(28))],
};
const fn old(name: &'static str, number: u32) -> Operation {
    const ARGS: &[Field] = &[field("op", ptr_inout(&Type::Struct(&OLD)))];
    Operation { name, number, select: Select::Whole, args: ARGS, results: &[], returns: Returns::Anything }
}

/// The numbers.
pub(super) const OPERATIONS: &[Operation] = &[
    old("obsolete.event_channel_op", 16),
    old("obsolete.physdev_op", 19),
    op("obsolete.xenoprof_op", 31),
    op("obsolete.tmem_op", 38),
    op("obsolete.paging_domctl_cont", 49),
    op("obsolete.arch_2", 50),
    op("obsolete.number_11", 11),
    op("obsolete.number_63", 63),
];
