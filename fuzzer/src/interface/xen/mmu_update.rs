//! `mmu_update`: entries of page tables, and of the table from machine frames to pseudo-physical ones. Numbers: Xen `public/xen.h`.
//!
//! The command stands in the lowest two bits of the address; there is an operation for each.

use super::{super::types::*, PTE};

/// `__HYPERVISOR_mmu_update`.
const NUMBER: u32 = 1;

/// `MMU_NORMAL_PT_UPDATE`.
const NORMAL: u64 = 0;
/// `MMU_MACHPHYS_UPDATE`.
const MACHPHYS: u64 = 1;
/// `MMU_PT_UPDATE_PRESERVE_AD`.
const PRESERVE_AD: u64 = 2;
/// `MMU_PT_UPDATE_NO_TRANSLATE`.
const NO_TRANSLATE: u64 = 3;

/// Requests of one command.
macro_rules! request {
    ($command:expr) => {
        StructType {
            name: "mmu_update",
            fields: &[
                field("table", int(8, Kind::TableEntry($command))),
                field("val", int(8, Kind::Pte(PTE))),
            ],
        }
    };
}
const UPDATE: StructType = request!(NORMAL);
const UPDATE_AD: StructType = request!(PRESERVE_AD);
const UPDATE_RAW: StructType = request!(NO_TRANSLATE);
/// The address is one within the frame that gets another number.
const RENAME: StructType = StructType {
    name: "mmu_update",
    fields: &[field("ptr", int(8, Kind::Pte(&[MACHPHYS]))), field("val", int(8, Kind::Hole))],
};

/// Who owns the frames; above bit 15, one more than who owns the tables.
const FOREIGN: Field = field("foreigndom", int(4, Kind::Domain));

macro_rules! update {
    ($name:literal, $request:ident) => {
        Operation {
            name: $name,
            number: NUMBER,
            select: Select::Whole,
            args: &[
                field("reqs", ptr_in(&Type::Array(&Type::Struct(&$request)))),
                field("count", int(4, Kind::Len("reqs"))),
                field("pdone", ptr_out(&U32)),
                FOREIGN,
            ],
            results: &[],
            returns: Returns::Zero,
        }
    };
}

/// The commands.
pub(super) const OPERATIONS: &[Operation] = &[
    update!("mmu_update.normal", UPDATE),
    update!("mmu_update.machphys", RENAME),
    update!("mmu_update.preserve_ad", UPDATE_AD),
    update!("mmu_update.no_translate", UPDATE_RAW),
];
