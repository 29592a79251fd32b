//! What `memory_op` has beyond the reference hypervisor. Numbers: Xen `public/memory.h`.

use xen_abi::hypercall;

use super::{super::types::*, one_pointer};

const NUMBER: u32 = hypercall::MEMORY_OP as u32;

const ACCESSES: &[Named] = &[
    ("n", 0),
    ("r", 1),
    ("w", 2),
    ("rw", 3),
    ("x", 4),
    ("rx", 5),
    ("rwx", 7),
    ("rx2rw", 8),
    ("default", 10),
];
const SHARING_HEAD: [Field; 2] = [field("op", int(1, Kind::Range(0, 10))), field("domain", TARGET)];

macro_rules! memory {
    ($($name:literal = $number:literal, $layout:expr;)+) => {
        /// The sub-operations.
        pub(super) const OPERATIONS: &[Operation] = &[
            Operation {
                name: "memory_op.get_sharing_freed_pages", number: NUMBER, select: Select::First(18),
                args: &[], results: &[], returns: Returns::Value,
            },
            Operation {
                name: "memory_op.get_sharing_shared_pages", number: NUMBER, select: Select::First(19),
                args: &[], results: &[], returns: Returns::Value,
            },
            $(one_pointer!($name, NUMBER, Select::First($number), $layout, [])),+
        ];
    };
}

memory! {
    "memory_op.paging_op" = 20, StructType {
        name: "xen_mem_paging_op",
        fields: &[field("op", int(1, Kind::Range(0, 2))), field("domain", TARGET), field("buffer", ptr_in(&Type::Bytes(64))), field("gfn", FRAME)],
    };
    "memory_op.access_op" = 21, StructType {
        name: "xen_mem_access_op",
        fields: &[
            field("op", int(1, Kind::Enum(&[("set", 0), ("get", 1), ("set_multi", 4)]))),
            field("access", int(1, Kind::Enum(ACCESSES))),
            field("domid", TARGET),
            field("nr", int(4, Kind::Len("pfn_list"))),
            field("pfn", FRAME),
            field("pfn_list", ptr_in(&Type::Array(&FRAME))),
            field("access_list", ptr_in(&Type::Bytes(4))),
        ],
    };
    "memory_op.sharing_op" = 22, StructType {
        name: "xen_mem_sharing_op",
        fields: &[
            SHARING_HEAD[0], SHARING_HEAD[1],
            field("source_gfn", FRAME), field("source_handle", U64), field("client_gfn", FRAME), field("client_handle", U64), field("client_domain", TARGET),
        ],
    };
    "memory_op.machphys_compat_mfn_list" = 25, StructType {
        name: "xen_machphys_mfn_list",
        fields: &[field("max_extents", int(4, Kind::Len("extent_start"))), field("extent_start", ptr_out(&Type::Array(&FRAME))), out("nr_extents", U32)],
    };
    "memory_op.get_vnumainfo" = 26, StructType {
        name: "xen_vnuma_topology_info",
        fields: &[
            field("domid", DOMAIN), field("pad", int(2, Kind::Const(0))),
            field("nr_vnodes", int(4, Kind::Range(0, 2))), field("nr_vcpus", int(4, Kind::Range(0, 2))), field("nr_vmemranges", int(4, Kind::Range(0, 2))),
            field("vdistance", ptr_out(&Type::Bytes(16))), field("vcpu_to_vnode", ptr_out(&Type::Bytes(16))), field("vmemrange", ptr_out(&Type::Bytes(64))),
        ],
    };
    "memory_op.reserved_device_memory_map" = 27, StructType {
        name: "xen_reserved_device_memory_map",
        fields: &[
            field("flags", int(4, Kind::Flags(&[("all", 1)]))), field("nr_entries", int(4, Kind::Range(0, 4))), field("buffer", ptr_out(&Type::Bytes(64))),
            field("seg", int(2, Kind::Const(0))), field("bus", int(1, Kind::Range(0, 1))), field("devfn", int(1, Kind::Range(0, 255))),
        ],
    };
}
