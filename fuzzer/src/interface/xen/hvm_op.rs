//! What `hvm_op` has beyond the reference hypervisor. Numbers: Xen `public/hvm/hvm_op.h`.

use xen_abi::hypercall;

use super::{super::types::*, one_pointer};

const NUMBER: u32 = hypercall::HVM_OP as u32;
const LEVEL: Type = YES8;

macro_rules! hvm {
    ($($name:literal = $number:literal, $layout:expr;)+) => {
        /// The sub-operations.
        pub(super) const OPERATIONS: &[Operation] = &[$(one_pointer!($name, NUMBER, Select::First($number), $layout, [])),+];
    };
}

hvm! {
    "hvm_op.set_pci_intx_level" = 2, StructType { name: "xen_hvm_set_pci_intx_level", fields: &[field("domid", TARGET), field("domain", int(1, Kind::Const(0))), field("bus", int(1, Kind::Const(0))), field("device", int(1, Kind::Range(0, 31))), field("intx", int(1, Kind::Range(0, 3))), field("level", LEVEL)] };
    "hvm_op.set_isa_irq_level" = 3, StructType { name: "xen_hvm_set_isa_irq_level", fields: &[field("domid", TARGET), field("isa_irq", int(1, Kind::Range(0, 15))), field("level", LEVEL)] };
    "hvm_op.set_pci_link_route" = 4, StructType { name: "xen_hvm_set_pci_link_route", fields: &[field("domid", TARGET), field("link", int(1, Kind::Range(0, 3))), field("isa_irq", int(1, Kind::Range(0, 15)))] };
    "hvm_op.xentrace" = 11, StructType { name: "xen_hvm_xentrace", fields: &[field("event", int(2, Kind::Range(0, 0xfff))), field("extra_bytes", int(2, Kind::Range(0, 28))), field("extra", Type::Blob(28))] };
    "hvm_op.set_mem_access" = 12, StructType { name: "xen_hvm_get_mem_type", fields: &[field("domid", TARGET), out("mem_type", int(2, Kind::Plain)), out("pad", Type::Blob(4)), field("pfn", FRAME)] };
    "hvm_op.altp2m_state" = 25, StructType { name: "xen_hvm_altp2m_op", fields: &[field("version", int(4, Kind::Const(1))), field("cmd", int(4, Kind::Range(1, 16))), field("domain", TARGET), field("pad1", int(2, Kind::Const(0))), field("pad2", ZERO32), field("state", YES8), field("rest", Type::Blob(71))] };
}
