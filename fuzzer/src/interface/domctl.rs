//! `domctl`: what the control domain does to others. Numbers: Xen `public/domctl.h`.
//!
//! Each operation has the whole argument as a structure of its own: the common head, its member of the union, and what is
//! left of the union as bytes.

use xen_abi::{domctl as abi, hypercall};

use super::types::*;

const NUMBER: u32 = hypercall::DOMCTL as u32;

/// Pairs that make sense come first: without nested paging there is no domain.
const CREATION: &[Named] = &[
    ("hvm_hap", (abi::CDF_HVM | abi::CDF_HAP) as u64),
    ("hvm_hap_xenstore", (abi::CDF_HVM | abi::CDF_HAP | abi::CDF_XS_DOMAIN) as u64),
    ("hvm_hap_iommu", (abi::CDF_HVM | abi::CDF_HAP | abi::CDF_IOMMU) as u64),
    ("hvm", abi::CDF_HVM as u64),
    ("pv", 0),
];
const EMULATION: &[Named] = &[("none", 0), ("lapic", abi::EMU_LAPIC as u64), ("all", abi::EMU_ALL as u64)];

pub(super) const VERSION: Field = field("interface_version", int(4, Kind::Version(Versioned::Domctl)));
pub(super) const DOMAIN_FIELD: Field = field("domain", TARGET);
pub(super) const PAD: Field = out("pad", Type::Blob(6));

pub(super) const fn cmd(number: u32) -> Field {
    field("cmd", int(4, Kind::Const(number as u64)))
}

/// An operation without a structure of its own.
macro_rules! plain {
    ($name:literal, $number:expr) => {
        StructType {
            name: $name,
            fields: &[cmd($number), VERSION, DOMAIN_FIELD, PAD, out("u", Type::Blob(128))],
        }
    };
}

/// An operation with these fields, which take so many bytes.
macro_rules! union {
    ($name:literal, $number:expr, $rest:expr, $($field:expr),+ $(,)?) => {
        StructType {
            name: $name,
            fields: &[cmd($number), VERSION, DOMAIN_FIELD, PAD, $($field,)+ out("rest", Type::Blob($rest))],
        }
    };
}

const CREATE: StructType = StructType {
    name: "xen_domctl_createdomain",
    fields: &[
        cmd(abi::CREATE_DOMAIN),
        VERSION,
        field("domain", int(2, Kind::Const(0))),
        PAD,
        field("ssidref", int(4, Kind::Const(0))),
        out("handle", Type::Blob(16)),
        field("flags", int(4, Kind::Enum(CREATION))),
        field("iommu_opts", int(4, Kind::Const(0))),
        field("max_vcpus", int(4, Kind::Range(1, 2))),
        field("max_evtchn_port", int(4, Kind::Range(0, 1023))),
        field("max_grant_frames", int(4, Kind::Range(0, 8))),
        field("max_maptrack_frames", int(4, Kind::Range(0, 8))),
        field("grant_opts", int(4, Kind::Range(0, 2))),
        field("vmtrace_size", int(4, Kind::Const(0))),
        field("cpupool_id", int(4, Kind::Const(0))),
        field("emulation_flags", int(4, Kind::Enum(EMULATION))),
        field("misc_flags", int(4, Kind::Const(0))),
        out("rest", Type::Blob(64)),
    ],
};
const DESTROY: StructType = plain!("xen_domctl_destroydomain", abi::DESTROY_DOMAIN);
const PAUSE: StructType = plain!("xen_domctl_pausedomain", abi::PAUSE_DOMAIN);
const UNPAUSE: StructType = plain!("xen_domctl_unpausedomain", abi::UNPAUSE_DOMAIN);
const RESUME: StructType = plain!("xen_domctl_resumedomain", abi::RESUME_DOMAIN);
const INFO: StructType = union!(
    "xen_domctl_getdomaininfo",
    abi::GET_DOMAIN_INFO,
    16,
    out("found", int(2, Kind::Target)),
    out("pad1", Type::Blob(2)),
    out("flags", int(4, Kind::Hex)),
    out("tot_pages", U64),
    out("max_pages", U64),
    out("outstanding_pages", U64),
    out("shr_pages", U64),
    out("paged_pages", U64),
    out("shared_info_frame", FRAME),
    out("cpu_time", U64),
    out("nr_online_vcpus", U32),
    out("max_vcpu_id", U32),
    out("ssidref", U32),
    out("handle", Type::Blob(16)),
    out("cpupool", U32),
    out("gpaddr_bits", int(1, Kind::Plain)),
    out("pad2", Type::Blob(7)),
    out("emulation_flags", U32),
    out("misc_flags", U32),
);
const VCPU_INFO: StructType = union!(
    "xen_domctl_getvcpuinfo",
    abi::GET_VCPU_INFO,
    104,
    field("vcpu", VCPU),
    out("online", int(1, Kind::Plain)),
    out("blocked", int(1, Kind::Plain)),
    out("running", int(1, Kind::Plain)),
    out("cpu_time", U64),
    out("cpu", U32),
    out("pad2", U32),
);
const MAX_MEM: StructType =
    union!("xen_domctl_max_mem", abi::MAX_MEM, 120, field("max_memkb", int(8, Kind::Range(64, 8192))));
const MAX_VCPUS: StructType =
    union!("xen_domctl_max_vcpus", abi::MAX_VCPUS, 124, field("max", int(4, Kind::Range(1, 2))));
const HANDLE: StructType =
    union!("xen_domctl_setdomainhandle", abi::SET_DOMAIN_HANDLE, 112, field("handle", Type::Blob(16)));
const DEBUGGING: StructType =
    union!("xen_domctl_setdebugging", abi::SET_DEBUGGING, 127, field("enable", int(1, Kind::Range(0, 1))));
const HYPERCALL_PAGE: StructType =
    union!("xen_domctl_hypercall_init", abi::HYPERCALL_INIT, 120, field("gmfn", FRAME));
const TIME_OFFSET: StructType =
    union!("xen_domctl_settimeoffset", abi::SET_TIME_OFFSET, 120, field("time_offset_seconds", U64));
const SET_SIZE: StructType = union!(
    "xen_domctl_set_address_size",
    abi::SET_ADDRESS_SIZE,
    124,
    field("size", int(4, Kind::Enum(&[("bits64", 64), ("bits32", 32)])))
);
const GET_SIZE: StructType =
    union!("xen_domctl_get_address_size", abi::GET_ADDRESS_SIZE, 124, out("size", U32));

const fn op(name: &'static str, args: &'static [Field], results: &'static [ResultSpec]) -> Operation {
    Operation { name, number: NUMBER, select: Select::Whole, args, results, returns: Returns::Zero }
}

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op(
        "domctl.createdomain",
        &[field("arg", ptr_inout(&Type::Struct(&CREATE)))],
        &[gives("domain", Resource::Domain)],
    ),
    op("domctl.destroydomain", &[field("arg", ptr_in(&Type::Struct(&DESTROY)))], &[]),
    op("domctl.pausedomain", &[field("arg", ptr_in(&Type::Struct(&PAUSE)))], &[]),
    op("domctl.unpausedomain", &[field("arg", ptr_in(&Type::Struct(&UNPAUSE)))], &[]),
    op("domctl.resumedomain", &[field("arg", ptr_in(&Type::Struct(&RESUME)))], &[]),
    op(
        "domctl.getdomaininfo",
        &[field("arg", ptr_inout(&Type::Struct(&INFO)))],
        &[gives("found", Resource::Domain), gives("shared_info_frame", Resource::Frame)],
    ),
    op("domctl.getvcpuinfo", &[field("arg", ptr_inout(&Type::Struct(&VCPU_INFO)))], &[]),
    op("domctl.max_mem", &[field("arg", ptr_in(&Type::Struct(&MAX_MEM)))], &[]),
    op("domctl.max_vcpus", &[field("arg", ptr_in(&Type::Struct(&MAX_VCPUS)))], &[]),
    op("domctl.setdomainhandle", &[field("arg", ptr_in(&Type::Struct(&HANDLE)))], &[]),
    op("domctl.setdebugging", &[field("arg", ptr_in(&Type::Struct(&DEBUGGING)))], &[]),
    op("domctl.hypercall_init", &[field("arg", ptr_in(&Type::Struct(&HYPERCALL_PAGE)))], &[]),
    op("domctl.settimeoffset", &[field("arg", ptr_in(&Type::Struct(&TIME_OFFSET)))], &[]),
    op("domctl.set_address_size", &[field("arg", ptr_in(&Type::Struct(&SET_SIZE)))], &[]),
    op("domctl.get_address_size", &[field("arg", ptr_inout(&Type::Struct(&GET_SIZE)))], &[]),
];
