//! What `dm_op` has beyond the reference hypervisor. Numbers: Xen `public/hvm/dm_op.h`.

use xen_abi::hypercall;

use super::super::types::*;

const NUMBER: u32 = hypercall::DM_OP as u32;

/// Operations with one buffer: the structure, and its bytes.
macro_rules! requests {
    ($($name:literal = $number:literal, $layout:literal, [$($field:expr),*];)+) => {
        /// The sub-operations.
        pub(super) const OPERATIONS: &[Operation] = &[$({
            const BODY: StructType = StructType {
                name: $layout,
                fields: &[field("op", int(4, Kind::Const($number))), field("pad", ZERO32), $($field),*],
            };
            const BUFFERS: StructType = StructType {
                name: "xen_dm_op_buf",
                fields: &[field("request", ptr_inout(&Type::Struct(&BODY))), field("size", int(8, Kind::Const(BODY.size() as u64)))],
            };
            const ARGS: &[Field] = &[
                field("domid", TARGET),
                field("nr_bufs", int(4, Kind::Const(1))),
                field("bufs", ptr_in(&Type::Struct(&BUFFERS))),
            ];
            Operation { name: $name, number: NUMBER, select: Select::Whole, args: ARGS, results: &[], returns: Returns::Value }
        }),+];
    };
}

requests! {
    "dm_op.inject_msi" = 14, "xen_dm_op_inject_msi", [field("data", HEX32), field("pad1", ZERO32), field("addr", int(8, Kind::Enum(&[("lapic", 0xfee0_0000), ("zero", 0)])))];
    "dm_op.map_mem_type_to_ioreq_server" = 15, "xen_dm_op_map_mem_type_to_ioreq_server", [field("id", int(2, Kind::Range(0, 2))), field("type", int(2, Kind::Range(0, 4))), field("flags", int(4, Kind::Flags(&[("read", 1), ("write", 2)]))), field("opaque", int(8, Kind::Const(0)))];
    "dm_op.relocate_memory" = 17, "xen_dm_op_relocate_memory", [field("size", int(4, Kind::Range(0, 4))), field("pad1", ZERO32), field("src_gfn", HOLE), field("dst_gfn", HOLE)];
    "dm_op.pin_memory_cacheattr" = 18, "xen_dm_op_pin_memory_cacheattr", [field("start", HOLE), field("end", HOLE), field("type", int(4, Kind::Enum(&[("uc", 0), ("wc", 1), ("wt", 4), ("wp", 5), ("wb", 6), ("delete", 0xffff_ffff)]))), field("pad1", ZERO32)];
    "dm_op.set_irq_level" = 19, "xen_dm_op_set_irq_level", [field("irq", int(4, Kind::Range(0, 32))), field("level", YES8), field("pad1", Type::Blob(3))];
}
