//! `xen_version`: what the hypervisor says of itself. Numbers: Xen `public/version.h`.

use super::types::*;

/// `__HYPERVISOR_xen_version`.
const NUMBER: u32 = 17;

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

const fn op(name: &'static str, number: u64, args: &'static [Field]) -> Operation {
    Operation {
        name,
        number: NUMBER,
        select: Select::First(number),
        args,
        results: &[],
        returns: Returns::Value,
    }
}

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op("xen_version.version", 0, &[]),
    op("xen_version.extraversion", 1, &[field("arg", ptr_out(&Type::Struct(&EXTRAVERSION)))]),
    op("xen_version.compile_info", 2, &[field("arg", ptr_out(&Type::Struct(&COMPILE_INFO)))]),
    op("xen_version.capabilities", 3, &[field("arg", ptr_out(&Type::Bytes(1024)))]),
    op("xen_version.changeset", 4, &[field("arg", ptr_out(&Type::Struct(&CHANGESET)))]),
    op("xen_version.platform_parameters", 5, &[field("arg", ptr_out(&Type::Struct(&PLATFORM)))]),
    op("xen_version.get_features", 6, &[field("arg", ptr_inout(&Type::Struct(&FEATURES)))]),
    op("xen_version.pagesize", 7, &[]),
    op("xen_version.guest_handle", 8, &[field("arg", ptr_out(&Type::Struct(&HANDLE)))]),
    op("xen_version.commandline", 9, &[field("arg", ptr_out(&Type::Bytes(1024)))]),
    op("xen_version.build_id", 10, &[field("arg", ptr_inout(&Type::Struct(&BUILD_ID)))]),
];
