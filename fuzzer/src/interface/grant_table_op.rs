//! `grant_table_op`: memory that domains let each other use. Numbers: Xen `public/grant_table.h`.
//!
//! Grants themselves are made by writing to the table: that is what `agent.grant_access` and its siblings do. A copy names
//! each end by a frame or by a grant, so there is a description for each pair.

use xen_abi::{grant as abi, hypercall};

use super::types::*;

const NUMBER: u32 = hypercall::GRANT_TABLE_OP as u32;

/// `GNTMAP_*`.
pub(super) const MAP_FLAGS: &[Named] = &[
    ("device_map", abi::GNTMAP_DEVICE_MAP as u64),
    ("host_map", abi::GNTMAP_HOST_MAP as u64),
    ("readonly", abi::GNTMAP_READONLY as u64),
    ("application_map", abi::GNTMAP_APPLICATION_MAP as u64),
    ("contains_pte", abi::GNTMAP_CONTAINS_PTE as u64),
];
/// Flags of mappings that are made.
pub(super) const MAPPINGS: &[u64] = &[
    abi::GNTMAP_HOST_MAP as u64,
    (abi::GNTMAP_HOST_MAP | abi::GNTMAP_READONLY) as u64,
    abi::GNTMAP_DEVICE_MAP as u64,
    (abi::GNTMAP_HOST_MAP | abi::GNTMAP_DEVICE_MAP) as u64,
];
/// `GNTCOPY_*`.
const COPY_FLAGS: &[Named] =
    &[("source_gref", abi::GNTCOPY_SOURCE_GREF as u64), ("dest_gref", abi::GNTCOPY_DEST_GREF as u64)];
/// `GNTTAB_CACHE_*`.
const CACHE_FLAGS: &[Named] = &[
    ("clean", abi::CACHE_CLEAN as u64),
    ("inval", abi::CACHE_INVAL as u64),
    ("source_gref", abi::CACHE_SOURCE_GREF as u64),
];

pub(super) const STATUS: Field = out("status", int(2, Kind::Plain));
pub(super) const COUNT: Field = field("count", int(4, Kind::Len("uop")));
pub(super) const ONE: Field = field("count", int(4, Kind::Const(1)));

const MAP: StructType = StructType {
    name: "gnttab_map_grant_ref",
    fields: &[
        field("host_addr", int(8, Kind::HolePage)),
        field("flags", int(4, Kind::UsualFlags(MAP_FLAGS, MAPPINGS))),
        field("ref", int(4, Kind::GrantRefOf("dom"))),
        field("dom", PEER),
        STATUS,
        out("handle", U32),
        out("dev_bus_addr", int(8, Kind::Hex)),
    ],
};
const UNMAP: StructType = StructType {
    name: "gnttab_unmap_grant_ref",
    fields: &[
        field("host_addr", int(8, Kind::MappedAt)),
        field("dev_bus_addr", int(8, Kind::BusAddress)),
        field("handle", int(4, Kind::GrantHandle)),
        STATUS,
    ],
};
const REPLACE: StructType = StructType {
    name: "gnttab_unmap_and_replace",
    fields: &[
        field("host_addr", int(8, Kind::MappedAt)),
        field("new_addr", int(8, Kind::MappedAt)),
        field("handle", int(4, Kind::GrantHandle)),
        STATUS,
    ],
};
const SETUP: StructType = StructType {
    name: "gnttab_setup_table",
    fields: &[
        field("dom", DOMAIN),
        field("nr_frames", int(4, Kind::Len("frame_list"))),
        STATUS,
        field("frame_list", ptr_out(&Type::Array(&int(8, Kind::Hex)))),
    ],
};
const FRAME_END: StructType = StructType {
    name: "gnttab_copy_frame",
    fields: &[field("frame", FRAME), field("domid", DOMAIN), field("offset", int(2, Kind::Range(0, 64)))],
};
const GRANT_END: StructType = StructType {
    name: "gnttab_copy_ref",
    fields: &[
        field("ref", int(8, Kind::GrantRefOf("domid"))),
        field("domid", PEER),
        field("offset", int(2, Kind::Range(0, 64))),
    ],
};

/// A copy between ends of these types.
const fn copy_fields(
    source: &'static StructType,
    dest: &'static StructType,
    usual: &'static [u64],
) -> [Field; 5] {
    [
        field("source", Type::Struct(source)),
        field("dest", Type::Struct(dest)),
        field("len", int(2, Kind::Range(1, 64))),
        field("flags", int(2, Kind::UsualFlags(COPY_FLAGS, usual))),
        STATUS,
    ]
}
const SOURCE: u64 = abi::GNTCOPY_SOURCE_GREF as u64;
const DEST: u64 = abi::GNTCOPY_DEST_GREF as u64;
const COPY_FRAMES: StructType =
    StructType { name: "gnttab_copy", fields: &copy_fields(&FRAME_END, &FRAME_END, &[0]) };
const COPY_FROM: StructType =
    StructType { name: "gnttab_copy", fields: &copy_fields(&GRANT_END, &FRAME_END, &[SOURCE]) };
const COPY_TO: StructType =
    StructType { name: "gnttab_copy", fields: &copy_fields(&FRAME_END, &GRANT_END, &[DEST]) };
const COPY_BETWEEN: StructType =
    StructType { name: "gnttab_copy", fields: &copy_fields(&GRANT_END, &GRANT_END, &[SOURCE | DEST]) };
const QUERY: StructType = StructType {
    name: "gnttab_query_size",
    fields: &[field("dom", DOMAIN), out("nr_frames", U32), out("max_nr_frames", U32), STATUS],
};
const SET_VERSION: StructType =
    StructType { name: "gnttab_set_version", fields: &[field("version", int(4, Kind::Range(1, 2)))] };
const STATUS_FRAMES: StructType = StructType {
    name: "gnttab_get_status_frames",
    fields: &[
        field("nr_frames", int(4, Kind::Len("frame_list"))),
        field("dom", DOMAIN),
        STATUS,
        field("frame_list", ptr_out(&Type::Array(&int(8, Kind::Hex)))),
    ],
};
const GET_VERSION: StructType = StructType {
    name: "gnttab_get_version",
    fields: &[field("dom", DOMAIN), field("pad", int(2, Kind::Const(0))), out("version", U32)],
};
const SWAP: StructType = StructType {
    name: "gnttab_swap_grant_ref",
    fields: &[field("ref_a", int(4, Kind::GrantRef)), field("ref_b", int(4, Kind::GrantRef)), STATUS],
};
const FLUSH: StructType = StructType {
    name: "gnttab_cache_flush",
    fields: &[
        field("dev_bus_addr", int(8, Kind::BusAddress)),
        field("offset", int(2, Kind::Range(0, 64))),
        field("length", int(2, Kind::Range(0, 64))),
        field("op", int(4, Kind::Flags(CACHE_FLAGS))),
    ],
};
const DUMP: StructType = StructType { name: "gnttab_dump_table", fields: &[field("dom", DOMAIN), STATUS] };
const TRANSFER: StructType = StructType {
    name: "gnttab_transfer",
    fields: &[
        field("mfn", FRAME),
        field("domid", PEER),
        field("ref", int(4, Kind::GrantRefOf("domid"))),
        STATUS,
    ],
};

/// A sub-operation with what it produces.
pub(super) const fn op(
    name: &'static str,
    number: u32,
    args: &'static [Field],
    results: &'static [ResultSpec],
) -> Operation {
    Operation::sub(NUMBER, number as u64, name, args).giving(results)
}

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op(
        "grant_table_op.map_grant_ref",
        abi::MAP_GRANT_REF,
        &[field("uop", ptr_inout(&Type::Array(&Type::Struct(&MAP)))), COUNT],
        &[
            gives("handle", Resource::GrantHandle),
            gives("host_addr", Resource::MappedAt),
            gives("dev_bus_addr", Resource::BusAddress),
        ],
    ),
    op(
        "grant_table_op.unmap_grant_ref",
        abi::UNMAP_GRANT_REF,
        &[field("uop", ptr_inout(&Type::Array(&Type::Struct(&UNMAP)))), COUNT],
        &[],
    ),
    op(
        "grant_table_op.setup_table",
        abi::SETUP_TABLE,
        &[field("uop", ptr_inout(&Type::Struct(&SETUP))), ONE],
        &[],
    ),
    op(
        "grant_table_op.dump_table",
        abi::DUMP_TABLE,
        &[field("uop", ptr_inout(&Type::Struct(&DUMP))), ONE],
        &[],
    ),
    op(
        "grant_table_op.transfer",
        abi::TRANSFER,
        &[field("uop", ptr_inout(&Type::Array(&Type::Struct(&TRANSFER)))), COUNT],
        &[],
    ),
    op(
        "grant_table_op.copy_frames",
        abi::COPY,
        &[field("uop", ptr_inout(&Type::Array(&Type::Struct(&COPY_FRAMES)))), COUNT],
        &[],
    ),
    op(
        "grant_table_op.copy_from_grant",
        abi::COPY,
        &[field("uop", ptr_inout(&Type::Array(&Type::Struct(&COPY_FROM)))), COUNT],
        &[],
    ),
    op(
        "grant_table_op.copy_to_grant",
        abi::COPY,
        &[field("uop", ptr_inout(&Type::Array(&Type::Struct(&COPY_TO)))), COUNT],
        &[],
    ),
    op(
        "grant_table_op.copy_between_grants",
        abi::COPY,
        &[field("uop", ptr_inout(&Type::Array(&Type::Struct(&COPY_BETWEEN)))), COUNT],
        &[],
    ),
    op(
        "grant_table_op.query_size",
        abi::QUERY_SIZE,
        &[field("uop", ptr_inout(&Type::Struct(&QUERY))), ONE],
        &[],
    ),
    op(
        "grant_table_op.unmap_and_replace",
        abi::UNMAP_AND_REPLACE,
        &[field("uop", ptr_inout(&Type::Array(&Type::Struct(&REPLACE)))), COUNT],
        &[],
    ),
    op(
        "grant_table_op.set_version",
        abi::SET_VERSION,
        &[field("uop", ptr_inout(&Type::Struct(&SET_VERSION))), ONE],
        &[],
    ),
    op(
        "grant_table_op.get_status_frames",
        abi::GET_STATUS_FRAMES,
        &[field("uop", ptr_inout(&Type::Struct(&STATUS_FRAMES))), ONE],
        &[],
    ),
    op(
        "grant_table_op.get_version",
        abi::GET_VERSION,
        &[field("uop", ptr_inout(&Type::Struct(&GET_VERSION))), ONE],
        &[],
    ),
    op(
        "grant_table_op.swap_grant_ref",
        abi::SWAP_GRANT_REF,
        &[field("uop", ptr_inout(&Type::Array(&Type::Struct(&SWAP)))), COUNT],
        &[],
    ),
    op(
        "grant_table_op.cache_flush",
        abi::CACHE_FLUSH,
        &[field("uop", ptr_in(&Type::Array(&Type::Struct(&FLUSH)))), COUNT],
        &[],
    ),
];
