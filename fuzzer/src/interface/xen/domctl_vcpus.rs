//! `domctl`: the vCPUs of a domain. Numbers: Xen `public/domctl.h`.

use xen_abi::hypercall;

use super::{
    super::{
        domctl::{DOMAIN_FIELD, PAD, VERSION, cmd},
        types::*,
    },
    domctl::{BITMAP, SIZE, domctl},
    member, one_pointer,
    vcpu_op::CONTEXT,
};

const NUMBER: u32 = hypercall::DOMCTL as u32;

const VCPU_FIELD: Field = field("vcpu", VCPU);
const AFFINITY: &[Named] = &[("hard", 1), ("soft", 2), ("force", 4)];
/// `struct xen_domctl_vcpu_msr`.
const MSR: StructType = StructType {
    name: "xen_domctl_vcpu_msr",
    fields: &[
        field(
            "index",
            int(
                4,
                Kind::Enum(&[
                    ("dr0_mask", 0xc001_1027),
                    ("spec_ctrl", 0x48),
                    ("tsc_aux", 0xc000_0103),
                    ("misc_features", 0x140),
                ]),
            ),
        ),
        field("reserved", ZERO32),
        field("value", HEX64),
    ],
};

domctl! {
    "domctl.setvcpuaffinity" = 9, "xen_domctl_vcpuaffinity", [VCPU_FIELD, field("flags", int(4, Kind::Flags(AFFINITY))), field("cpumap_hard", Type::Struct(&BITMAP)), field("cpumap_soft", Type::Struct(&BITMAP))];
    "domctl.getvcpuaffinity" = 25, "xen_domctl_vcpuaffinity", [VCPU_FIELD, field("flags", int(4, Kind::Flags(AFFINITY))), field("cpumap_hard", Type::Struct(&BITMAP)), field("cpumap_soft", Type::Struct(&BITMAP))];
    "domctl.setvcpucontext" = 12, "xen_domctl_vcpucontext", [VCPU_FIELD, field("ctxt", ptr_in(&Type::Struct(&CONTEXT)))];
    "domctl.getvcpucontext" = 13, "xen_domctl_vcpucontext", [VCPU_FIELD, field("ctxt", ptr_out(&Type::Bytes(5168)))];
    "domctl.sendtrigger" = 28, "xen_domctl_sendtrigger", [field("trigger", int(4, Kind::Range(0, 4))), VCPU_FIELD];
    "domctl.set_ext_vcpucontext" = 42, "xen_domctl_ext_vcpucontext", [
        VCPU_FIELD, field("size", int(4, Kind::Enum(&[("whole", 64), ("short", 32), ("none", 0)]))), field("syscall32_callback_eip", int(8, Kind::PageOf(""))), field("sysenter_callback_eip", int(8, Kind::PageOf(""))),
        field("syscall32_callback_cs", int(2, Kind::Enum(&[("code32", 0xe023), ("null", 0)]))), field("sysenter_callback_cs", int(2, Kind::Enum(&[("code32", 0xe023), ("null", 0)]))), field("syscall32_disables_events", YES8), field("sysenter_disables_events", YES8), field("mcg_cap", HEX64),
    ];
    "domctl.get_ext_vcpucontext" = 43, "xen_domctl_ext_vcpucontext", [VCPU_FIELD, out("size", U32)];
    "domctl.debug_op" = 54, "xen_domctl_debug_op", [field("op", int(4, Kind::Range(0, 3))), VCPU_FIELD];
    "domctl.gettscinfo" = 59, "xen_domctl_tsc_info", [out("tsc_mode", U32), out("gtsc_khz", U32), out("incarnation", U32), out("pad1", U32), out("elapsed_nsec", U64)];
    "domctl.settscinfo" = 60, "xen_domctl_tsc_info", [field("tsc_mode", int(4, Kind::Range(0, 3))), field("gtsc_khz", int(4, Kind::Enum(&[("ghz", 1_000_000), ("zero", 0), ("one", 1)]))), field("incarnation", int(4, Kind::Range(0, 2))), field("pad1", ZERO32), field("elapsed_nsec", U64)];
    "domctl.setvcpuextstate" = 62, "xen_domctl_vcpuextstate", [VCPU_FIELD, field("xfeature_mask", int(8, Kind::Range(0, 7))), field("size", int(8, Kind::Len("buffer"))), field("buffer", ptr_in(&Type::Bytes(592)))];
    "domctl.getvcpuextstate" = 63, "xen_domctl_vcpuextstate", [VCPU_FIELD, field("xfeature_mask", int(8, Kind::Range(0, 7))), field("size", int(8, Kind::Enum(&[("ask", 0), ("usual", 592)]))), field("buffer", ptr_out(&Type::Bytes(1024)))];
    "domctl.get_vcpu_msrs" = 72, "xen_domctl_vcpu_msrs", [VCPU_FIELD, field("msr_count", int(4, Kind::Range(0, 8))), field("msrs", ptr_out(&Type::Bytes(128)))];
    "domctl.set_vcpu_msrs" = 73, "xen_domctl_vcpu_msrs", [VCPU_FIELD, field("msr_count", int(4, Kind::Len("msrs"))), field("msrs", ptr_in(&Type::Array(&Type::Struct(&MSR))))];
    "domctl.monitor_op" = 77, "xen_domctl_monitor_op", [field("op", int(4, Kind::Range(0, 4))), field("event", int(4, Kind::Range(0, 12))), field("index", int(1, Kind::Range(0, 4))), field("sync", YES8), field("onchangeonly", YES8), field("pad1", int(1, Kind::Const(0))), field("pad2", ZERO32), field("bitmask", HEX64)];
    "domctl.vmtrace_op" = 84, "xen_domctl_vmtrace_op", [field("cmd1", int(4, Kind::Range(1, 6))), VCPU_FIELD, field("key", U64), field("value", U64)];
    "domctl.gdbsx_pausevcpu" = 1001, "xen_domctl_gdbsx_pauseunp_vcpu", [VCPU_FIELD];
    "domctl.gdbsx_unpausevcpu" = 1002, "xen_domctl_gdbsx_pauseunp_vcpu", [VCPU_FIELD];
}
