//! `update_va_mapping` and `update_va_mapping_otherdomain`: the entry that maps an address. Numbers: Xen `public/xen.h`.

use super::{
    super::{GRANT_GFN, SHARED_GFN, types::*},
    GRANTS_AT, PAGES, PTE, PTE_READ,
};

/// `__HYPERVISOR_update_va_mapping`.
const NUMBER: u32 = 14;
/// `__HYPERVISOR_update_va_mapping_otherdomain`.
const OTHER: u32 = 22;

/// `UVMF_*`: what is flushed, and where.
const FLAGS: &[Named] = &[
    ("none", 0),
    ("tlb_flush_local", 1),
    ("invlpg_local", 2),
    ("tlb_flush_all", 1 | 4),
    ("invlpg_all", 2 | 4),
];
const FLAGS_FIELD: Field = field("flags", int(8, Kind::Enum(FLAGS)));

const fn op(name: &'static str, number: u32, args: &'static [Field]) -> Operation {
    Operation { name, number, select: Select::Whole, args, results: &[], returns: Returns::Zero }
}

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op(
        "update_va_mapping.update",
        NUMBER,
        &[field("va", int(8, Kind::Enum(PAGES))), field("val", int(8, Kind::Pte(PTE))), FLAGS_FIELD],
    ),
    // Takes from the caller the right to write to a frame, at the only address where it is seen.
    op(
        "update_va_mapping.protect",
        NUMBER,
        &[
            field("va", int(8, Kind::PageOf("table"))),
            field("table", int(8, Kind::Pte(PTE_READ))),
            FLAGS_FIELD,
        ],
    ),
    op(
        "update_va_mapping.restore",
        NUMBER,
        &[field("va", int(8, Kind::PageOf("table"))), field("table", int(8, Kind::Pte(PTE))), FLAGS_FIELD],
    ),
    // Lets the own grant table, or the shared info, appear in the playground.
    op(
        "update_va_mapping.see_grants",
        NUMBER,
        &[
            field("va", int(8, Kind::Enum(&[("grants", GRANTS_AT)]))),
            field(
                "val",
                int(8, Kind::Pte(&[GRANT_GFN << 12 | 0x67, GRANT_GFN << 12 | 0x67, SHARED_GFN << 12 | 0x67])),
            ),
            FLAGS_FIELD,
        ],
    ),
    op(
        "update_va_mapping.otherdomain",
        OTHER,
        &[
            field("va", int(8, Kind::Enum(PAGES))),
            field("val", int(8, Kind::Pte(PTE))),
            FLAGS_FIELD,
            field("domid", TARGET),
        ],
    ),
];
