//! `physdev_op`: interrupts, ports and devices of the machine. Numbers: Xen `public/physdev.h`.

use xen_abi::hypercall;

use super::{super::types::*, one_pointer};

const NUMBER: u32 = hypercall::PHYSDEV_OP as u32;

const IRQ: Type = int(4, Kind::Range(0, 24));
/// Devices of a Q35 machine: 00:00.0, 00:1f.0, 00:1f.2, 00:1f.3, one that is not there.
const DEVFNS: &[Named] = &[("host", 0), ("lpc", 0xf8), ("sata", 0xfa), ("smbus", 0xfb), ("none", 0x28)];
const DEVFN8: Type = int(1, Kind::Enum(DEVFNS));
const BUS8: Type = int(1, Kind::Range(0, 1));
const SEG: Type = int(2, Kind::Const(0));
/// `MAP_PIRQ_TYPE_*`.
const PIRQ_TYPES: &[Named] = &[("msi", 0), ("gsi", 1), ("unknown", 2), ("msi_seg", 3), ("multi_msi", 4)];
/// The I/O APIC of a PC.
const APICS: &[Named] = &[("ioapic", 0xfec0_0000), ("none", 0)];
const ANY_PIRQ: Type = int(4, Kind::Enum(&[("any", 0xffff_ffff), ("p16", 16), ("p17", 17), ("p3", 3)]));

const APIC: StructType = StructType {
    name: "physdev_apic",
    fields: &[
        field("apic_physbase", int(8, Kind::Enum(APICS))),
        field("reg", int(4, Kind::Range(0, 0x40))),
        field("value", HEX32),
    ],
};
const IRQ_VECTOR: StructType = StructType {
    name: "physdev_irq",
    fields: &[field("irq", IRQ), field("vector", int(4, Kind::Range(0, 255)))],
};
const DEVICE: StructType = StructType {
    name: "physdev_pci_device",
    fields: &[field("seg", SEG), field("bus", BUS8), field("devfn", DEVFN8)],
};
const MANAGED: StructType =
    StructType { name: "physdev_manage_pci", fields: &[field("bus", BUS8), field("devfn", DEVFN8)] };
const EOI_FRAME: StructType = StructType { name: "physdev_pirq_eoi_gmfn", fields: &[field("gmfn", FRAME)] };

macro_rules! physdev {
    ($($name:literal = $number:literal, $layout:expr, [$($result:expr),*];)+) => {
        /// The sub-operations.
        pub(super) const OPERATIONS: &[Operation] = &[
            Operation {
                name: "physdev_op.unmask_notify",
                number: NUMBER,
                select: Select::First(4),
                args: &[field("arg", int(8, Kind::Const(0)))],
                results: &[],
                returns: Returns::Value,
            },
            $(one_pointer!($name, NUMBER, Select::First($number), $layout, [$($result),*])),+
        ];
    };
}

physdev! {
    "physdev_op.irq_status_query" = 5, StructType { name: "physdev_irq_status_query", fields: &[field("irq", IRQ), out("flags", HEX32)] }, [];
    "physdev_op.set_iopl" = 6, StructType { name: "physdev_set_iopl", fields: &[field("iopl", int(4, Kind::Range(0, 4)))] }, [];
    "physdev_op.set_iobitmap" = 7, StructType { name: "physdev_set_iobitmap", fields: &[field("bitmap", ptr_in(&Type::Bytes(8192))), field("nr_ports", int(4, Kind::Enum(&[("all", 65536), ("none", 0), ("few", 64), ("odd", 65537)])))] }, [];
    "physdev_op.apic_read" = 8, APIC, [];
    "physdev_op.apic_write" = 9, APIC, [];
    "physdev_op.alloc_irq_vector" = 10, IRQ_VECTOR, [];
    "physdev_op.free_irq_vector" = 11, IRQ_VECTOR, [];
    "physdev_op.eoi" = 12, StructType { name: "physdev_eoi", fields: &[field("irq", IRQ)] }, [];
    "physdev_op.map_pirq" = 13, StructType {
        name: "physdev_map_pirq",
        fields: &[
            field("domid", DOMAIN),
            field("type", int(4, Kind::Enum(PIRQ_TYPES))),
            field("index", IRQ),
            field("pirq", ANY_PIRQ),
            field("bus", int(4, Kind::Range(0, 1))),
            field("devfn", int(4, Kind::Enum(DEVFNS))),
            field("entry_nr", int(4, Kind::Range(0, 2))),
            field("table_base", int(8, Kind::Enum(&[("none", 0), ("window", 0xfe00_0000)]))),
        ],
    }, [gives("pirq", Resource::Number)];
    "physdev_op.unmap_pirq" = 14, StructType { name: "physdev_unmap_pirq", fields: &[field("domid", DOMAIN), field("pirq", ANY_PIRQ)] }, [];
    "physdev_op.manage_pci_add" = 15, MANAGED, [];
    "physdev_op.manage_pci_remove" = 16, MANAGED, [];
    "physdev_op.pirq_eoi_gmfn_v1" = 17, EOI_FRAME, [];
    "physdev_op.restore_msi" = 19, MANAGED, [];
    "physdev_op.manage_pci_add_ext" = 20, StructType {
        name: "physdev_manage_pci_ext",
        fields: &[field("bus", BUS8), field("devfn", DEVFN8), field("is_extfn", YES32), field("is_virtfn", YES32), field("physfn", Type::Struct(&PHYSFN))],
    }, [];
    "physdev_op.setup_gsi" = 21, StructType { name: "physdev_setup_gsi", fields: &[field("gsi", IRQ), field("triggering", YES8), field("polarity", YES8)] }, [];
    "physdev_op.get_free_pirq" = 23, StructType { name: "physdev_get_free_pirq", fields: &[field("type", int(4, Kind::Enum(PIRQ_TYPES))), out("pirq", U32)] }, [gives("pirq", Resource::Number)];
    "physdev_op.pci_mmcfg_reserved" = 24, StructType {
        name: "physdev_pci_mmcfg_reserved",
        fields: &[
            field("address", int(8, Kind::Enum(&[("q35", 0xb000_0000), ("low", 0x10_0000)]))),
            field("segment", SEG),
            field("start_bus", BUS8),
            field("end_bus", int(1, Kind::Enum(&[("all", 255), ("none", 0)]))),
            field("flags", int(4, Kind::Flags(&[("reserved", 1)]))),
        ],
    }, [];
    "physdev_op.pci_device_add" = 25, StructType {
        name: "physdev_pci_device_add",
        fields: &[
            field("seg", SEG),
            field("bus", BUS8),
            field("devfn", DEVFN8),
            field("flags", int(4, Kind::Flags(&[("extfn", 1), ("virtfn", 2), ("pxm", 4)]))),
            field("physfn", Type::Struct(&PHYSFN)),
            field("optarr", int(4, Kind::Range(0, 2))),
        ],
    }, [];
    "physdev_op.pci_device_remove" = 26, DEVICE, [];
    "physdev_op.restore_msi_ext" = 27, DEVICE, [];
    "physdev_op.pirq_eoi_gmfn_v2" = 28, EOI_FRAME, [];
    "physdev_op.dbgp_op" = 29, StructType {
        name: "physdev_dbgp_op",
        fields: &[field("op", int(1, Kind::Range(1, 2))), field("bus", int(1, Kind::Range(0, 1))), field("pci", Type::Struct(&DEVICE))],
    }, [];
    "physdev_op.prepare_msix" = 30, DEVICE, [];
    "physdev_op.release_msix" = 31, DEVICE, [];
}

const PHYSFN: StructType =
    StructType { name: "physfn", fields: &[field("bus", BUS8), field("devfn", DEVFN8)] };
