//! `grant_table_op` in pv domains, where mappings need page tables that are there.

use xen_abi::grant as abi;

use super::{
    super::{
        grant_table_op::{COUNT, MAP_FLAGS, MAPPINGS, ONE, STATUS, op},
        types::*,
    },
    PAGES,
};

/// References that [`super::agent`] writes.
const REF: Field = field("ref", int(4, Kind::Range(8, 11)));
const DOMID: Field = field("dom", PEER);

const AT_PAGE: StructType = StructType {
    name: "gnttab_map_grant_ref",
    fields: &[
        field("host_addr", int(8, Kind::Enum(PAGES))),
        field("flags", int(4, Kind::UsualFlags(MAP_FLAGS, MAPPINGS))),
        REF,
        DOMID,
        STATUS,
        out("handle", U32),
        out("dev_bus_addr", HEX64),
    ],
};
/// The address is the machine address of the entry that maps it.
const AT_ENTRY: StructType = StructType {
    name: "gnttab_map_grant_ref",
    fields: &[
        field("host_addr", int(8, Kind::TableEntry(0))),
        field(
            "flags",
            int(
                4,
                Kind::UsualFlags(
                    MAP_FLAGS,
                    &[
                        (abi::GNTMAP_HOST_MAP | abi::GNTMAP_CONTAINS_PTE) as u64,
                        (abi::GNTMAP_HOST_MAP | abi::GNTMAP_CONTAINS_PTE | abi::GNTMAP_READONLY) as u64,
                    ],
                ),
            ),
        ),
        REF,
        DOMID,
        STATUS,
        out("handle", U32),
        out("dev_bus_addr", HEX64),
    ],
};
const UNMAP_ENTRY: StructType = StructType {
    name: "gnttab_unmap_grant_ref",
    fields: &[
        field("host_addr", int(8, Kind::TableEntry(0))),
        field("dev_bus_addr", int(8, Kind::BusAddress)),
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
        field("frame_list", ptr_out(&Type::Array(&FRAME))),
    ],
};

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op(
        "grant_table_op.map_at_page",
        abi::MAP_GRANT_REF,
        &[field("uop", ptr_inout(&Type::Array(&Type::Struct(&AT_PAGE)))), COUNT],
        &[
            gives("handle", Resource::GrantHandle),
            gives("host_addr", Resource::MappedAt),
            gives("dev_bus_addr", Resource::BusAddress),
        ],
    ),
    op(
        "grant_table_op.map_at_entry",
        abi::MAP_GRANT_REF,
        &[field("uop", ptr_inout(&Type::Array(&Type::Struct(&AT_ENTRY)))), COUNT],
        &[gives("handle", Resource::GrantHandle), gives("dev_bus_addr", Resource::BusAddress)],
    ),
    op(
        "grant_table_op.unmap_entry",
        abi::UNMAP_GRANT_REF,
        &[field("uop", ptr_inout(&Type::Array(&Type::Struct(&UNMAP_ENTRY)))), COUNT],
        &[],
    ),
    op(
        "grant_table_op.setup",
        abi::SETUP_TABLE,
        &[field("uop", ptr_inout(&Type::Struct(&SETUP))), ONE],
        &[gives("frame_list", Resource::Frame)],
    ),
];
