//! `xen_version`: what the hypervisor says of itself. Numbers: Xen `public/version.h`.

use xen_abi::{hypercall, version as abi};

use super::types::*;

const NUMBER: u32 = hypercall::XEN_VERSION as u32;

const EXTRAVERSION: StructType =
    StructType { name: "xen_extraversion", fields: &[out("text", Type::Blob(16))] };
const COMPILE_INFO: StructType = StructType {
    name: "xen_compile_info",
    fields: &[
        out("compiler", Type::Blob(64)),
        out("compile_by", Type::Blob(16)),
        out("compile_domain", Type::Blob(32)),
        out("compile_date", Type::Blob(32)),
    ],
};
const CHANGESET: StructType =
    StructType { name: "xen_changeset_info", fields: &[out("text", Type::Blob(64))] };
const PLATFORM: StructType =
    StructType { name: "xen_platform_parameters", fields: &[out("virt_start", int(8, Kind::Hex))] };
const FEATURES: StructType = StructType {
    name: "xen_feature_info",
    fields: &[field("submap_idx", int(4, Kind::Range(0, 1))), out("submap", int(4, Kind::Hex))],
};
const HANDLE: StructType = StructType { name: "xen_domain_handle", fields: &[out("uuid", Type::Blob(16))] };
const BUILD_ID: StructType = StructType {
    name: "xen_build_id",
    fields: &[field("len", int(4, Kind::Const(32))), out("buf", Type::Blob(32))],
};

const fn op(name: &'static str, number: u32, args: &'static [Field]) -> Operation {
    Operation::sub(NUMBER, number as u64, name, args).returning(Returns::Value)
}

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op("xen_version.version", abi::VERSION, &[]),
    op("xen_version.extraversion", abi::EXTRAVERSION, &[field("arg", ptr_out(&Type::Struct(&EXTRAVERSION)))]),
    op("xen_version.compile_info", abi::COMPILE_INFO, &[field("arg", ptr_out(&Type::Struct(&COMPILE_INFO)))]),
    op("xen_version.capabilities", abi::CAPABILITIES, &[field("arg", ptr_out(&Type::Bytes(1024)))]),
    op("xen_version.changeset", abi::CHANGESET, &[field("arg", ptr_out(&Type::Struct(&CHANGESET)))]),
    op(
        "xen_version.platform_parameters",
        abi::PLATFORM_PARAMETERS,
        &[field("arg", ptr_out(&Type::Struct(&PLATFORM)))],
    ),
    op("xen_version.get_features", abi::GET_FEATURES, &[field("arg", ptr_inout(&Type::Struct(&FEATURES)))]),
    op("xen_version.pagesize", abi::PAGESIZE, &[]),
    op("xen_version.guest_handle", abi::GUEST_HANDLE, &[field("arg", ptr_out(&Type::Struct(&HANDLE)))]),
    op("xen_version.commandline", abi::COMMANDLINE, &[field("arg", ptr_out(&Type::Bytes(1024)))]),
    op("xen_version.build_id", abi::BUILD_ID, &[field("arg", ptr_inout(&Type::Struct(&BUILD_ID)))]),
];
