//! `callback_op`: where Xen announces events to a pv guest. Numbers: Xen `public/callback.h`.

use super::{super::types::*, PAGES};

/// `__HYPERVISOR_callback_op`.
const NUMBER: u32 = 30;

const TYPES: &[Named] = &[
    ("event", 0),
    ("failsafe", 1),
    ("syscall", 2),
    ("sysenter_deprecated", 3),
    ("nmi", 4),
    ("sysenter", 5),
    ("syscall32", 7),
];
const TYPE: Field = field("type", int(2, Kind::Enum(TYPES)));
const REGISTER: StructType = StructType {
    name: "callback_register",
    fields: &[
        TYPE,
        field("flags", int(2, Kind::Flags(&[("mask_events", 1)]))),
        field("address", int(8, Kind::Enum(PAGES))),
    ],
};
const UNREGISTER: StructType =
    StructType { name: "callback_unregister", fields: &[TYPE, field("_unused", int(2, Kind::Const(0)))] };

const fn op(name: &'static str, number: u64, args: &'static [Field]) -> Operation {
    Operation::sub(NUMBER, number, name, args)
}

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op("callback_op.register", 0, &[field("arg", ptr_in(&Type::Struct(&REGISTER)))]),
    op("callback_op.unregister", 1, &[field("arg", ptr_in(&Type::Struct(&UNREGISTER)))]),
];
