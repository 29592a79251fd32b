//! `grant`, against `grant_table.h`.

use crate::table::Table;

pub(super) fn add(table: &mut Table) {
    table.include(&["grant_table.h"]);
    numbers!(table, grant, {
        CACHE_CLEAN: "GNTTAB_CACHE_CLEAN",
        CACHE_FLUSH: "GNTTABOP_cache_flush",
        CACHE_INVAL: "GNTTAB_CACHE_INVAL",
        CACHE_SOURCE_GREF: "GNTTAB_CACHE_SOURCE_GREF",
        COPY: "GNTTABOP_copy",
        DUMP_TABLE: "GNTTABOP_dump_table",
        GET_STATUS_FRAMES: "GNTTABOP_get_status_frames",
        GET_VERSION: "GNTTABOP_get_version",
        GNTCOPY_DEST_GREF: "GNTCOPY_dest_gref",
        GNTCOPY_SOURCE_GREF: "GNTCOPY_source_gref",
        GNTMAP_APPLICATION_MAP: "GNTMAP_application_map",
        GNTMAP_CONTAINS_PTE: "GNTMAP_contains_pte",
        GNTMAP_DEVICE_MAP: "GNTMAP_device_map",
        GNTMAP_HOST_MAP: "GNTMAP_host_map",
        GNTMAP_READONLY: "GNTMAP_readonly",
        GTF_ACCEPT_TRANSFER: "GTF_accept_transfer",
        GTF_INVALID: "GTF_invalid",
        GTF_PAT: "GTF_PAT",
        GTF_PCD: "GTF_PCD",
        GTF_PERMIT_ACCESS: "GTF_permit_access",
        GTF_PWT: "GTF_PWT",
        GTF_READING: "GTF_reading",
        GTF_READONLY: "GTF_readonly",
        GTF_SUB_PAGE: "GTF_sub_page",
        GTF_TRANSITIVE: "GTF_transitive",
        GTF_TYPE_MASK: "GTF_type_mask",
        GTF_WRITING: "GTF_writing",
        MAP_GRANT_REF: "GNTTABOP_map_grant_ref",
        QUERY_SIZE: "GNTTABOP_query_size",
        SETUP_TABLE: "GNTTABOP_setup_table",
        SET_VERSION: "GNTTABOP_set_version",
        SWAP_GRANT_REF: "GNTTABOP_swap_grant_ref",
        TRANSFER: "GNTTABOP_transfer",
        UNMAP_AND_REPLACE: "GNTTABOP_unmap_and_replace",
        UNMAP_GRANT_REF: "GNTTABOP_unmap_grant_ref",
    });
    structure!(table, grant::CacheFlush, "struct gnttab_cache_flush", {
        a: "a.dev_bus_addr", length, offset, op,
    });
    structure!(table, grant::Copy, "struct gnttab_copy", { dest, flags, len, source, status });
    structure!(table, grant::CopyEnd, "__typeof__(((struct gnttab_copy *)0)->source)", {
        domid, offset, u: "u.gmfn",
    });
    structure!(table, grant::EntryHeader, "struct grant_entry_header", { domid, flags });
    structure!(table, grant::EntryV1, "struct grant_entry_v1", { frame });
    structure!(table, grant::EntryV2, "union grant_entry_v2", {
        frame: "full_page.frame", header: "hdr", length: "sub_page.length", page_off:
        "sub_page.page_off",
    });
    structure!(table, grant::GetStatusFrames, "struct gnttab_get_status_frames", {
        dom, frame_list, nr_frames, status,
    });
    structure!(table, grant::GetVersion, "struct gnttab_get_version", { dom, version });
    structure!(table, grant::MapGrantRef, "struct gnttab_map_grant_ref", {
        dev_bus_addr, dom, flags, grant: "ref", handle, host_addr, status,
    });
    structure!(table, grant::QuerySize, "struct gnttab_query_size", {
        dom, max_nr_frames, nr_frames, status,
    });
    structure!(table, grant::SetVersion, "struct gnttab_set_version", { version });
    structure!(table, grant::SetupTable, "struct gnttab_setup_table", { dom, frame_list, nr_frames, status });
    structure!(table, grant::SwapGrantRef, "struct gnttab_swap_grant_ref", { ref_a, ref_b, status });
    structure!(table, grant::UnmapAndReplace, "struct gnttab_unmap_and_replace", {
        handle, host_addr, new_addr, status,
    });
    structure!(table, grant::UnmapGrantRef, "struct gnttab_unmap_grant_ref", {
        dev_bus_addr, handle, host_addr, status,
    });
    table.own("grant::CMD_MASK", "in Xen's own hypercall.h, which is not public");
    table.own("grant::RESERVED_ENTRIES", "the headers name the reserved entries, not their number");
    table.own("grant::Status", "a number");
    table.own("grant::EntryV1.header", "in C the fields are those of the entry itself");
}
