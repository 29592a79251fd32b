//! `xenpmu_op`: performance counters. Numbers: Xen `public/pmu.h`.

use super::super::types::*;

/// `__HYPERVISOR_xenpmu_op`.
const NUMBER: u32 = 40;

/// `XENPMU_MODE_*`, or a frame for `init`: the value of each command has its own meaning.
macro_rules! params {
    ($value:expr) => {
        StructType {
            name: "xen_pmu_params",
            fields: &[
                field("maj", int(4, Kind::Const(0))),
                field("min", int(4, Kind::Const(1))),
                field("val", $value),
                field("vcpu", VCPU),
                field("pad", int(4, Kind::Const(0))),
            ],
        }
    };
}
const NUMBER_VALUE: StructType = params!(int(8, Kind::Flags(&[("self", 1), ("hv", 2), ("all", 4)])));
const FRAME_VALUE: StructType = params!(FRAME);

const fn op(name: &'static str, number: u64, args: &'static [Field]) -> Operation {
    Operation::sub(NUMBER, number, name, args).returning(Returns::Value)
}
const PLAIN: &[Field] = &[field("arg", ptr_inout(&Type::Struct(&NUMBER_VALUE)))];
const FRAMES: &[Field] = &[field("arg", ptr_inout(&Type::Struct(&FRAME_VALUE)))];

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op("xenpmu_op.mode_get", 0, PLAIN),
    op("xenpmu_op.mode_set", 1, PLAIN),
    op("xenpmu_op.feature_get", 2, PLAIN),
    op("xenpmu_op.feature_set", 3, PLAIN),
    op("xenpmu_op.init", 4, FRAMES),
    op("xenpmu_op.finish", 5, FRAMES),
    op("xenpmu_op.lvtpc_set", 6, PLAIN),
    op("xenpmu_op.flush", 7, PLAIN),
];
