//! `grant`, against `grant_table.h`.

use core::mem::offset_of;

use xen_abi::grant::{EntryV1, Status};

use crate::table::Table;

pub(super) fn add(table: &mut Table) {
    table.include(&["grant_table.h"]);
    numbers!(table, grant, {
        MAP_GRANT_REF: "GNTTABOP_map_grant_ref",
        UNMAP_GRANT_REF: "GNTTABOP_unmap_grant_ref",
        SETUP_TABLE: "GNTTABOP_setup_table",
        DUMP_TABLE: "GNTTABOP_dump_table",
        TRANSFER: "GNTTABOP_transfer",
        COPY: "GNTTABOP_copy",
        QUERY_SIZE: "GNTTABOP_query_size",
        UNMAP_AND_REPLACE: "GNTTABOP_unmap_and_replace",
        SET_VERSION: "GNTTABOP_set_version",
        GET_STATUS_FRAMES: "GNTTABOP_get_status_frames",
        GET_VERSION: "GNTTABOP_get_version",
        SWAP_GRANT_REF: "GNTTABOP_swap_grant_ref",
        CACHE_FLUSH: "GNTTABOP_cache_flush",
        RESERVED_ENTRIES: "GNTTAB_NR_RESERVED_ENTRIES",
        GTF_INVALID: "GTF_invalid",
        GTF_PERMIT_ACCESS: "GTF_permit_access",
        GTF_ACCEPT_TRANSFER: "GTF_accept_transfer",
        GTF_TRANSITIVE: "GTF_transitive",
        GTF_TYPE_MASK: "GTF_type_mask",
        GTF_READONLY: "GTF_readonly",
        GTF_READING: "GTF_reading",
        GTF_WRITING: "GTF_writing",
        GTF_PWT: "GTF_PWT",
        GTF_PCD: "GTF_PCD",
        GTF_PAT: "GTF_PAT",
        GTF_SUB_PAGE: "GTF_sub_page",
        GNTMAP_DEVICE_MAP: "GNTMAP_device_map",
        GNTMAP_HOST_MAP: "GNTMAP_host_map",
        GNTMAP_READONLY: "GNTMAP_readonly",
        GNTMAP_APPLICATION_MAP: "GNTMAP_application_map",
        GNTMAP_CONTAINS_PTE: "GNTMAP_contains_pte",
        GNTCOPY_SOURCE_GREF: "GNTCOPY_source_gref",
        GNTCOPY_DEST_GREF: "GNTCOPY_dest_gref",
        CACHE_CLEAN: "GNTTAB_CACHE_CLEAN",
        CACHE_INVAL: "GNTTAB_CACHE_INVAL",
        CACHE_SOURCE_GREF: "GNTTAB_CACHE_SOURCE_GREF",
    });
    table.own("grant::CMD_MASK", "in Xen's own grant_table.c, which is not public");
    table.own("grant::Status", "an enumeration without a name there");
    for (status, name) in [
        (Status::OKAY, "okay"),
        (Status::GENERAL_ERROR, "general_error"),
        (Status::BAD_DOMAIN, "bad_domain"),
        (Status::BAD_GNTREF, "bad_gntref"),
        (Status::BAD_HANDLE, "bad_handle"),
        (Status::BAD_VIRT_ADDR, "bad_virt_addr"),
        (Status::BAD_DEV_ADDR, "bad_dev_addr"),
        (Status::NO_DEVICE_SPACE, "no_device_space"),
        (Status::PERMISSION_DENIED, "permission_denied"),
        (Status::BAD_PAGE, "bad_page"),
        (Status::BAD_COPY_ARG, "bad_copy_arg"),
        (Status::ADDRESS_TOO_BIG, "address_too_big"),
        (Status::EAGAIN, "eagain"),
        (Status::NO_SPACE, "no_space"),
    ] {
        table.check(format!("status {name}"), format!("GNTST_{name}"), status.0.into());
    }
    structure!(table, grant::EntryHeader, "struct grant_entry_header", { flags, domid });
    // Its header has no name there.
    for name in ["grant::EntryV1", "grant::EntryV1.header", "grant::EntryV1.frame"] {
        table.name(name);
    }
    let entry = "struct grant_entry_v1";
    table.check("size of EntryV1".into(), format!("sizeof({entry})"), size_of::<EntryV1>() as i64);
    let frame = offset_of!(EntryV1, frame) as i64;
    table.check("offset of EntryV1.frame".into(), format!("offsetof({entry}, frame)"), frame);
    structure!(table, grant::EntryV2, "union grant_entry_v2", {
        header: "hdr", page_off: "sub_page.page_off", length: "sub_page.length", frame: "full_page.frame",
    });
    structure!(table, grant::MapGrantRef, "struct gnttab_map_grant_ref", {
        host_addr, flags, grant: "ref", dom, status, handle, dev_bus_addr,
    });
    structure!(table, grant::UnmapGrantRef, "struct gnttab_unmap_grant_ref", {
        host_addr, dev_bus_addr, handle, status,
    });
    structure!(table, grant::UnmapAndReplace, "struct gnttab_unmap_and_replace", {
        host_addr, new_addr, handle, status,
    });
    structure!(table, grant::SetupTable, "struct gnttab_setup_table", { dom, nr_frames, status, frame_list });
    structure!(table, grant::CopyEnd, "struct gnttab_copy_ptr", { u, domid, offset });
    structure!(table, grant::Copy, "struct gnttab_copy", { source, dest, len, flags, status });
    structure!(table, grant::QuerySize, "struct gnttab_query_size", { dom, nr_frames, max_nr_frames, status });
    structure!(table, grant::SetVersion, "struct gnttab_set_version", { version });
    structure!(table, grant::GetStatusFrames, "struct gnttab_get_status_frames", {
        nr_frames, dom, status, frame_list,
    });
    structure!(table, grant::GetVersion, "struct gnttab_get_version", { dom, version });
    structure!(table, grant::SwapGrantRef, "struct gnttab_swap_grant_ref", { ref_a, ref_b, status });
    structure!(table, grant::CacheFlush, "struct gnttab_cache_flush", { a, offset, length, op });
}
