//! `sysctl`: the machine, for the control domain. Numbers: Xen `public/sysctl.h`.

use xen_abi::{hypercall, sysctl as abi};

use super::types::*;

const NUMBER: u32 = hypercall::SYSCTL as u32;

const COVERAGE: &[Named] = &[
    ("get_size", abi::coverage::GET_SIZE as u64),
    ("read", abi::coverage::READ as u64),
    ("reset", abi::coverage::RESET as u64),
];

pub(super) const VERSION: Field = field("interface_version", int(4, Kind::Version(Versioned::Sysctl)));

pub(super) const fn cmd(number: u32) -> Field {
    field("cmd", int(4, Kind::Const(number as u64)))
}

const PHYSINFO: StructType = StructType {
    name: "xen_sysctl_physinfo",
    fields: &[
        cmd(abi::PHYSINFO),
        VERSION,
        out("threads_per_core", U32),
        out("cores_per_socket", U32),
        out("nr_cpus", U32),
        out("max_cpu_id", U32),
        out("nr_nodes", U32),
        out("max_node_id", U32),
        out("cpu_khz", U32),
        out("capabilities", int(4, Kind::Hex)),
        out("arch_capabilities", int(4, Kind::Hex)),
        out("pad", U32),
        out("total_pages", U64),
        out("free_pages", U64),
        out("scrub_pages", U64),
        out("outstanding_pages", U64),
        out("max_mfn", FRAME),
        out("hw_cap", Type::Blob(32)),
        out("rest", Type::Blob(16)),
    ],
};
const LIST: StructType = StructType {
    name: "xen_sysctl_getdomaininfolist",
    fields: &[
        cmd(abi::GET_DOMAIN_INFO_LIST),
        VERSION,
        field("first_domain", TARGET),
        field("max_domains", int(4, Kind::Range(0, 4))),
        field("buffer", ptr_out(&Type::Bytes(448))),
        out("num_domains", U32),
        out("rest", Type::Blob(108)),
    ],
};
const COVERAGE_OP: StructType = StructType {
    name: "xen_sysctl_coverage_op",
    fields: &[
        cmd(abi::COVERAGE_OP),
        VERSION,
        field("coverage_cmd", int(4, Kind::Enum(COVERAGE))),
        field("size", int(4, Kind::Len("buffer"))),
        field("buffer", ptr_out(&Type::Bytes(512))),
        out("rest", Type::Blob(112)),
    ],
};

const fn op(name: &'static str, args: &'static [Field], results: &'static [ResultSpec]) -> Operation {
    Operation { name, number: NUMBER, select: Select::Whole, args, results, returns: Returns::Zero }
}

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op(
        "sysctl.physinfo",
        &[field("arg", ptr_inout(&Type::Struct(&PHYSINFO)))],
        &[gives("max_mfn", Resource::Frame)],
    ),
    op("sysctl.getdomaininfolist", &[field("arg", ptr_inout(&Type::Struct(&LIST)))], &[]),
    op("sysctl.coverage_op", &[field("arg", ptr_inout(&Type::Struct(&COVERAGE_OP)))], &[]),
];
