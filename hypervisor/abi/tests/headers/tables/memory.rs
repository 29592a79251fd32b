//! `memory`, against `memory.h`.

use crate::table::Table;

pub(super) fn add(table: &mut Table) {
    table.include(&["memory.h"]);
    numbers!(table, memory, {
        INCREASE_RESERVATION: "XENMEM_increase_reservation",
        DECREASE_RESERVATION: "XENMEM_decrease_reservation",
        MAXIMUM_RAM_PAGE: "XENMEM_maximum_ram_page",
        CURRENT_RESERVATION: "XENMEM_current_reservation",
        MAXIMUM_RESERVATION: "XENMEM_maximum_reservation",
        MACHPHYS_MFN_LIST: "XENMEM_machphys_mfn_list",
        POPULATE_PHYSMAP: "XENMEM_populate_physmap",
        ADD_TO_PHYSMAP: "XENMEM_add_to_physmap",
        MEMORY_MAP: "XENMEM_memory_map",
        MACHINE_MEMORY_MAP: "XENMEM_machine_memory_map",
        EXCHANGE: "XENMEM_exchange",
        MACHPHYS_MAPPING: "XENMEM_machphys_mapping",
        SET_MEMORY_MAP: "XENMEM_set_memory_map",
        MAXIMUM_GPFN: "XENMEM_maximum_gpfn",
        REMOVE_FROM_PHYSMAP: "XENMEM_remove_from_physmap",
        SET_POD_TARGET: "XENMEM_set_pod_target",
        GET_POD_TARGET: "XENMEM_get_pod_target",
        GET_SHARING_FREED_PAGES: "XENMEM_get_sharing_freed_pages",
        GET_SHARING_SHARED_PAGES: "XENMEM_get_sharing_shared_pages",
        ADD_TO_PHYSMAP_BATCH: "XENMEM_add_to_physmap_batch",
        CLAIM_PAGES: "XENMEM_claim_pages",
        MACHPHYS_COMPAT_MFN_LIST: "XENMEM_machphys_compat_mfn_list",
        MAPSPACE_SHARED_INFO: "XENMAPSPACE_shared_info",
        MAPSPACE_GRANT_TABLE: "XENMAPSPACE_grant_table",
        MAPSPACE_GMFN: "XENMAPSPACE_gmfn",
        MAPSPACE_GMFN_RANGE: "XENMAPSPACE_gmfn_range",
        MAPSPACE_GMFN_FOREIGN: "XENMAPSPACE_gmfn_foreign",
        MAPSPACE_DEV_MMIO: "XENMAPSPACE_dev_mmio",
        ACQUIRE_RESOURCE: "XENMEM_acquire_resource",
        RESOURCE_IOREQ_SERVER: "XENMEM_resource_ioreq_server",
        RESOURCE_GRANT_TABLE: "XENMEM_resource_grant_table",
        RESOURCE_GRANT_TABLE_SHARED: "XENMEM_resource_grant_table_id_shared",
        RESOURCE_GRANT_TABLE_STATUS: "XENMEM_resource_grant_table_id_status",
        MAPIDX_GRANT_TABLE_STATUS: "XENMAPIDX_grant_table_status",
        MEMF_POPULATE_ON_DEMAND: "XENMEMF_populate_on_demand",
        MEMF_EXACT_NODE: "XENMEMF_exact_node_request",
        MEMF_VNODE: "XENMEMF_vnode",
    });
    table.own("memory::CMD_MASK", "in Xen's own hypercall.h, which is not public");
    table.own("memory::CMD_START_SHIFT", "in Xen's own hypercall.h, which is not public");
    table.own("memory::E820_RAM", "of the BIOS interface; the public headers have no name for it");
    table.own("memory::E820_RESERVED", "of the BIOS interface; the public headers have no name for it");
    table.own("memory::E820_ENTRY_LEN", "of the BIOS interface");
    table.own("memory::E820Entry", "of the BIOS interface; it never lies in memory");
    for field in ["addr", "size", "kind"] {
        table.own(&format!("memory::E820Entry.{field}"), "of the BIOS interface");
    }
    for flags in [0u32, 0x80, 0x1_0000, 0xff_ffff] {
        let functions = [
            ("XENMEMF_get_address_bits", xen_abi::memory::memf_address_bits(flags)),
            ("XENMEMF_get_node", xen_abi::memory::memf_node(flags)),
        ];
        for (name, value) in functions {
            table.check(format!("flags {flags:#x}"), format!("{name}({flags:#x}u)"), value.into());
        }
    }
    structure!(table, memory::Reservation, "struct xen_memory_reservation", {
        extent_start, nr_extents, extent_order, mem_flags, domid,
    });
    structure!(table, memory::Exchange, "struct xen_memory_exchange", {
        input: "in", output: "out", nr_exchanged,
    });
    structure!(table, memory::Domain, "struct xen_memory_domain", { domid });
    structure!(table, memory::MachphysMfnList, "struct xen_machphys_mfn_list", {
        max_extents, extent_start, nr_extents,
    });
    structure!(table, memory::MachphysMapping, "struct xen_machphys_mapping", { v_start, v_end, max_mfn });
    structure!(table, memory::AddToPhysmap, "struct xen_add_to_physmap", { domid, size, space, idx, gpfn });
    structure!(table, memory::AddToPhysmapBatch, "struct xen_add_to_physmap_batch", {
        domid, space, size, foreign_domid: "u.foreign_domid", idxs, gpfns, errs,
    });
    structure!(table, memory::RemoveFromPhysmap, "struct xen_remove_from_physmap", { domid, gpfn });
    structure!(table, memory::MemoryMap, "struct xen_memory_map", { nr_entries, buffer });
    structure!(table, memory::AcquireResource, "struct xen_mem_acquire_resource", {
        domid, frame, frame_list, id, kind: "type", nr_frames,
    });
    structure!(table, memory::ForeignMemoryMap, "struct xen_foreign_memory_map", { domid, map });
    structure!(table, memory::PodTarget, "struct xen_pod_target", {
        domid, pod_cache_pages, pod_entries, target_pages, tot_pages,
    });
    table.own("memory::NO_NODE", "what XENMEMF_get_node makes of no node");
}
