//! `memory_op`: a domain's memory. Numbers: Xen `public/memory.h`.

use xen_abi::{hypercall, memory as abi};

use super::types::*;

const NUMBER: u32 = hypercall::MEMORY_OP as u32;

/// `XENMEMF_*`. The address bits take the low byte, the node the next one, where it is one more than the node.
const MEMF: &[Named] = &[
    ("addr32", 32),
    ("node0", 1 << 8),
    ("node1", 2 << 8),
    ("populate_on_demand", abi::MEMF_POPULATE_ON_DEMAND as u64),
    ("exact_node", abi::MEMF_EXACT_NODE as u64),
    ("vnode", abi::MEMF_VNODE as u64),
];
/// `XENMAPSPACE_*`.
const SPACES: &[Named] = &[
    ("shared_info", abi::MAPSPACE_SHARED_INFO as u64),
    ("grant_table", abi::MAPSPACE_GRANT_TABLE as u64),
    ("gmfn", abi::MAPSPACE_GMFN as u64),
    ("gmfn_range", abi::MAPSPACE_GMFN_RANGE as u64),
    ("gmfn_foreign", abi::MAPSPACE_GMFN_FOREIGN as u64),
    ("dev_mmio", abi::MAPSPACE_DEV_MMIO as u64),
];

/// `XENMEM_resource_*`.
const RESOURCES: &[Named] = &[
    ("ioreq_server", abi::RESOURCE_IOREQ_SERVER as u64),
    ("grant_table", abi::RESOURCE_GRANT_TABLE as u64),
    ("vmtrace_buf", 2),
];

/// A page of a grant table; status pages are numbered above a flag.
const TABLE_PAGE: Kind = Kind::UsualFlags(
    &[("status", abi::MAPIDX_GRANT_TABLE_STATUS)],
    &[0, 1, 2, 3, abi::MAPIDX_GRANT_TABLE_STATUS, abi::MAPIDX_GRANT_TABLE_STATUS | 1],
);
/// What of a space is mapped.
const INDEX: Type = int(
    8,
    Kind::By(
        "space",
        &[
            (abi::MAPSPACE_SHARED_INFO as u64, Kind::Const(0)),
            (abi::MAPSPACE_GRANT_TABLE as u64, TABLE_PAGE),
            (abi::MAPSPACE_GMFN as u64, Kind::Frame),
            (abi::MAPSPACE_GMFN_RANGE as u64, Kind::Frame),
            (abi::MAPSPACE_GMFN_FOREIGN as u64, Kind::Frame),
        ],
    ),
);

const FRAMES: Type = ptr_inout(&Type::Array(&FRAME));

const RESERVATION: StructType = StructType {
    name: "xen_memory_reservation",
    fields: &[
        field("extent_start", FRAMES),
        field("nr_extents", int(8, Kind::Len("extent_start"))),
        field("extent_order", int(4, Kind::Range(0, 4))),
        field("mem_flags", int(4, Kind::Flags(MEMF))),
        field("domid", DOMAIN),
    ],
};
/// A claim names no frames.
const CLAIM: StructType = StructType {
    name: "xen_memory_claim",
    fields: &[
        field("extent_start", int(8, Kind::Const(0))),
        field("nr_extents", int(8, Kind::Range(0, 2048))),
        field("extent_order", int(4, Kind::Const(0))),
        field("mem_flags", int(4, Kind::Const(0))),
        field("domid", TARGET),
    ],
};
const EXCHANGE: StructType = StructType {
    name: "xen_memory_exchange",
    fields: &[
        field("in", Type::Struct(&RESERVATION)),
        field("out", Type::Struct(&RESERVATION)),
        field("nr_exchanged", int(8, Kind::Progress)),
    ],
};
const ADD: StructType = StructType {
    name: "xen_add_to_physmap",
    fields: &[
        field("domid", DOMAIN),
        field("size", int(2, Kind::Const(0))),
        field("space", int(4, Kind::Enum(SPACES))),
        field("idx", INDEX),
        field("gpfn", HOLE),
    ],
};
/// Whose frames are mapped; nobody's, which is zero, where none of another domain are.
const FOREIGN: &[Named] = &[("d0", 0), ("d1", 1), ("d2", 2)];
const ADD_BATCH: StructType = StructType {
    name: "xen_add_to_physmap_batch",
    fields: &[
        field("domid", DOMAIN),
        field("space", int(2, Kind::Enum(SPACES))),
        field("size", int(2, Kind::Len("idxs"))),
        field("foreign_domid", int(2, Kind::Enum(FOREIGN))),
        field("idxs", ptr_in(&Type::Array(&INDEX))),
        field("gpfns", ptr_in(&Type::Array(&HOLE))),
        field("errs", ptr_out(&Type::Array(&U32))),
    ],
};
const REMOVE: StructType =
    StructType { name: "xen_remove_from_physmap", fields: &[field("domid", DOMAIN), field("gpfn", FRAME)] };
const DOMID: StructType = StructType { name: "domid", fields: &[field("domid", DOMAIN)] };
const MFN_LIST: StructType = StructType {
    name: "xen_machphys_mfn_list",
    fields: &[
        field("max_extents", int(4, Kind::Len("extent_start"))),
        field("extent_start", ptr_out(&Type::Array(&FRAME))),
        out("nr_extents", U32),
    ],
};
const MAPPING: StructType = StructType {
    name: "xen_machphys_mapping",
    fields: &[out("v_start", int(8, Kind::Hex)), out("v_end", int(8, Kind::Hex)), out("max_mfn", U64)],
};
const ACQUIRE: StructType = StructType {
    name: "xen_mem_acquire_resource",
    fields: &[
        field("domid", DOMAIN),
        field("type", int(2, Kind::Enum(RESOURCES))),
        field("id", int(4, Kind::Range(0, 1))),
        field("nr_frames", int(4, Kind::Len("frame_list"))),
        field("pad", int(4, Kind::Const(0))),
        field("frame", int(8, Kind::Range(0, 2))),
        field("frame_list", ptr_in(&Type::Array(&HOLE))),
    ],
};
/// An entry is 20 bytes long, without padding: address, length, type.
const MEMORY_MAP: StructType = StructType {
    name: "xen_memory_map",
    fields: &[field("nr_entries", int(4, Kind::Range(0, 8))), field("buffer", ptr_out(&Type::Bytes(160)))],
};
/// The map is a structure in the structure.
const FOREIGN_MAP: StructType = StructType {
    name: "xen_foreign_memory_map",
    fields: &[field("domid", DOMAIN), field("map", Type::Struct(&GIVEN_MAP))],
};
const GIVEN_MAP: StructType = StructType {
    name: "xen_memory_map",
    fields: &[field("nr_entries", int(4, Kind::Range(0, 8))), field("buffer", ptr_in(&Type::Bytes(160)))],
};
const POD_TARGET: StructType = StructType {
    name: "xen_pod_target",
    fields: &[
        field("target_pages", U64),
        out("tot_pages", U64),
        out("pod_cache_pages", U64),
        out("pod_entries", U64),
        field("domid", DOMAIN),
    ],
};

const fn op(
    name: &'static str,
    number: u32,
    args: &'static [Field],
    results: &'static [ResultSpec],
) -> Operation {
    Operation::sub(NUMBER, number as u64, name, args).giving(results).returning(Returns::Value)
}

const fn resumable(
    name: &'static str,
    value: u32,
    args: &'static [Field],
    results: &'static [ResultSpec],
) -> Operation {
    Operation {
        name,
        number: NUMBER,
        select: Select::FirstWithStart { value: value as u64, shift: abi::CMD_START_SHIFT },
        args,
        results,
        returns: Returns::Value,
    }
}

const START: Field = field("start", int(8, Kind::Const(0)));

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    resumable(
        "memory_op.increase_reservation",
        abi::INCREASE_RESERVATION,
        &[START, field("arg", ptr_in(&Type::Struct(&RESERVATION)))],
        &[gives("extent_start", Resource::Frame)],
    ),
    resumable(
        "memory_op.decrease_reservation",
        abi::DECREASE_RESERVATION,
        &[START, field("arg", ptr_in(&Type::Struct(&RESERVATION)))],
        &[],
    ),
    op("memory_op.maximum_ram_page", abi::MAXIMUM_RAM_PAGE, &[], &[returns(Resource::Frame)]),
    op(
        "memory_op.current_reservation",
        abi::CURRENT_RESERVATION,
        &[field("arg", ptr_in(&Type::Struct(&DOMID)))],
        &[returns(Resource::Number)],
    ),
    op(
        "memory_op.maximum_reservation",
        abi::MAXIMUM_RESERVATION,
        &[field("arg", ptr_in(&Type::Struct(&DOMID)))],
        &[returns(Resource::Number)],
    ),
    op(
        "memory_op.machphys_mfn_list",
        abi::MACHPHYS_MFN_LIST,
        &[field("arg", ptr_inout(&Type::Struct(&MFN_LIST)))],
        &[gives("extent_start", Resource::Frame)],
    ),
    resumable(
        "memory_op.populate_physmap",
        abi::POPULATE_PHYSMAP,
        &[START, field("arg", ptr_in(&Type::Struct(&RESERVATION)))],
        &[gives("extent_start", Resource::Frame)],
    ),
    op("memory_op.add_to_physmap", abi::ADD_TO_PHYSMAP, &[field("arg", ptr_in(&Type::Struct(&ADD)))], &[]),
    op(
        "memory_op.set_memory_map",
        abi::SET_MEMORY_MAP,
        &[field("arg", ptr_in(&Type::Struct(&FOREIGN_MAP)))],
        &[],
    ),
    op(
        "memory_op.set_pod_target",
        abi::SET_POD_TARGET,
        &[field("arg", ptr_inout(&Type::Struct(&POD_TARGET)))],
        &[],
    ),
    op(
        "memory_op.get_pod_target",
        abi::GET_POD_TARGET,
        &[field("arg", ptr_inout(&Type::Struct(&POD_TARGET)))],
        &[],
    ),
    op("memory_op.claim_pages", abi::CLAIM_PAGES, &[field("arg", ptr_in(&Type::Struct(&CLAIM)))], &[]),
    op("memory_op.memory_map", abi::MEMORY_MAP, &[field("arg", ptr_inout(&Type::Struct(&MEMORY_MAP)))], &[]),
    op(
        "memory_op.machine_memory_map",
        abi::MACHINE_MEMORY_MAP,
        &[field("arg", ptr_inout(&Type::Struct(&MEMORY_MAP)))],
        &[],
    ),
    op(
        "memory_op.exchange",
        abi::EXCHANGE,
        &[field("arg", ptr_inout(&Type::Struct(&EXCHANGE)))],
        &[gives("out", Resource::Frame)],
    ),
    op(
        "memory_op.machphys_mapping",
        abi::MACHPHYS_MAPPING,
        &[field("arg", ptr_out(&Type::Struct(&MAPPING)))],
        &[],
    ),
    op(
        "memory_op.maximum_gpfn",
        abi::MAXIMUM_GPFN,
        &[field("arg", ptr_in(&Type::Struct(&DOMID)))],
        &[returns(Resource::Frame)],
    ),
    op(
        "memory_op.remove_from_physmap",
        abi::REMOVE_FROM_PHYSMAP,
        &[field("arg", ptr_in(&Type::Struct(&REMOVE)))],
        &[],
    ),
    op(
        "memory_op.add_to_physmap_batch",
        abi::ADD_TO_PHYSMAP_BATCH,
        &[field("arg", ptr_in(&Type::Struct(&ADD_BATCH)))],
        &[],
    ),
    op(
        "memory_op.acquire_resource",
        abi::ACQUIRE_RESOURCE,
        &[field("arg", ptr_inout(&Type::Struct(&ACQUIRE)))],
        &[],
    ),
];
