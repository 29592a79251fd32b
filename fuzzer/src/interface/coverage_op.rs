//! `coverage_op`: the coverage hypercall itself, fuzzed like any other.

use coverage_hypercall::coverage::{self, cmd};

use super::types::*;

const NUMBER: u32 = coverage::COVERAGE_OP as u32;
const VERSION: Field = field("version", int(4, Kind::Const(coverage::VERSION as u64)));

const FEATURES: &[Named] = &[
    ("edges", coverage::Features::EDGES.bits() as u64),
    ("comparisons", coverage::Features::COMPARISONS.bits() as u64),
];
const WHAT: &[Named] =
    &[("counters", coverage::Mapped::Counters as u64), ("comparisons", coverage::Mapped::Comparisons as u64)];

const INFO: StructType = StructType {
    name: "coverage_info",
    fields: &[
        out("version", U32),
        out("features", int(4, Kind::Hex)),
        out("counters", U32),
        out("comparison_capacity", U32),
        out("counter_pages", U32),
        out("comparison_pages", U32),
        out("build_id", Type::Blob(32)),
    ],
};
const ENABLE: StructType =
    StructType { name: "coverage_enable", fields: &[VERSION, field("flags", int(4, Kind::Flags(FEATURES)))] };
const READ: StructType = StructType {
    name: "coverage_read",
    fields: &[
        VERSION,
        field("offset", int(4, Kind::Range(0, 4096))),
        field("count", int(4, Kind::Len("buffer"))),
        field("reserved", int(4, Kind::Const(0))),
        field("buffer", ptr_out(&Type::Bytes(64))),
    ],
};
const MAP: StructType = StructType {
    name: "coverage_map",
    fields: &[
        VERSION,
        field("what", int(4, Kind::Enum(WHAT))),
        field("first_page", int(4, Kind::Range(0, 3))),
        field("pages", int(4, Kind::Range(1, 4))),
        field("gfn", HOLE),
    ],
};
const UNMAP: StructType = StructType {
    name: "coverage_unmap",
    fields: &[VERSION, field("pages", int(4, Kind::Range(1, 4))), field("gfn", HOLE)],
};
const NOTHING: Field = field("arg", int(8, Kind::Const(0)));

const fn op(name: &'static str, number: u64, args: &'static [Field], returns: Returns) -> Operation {
    Operation::sub(NUMBER, number, name, args).returning(returns)
}

/// The operations; numbers and structures: `coverage_hypercall::coverage`.
pub(super) const OPERATIONS: &[Operation] = &[
    op("coverage_op.info", cmd::INFO, &[field("arg", ptr_out(&Type::Struct(&INFO)))], Returns::Zero),
    op("coverage_op.enable", cmd::ENABLE, &[field("arg", ptr_in(&Type::Struct(&ENABLE)))], Returns::Zero),
    op("coverage_op.disable", cmd::DISABLE, &[NOTHING], Returns::Zero),
    op("coverage_op.reset", cmd::RESET, &[NOTHING], Returns::Zero),
    op("coverage_op.read", cmd::READ, &[field("arg", ptr_in(&Type::Struct(&READ)))], Returns::Value),
    op("coverage_op.map", cmd::MAP, &[field("arg", ptr_in(&Type::Struct(&MAP)))], Returns::Zero),
    op("coverage_op.unmap", cmd::UNMAP, &[field("arg", ptr_in(&Type::Struct(&UNMAP)))], Returns::Zero),
    op("coverage_op.release", cmd::RELEASE, &[NOTHING], Returns::Zero),
];
