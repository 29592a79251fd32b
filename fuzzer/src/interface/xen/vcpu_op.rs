//! `vcpu_op` in pv domains: where a vCPU begins. Numbers: Xen `public/vcpu.h`, `public/arch-x86/xen.h`.

use xen_abi::{hypercall, vcpu as abi};

use super::super::types::*;

/// `vcpu_guest_context`, for `VCPUOP_initialise` and `XEN_DOMCTL_setvcpucontext`.
pub(super) const CONTEXT: StructType = StructType {
    name: "vcpu_guest_context",
    fields: &[
        field("fpu_ctxt", Type::Blob(512)),
        field("flags", int(8, Kind::Flags(FLAGS))),
        field("user_regs", Type::Blob(200)),
        field("trap_ctxt", Type::Blob(4096)),
        field("ldt_base", int(8, Kind::PageOf(""))),
        field("ldt_ents", int(8, Kind::Range(0, 4))),
        field("gdt_frames", FRAME),
        field("gdt_frames_rest", Type::Blob(120)),
        field("gdt_ents", int(8, Kind::Enum(&[("none", 0), ("few", 16), ("page", 512), ("all", 7168)]))),
        field("kernel_ss", int(8, Kind::Enum(&[("data", 0xe02b), ("null", 0)]))),
        field("kernel_sp", int(8, Kind::PageOf(""))),
        field("cr0", HEX64),
        field("cr1", int(8, Kind::Pte(&[0]))),
        field("cr2", int(8, Kind::Const(0))),
        field("cr3", int(8, Kind::Pte(&[0, super::super::TABLES_GFN << 12]))),
        field("cr4", int(8, Kind::Enum(&[("none", 0), ("pae", 0x20), ("many", 0x620)]))),
        field("cr_rest", Type::Blob(24)),
        field("debugreg", Type::Blob(64)),
        field("event_callback_eip", int(8, Kind::PageOf(""))),
        field("failsafe_callback_eip", int(8, Kind::PageOf(""))),
        field("syscall_callback_eip", int(8, Kind::PageOf(""))),
        field("vm_assist", int(8, Kind::Enum(&[("none", 0), ("all", 0x2f)]))),
        field("fs_base", int(8, Kind::PageOf(""))),
        field("gs_base_kernel", int(8, Kind::PageOf(""))),
        field("gs_base_user", int(8, Kind::PageOf(""))),
    ],
};
/// `VGCF_*`.
const FLAGS: &[Named] = &[
    ("i387_valid", 1),
    ("in_kernel", 4),
    ("failsafe_disables_events", 8),
    ("syscall_disables_events", 16),
    ("online", 32),
];

/// The operation.
pub(super) const OPERATIONS: &[Operation] = &[Operation {
    name: "vcpu_op.initialise_pv",
    number: hypercall::VCPU_OP as u32,
    select: Select::First(abi::INITIALISE as u64),
    args: &[field("vcpuid", int(4, Kind::Range(0, 2))), field("arg", ptr_in(&Type::Struct(&CONTEXT)))],
    results: &[],
    returns: Returns::Zero,
}];
