//! `argo_op`: messages between domains. Numbers: Xen `public/argo.h`.

use xen_abi::{argo as abi, hypercall};

use super::types::*;

const NUMBER: u32 = hypercall::ARGO_OP as u32;

/// Ports on which domains meet.
const APORT: Type = int(4, Kind::Range(0, 3));
/// `XEN_ARGO_REGISTER_FLAG_*`.
const REGISTER_FLAGS: &[Named] = &[("fail_exist", abi::REGISTER_FLAG_FAIL_EXIST as u64)];
/// Sizes of rings that fill so many pages.
const LENGTHS: &[Named] = &[("one_page", 4096 - 64), ("two_pages", 8192 - 64), ("tiny", 48)];

const ADDR: StructType = StructType {
    name: "xen_argo_addr",
    fields: &[field("aport", APORT), field("domain_id", PEER), field("pad", int(2, Kind::Const(0)))],
};
const SOURCE: StructType = StructType {
    name: "xen_argo_addr",
    fields: &[
        field("aport", APORT),
        field("domain_id", int(2, Kind::Const(abi::DOMID_ANY as u64))),
        field("pad", int(2, Kind::Const(0))),
    ],
};
const SEND_ADDR: StructType = StructType {
    name: "xen_argo_send_addr",
    fields: &[field("src", Type::Struct(&SOURCE)), field("dst", Type::Struct(&ADDR))],
};
const IOV: StructType = StructType {
    name: "xen_argo_iov",
    fields: &[
        field("iov_hnd", ptr_in(&Type::Bytes(64))),
        field("iov_len", int(4, Kind::Len("iov_hnd"))),
        field("pad", int(4, Kind::Const(0))),
    ],
};
const REGISTER: StructType = StructType {
    name: "xen_argo_register_ring",
    fields: &[
        field("aport", APORT),
        field("partner_id", PEER),
        field("pad", int(2, Kind::Const(0))),
        field("len", int(4, Kind::Enum(LENGTHS))),
    ],
};
const UNREGISTER: StructType = StructType {
    name: "xen_argo_unregister_ring",
    fields: &[field("aport", APORT), field("partner_id", PEER), field("pad", int(2, Kind::Const(0)))],
};
/// The questions follow their number: two of them, of which fewer may be asked.
const RING_DATA: StructType = StructType {
    name: "xen_argo_ring_data",
    fields: &[
        field("nent", int(4, Kind::Range(0, 2))),
        field("pad", int(4, Kind::Const(0))),
        field("first", Type::Struct(&ENTRY)),
        field("second", Type::Struct(&ENTRY)),
    ],
};
const ENTRY: StructType = StructType {
    name: "xen_argo_ring_data_ent",
    fields: &[
        field("ring", Type::Struct(&ADDR)),
        out("flags", int(2, Kind::Hex)),
        field("pad", int(2, Kind::Const(0))),
        field("space_required", int(4, Kind::Range(0, 8192))),
        out("max_message_size", U32),
    ],
};

const fn op(name: &'static str, number: u32, args: &'static [Field], returns: Returns) -> Operation {
    Operation::sub(NUMBER, number as u64, name, args).returning(returns)
}

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op(
        "argo_op.register_ring",
        abi::REGISTER_RING,
        &[
            field("ring", ptr_in(&Type::Struct(&REGISTER))),
            field("gfns", ptr_in(&Type::Array(&FRAME))),
            field("npage", int(4, Kind::Len("gfns"))),
            field("flags", int(4, Kind::Flags(REGISTER_FLAGS))),
        ],
        Returns::Zero,
    ),
    op(
        "argo_op.unregister_ring",
        abi::UNREGISTER_RING,
        &[field("ring", ptr_in(&Type::Struct(&UNREGISTER)))],
        Returns::Zero,
    ),
    op(
        "argo_op.sendv",
        abi::SENDV,
        &[
            field("addr", ptr_in(&Type::Struct(&SEND_ADDR))),
            field("iovs", ptr_in(&Type::Array(&Type::Struct(&IOV)))),
            field("niov", int(4, Kind::Len("iovs"))),
            field("message_type", U32),
        ],
        Returns::Value,
    ),
    op("argo_op.notify", abi::NOTIFY, &[field("data", ptr_inout(&Type::Struct(&RING_DATA)))], Returns::Zero),
];
