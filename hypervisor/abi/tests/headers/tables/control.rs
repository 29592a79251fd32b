//! `domctl` and `sysctl`, against the headers of their names.

use crate::table::Table;

pub(super) fn add(table: &mut Table) {
    table.include(&["xen.h", "domctl.h", "sysctl.h"]);
    domctl(table);
    sysctl(table);
}

fn domctl(table: &mut Table) {
    numbers!(table, domctl, {
        CDF_HAP: "XEN_DOMCTL_CDF_hap",
        CDF_HVM: "XEN_DOMCTL_CDF_hvm",
        CDF_IOMMU: "XEN_DOMCTL_CDF_iommu",
        CDF_NESTED_VIRT: "XEN_DOMCTL_CDF_nested_virt",
        CDF_OOS_OFF: "XEN_DOMCTL_CDF_oos_off",
        CDF_S3_INTEGRITY: "XEN_DOMCTL_CDF_s3_integrity",
        CDF_VPMU: "XEN_DOMCTL_CDF_vpmu",
        CDF_XS_DOMAIN: "XEN_DOMCTL_CDF_xs_domain",
        CREATE_DOMAIN: "XEN_DOMCTL_createdomain",
        DESTROY_DOMAIN: "XEN_DOMCTL_destroydomain",
        DOMINF_BLOCKED: "XEN_DOMINF_blocked",
        DOMINF_DEBUGGED: "XEN_DOMINF_debugged",
        DOMINF_DYING: "XEN_DOMINF_dying",
        DOMINF_HAP: "XEN_DOMINF_hap",
        DOMINF_HVM_GUEST: "XEN_DOMINF_hvm_guest",
        DOMINF_PAUSED: "XEN_DOMINF_paused",
        DOMINF_RUNNING: "XEN_DOMINF_running",
        DOMINF_SHUTDOWN: "XEN_DOMINF_shutdown",
        DOMINF_SHUTDOWN_SHIFT: "XEN_DOMINF_shutdownshift",
        DOMINF_XS_DOMAIN: "XEN_DOMINF_xs_domain",
        EMU_ALL: "XEN_X86_EMU_ALL",
        EMU_LAPIC: "XEN_X86_EMU_LAPIC",
        GET_ADDRESS_SIZE: "XEN_DOMCTL_get_address_size",
        GET_DOMAIN_INFO: "XEN_DOMCTL_getdomaininfo",
        GET_VCPU_INFO: "XEN_DOMCTL_getvcpuinfo",
        GRANT_VERSION_MASK: "XEN_DOMCTL_GRANT_version_mask",
        HYPERCALL_INIT: "XEN_DOMCTL_hypercall_init",
        INTERFACE_VERSION: "XEN_DOMCTL_INTERFACE_VERSION",
        INVALID_MAX_VCPU_ID: "XEN_INVALID_MAX_VCPU_ID",
        MAX_MEM: "XEN_DOMCTL_max_mem",
        MAX_VCPUS: "XEN_DOMCTL_max_vcpus",
        MSR_RELAXED: "XEN_X86_MSR_RELAXED",
        PAUSE_DOMAIN: "XEN_DOMCTL_pausedomain",
        RESUME_DOMAIN: "XEN_DOMCTL_resumedomain",
        SET_ADDRESS_SIZE: "XEN_DOMCTL_set_address_size",
        SET_DEBUGGING: "XEN_DOMCTL_setdebugging",
        SET_DOMAIN_HANDLE: "XEN_DOMCTL_setdomainhandle",
        SET_VCPU_CONTEXT: "XEN_DOMCTL_setvcpucontext",
        SET_TIME_OFFSET: "XEN_DOMCTL_settimeoffset",
        UNPAUSE_DOMAIN: "XEN_DOMCTL_unpausedomain",
    });
    structure!(table, domctl::Domctl, "struct xen_domctl", { cmd, domain, interface_version, u });
    structure!(table, domctl::ArchConfig, "struct xen_arch_domainconfig", { emulation_flags, misc_flags });
    structure!(table, domctl::CreateDomain, "struct xen_domctl_createdomain", {
        arch, cpupool_id, flags, grant_opts, handle, iommu_opts, max_evtchn_port, max_grant_frames,
        max_maptrack_frames, max_vcpus, ssidref, vmtrace_size,
    });
    structure!(table, domctl::GetDomainInfo, "struct xen_domctl_getdomaininfo", {
        arch_config, cpu_time, cpupool, domain, flags, gpaddr_bits, handle, max_pages, max_vcpu_id,
        nr_online_vcpus, outstanding_pages, paged_pages, shared_info_frame, shr_pages, ssidref,
        tot_pages,
    });
    structure!(table, domctl::GetVcpuInfo, "struct xen_domctl_getvcpuinfo", {
        blocked, cpu, cpu_time, online, running, vcpu,
    });
    structure!(table, domctl::VcpuContext, "struct xen_domctl_vcpucontext", { ctxt, vcpu });
    structure!(table, domctl::MaxMem, "struct xen_domctl_max_mem", { max_memkb });
    structure!(table, domctl::MaxVcpus, "struct xen_domctl_max_vcpus", { max });
    structure!(table, domctl::DomainHandle, "struct xen_domctl_setdomainhandle", { handle });
    structure!(table, domctl::SetDebugging, "struct xen_domctl_setdebugging", { enable });
    structure!(table, domctl::HypercallInit, "struct xen_domctl_hypercall_init", { gmfn });
    structure!(table, domctl::SetTimeOffset, "struct xen_domctl_settimeoffset", { time_offset_seconds });
    structure!(table, domctl::AddressSize, "struct xen_domctl_address_size", { size });
}

fn sysctl(table: &mut Table) {
    numbers!(table, sysctl, {
        COVERAGE_OP: "XEN_SYSCTL_coverage_op",
        GET_DOMAIN_INFO_LIST: "XEN_SYSCTL_getdomaininfolist",
        INTERFACE_VERSION: "XEN_SYSCTL_INTERFACE_VERSION",
        PHYSCAP_GNTTAB_V1: "XEN_SYSCTL_PHYSCAP_gnttab_v1",
        PHYSCAP_GNTTAB_V2: "XEN_SYSCTL_PHYSCAP_gnttab_v2",
        PHYSCAP_HAP: "XEN_SYSCTL_PHYSCAP_hap",
        PHYSCAP_HVM: "XEN_SYSCTL_PHYSCAP_hvm",
        PHYSCAP_PV: "XEN_SYSCTL_PHYSCAP_pv",
        PHYSINFO: "XEN_SYSCTL_physinfo",
    });
    structure!(table, sysctl::Sysctl, "struct xen_sysctl", { cmd, interface_version, u });
    structure!(table, sysctl::Physinfo, "struct xen_sysctl_physinfo", {
        arch_capabilities, capabilities, cores_per_socket, cpu_khz, free_pages, hw_cap, max_cpu_id,
        max_mfn, max_node_id, nr_cpus, nr_nodes, outstanding_pages, scrub_pages, threads_per_core,
        total_pages,
    });
    structure!(table, sysctl::GetDomainInfoList, "struct xen_sysctl_getdomaininfolist", {
        buffer, first_domain, max_domains, num_domains,
    });
    structure!(table, sysctl::CoverageOp, "struct xen_sysctl_coverage_op", { buffer, cmd, size });
}
