//! `mmuext_op`: page tables as a whole, and what goes with them. Numbers: Xen `public/xen.h`, `MMUEXT_*`.

use super::{
    super::{TABLES_GFN, types::*},
    PAGES,
};

/// `__HYPERVISOR_mmuext_op`.
const NUMBER: u32 = 26;

/// `struct mmuext_op` of one command.
const fn request(fields: &'static [Field]) -> StructType {
    StructType { name: "mmuext_op", fields }
}
const fn cmd(number: u64) -> Field {
    field("cmd", int(4, Kind::Const(number)))
}
const ADDRESS: Field = field("linear_addr", int(8, Kind::Enum(PAGES)));
const FRAME_FIELD: Field = field("mfn", FRAME);
const TABLE: Field = field("table", FRAME);
const NO_ARG1: Field = field("arg1", int(8, Kind::Const(0)));
const NO_ARG2: Field = field("arg2", int(8, Kind::Const(0)));
/// vCPUs, one bit each.
const MASK: Field = field("vcpumask", ptr_in(&Type::Bytes(8)));
const NULL_FRAME: &[Named] = &[("none", 0)];

macro_rules! extended {
    ($($name:literal = $number:literal, $first:expr, $second:expr;)+) => {
        /// The commands.
        pub(super) const OPERATIONS: &[Operation] = &[$({
            const REQUEST: StructType = request(&[cmd($number), $first, $second]);
            const ARGS: &[Field] = &[
                field("uops", ptr_in(&Type::Array(&Type::Struct(&REQUEST)))),
                field("count", int(4, Kind::Len("uops"))),
                field("pdone", ptr_out(&U32)),
                field("foreigndom", int(4, Kind::Domain)),
            ];
            Operation {
                name: $name,
                number: NUMBER,
                select: Select::Whole,
                args: ARGS,
                results: &[],
                returns: Returns::Zero,
            }
        }),+];
    };
}

extended! {
    "mmuext_op.pin_l1_table" = 0, TABLE, NO_ARG2;
    "mmuext_op.pin_l2_table" = 1, TABLE, NO_ARG2;
    "mmuext_op.pin_l3_table" = 2, TABLE, NO_ARG2;
    "mmuext_op.pin_l4_table" = 3, TABLE, NO_ARG2;
    "mmuext_op.unpin_table" = 4, TABLE, NO_ARG2;
    "mmuext_op.new_baseptr" = 5, field("mfn", int(8, Kind::Table)), NO_ARG2;
    "mmuext_op.own_baseptr" = 5, field("mfn", int(8, Kind::ThisFrame(TABLES_GFN))), NO_ARG2;
    "mmuext_op.tlb_flush_local" = 6, NO_ARG1, NO_ARG2;
    "mmuext_op.invlpg_local" = 7, ADDRESS, NO_ARG2;
    "mmuext_op.tlb_flush_multi" = 8, NO_ARG1, MASK;
    "mmuext_op.invlpg_multi" = 9, ADDRESS, MASK;
    "mmuext_op.tlb_flush_all" = 10, NO_ARG1, NO_ARG2;
    "mmuext_op.invlpg_all" = 11, ADDRESS, NO_ARG2;
    "mmuext_op.flush_cache" = 12, NO_ARG1, NO_ARG2;
    "mmuext_op.set_ldt" = 13, field("table", int(8, Kind::PageOf(""))), field("nr_ents", int(4, Kind::Enum(ENTRIES)));
    "mmuext_op.new_user_baseptr" = 15, field("mfn", int(8, Kind::Table)), NO_ARG2;
    "mmuext_op.no_user_baseptr" = 15, field("mfn", int(8, Kind::Enum(NULL_FRAME))), NO_ARG2;
    "mmuext_op.clear_page" = 16, FRAME_FIELD, NO_ARG2;
    "mmuext_op.copy_page" = 17, FRAME_FIELD, field("src_mfn", FRAME);
    "mmuext_op.flush_cache_global" = 18, NO_ARG1, NO_ARG2;
    "mmuext_op.mark_super" = 19, FRAME_FIELD, NO_ARG2;
    "mmuext_op.unmark_super" = 20, FRAME_FIELD, NO_ARG2;
}

/// Entries of a descriptor table.
const ENTRIES: &[Named] = &[("page", 512), ("few", 16), ("none", 0), ("all", 8192)];
