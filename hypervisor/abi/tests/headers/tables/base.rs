//! What belongs to no family: identifiers, error codes, hypercall numbers, shared info, boot, versions, multicalls.

use crate::table::Table;

pub(super) fn add(table: &mut Table) {
    table.include(&["xen.h", "errno.h", "elfnote.h", "features.h", "version.h"]);
    table.include(&["arch-x86/cpuid.h", "arch-x86/hvm/start_info.h"]);
    for (name, value) in [
        ("DOMID_SELF", xen_abi::DOMID_SELF),
        ("DOMID_FIRST_RESERVED", xen_abi::DOMID_FIRST_RESERVED),
        ("DOMID_INVALID", xen_abi::DOMID_INVALID),
    ] {
        let rust = table.name(name);
        table.check(rust, name.into(), value.into());
    }
    table.own("PAGE_SIZE", "of the processor");
    errors(table);
    start(table);
    hypercalls(table);
    boot(table);
    shared_info(table);
    versions(table);
    numbers!(table, console, { WRITE: "CONSOLEIO_write", READ: "CONSOLEIO_read", });
    structure!(table, multicall::Entry, "struct multicall_entry", { op, result, args });
}

fn errors(table: &mut Table) {
    variants!(table, errno::Errno, {
        Perm: "XEN_EPERM",
        Noent: "XEN_ENOENT",
        Srch: "XEN_ESRCH",
        Io: "XEN_EIO",
        Nxio: "XEN_ENXIO",
        TooBig: "XEN_E2BIG",
        Again: "XEN_EAGAIN",
        Nomem: "XEN_ENOMEM",
        Acces: "XEN_EACCES",
        Fault: "XEN_EFAULT",
        Busy: "XEN_EBUSY",
        Exist: "XEN_EEXIST",
        Xdev: "XEN_EXDEV",
        Nodev: "XEN_ENODEV",
        Inval: "XEN_EINVAL",
        Nospc: "XEN_ENOSPC",
        Rofs: "XEN_EROFS",
        Dom: "XEN_EDOM",
        Range: "XEN_ERANGE",
        Deadlk: "XEN_EDEADLK",
        Nosys: "XEN_ENOSYS",
        Nodata: "XEN_ENODATA",
        Overflow: "XEN_EOVERFLOW",
        Msgsize: "XEN_EMSGSIZE",
        Opnotsupp: "XEN_EOPNOTSUPP",
        Nobufs: "XEN_ENOBUFS",
        Connrefused: "XEN_ECONNREFUSED",
    });
}

fn hypercalls(table: &mut Table) {
    numbers!(table, hypercall, {
        MEMORY_OP: "__HYPERVISOR_memory_op",
        MMUEXT_OP: "__HYPERVISOR_mmuext_op",
        MULTICALL: "__HYPERVISOR_multicall",
        UPDATE_VA_MAPPING_OTHERDOMAIN: "__HYPERVISOR_update_va_mapping_otherdomain",
        SET_TIMER_OP: "__HYPERVISOR_set_timer_op",
        XEN_VERSION: "__HYPERVISOR_xen_version",
        CONSOLE_IO: "__HYPERVISOR_console_io",
        GRANT_TABLE_OP: "__HYPERVISOR_grant_table_op",
        VM_ASSIST: "__HYPERVISOR_vm_assist",
        VCPU_OP: "__HYPERVISOR_vcpu_op",
        XSM_OP: "__HYPERVISOR_xsm_op",
        SCHED_OP: "__HYPERVISOR_sched_op",
        EVENT_CHANNEL_OP: "__HYPERVISOR_event_channel_op",
        PHYSDEV_OP: "__HYPERVISOR_physdev_op",
        HVM_OP: "__HYPERVISOR_hvm_op",
        SYSCTL: "__HYPERVISOR_sysctl",
        DOMCTL: "__HYPERVISOR_domctl",
        ARGO_OP: "__HYPERVISOR_argo_op",
        DM_OP: "__HYPERVISOR_dm_op",
        HYPFS_OP: "__HYPERVISOR_hypfs_op",
        ARCH_6: "__HYPERVISOR_arch_6",
        ARCH_7: "__HYPERVISOR_arch_7",
    });
    table.own("hypercall::COUNT", "a page of stubs of 32 bytes; the headers say it in prose");
}

fn boot(table: &mut Table) {
    numbers!(table, cpuid, {
        BASE: "XEN_CPUID_LEAF(0)",
        VERSION: "XEN_CPUID_LEAF(1)",
        HYPERCALL: "XEN_CPUID_LEAF(2)",
        TIME: "XEN_CPUID_LEAF(3)",
        HVM: "XEN_CPUID_LEAF(4)",
        PV: "XEN_CPUID_LEAF(5)",
        LAST: "XEN_CPUID_LEAF(XEN_CPUID_MAX_NUM_LEAVES)",
        SIGNATURE_EBX: "XEN_CPUID_SIGNATURE_EBX",
        SIGNATURE_ECX: "XEN_CPUID_SIGNATURE_ECX",
        SIGNATURE_EDX: "XEN_CPUID_SIGNATURE_EDX",
        HVM_VCPU_ID_PRESENT: "XEN_HVM_CPUID_VCPU_ID_PRESENT",
        HVM_DOMID_PRESENT: "XEN_HVM_CPUID_DOMID_PRESENT",
    });
    table.own("cpuid::MSR_HYPERCALL", "leaf 2 says where it is; Xen's choice is not in a public header");
    numbers!(table, elfnote, { PHYS32_ENTRY: "XEN_ELFNOTE_PHYS32_ENTRY", });
    table.own("elfnote::NAME", "a text; the headers say it in prose");
    numbers!(table, start_info, {
        MAGIC: "XEN_HVM_START_MAGIC_VALUE",
        MEMMAP_RAM: "XEN_HVM_MEMMAP_TYPE_RAM",
        MEMMAP_RESERVED: "XEN_HVM_MEMMAP_TYPE_RESERVED",
    });
    table.own("start_info::VERSION", "the headers say it in prose");
    structure!(table, start_info::StartInfo, "struct hvm_start_info", {
        magic, version, flags, nr_modules, modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr, memmap_entries,
        reserved,
    });
    structure!(table, start_info::Module, "struct hvm_modlist_entry", {
        paddr, size, cmdline_paddr, reserved,
    });
    structure!(table, start_info::MemmapEntry, "struct hvm_memmap_table_entry", {
        addr, size, kind: "type", reserved,
    });
}

fn shared_info(table: &mut Table) {
    numbers!(table, shared_info, {
        VCPU_INFO: "offsetof(struct shared_info, vcpu_info)",
        VCPU_INFO_LEN: "sizeof(struct vcpu_info)",
        LEGACY_MAX_VCPUS: "XEN_LEGACY_MAX_VCPUS",
        UPCALL_PENDING: "offsetof(struct vcpu_info, evtchn_upcall_pending)",
        UPCALL_MASK: "offsetof(struct vcpu_info, evtchn_upcall_mask)",
        PENDING_SEL: "offsetof(struct vcpu_info, evtchn_pending_sel)",
        TIME: "offsetof(struct vcpu_info, time)",
        TIME_VERSION: "offsetof(struct vcpu_info, time.version)",
        TIME_TSC: "offsetof(struct vcpu_info, time.tsc_timestamp)",
        TIME_SYSTEM: "offsetof(struct vcpu_info, time.system_time)",
        TIME_MUL: "offsetof(struct vcpu_info, time.tsc_to_system_mul)",
        PENDING: "offsetof(struct shared_info, evtchn_pending)",
        MASK: "offsetof(struct shared_info, evtchn_mask)",
        WALLCLOCK: "offsetof(struct shared_info, wc_version)",
        LEN: "sizeof(struct shared_info)",
    });
}

fn versions(table: &mut Table) {
    numbers!(table, version, {
        VERSION: "XENVER_version",
        EXTRAVERSION: "XENVER_extraversion",
        COMPILE_INFO: "XENVER_compile_info",
        CAPABILITIES: "XENVER_capabilities",
        CHANGESET: "XENVER_changeset",
        PLATFORM_PARAMETERS: "XENVER_platform_parameters",
        GET_FEATURES: "XENVER_get_features",
        PAGESIZE: "XENVER_pagesize",
        GUEST_HANDLE: "XENVER_guest_handle",
        COMMANDLINE: "XENVER_commandline",
        BUILD_ID: "XENVER_build_id",
        FEAT_AUTO_TRANSLATED_PHYSMAP: "XENFEAT_auto_translated_physmap",
        FEAT_HVM_CALLBACK_VECTOR: "XENFEAT_hvm_callback_vector",
        FEAT_HVM_SAFE_PVCLOCK: "XENFEAT_hvm_safe_pvclock",
        FEAT_MEMORY_OP_VNODE: "XENFEAT_memory_op_vnode_supported",
        FEAT_NOT_DIRECT_MAPPED: "XENFEAT_not_direct_mapped",
        FEAT_NR_SUBMAPS: "XENFEAT_NR_SUBMAPS",
        EXTRAVERSION_LEN: "sizeof(xen_extraversion_t)",
        CAPABILITIES_LEN: "sizeof(xen_capabilities_info_t)",
        CHANGESET_LEN: "sizeof(xen_changeset_info_t)",
        COMMANDLINE_LEN: "sizeof(xen_commandline_t)",
        HANDLE_LEN: "sizeof(xen_domain_handle_t)",
    });
    structure!(table, version::CompileInfo, "struct xen_compile_info", {
        compiler, compile_by, compile_domain, compile_date,
    });
    structure!(table, version::FeatureInfo, "struct xen_feature_info", { submap_idx, submap });
    structure!(table, version::BuildId, "struct xen_build_id", { len });
}

/// What guests of several kinds need at the start.
fn start(table: &mut Table) {
    numbers!(table, hypercall, {
        IRET: "__HYPERVISOR_iret",
        SET_SEGMENT_BASE: "__HYPERVISOR_set_segment_base",
        SET_TRAP_TABLE: "__HYPERVISOR_set_trap_table",
    });
    table.own("shared_info::SHARED_INFO_GPA", "a choice of this hypervisor");
    numbers!(table, start_info, {
        SIF_INITDOMAIN: "SIF_INITDOMAIN",
        SIF_PRIVILEGED: "SIF_PRIVILEGED",
    });
    numbers!(table, elfnote, {
        ENTRY: "XEN_ELFNOTE_ENTRY",
    });
    table.own("PAGE_SHIFT", "of the processor");
}
