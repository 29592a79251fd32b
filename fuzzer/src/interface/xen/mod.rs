//! What only Xen itself has: hypercalls of pv domains, of the control domain, and what the families of the reference hypervisor
//! have beyond it. Layouts are those of Xen 4.17's public headers; numbers stand beside what they select.

mod agent;
mod callback_op;
mod dm_op;
mod domctl;
mod domctl_devices;
mod domctl_vcpus;
mod grant_table_op;
mod hvm_op;
mod hypfs_op;
mod kexec_op;
mod mca;
mod memory_op;
mod mmu_update;
mod mmuext_op;
mod nmi_op;
mod obsolete;
mod physdev_op;
pub(super) mod platform_op;
mod pv_cpu;
mod sysctl;
mod sysctl_power;
mod update_va_mapping;
mod vcpu_op;
mod xenpmu_op;
mod xsm_op;

use super::{Family, Named, targets::Denied};

/// The families, with their share in generated programs. Where the reference hypervisor has one of the same name, these join it.
pub const FAMILIES: &[Family] = &[
    ("mmu_update", 14, mmu_update::OPERATIONS),
    ("mmuext_op", 14, mmuext_op::OPERATIONS),
    ("update_va_mapping", 8, update_va_mapping::OPERATIONS),
    ("pv_cpu", 5, pv_cpu::OPERATIONS),
    ("callback_op", 2, callback_op::OPERATIONS),
    ("nmi_op", 1, nmi_op::OPERATIONS),
    ("physdev_op", 6, physdev_op::OPERATIONS),
    ("platform_op", 4, platform_op::OPERATIONS),
    ("hypfs_op", 2, hypfs_op::OPERATIONS),
    ("kexec_op", 2, kexec_op::OPERATIONS),
    ("xenpmu_op", 1, xenpmu_op::OPERATIONS),
    ("xsm_op", 1, xsm_op::OPERATIONS),
    ("mca", 1, mca::OPERATIONS),
    ("obsolete", 1, obsolete::OPERATIONS),
    ("domctl", 0, domctl::CREATE_OPERATIONS),
    ("domctl", 0, domctl::OPERATIONS),
    ("domctl", 0, domctl_devices::OPERATIONS),
    ("domctl", 0, domctl_vcpus::OPERATIONS),
    ("sysctl", 0, sysctl::OPERATIONS),
    ("sysctl", 0, sysctl_power::OPERATIONS),
    ("memory_op", 0, memory_op::OPERATIONS),
    ("grant_table_op", 0, grant_table_op::OPERATIONS),
    ("hvm_op", 0, hvm_op::OPERATIONS),
    ("dm_op", 0, dm_op::OPERATIONS),
    ("vcpu_op", 0, vcpu_op::OPERATIONS),
    ("agent", 0, agent::OPERATIONS),
];

/// What has no description at all, as it would end the machine or the agent whenever it succeeds, or cannot be used from an agent.
/// The names are those of Xen's headers.
pub const NOT_DESCRIBED: &[Denied] = &[
    ("iret", "takes its frame from the stack of the caller, which is the agent's own"),
    ("platform_op.enter_acpi_sleep", "the machine sleeps or is off"),
    ("platform_op.microcode_update", "changes the processor"),
    ("platform_op.cpu_offline", "takes processors away; there is one"),
    ("platform_op.cpu_hotadd", "adds a processor that does not exist"),
    ("platform_op.core_parking", "takes processors away"),
    ("sysctl.cpu_hotplug", "takes processors away"),
    ("kexec_op.kexec", "starts another kernel in place of Xen"),
    ("mca.mceinject", "raises a machine check, which ends the machine"),
    ("mca.msrinject", "pretends a machine check, which ends the machine"),
    ("obsolete.sched_op", "the old number of `sched_op`, with its ways to end the domain"),
    ("sysctl.debug_keys R, C", "restart and crash; the other keys are in the table"),
    ("domctl.vuart_op", "ARM only"),
    ("domctl.cacheflush", "ARM only; on x86 an unknown number"),
];

/// What has a description, as an unprivileged domain may ask for it, and is left out where it works.
pub const ENDS: &[Denied] = &[
    ("sysctl.livepatch_apply", "runs code that the caller gives"),
    (
        "mmuext_op.new_baseptr",
        "the agent is gone unless the new tables map it: `mmuext_op.own_baseptr` has those that do",
    ),
];

/// Virtual addresses of pages of the playground, beside two that are none.
const PAGES: &[Named] = &[
    ("page0", 0x28_0000),
    ("page1", 0x28_1000),
    ("page2", 0x28_2000),
    ("page3", 0x28_3000),
    ("page4", 0x28_4000),
    ("page5", 0x28_5000),
    ("page6", 0x28_6000),
    ("page7", 0x28_7000),
    ("hole", 0x40_0000),
    ("xen", 0xffff_82d0_4020_0000),
];

/// Where a program lets its grant table appear: a page of the playground that nothing else names.
const GRANTS_AT: u64 = 0x2f_0000;

/// Flags of entries of page tables (AMD APM volume 2, section 5.4): present, writable, user, accessed, dirty.
const PTE: &[u64] = &[0x67, 0x67, 0x65, 0x25, 0x63, 0x7, 0xe7, 0x77, 0x27, 1 << 63 | 0x67];
/// The same without the right to write.
const PTE_READ: &[u64] = &[0x65, 0x65, 0x25, 0x5, 0x61, 1 << 63 | 0x65];

/// A structure that holds one member of a union: its head, its fields, and what is left of the union's size as bytes.
macro_rules! member {
    ($name:literal, $size:expr, [$($head:expr),+ $(,)?], [$($field:expr),* $(,)?]) => {{
        const FIELDS: &[Field] = &[$($head,)+ $($field),*];
        StructType {
            name: $name,
            fields: &[$($head,)+ $($field,)* out("rest", Type::Blob(($size - end_of(FIELDS)) as u32))],
        }
    }};
}
use member;

/// An operation with one argument: a pointer to this structure.
macro_rules! one_pointer {
    ($name:expr, $number:expr, $select:expr, $layout:expr, [$($result:expr),* $(,)?]) => {{
        const LAYOUT: StructType = $layout;
        const ARGS: &[Field] = &[field("arg", ptr_inout(&Type::Struct(&LAYOUT)))];
        const RESULTS: &[ResultSpec] = &[$($result),*];
        Operation { name: $name, number: $number, select: $select, args: ARGS, results: RESULTS, returns: Returns::Value }
    }};
}
use one_pointer;

#[cfg(test)]
mod tests {
    use xen_abi::pv::{GuestContext, TrapInfo};

    use super::*;
    use crate::interface::{StructType, Type, known};

    /// The structure that the first pointer among the arguments leads to.
    fn layout(name: &str) -> &'static StructType {
        let op = known().by_name(name).unwrap_or_else(|| panic!("no {name}"));
        let found = op.args.iter().find_map(|field| match field.ty {
            Type::Ptr { to: Type::Struct(layout) | Type::Array(Type::Struct(layout)), .. } => Some(*layout),
            _ => None,
        });
        found.unwrap_or_else(|| panic!("{name} takes no structure"))
    }

    /// Sizes and offsets as a C compiler gives them for the public headers of Xen 4.17.
    #[test]
    fn layouts_are_those_of_the_headers() {
        for (name, size, fields) in [
            ("mmu_update.normal", 16, &[("table", 0), ("val", 8)][..]),
            ("mmuext_op.copy_page", 24, &[("mfn", 8), ("src_mfn", 16)]),
            ("mmuext_op.set_ldt", 24, &[("table", 8), ("nr_ents", 16)]),
            ("callback_op.register", 16, &[("flags", 2), ("address", 8)]),
            ("nmi_op.register_callback", 16, &[("handler_address", 0)]),
            ("physdev_op.map_pirq", 40, &[("type", 4), ("entry_nr", 24), ("table_base", 32)]),
            ("physdev_op.set_iobitmap", 16, &[("nr_ports", 8)]),
            ("physdev_op.apic_read", 16, &[("reg", 8), ("value", 12)]),
            ("physdev_op.pci_device_add", 16, &[("flags", 4), ("physfn", 8), ("optarr", 12)]),
            ("physdev_op.pci_mmcfg_reserved", 16, &[("segment", 8), ("flags", 12)]),
            ("kexec_op.kexec_get_range", 24, &[("size", 8), ("start", 16)]),
            (
                "kexec_op.kexec_load",
                24,
                &[("arch", 2), ("nr_segments", 4), ("segments", 8), ("entry_maddr", 16)],
            ),
            ("xenpmu_op.init", 24, &[("val", 8), ("vcpu", 16)]),
            ("memory_op.access_op", 32, &[("domid", 2), ("nr", 4), ("pfn", 8), ("pfn_list", 16)]),
            ("memory_op.get_vnumainfo", 40, &[("nr_vnodes", 4), ("vdistance", 16), ("vmemrange", 32)]),
            ("domctl.create_guest", 144, &[("handle", 20), ("flags", 36), ("emulation_flags", 72)]),
            ("domctl.setvcpuaffinity", 144, &[("vcpu", 16), ("cpumap_hard", 24), ("cpumap_soft", 40)]),
            ("domctl.shadow_op", 144, &[("mb", 24), ("dirty_bitmap", 32), ("pages", 40)]),
            ("domctl.get_cpu_policy", 144, &[("leaves", 24), ("msrs", 32), ("err_msr", 48)]),
            ("sysctl.readconsole", 136, &[("index", 12), ("buffer", 16), ("count", 24)]),
            ("sysctl.tbuf_op", 136, &[("cpu_mask", 16), ("buffer_mfn", 40), ("size", 48)]),
            ("sysctl.availheap", 136, &[("node", 16), ("avail_bytes", 24)]),
            ("sysctl.cpupool_create", 136, &[("cpupool_id", 12), ("cpumap", 32)]),
            ("platform_op.get_symbol", 136, &[("symnum", 12), ("name", 16), ("address", 24), ("type", 32)]),
            ("platform_op.getidletime", 136, &[("cpumap_nr_cpus", 16), ("idletime", 24), ("now", 32)]),
            (
                "platform_op.set_pminfo_px",
                136,
                &[("control_register", 24), ("states", 64), ("shared_type", 112)],
            ),
        ] {
            let layout = layout(name);
            assert_eq!(layout.size(), size, "{name}");
            for (field, expected) in fields {
                let mut offsets = layout.fields.iter().zip(layout.offsets());
                let found = offsets.find(|(known, _)| known.name == *field).map(|(_, offset)| offset);
                assert_eq!(found, Some(*expected), "{name}: {field}");
            }
        }
    }

    #[test]
    fn registers_of_a_guest_are_those_of_the_abi() {
        assert_eq!(layout("pv_cpu.set_trap_table").size(), size_of::<TrapInfo>());
        let context = layout("vcpu_op.initialise_pv");
        assert_eq!(context.size(), size_of::<GuestContext>());
        let offset = |name: &str| {
            let mut offsets = context.fields.iter().zip(context.offsets());
            offsets.find(|(field, _)| field.name == name).map(|(_, offset)| offset)
        };
        assert_eq!(offset("trap_ctxt"), Some(core::mem::offset_of!(GuestContext, traps)));
        assert_eq!(offset("gdt_ents"), Some(core::mem::offset_of!(GuestContext, gdt_ents)));
        assert_eq!(offset("cr0"), Some(core::mem::offset_of!(GuestContext, ctrlreg)));
        assert_eq!(
            offset("event_callback_eip"),
            Some(core::mem::offset_of!(GuestContext, event_callback_eip))
        );
    }

    #[test]
    fn what_is_not_described_has_a_reason_and_no_description() {
        for (name, why) in NOT_DESCRIBED {
            assert!(!why.is_empty() && known().by_name(name).is_none(), "{name}");
        }
    }
}
