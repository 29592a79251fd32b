//! `domctl`: devices that are handed to a domain. Numbers: Xen `public/domctl.h`.

use xen_abi::hypercall;

use super::{
    super::{
        domctl::{DOMAIN_FIELD, PAD, VERSION, cmd},
        types::*,
    },
    domctl::{SIZE, domctl},
    member, one_pointer,
};

const NUMBER: u32 = hypercall::DOMCTL as u32;

/// Segment, bus, device and function in one number.
const SBDF: Type = int(4, Kind::Enum(&[("lpc", 0xf8), ("sata", 0xfa), ("host", 0), ("none", 0x28)]));
const DEVICE: Type = int(4, Kind::Const(0));
const IRQ: Type = int(4, Kind::Range(0, 24));

domctl! {
    "domctl.assign_device" = 37, "xen_domctl_assign_device", [field("dev", DEVICE), field("flags", int(4, Kind::Flags(&[("rdm_relaxed", 1)]))), field("machine_sbdf", SBDF)];
    "domctl.test_assign_device" = 45, "xen_domctl_assign_device", [field("dev", DEVICE), field("flags", ZERO32), field("machine_sbdf", SBDF)];
    "domctl.deassign_device" = 47, "xen_domctl_assign_device", [field("dev", DEVICE), field("flags", ZERO32), field("machine_sbdf", SBDF)];
    "domctl.get_device_group" = 50, "xen_domctl_get_device_group", [field("machine_sbdf", SBDF), field("max_sdevs", int(4, Kind::Range(0, 4))), out("num_sdevs", U32), field("sdev_array", ptr_out(&Type::Bytes(16)))];
    "domctl.bind_pci_irq" = 38, "xen_domctl_bind_pt_irq", [field("machine_irq", IRQ), field("irq_type", int(4, Kind::Range(0, 1))), field("bus", int(1, Kind::Const(0))), field("device", int(1, Kind::Range(0, 31))), field("intx", int(1, Kind::Range(0, 3)))];
    "domctl.bind_msi_irq" = 38, "xen_domctl_bind_pt_irq", [field("machine_irq", IRQ), field("irq_type", int(4, Kind::Range(2, 3))), field("gvec", int(1, Kind::Range(0x10, 0xff))), field("gflags", HEX32), field("gtable", HEX64)];
    "domctl.unbind_pt_irq" = 48, "xen_domctl_bind_pt_irq", [field("machine_irq", IRQ), field("irq_type", int(4, Kind::Range(0, 4))), field("bus", int(1, Kind::Const(0))), field("device", int(1, Kind::Range(0, 31))), field("intx", int(1, Kind::Range(0, 3)))];
}
