//! `nmi_op`: who hears of NMIs. Numbers: Xen `public/nmi.h`.

use super::{super::types::*, PAGES};

/// `__HYPERVISOR_nmi_op`.
const NUMBER: u32 = 28;

const CALLBACK: StructType = StructType {
    name: "xennmi_callback",
    fields: &[field("handler_address", int(8, Kind::Enum(PAGES))), field("pad", int(8, Kind::Const(0)))],
};

const fn op(name: &'static str, number: u64, args: &'static [Field]) -> Operation {
    Operation::sub(NUMBER, number, name, args)
}

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op("nmi_op.register_callback", 0, &[field("arg", ptr_in(&Type::Struct(&CALLBACK)))]),
    op("nmi_op.unregister_callback", 1, &[field("arg", int(8, Kind::Const(0)))]),
];
