//! `platform_op`: the machine below Xen, for the control domain. Numbers: Xen `public/platform.h`.

use super::{super::types::*, member, one_pointer};

/// `__HYPERVISOR_platform_op`.
const NUMBER: u32 = 7;
/// Bytes of `struct xen_platform_op`.
pub(in crate::interface) const SIZE: usize = 136;

/// `XENPF_INTERFACE_VERSION`.
const VERSION: Field = field("interface_version", int(4, Kind::Const(0x0300_0001)));

const CPU: Type = int(4, Kind::Range(0, 1));
/// MTRRs: `MTRR_TYPE_*`.
const MEMORY_TYPES: &[Named] = &[
    ("uncacheable", 0),
    ("write_combining", 1),
    ("write_through", 4),
    ("write_protect", 5),
    ("write_back", 6),
];
const MTRR: Type = int(4, Kind::Range(0, 8));
const FIRMWARE: &[Named] = &[("disk", 1), ("mbr", 2), ("vbeddc", 3), ("efi", 4), ("kbd_shift", 5)];
/// `XEN_PM_*`.
const POWER: &[Named] = &[("cx", 0), ("px", 1), ("tx", 2), ("pdc", 3)];
const REGISTERS: &[Named] =
    &[("tsc", 0x10), ("mcg_cap", 0x179), ("cmt", 0xc8e), ("cmt_select", 0xc8d), ("efer", 0xc000_0080)];

const RESOURCE: StructType = StructType {
    name: "xenpf_resource_entry",
    fields: &[
        field("cmd", int(4, Kind::Enum(&[("read", 0), ("write", 1), ("unknown", 2)]))),
        field("rsvd", ZERO32),
        field("idx", int(8, Kind::Enum(REGISTERS))),
        field("val", HEX64),
    ],
};
/// `struct xen_processor_cx`.
const C_STATE: StructType = StructType {
    name: "xen_processor_cx",
    fields: &[
        field("space_id", int(4, Kind::Enum(&[("ffh", 0x7f), ("io", 1)]))),
        field("bit_width", int(4, Kind::Range(0, 8))),
        field("bit_offset", int(4, Kind::Range(0, 8))),
        field("access_size", int(4, Kind::Range(0, 4))),
        field("address", int(8, Kind::Enum(&[("zero", 0), ("pm", 0x608)]))),
        field("type", int(1, Kind::Range(0, 3))),
        field("latency", U32),
        field("power", U32),
        field("dpcnt", int(4, Kind::Const(0))),
        field("dp", int(8, Kind::Const(0))),
    ],
};
/// `struct xen_processor_px`.
const P_STATE: StructType = StructType {
    name: "xen_processor_px",
    fields: &[
        field("core_frequency", int(8, Kind::Range(800, 3000))),
        field("power", U64),
        field("transition_latency", int(8, Kind::Range(0, 100))),
        field("bus_master_latency", U64),
        field("control", U64),
        field("status", U64),
    ],
};

macro_rules! platform {
    ($($name:literal = $number:literal, [$($field:expr),* $(,)?];)+) => {
        /// The commands.
        pub(super) const OPERATIONS: &[Operation] = &[$(one_pointer!(
            $name, NUMBER, Select::Whole,
            member!("xen_platform_op", SIZE, [field("cmd", int(4, Kind::Const($number))), VERSION], [$($field),*]),
            []
        )),+];
    };
}

platform! {
    "platform_op.settime32" = 17, [field("secs", U32), field("nsecs", int(4, Kind::Range(0, 999_999_999))), field("system_time", U64)];
    "platform_op.settime64" = 62, [field("secs", U64), field("nsecs", int(4, Kind::Range(0, 999_999_999))), field("mbz", ZERO32), field("system_time", U64)];
    "platform_op.add_memtype" = 31, [field("mfn", FRAME), field("nr_mfns", int(8, Kind::Range(1, 4))), field("type", int(4, Kind::Enum(MEMORY_TYPES))), out("handle", U32), out("reg", U32)];
    "platform_op.del_memtype" = 32, [field("handle", int(4, Kind::Range(0, 2))), field("reg", MTRR)];
    "platform_op.read_memtype" = 33, [field("reg", MTRR), out("mfn", FRAME), out("nr_mfns", U64), out("type", U32)];
    "platform_op.platform_quirk" = 39, [field("quirk_id", int(4, Kind::Range(1, 3)))];
    "platform_op.get_cpu_version" = 48, [field("xen_cpuid", CPU), out("max_present", U32), out("vendor_id", Type::Blob(12)), out("family", U32), out("model", U32), out("stepping", U32)];
    "platform_op.efi_runtime_call" = 49, [field("function", int(4, Kind::Range(1, 11))), field("misc", int(4, Kind::Range(0, 3))), out("status", U64), field("name", ptr_inout(&Type::Bytes(16))), field("size", int(8, Kind::Len("data"))), field("data", ptr_inout(&Type::Bytes(16)))];
    "platform_op.firmware_info" = 50, [field("type", int(4, Kind::Enum(FIRMWARE))), field("index", int(4, Kind::Range(0, 6))), field("u", Type::Blob(8)), field("buffer", ptr_inout(&Type::Bytes(128)))];
    "platform_op.change_freq" = 52, [field("flags", ZERO32), field("cpu", CPU), field("freq", int(8, Kind::Enum(&[("ghz", 1_000_000_000), ("zero", 0)])))];
    "platform_op.getidletime" = 53, [field("cpumap_bitmap", ptr_inout(&Type::Bytes(8))), field("cpumap_nr_cpus", int(4, Kind::Enum(&[("one", 1), ("many", 64), ("none", 0)]))), field("idletime", ptr_out(&Type::Array(&U64))), out("now", U64)];
    "platform_op.set_pminfo_cx" = 54, [field("id", CPU), field("type", int(4, Kind::Enum(POWER))), field("count", int(4, Kind::Len("states"))), field("flags", int(4, Kind::Range(0, 31))), field("states", ptr_in(&Type::Array(&Type::Struct(&C_STATE))))];
    "platform_op.set_pminfo_px" = 54, [
        field("id", CPU), field("type", int(4, Kind::Const(1))), field("flags", int(4, Kind::Flags(&[("pct", 1), ("pss", 2), ("ppc", 4), ("psd", 8)]))), field("platform_limit", int(4, Kind::Range(0, 2))),
        field("control_register", Type::Blob(16)), field("status_register", Type::Blob(16)),
        field("state_count", int(4, Kind::Len("states"))), field("states", ptr_in(&Type::Array(&Type::Struct(&P_STATE)))),
        field("num_entries", int(8, Kind::Const(5))), field("revision", int(8, Kind::Const(0))), field("domain", U64), field("coord_type", int(8, Kind::Range(0xfc, 0xfe))), field("num_processors", int(8, Kind::Range(1, 2))),
        field("shared_type", int(4, Kind::Range(0, 3))),
    ];
    "platform_op.set_pminfo_pdc" = 54, [field("id", CPU), field("type", int(4, Kind::Const(3))), field("pdc", ptr_inout(&Type::Bytes(16)))];
    "platform_op.get_cpuinfo" = 55, [field("xen_cpuid", CPU), out("max_present", U32), out("flags", HEX32), out("apic_id", U32), out("acpi_id", U32)];
    "platform_op.cpu_online" = 56, [field("cpuid", CPU)];
    "platform_op.mem_hotadd" = 59, [field("spfn", int(8, Kind::Enum(&[("beyond", 0x10_0000), ("ram", 0x4000)]))), field("epfn", int(8, Kind::Enum(&[("beyond", 0x10_8000), ("ram", 0x4100)]))), field("pxm", ZERO32), field("flags", ZERO32)];
    "platform_op.resource_op" = 61, [field("nr_entries", int(4, Kind::Len("entries"))), field("cpu", CPU), field("entries", ptr_inout(&Type::Array(&Type::Struct(&RESOURCE))))];
    "platform_op.get_symbol" = 63, [field("namelen", int(4, Kind::Len("name"))), field("symnum", int(4, Kind::Range(0, 4000))), field("name", ptr_out(&Type::Bytes(64))), out("address", HEX64), out("type", U8)];
    "platform_op.get_ucode_revision" = 66, [field("cpu", CPU), out("signature", HEX32), out("pf", HEX32), out("revision", HEX32)];
    "platform_op.get_dom0_console" = 64, [];
}
