//! The processor of a pv guest: its descriptor tables, handlers, registers. Each operation is a hypercall of its own: Xen `public/xen.h`.

use xen_abi::{hypercall, pv as abi};

use super::{super::types::*, PAGES};

/// `__HYPERVISOR_set_gdt`.
const SET_GDT: u32 = 2;
/// `__HYPERVISOR_stack_switch`.
const STACK_SWITCH: u32 = 3;
/// `__HYPERVISOR_set_callbacks`.
const SET_CALLBACKS: u32 = 4;
/// `__HYPERVISOR_fpu_taskswitch`.
const FPU_TASKSWITCH: u32 = 5;
/// `__HYPERVISOR_set_debugreg`.
const SET_DEBUGREG: u32 = 8;
/// `__HYPERVISOR_get_debugreg`.
const GET_DEBUGREG: u32 = 9;
/// `__HYPERVISOR_update_descriptor`.
const UPDATE_DESCRIPTOR: u32 = 10;

const SELECTORS: &[Named] = &[
    ("code", abi::CODE_SELECTOR as u64),
    ("data", abi::DATA_SELECTOR as u64),
    ("null", 0),
    ("xen_code", 0xe008),
    ("own", 0xb),
    ("local", 0xf),
];
const TRAP: StructType = StructType {
    name: "trap_info",
    fields: &[
        field("vector", int(1, Kind::Range(0, 255))),
        field("flags", int(1, Kind::Range(0, 7))),
        field("cs", int(2, Kind::Enum(SELECTORS))),
        field("address", int(8, Kind::Enum(PAGES))),
    ],
};
const ENTRIES: &[Named] = &[("page", 512), ("few", 16), ("none", 0), ("all", 7168), ("too_many", 8192)];
/// Descriptors (AMD APM volume 2, section 4.8): code and data of the guest's ring, an LDT, call gates, nonsense.
const DESCRIPTORS: &[Named] = &[
    ("none", 0),
    ("code64", 0x00af_fb00_0000_ffff),
    ("code32", 0x00cf_fb00_0000_ffff),
    ("data", 0x00cf_f300_0000_ffff),
    ("code_ring0", 0x00af_9b00_0000_ffff),
    ("ldt", 0x0000_e200_0000_ffff),
    ("call_gate", 0x0028_ec00_e033_0000),
    ("call_gate_ring0", 0x0028_8c00_e008_0000),
    ("tss", 0x0000_8900_0000_0067),
];
const BASES: &[Named] = &[
    ("fs", abi::SEGBASE_FS),
    ("gs_user", abi::SEGBASE_GS_USER),
    ("gs_kernel", abi::SEGBASE_GS_KERNEL),
    ("gs_selector", 3),
];
const DEBUG_VALUES: &[Named] = &[
    ("off", 0x400),
    ("zero", 0),
    ("exact", 0x401),
    ("io", 0x2_0402),
    ("page0", 0x28_0000),
    ("xen", 0xffff_82d0_4020_0000),
    ("general", 0x2400),
];

const fn op(name: &'static str, number: u32, args: &'static [Field], returns: Returns) -> Operation {
    Operation { name, number, select: Select::Whole, args, results: &[], returns }
}

/// The operations.
pub(super) const OPERATIONS: &[Operation] = &[
    // An entry without an address ends the list: the memory behind the array is zero.
    op(
        "pv_cpu.set_trap_table",
        hypercall::SET_TRAP_TABLE as u32,
        &[field("traps", ptr_in(&Type::Array(&Type::Struct(&TRAP))))],
        Returns::Zero,
    ),
    op(
        "pv_cpu.set_gdt",
        SET_GDT,
        &[field("table", ptr_in(&Type::Array(&FRAME))), field("entries", int(4, Kind::Enum(ENTRIES)))],
        Returns::Zero,
    ),
    op(
        "pv_cpu.update_descriptor",
        UPDATE_DESCRIPTOR,
        &[field("table", int(8, Kind::TableEntry(0))), field("desc", int(8, Kind::Enum(DESCRIPTORS)))],
        Returns::Zero,
    ),
    op(
        "pv_cpu.stack_switch",
        STACK_SWITCH,
        &[field("ss", int(8, Kind::Enum(SELECTORS))), field("esp", int(8, Kind::Enum(PAGES)))],
        Returns::Zero,
    ),
    op(
        "pv_cpu.set_callbacks",
        SET_CALLBACKS,
        &[
            field("event", int(8, Kind::Enum(PAGES))),
            field("failsafe", int(8, Kind::Enum(PAGES))),
            field("syscall", int(8, Kind::Enum(PAGES))),
        ],
        Returns::Zero,
    ),
    op("pv_cpu.fpu_taskswitch", FPU_TASKSWITCH, &[field("set", int(4, Kind::Range(0, 1)))], Returns::Zero),
    op(
        "pv_cpu.set_debugreg",
        SET_DEBUGREG,
        &[field("reg", int(4, Kind::Range(0, 8))), field("value", int(8, Kind::Enum(DEBUG_VALUES)))],
        Returns::Zero,
    ),
    op("pv_cpu.get_debugreg", GET_DEBUGREG, &[field("reg", int(4, Kind::Range(0, 8)))], Returns::Anything),
    op(
        "pv_cpu.set_segment_base",
        hypercall::SET_SEGMENT_BASE as u32,
        &[field("which", int(4, Kind::Enum(BASES))), field("base", int(8, Kind::Enum(PAGES)))],
        Returns::Zero,
    ),
];
