//! `mca`: machine checks, for the control domain. Numbers: Xen `public/arch-x86/xen-mca.h`.

use super::{super::types::*, member};

/// `__HYPERVISOR_mca`, which is `__HYPERVISOR_arch_0`.
const NUMBER: u32 = 48;

/// `XEN_MCA_INTERFACE_VERSION`.
const VERSION: Field = field("interface_version", int(4, Kind::Const(0x01ec_c003)));

const fn cmd(number: u64) -> Field {
    field("cmd", int(4, Kind::Const(number)))
}
/// `XEN_MC_URGENT`, `XEN_MC_NONURGENT`, `XEN_MC_ACK`.
const FLAGS: Type = int(4, Kind::Flags(&[("nonurgent", 1), ("urgent", 2), ("ack", 4)]));
/// Bytes of `struct xen_mc`.
const SIZE: usize = 152;

const FETCH: StructType = member!(
    "xen_mc",
    SIZE,
    [cmd(1), VERSION],
    [field("flags", FLAGS), ZERO_PAD, out("fetch_id", U64), field("data", ptr_out(&Type::Bytes(768))),]
);
const NOTIFY: StructType = member!(
    "xen_mc",
    SIZE,
    [cmd(2), VERSION],
    [field("mc_domid", DOMAIN), field("mc_vcpuid", int(2, Kind::Range(0, 1))), field("flags", FLAGS),]
);
const CPUS: StructType = member!(
    "xen_mc",
    SIZE,
    [cmd(3), VERSION],
    [field("ncpus", int(4, Kind::Range(0, 2))), ZERO_PAD, field("info", ptr_out(&Type::Bytes(1024))),]
);
/// `XEN_MC_inject_v2` without the types that raise a machine check.
const INJECT: StructType = member!(
    "xen_mc",
    SIZE,
    [cmd(6), VERSION],
    [
        field("flags", int(4, Kind::Enum(&[("cmci", 1), ("cmci_broadcast", 1 | 8)]))),
        field("cpumap", ptr_in(&Type::Bytes(8))),
        field("nr_bits", int(4, Kind::Range(0, 64))),
    ]
);
const ZERO_PAD: Field = field("_pad0", ZERO32);

const fn op(name: &'static str, args: &'static [Field]) -> Operation {
    Operation { name, number: NUMBER, select: Select::Whole, args, results: &[], returns: Returns::Value }
}

/// The commands.
pub(super) const OPERATIONS: &[Operation] = &[
    op("mca.fetch", &[field("arg", ptr_inout(&Type::Struct(&FETCH)))]),
    op("mca.notifydomain", &[field("arg", ptr_inout(&Type::Struct(&NOTIFY)))]),
    op("mca.physcpuinfo", &[field("arg", ptr_inout(&Type::Struct(&CPUS)))]),
    op("mca.inject_v2", &[field("arg", ptr_inout(&Type::Struct(&INJECT)))]),
];
