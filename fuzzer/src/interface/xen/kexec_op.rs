//! `kexec_op`: another kernel for after a crash. Numbers: Xen `public/kexec.h`. It is loaded, never started.

use super::super::types::*;

/// `__HYPERVISOR_kexec_op`.
const NUMBER: u32 = 37;

const TYPES: &[Named] = &[("default", 0), ("crash", 1)];
const TYPE8: Field = field("type", int(1, Kind::Enum(TYPES)));
const RANGES: &[Named] = &[
    ("crash", 0),
    ("xen", 1),
    ("cpu", 2),
    ("xenheap", 3),
    ("boot_param", 4),
    ("efi_memmap", 5),
    ("vmcoreinfo", 6),
];
/// `EM_X86_64`, `EM_386`.
const MACHINES: &[Named] = &[("x86_64", 62), ("i386", 3)];
/// Machine addresses: within RAM, at its end, beyond it.
const ADDRESSES: &[Named] =
    &[("low", 0x10_0000), ("mid", 0x600_0000), ("end", 0x800_0000), ("zero", 0), ("odd", 0x60_0001)];

const RANGE: StructType = StructType {
    name: "xen_kexec_range",
    fields: &[
        field("range", int(4, Kind::Enum(RANGES))),
        field("nr", int(4, Kind::Range(0, 1))),
        out("size", U64),
        out("start", HEX64),
    ],
};
const SEGMENT: StructType = StructType {
    name: "xen_kexec_segment",
    fields: &[
        field("buf", ptr_in(&Type::Bytes(64))),
        field("buf_size", int(8, Kind::Len("buf"))),
        field("dest_maddr", int(8, Kind::Enum(ADDRESSES))),
        field("dest_size", int(8, Kind::Enum(&[("page", 4096), ("none", 0), ("two", 8192), ("small", 64)]))),
    ],
};
const LOAD: StructType = StructType {
    name: "xen_kexec_load",
    fields: &[
        TYPE8,
        field("_pad", int(1, Kind::Const(0))),
        field("arch", int(2, Kind::Enum(MACHINES))),
        field("nr_segments", int(4, Kind::Len("segments"))),
        field("segments", ptr_in(&Type::Array(&Type::Struct(&SEGMENT)))),
        field("entry_maddr", int(8, Kind::Enum(ADDRESSES))),
    ],
};
/// The old form: a list of pages and where to begin.
const LOAD_V1: StructType = StructType {
    name: "xen_kexec_load_v1",
    fields: &[
        field("type", int(4, Kind::Enum(TYPES))),
        field("page_list", Type::Blob(4)),
        field("pages", Type::Blob(136)),
        field("indirection_page", int(8, Kind::Enum(ADDRESSES))),
        field("start_address", int(8, Kind::Enum(ADDRESSES))),
    ],
};
const WHICH: StructType = StructType { name: "xen_kexec_status", fields: &[TYPE8] };
const UNLOAD: StructType = StructType { name: "xen_kexec_unload", fields: &[TYPE8] };
const UNLOAD_V1: StructType = StructType {
    name: "xen_kexec_load_v1",
    fields: &[field("type", int(4, Kind::Enum(TYPES))), field("rest", Type::Blob(156))],
};

const fn op(name: &'static str, number: u64, args: &'static [Field]) -> Operation {
    Operation::sub(NUMBER, number, name, args).returning(Returns::Value)
}

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op("kexec_op.kexec_load_v1", 1, &[field("arg", ptr_in(&Type::Struct(&LOAD_V1)))]),
    op("kexec_op.kexec_unload_v1", 2, &[field("arg", ptr_in(&Type::Struct(&UNLOAD_V1)))]),
    op("kexec_op.kexec_get_range", 3, &[field("arg", ptr_inout(&Type::Struct(&RANGE)))]),
    op("kexec_op.kexec_load", 4, &[field("arg", ptr_in(&Type::Struct(&LOAD)))]),
    op("kexec_op.kexec_unload", 5, &[field("arg", ptr_in(&Type::Struct(&UNLOAD)))]),
    op("kexec_op.kexec_status", 6, &[field("arg", ptr_in(&Type::Struct(&WHICH)))]),
];
