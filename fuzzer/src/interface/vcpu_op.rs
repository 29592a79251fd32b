//! `vcpu_op`: the virtual processors of the caller's domain. Numbers: Xen `public/vcpu.h`, `public/hvm/hvm_vcpu.h`.

use xen_abi::{hypercall, vcpu as abi};

use super::types::*;

const NUMBER: u32 = hypercall::VCPU_OP as u32;

/// One that nobody has initialised, usually: the agents use the first two.
const FRESH: Type = int(4, Kind::Range(0, 2));

/// Control registers that make sense together are called alike.
const CR0: Type = int(8, Kind::Enum(CR0S));
const CR0S: &[Named] = &[("long", 0x8001_0033), ("protected", 0x11), ("real", 0x10)];
const CR4S: &[Named] = &[("long", 0x620), ("pae", 0x20), ("none", 0)];
const EFERS: &[Named] = &[("long", 0x500), ("lme", 0x100), ("none", 0)];
/// Attributes of segments: bits 40-47 and 52-55 of a descriptor.
const ATTRIBUTES: &[Named] = &[
    ("code32", 0xc9b),
    ("data", 0xc93),
    ("code16", 0x9b),
    ("read_only", 0xc91),
    ("user", 0xcf3),
    ("null", 0),
];
const TASKS: &[Named] = &[("tss", 0x8b), ("tss_idle", 0x89), ("tss16", 0x83)];

const AR: Type = int(2, Kind::Enum(ATTRIBUTES));

/// `vcpu_hvm_context` with the registers of 64-bit mode.
const CONTEXT_64: StructType = StructType {
    name: "vcpu_hvm_context",
    fields: &[
        field("mode", int(4, Kind::Const(abi::HVM_MODE_64B as u64))),
        field("pad", int(4, Kind::Const(0))),
        field("rax", HEX64),
        field("rcx", HEX64),
        field("rdx", HEX64),
        field("rbx", HEX64),
        field("rsp", HEX64),
        field("rbp", HEX64),
        field("rsi", HEX64),
        field("rdi", HEX64),
        field("rip", HEX64),
        field("rflags", HEX64),
        field("cr0", CR0),
        field("cr3", HEX64),
        field("cr4", int(8, Kind::Enum(CR4S))),
        field("efer", int(8, Kind::Enum(EFERS))),
        field("unused", int(8, Kind::Const(0))),
    ],
};

/// `vcpu_hvm_context` with the registers of 32-bit mode.
const CONTEXT_32: StructType = StructType {
    name: "vcpu_hvm_context",
    fields: &[
        field("mode", int(4, Kind::Const(abi::HVM_MODE_32B as u64))),
        field("pad", int(4, Kind::Const(0))),
        field("eax", HEX32),
        field("ecx", HEX32),
        field("edx", HEX32),
        field("ebx", HEX32),
        field("esp", HEX32),
        field("ebp", HEX32),
        field("esi", HEX32),
        field("edi", HEX32),
        field("eip", HEX32),
        field("eflags", HEX32),
        field("cr0", int(4, Kind::Enum(CR0S))),
        field("cr3", HEX32),
        field("cr4", int(4, Kind::Enum(CR4S))),
        field("pad1", int(4, Kind::Const(0))),
        field("efer", int(8, Kind::Enum(EFERS))),
        field("cs_base", HEX32),
        field("ds_base", HEX32),
        field("ss_base", HEX32),
        field("es_base", HEX32),
        field("tr_base", HEX32),
        field("cs_limit", HEX32),
        field("ds_limit", HEX32),
        field("ss_limit", HEX32),
        field("es_limit", HEX32),
        field("tr_limit", HEX32),
        field("cs_ar", AR),
        field("ds_ar", AR),
        field("ss_ar", AR),
        field("es_ar", AR),
        field("tr_ar", int(2, Kind::Enum(TASKS))),
        field("pad2", int(2, Kind::Const(0))),
        field("pad3", int(4, Kind::Const(0))),
    ],
};

const RUNSTATE: StructType = StructType {
    name: "vcpu_runstate_info",
    fields: &[
        out("state", U32),
        out("state_entry_time", U64),
        out("running", U64),
        out("runnable", U64),
        out("blocked", U64),
        out("offline", U64),
    ],
};
const TIME: StructType = StructType {
    name: "vcpu_time_info",
    fields: &[
        out("version", U32),
        out("pad0", U32),
        out("tsc_timestamp", U64),
        out("system_time", U64),
        out("tsc_to_system_mul", U32),
        out("tsc_shift", int(1, Kind::Plain)),
        out("flags", int(1, Kind::Plain)),
        out("pad1", int(2, Kind::Plain)),
    ],
};
/// Agents see their memory where it is: a pointer does for a guest-physical address, too.
const RUNSTATE_AREA: StructType = StructType {
    name: "vcpu_register_runstate_memory_area",
    fields: &[field("addr", ptr_out(&Type::Struct(&RUNSTATE)))],
};
const TIME_AREA: StructType = StructType {
    name: "vcpu_register_time_memory_area",
    fields: &[field("addr", ptr_out(&Type::Struct(&TIME)))],
};

/// In nanoseconds.
const PERIODS: &[Named] = &[("ms", 1_000_000), ("second", 1_000_000_000), ("none", 0)];
/// Points in time, in nanoseconds since the start.
const DEADLINES: &[Named] = &[("past", 1), ("ms", 1_000_000), ("second", 1_000_000_000)];
const FLAGS: &[Named] = &[("future", abi::SSHOTTMR_FUTURE as u64)];
/// A `vcpu_info` has 64 bytes.
const OFFSETS: &[Named] = &[("first", 0), ("second", 64), ("last", 4032)];

const PERIODIC: StructType = StructType {
    name: "vcpu_set_periodic_timer",
    fields: &[field("period_ns", int(8, Kind::Enum(PERIODS)))],
};
const SINGLESHOT: StructType = StructType {
    name: "vcpu_set_singleshot_timer",
    fields: &[
        field("timeout_abs_ns", int(8, Kind::Enum(DEADLINES))),
        field("flags", int(4, Kind::Flags(FLAGS))),
    ],
};
const REGISTER_INFO: StructType = StructType {
    name: "vcpu_register_vcpu_info",
    fields: &[
        field("mfn", FRAME),
        field("offset", int(4, Kind::Enum(OFFSETS))),
        field("rsvd", int(4, Kind::Const(0))),
    ],
};
const PHYSID: StructType = StructType { name: "vcpu_get_physid", fields: &[out("phys_id", U64)] };

const fn op(name: &'static str, number: u32, args: &'static [Field], returns: Returns) -> Operation {
    Operation::sub(NUMBER, number as u64, name, args).returning(returns)
}

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op(
        "vcpu_op.initialise",
        abi::INITIALISE,
        &[field("vcpuid", FRESH), field("arg", ptr_in(&Type::Struct(&CONTEXT_64)))],
        Returns::Zero,
    ),
    op(
        "vcpu_op.initialise_32",
        abi::INITIALISE,
        &[field("vcpuid", FRESH), field("arg", ptr_in(&Type::Struct(&CONTEXT_32)))],
        Returns::Zero,
    ),
    op("vcpu_op.up", abi::UP, &[field("vcpuid", VCPU)], Returns::Zero),
    op("vcpu_op.down", abi::DOWN, &[field("vcpuid", VCPU)], Returns::Zero),
    op("vcpu_op.is_up", abi::IS_UP, &[field("vcpuid", VCPU)], Returns::Value),
    op(
        "vcpu_op.get_runstate_info",
        abi::GET_RUNSTATE_INFO,
        &[field("vcpuid", VCPU), field("arg", ptr_out(&Type::Struct(&RUNSTATE)))],
        Returns::Zero,
    ),
    op(
        "vcpu_op.register_runstate_memory_area",
        abi::REGISTER_RUNSTATE_MEMORY_AREA,
        &[field("vcpuid", VCPU), field("arg", ptr_in(&Type::Struct(&RUNSTATE_AREA)))],
        Returns::Zero,
    ),
    op(
        "vcpu_op.set_periodic_timer",
        abi::SET_PERIODIC_TIMER,
        &[field("vcpuid", VCPU), field("arg", ptr_in(&Type::Struct(&PERIODIC)))],
        Returns::Zero,
    ),
    op("vcpu_op.stop_periodic_timer", abi::STOP_PERIODIC_TIMER, &[field("vcpuid", VCPU)], Returns::Zero),
    op(
        "vcpu_op.set_singleshot_timer",
        abi::SET_SINGLESHOT_TIMER,
        &[field("vcpuid", VCPU), field("arg", ptr_in(&Type::Struct(&SINGLESHOT)))],
        Returns::Zero,
    ),
    op("vcpu_op.stop_singleshot_timer", abi::STOP_SINGLESHOT_TIMER, &[field("vcpuid", VCPU)], Returns::Zero),
    op(
        "vcpu_op.register_vcpu_info",
        abi::REGISTER_VCPU_INFO,
        &[field("vcpuid", VCPU), field("arg", ptr_in(&Type::Struct(&REGISTER_INFO)))],
        Returns::Zero,
    ),
    op(
        "vcpu_op.send_nmi",
        abi::SEND_NMI,
        &[field("vcpuid", VCPU), field("arg", int(8, Kind::Const(0)))],
        Returns::Zero,
    ),
    op(
        "vcpu_op.get_physid",
        abi::GET_PHYSID,
        &[field("vcpuid", VCPU), field("arg", ptr_out(&Type::Struct(&PHYSID)))],
        Returns::Zero,
    ),
    op(
        "vcpu_op.register_vcpu_time_memory_area",
        abi::REGISTER_VCPU_TIME_MEMORY_AREA,
        &[field("vcpuid", VCPU), field("arg", ptr_in(&Type::Struct(&TIME_AREA)))],
        Returns::Zero,
    ),
    op(
        "vcpu_op.register_runstate_phys_area",
        abi::REGISTER_RUNSTATE_PHYS_AREA,
        &[field("vcpuid", VCPU), field("arg", ptr_in(&Type::Struct(&RUNSTATE_AREA)))],
        Returns::Zero,
    ),
    op(
        "vcpu_op.register_vcpu_time_phys_area",
        abi::REGISTER_VCPU_TIME_PHYS_AREA,
        &[field("vcpuid", VCPU), field("arg", ptr_in(&Type::Struct(&TIME_AREA)))],
        Returns::Zero,
    ),
];
