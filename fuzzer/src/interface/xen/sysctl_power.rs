//! `sysctl`: the power of processors. Numbers: Xen `public/sysctl.h`.

use xen_abi::hypercall;

use super::{
    super::{
        sysctl::{VERSION, cmd},
        types::*,
    },
    member, one_pointer,
    sysctl::{SIZE, sysctl},
};

const NUMBER: u32 = hypercall::SYSCTL as u32;

const CPU: Type = int(4, Kind::Range(0, 1));
/// `PMSTAT_*` without those that have a structure of their own.
const STATS: &[Named] = &[("max_px", 0x11), ("reset_px", 0x13), ("max_cx", 0x21), ("reset_cx", 0x23)];
/// `XEN_SYSCTL_pm_op_*` with one number.
const COMMANDS: &[Named] = &[
    ("get_avgfreq", 0x14),
    ("set_sched_opt_smt", 0x21),
    ("get_max_cstate", 0x22),
    ("set_max_cstate", 0x23),
    ("set_vcpu_migration_delay", 0x24),
    ("get_vcpu_migration_delay", 0x25),
    ("enable_turbo", 0x26),
    ("disable_turbo", 0x27),
];

sysctl! {
    "sysctl.get_pmstat" = 10, "xen_sysctl_get_pmstat", [field("type", int(4, Kind::Enum(STATS))), field("cpuid", CPU), out("count", U32)];
    "sysctl.get_pxstat" = 10, "xen_sysctl_get_pmstat", [field("type", int(4, Kind::Const(0x12))), field("cpuid", CPU), field("total", int(1, Kind::Range(0, 4))), out("usable", U8), out("last", U8), out("cur", U8), field("trans_pt", ptr_out(&Type::Bytes(128))), field("pt", ptr_out(&Type::Bytes(96)))];
    "sysctl.get_cxstat" = 10, "xen_sysctl_get_pmstat", [field("type", int(4, Kind::Const(0x22))), field("cpuid", CPU), field("nr", int(4, Kind::Range(0, 8))), out("last", U32), out("idle_time", U64), field("triggers", ptr_out(&Type::Bytes(64))), field("residencies", ptr_out(&Type::Bytes(64))), field("nr_pc", int(4, Kind::Range(0, 4))), field("nr_cc", int(4, Kind::Range(0, 4))), field("pc", ptr_out(&Type::Bytes(32))), field("cc", ptr_out(&Type::Bytes(32)))];
    "sysctl.pm_op" = 12, "xen_sysctl_pm_op", [field("op", int(4, Kind::Enum(COMMANDS))), field("cpuid", CPU), field("value", int(8, Kind::Range(0, 4)))];
    "sysctl.get_cpufreq" = 12, "xen_sysctl_pm_op", [field("op", int(4, Kind::Const(0x11))), field("cpuid", CPU), field("cpu_num", int(4, Kind::Range(0, 2))), field("freq_num", int(4, Kind::Range(0, 4))), field("gov_num", int(4, Kind::Range(0, 4))), field("affected_cpus", ptr_out(&Type::Bytes(16))), field("frequencies", ptr_out(&Type::Bytes(16))), field("governors", ptr_out(&Type::Bytes(64)))];
    "sysctl.set_cpufreq_gov" = 12, "xen_sysctl_pm_op", [field("op", int(4, Kind::Const(0x12))), field("cpuid", CPU), field("scaling_governor", Type::Blob(16))];
    "sysctl.set_cpufreq_para" = 12, "xen_sysctl_pm_op", [field("op", int(4, Kind::Const(0x13))), field("cpuid", CPU), field("ctrl_type", int(4, Kind::Range(1, 5))), field("ctrl_value", U32)];
}
