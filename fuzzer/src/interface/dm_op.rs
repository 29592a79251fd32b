//! `dm_op`: what a device model does to its domain. Numbers: Xen `public/hvm/dm_op.h`.
//!
//! The buffers are an array of addresses and lengths. Each operation describes it as a structure: the first buffer with its
//! structure, and the second one where the operation has one.

use xen_abi::{dm as abi, hvm::memory, hypercall};

use super::types::*;

const NUMBER: u32 = hypercall::DM_OP as u32;

const RANGES: &[Named] = &[("port", 0), ("memory", 1), ("pci", 2)];
const TYPES: &[Named] = &[
    ("ram_rw", memory::RAM_RW as u64),
    ("ram_ro", memory::RAM_RO as u64),
    ("mmio_dm", memory::MMIO_DM as u64),
    ("unused", memory::UNUSED as u64),
    ("ioreq_server", memory::IOREQ_SERVER as u64),
];
const INFO_FLAGS: &[Named] = &[("no_gfns", abi::NO_GFNS as u64)];
/// A server: few numbers, so that calls meet each other's.
const SERVER: Type = int(2, Kind::Range(0, 2));
const LEVEL: Type = int(1, Kind::Range(0, 1));

/// An operation: its structure, and the array of one buffer or two that hold it.
macro_rules! request {
    ($body:ident, $buffers:ident, $name:literal, $op:expr, $size:expr, [$($field:expr),* $(,)?]) => {
        request!($body, $buffers, $name, $op, $size, [$($field),*], []);
    };
    ($body:ident, $buffers:ident, $name:literal, $op:expr, $size:expr, [$($field:expr),* $(,)?], [$($more:expr),*]) => {
        const $body: StructType = StructType {
            name: $name,
            fields: &[
                field("op", int(4, Kind::Const($op as u64))),
                field("pad", int(4, Kind::Const(0))),
                $($field),*
            ],
        };
        const $buffers: StructType = StructType {
            name: "xen_dm_op_bufs",
            fields: &[
                field("request", ptr_inout(&Type::Struct(&$body))),
                field("size", int(8, Kind::Const($size))),
                $($more),*
            ],
        };
    };
}

request!(
    CREATE,
    CREATE_BUFS,
    "xen_dm_op_create_ioreq_server",
    abi::CREATE_IOREQ_SERVER,
    16,
    [
        field("handle_bufioreq", int(1, Kind::Range(0, 2))),
        out("pad1", Type::Blob(3)),
        out("id", SERVER),
        out("tail", int(2, Kind::Plain)),
    ]
);
request!(
    INFO,
    INFO_BUFS,
    "xen_dm_op_get_ioreq_server_info",
    abi::GET_IOREQ_SERVER_INFO,
    32,
    [
        field("id", SERVER),
        field("flags", int(2, Kind::Flags(INFO_FLAGS))),
        out("bufioreq_port", U32),
        out("ioreq_gfn", FRAME),
        out("bufioreq_gfn", FRAME),
    ]
);
request!(
    MAP,
    MAP_BUFS,
    "xen_dm_op_ioreq_server_range",
    abi::MAP_IO_RANGE,
    32,
    [
        field("id", SERVER),
        field("pad1", int(2, Kind::Const(0))),
        field("type", int(4, Kind::Enum(RANGES))),
        field("start", int(8, Kind::Range(0, 8))),
        field("end", int(8, Kind::Range(0, 16))),
    ]
);
request!(
    UNMAP,
    UNMAP_BUFS,
    "xen_dm_op_ioreq_server_range",
    abi::UNMAP_IO_RANGE,
    32,
    [
        field("id", SERVER),
        field("pad1", int(2, Kind::Const(0))),
        field("type", int(4, Kind::Enum(RANGES))),
        field("start", int(8, Kind::Range(0, 8))),
        field("end", int(8, Kind::Range(0, 16))),
    ]
);
request!(
    STATE,
    STATE_BUFS,
    "xen_dm_op_set_ioreq_server_state",
    abi::SET_IOREQ_SERVER_STATE,
    12,
    [field("id", SERVER), field("enabled", LEVEL), field("pad1", int(1, Kind::Const(0))),]
);
request!(
    DESTROY,
    DESTROY_BUFS,
    "xen_dm_op_destroy_ioreq_server",
    abi::DESTROY_IOREQ_SERVER,
    12,
    [field("id", SERVER), field("pad1", int(2, Kind::Const(0))),]
);
request!(
    VRAM,
    VRAM_BUFS,
    "xen_dm_op_track_dirty_vram",
    abi::TRACK_DIRTY_VRAM,
    24,
    [
        field("nr", int(4, Kind::Range(0, 256))),
        field("pad1", int(4, Kind::Const(0))),
        field("first_pfn", FRAME)
    ],
    [field("bitmap", ptr_out(&Type::Bytes(32))), field("bitmap_size", int(8, Kind::Len("bitmap")))]
);
request!(
    INTX,
    INTX_BUFS,
    "xen_dm_op_set_pci_intx_level",
    abi::SET_PCI_INTX_LEVEL,
    14,
    [
        field("domain", int(2, Kind::Const(0))),
        field("bus", int(1, Kind::Const(0))),
        field("device", int(1, Kind::Range(0, 31))),
        field("intx", int(1, Kind::Range(0, 3))),
        field("level", LEVEL),
    ]
);
request!(
    ISA,
    ISA_BUFS,
    "xen_dm_op_set_isa_irq_level",
    abi::SET_ISA_IRQ_LEVEL,
    10,
    [field("isa_irq", int(1, Kind::Range(0, 15))), field("level", LEVEL),]
);
request!(
    LINK,
    LINK_BUFS,
    "xen_dm_op_set_pci_link_route",
    abi::SET_PCI_LINK_ROUTE,
    10,
    [field("link", int(1, Kind::Range(0, 3))), field("isa_irq", int(1, Kind::Range(0, 15))),]
);
const EXTENT: StructType = StructType {
    name: "xen_dm_op_modified_memory_extent",
    fields: &[
        field("nr", int(4, Kind::Range(1, 8))),
        field("pad", int(4, Kind::Const(0))),
        field("first_pfn", FRAME),
    ],
};
request!(
    MODIFIED,
    MODIFIED_BUFS,
    "xen_dm_op_modified_memory",
    abi::MODIFIED_MEMORY,
    16,
    [field("nr_extents", int(4, Kind::Range(0, 2))), field("opaque", int(4, Kind::Const(0)))],
    [
        field("extents", ptr_in(&Type::Array(&Type::Struct(&EXTENT)))),
        field("extents_size", int(8, Kind::Range(16, 64)))
    ]
);
request!(
    MEM_TYPE,
    MEM_TYPE_BUFS,
    "xen_dm_op_set_mem_type",
    abi::SET_MEM_TYPE,
    24,
    [
        field("nr", int(4, Kind::Range(0, 4))),
        field("mem_type", int(2, Kind::Enum(TYPES))),
        field("pad1", int(2, Kind::Const(0))),
        field("first_pfn", FRAME),
    ]
);
request!(
    INJECT,
    INJECT_BUFS,
    "xen_dm_op_inject_event",
    abi::INJECT_EVENT,
    32,
    [
        field("vcpuid", VCPU),
        field("vector", int(1, Kind::Range(0, 255))),
        field("type", int(1, Kind::Range(0, 6))),
        field("insn_len", int(1, Kind::Range(0, 2))),
        field("pad0", int(1, Kind::Const(0))),
        field("error_code", U32),
        field("pad1", int(4, Kind::Const(0))),
        field("cr2", int(8, Kind::Hex)),
    ]
);
request!(
    SHUTDOWN,
    SHUTDOWN_BUFS,
    "xen_dm_op_remote_shutdown",
    abi::REMOTE_SHUTDOWN,
    12,
    [field("reason", int(4, Kind::Range(0, 5))),]
);
request!(VCPUS, VCPUS_BUFS, "xen_dm_op_nr_vcpus", abi::NR_VCPUS, 12, [out("vcpus", U32)]);

const fn op(name: &'static str, args: &'static [Field], results: &'static [ResultSpec]) -> Operation {
    Operation { name, number: NUMBER, select: Select::Whole, args, results, returns: Returns::Zero }
}

/// The registers of an operation with so many buffers.
macro_rules! args {
    ($count:literal, $buffers:ident) => {
        &[
            field("domid", TARGET),
            field("nr_bufs", int(4, Kind::Const($count))),
            field("bufs", ptr_in(&Type::Struct(&$buffers))),
        ]
    };
}

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op("dm_op.create_ioreq_server", args!(1, CREATE_BUFS), &[gives("id", Resource::Number)]),
    op("dm_op.get_ioreq_server_info", args!(1, INFO_BUFS), &[gives("ioreq_gfn", Resource::Frame)]),
    op("dm_op.map_io_range_to_ioreq_server", args!(1, MAP_BUFS), &[]),
    op("dm_op.unmap_io_range_from_ioreq_server", args!(1, UNMAP_BUFS), &[]),
    op("dm_op.set_ioreq_server_state", args!(1, STATE_BUFS), &[]),
    op("dm_op.destroy_ioreq_server", args!(1, DESTROY_BUFS), &[]),
    op("dm_op.track_dirty_vram", args!(2, VRAM_BUFS), &[]),
    op("dm_op.set_pci_intx_level", args!(1, INTX_BUFS), &[]),
    op("dm_op.set_isa_irq_level", args!(1, ISA_BUFS), &[]),
    op("dm_op.set_pci_link_route", args!(1, LINK_BUFS), &[]),
    op("dm_op.modified_memory", args!(2, MODIFIED_BUFS), &[]),
    op("dm_op.set_mem_type", args!(1, MEM_TYPE_BUFS), &[]),
    op("dm_op.inject_event", args!(1, INJECT_BUFS), &[]),
    op("dm_op.remote_shutdown", args!(1, SHUTDOWN_BUFS), &[]),
    op("dm_op.nr_vcpus", args!(1, VCPUS_BUFS), &[]),
];
