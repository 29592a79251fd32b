//! `hvm`, `dm` and `pv`: what is special about each kind of guest.

use crate::table::Table;

pub(super) fn add(table: &mut Table) {
    table.include(&["xen.h", "hvm/hvm_op.h", "hvm/params.h", "hvm/dm_op.h"]);
    hvm(table);
    dm(table);
    pv(table);
}

fn hvm(table: &mut Table) {
    numbers!(table, hvm, {
        ALTP2M: "HVMOP_altp2m",
        FLUSH_TLBS: "HVMOP_flush_tlbs",
        GET_MEM_TYPE: "HVMOP_get_mem_type",
        GET_PARAM: "HVMOP_get_param",
        GET_TIME: "HVMOP_get_time",
        GUEST_REQUEST_VM_EVENT: "HVMOP_guest_request_vm_event",
        PAGETABLE_DYING: "HVMOP_pagetable_dying",
        SET_EVTCHN_UPCALL_VECTOR: "HVMOP_set_evtchn_upcall_vector",
        SET_PARAM: "HVMOP_set_param",
    });
    structure!(table, hvm::Param, "struct xen_hvm_param", { domid, index, value });
    structure!(table, hvm::GetMemType, "struct xen_hvm_get_mem_type", { domid, mem_type, pfn });
    structure!(table, hvm::UpcallVector, "struct xen_hvm_evtchn_upcall_vector", { vcpu, vector });
}

fn dm(table: &mut Table) {
    numbers!(table, dm, {
        CREATE_IOREQ_SERVER: "XEN_DMOP_create_ioreq_server",
        DESTROY_IOREQ_SERVER: "XEN_DMOP_destroy_ioreq_server",
        GET_IOREQ_SERVER_INFO: "XEN_DMOP_get_ioreq_server_info",
        INJECT_EVENT: "XEN_DMOP_inject_event",
        MODIFIED_MEMORY: "XEN_DMOP_modified_memory",
        NO_GFNS: "XEN_DMOP_no_gfns",
        NR_VCPUS: "XEN_DMOP_nr_vcpus",
        REMOTE_SHUTDOWN: "XEN_DMOP_remote_shutdown",
        SET_IOREQ_SERVER_STATE: "XEN_DMOP_set_ioreq_server_state",
        SET_ISA_IRQ_LEVEL: "XEN_DMOP_set_isa_irq_level",
        SET_MEM_TYPE: "XEN_DMOP_set_mem_type",
        SET_PCI_INTX_LEVEL: "XEN_DMOP_set_pci_intx_level",
        SET_PCI_LINK_ROUTE: "XEN_DMOP_set_pci_link_route",
        TRACK_DIRTY_VRAM: "XEN_DMOP_track_dirty_vram",
        MAP_IO_RANGE: "XEN_DMOP_map_io_range_to_ioreq_server",
        UNMAP_IO_RANGE: "XEN_DMOP_unmap_io_range_from_ioreq_server",
    });
    structure!(table, dm::Buffer, "struct xen_dm_op_buf", { h, size });
    structure!(table, dm::ServerInfo, "struct xen_dm_op_get_ioreq_server_info", {
        bufioreq_gfn, bufioreq_port, flags, id, ioreq_gfn,
    });
    structure!(table, dm::Range, "struct xen_dm_op_ioreq_server_range", { end, id, kind: "type", start });
    structure!(table, dm::ServerState, "struct xen_dm_op_set_ioreq_server_state", { enabled, id });
    structure!(table, dm::DestroyServer, "struct xen_dm_op_destroy_ioreq_server", { id });
    structure!(table, dm::TrackVram, "struct xen_dm_op_track_dirty_vram", { first_pfn, nr });
    structure!(table, dm::IntxLevel, "struct xen_dm_op_set_pci_intx_level", {
        bus, device, domain, intx, level,
    });
    structure!(table, dm::IsaLevel, "struct xen_dm_op_set_isa_irq_level", { isa_irq, level });
    structure!(table, dm::LinkRoute, "struct xen_dm_op_set_pci_link_route", { isa_irq, link });
    structure!(table, dm::ModifiedMemory, "struct xen_dm_op_modified_memory", { nr_extents, opaque });
    structure!(table, dm::Extent, "struct xen_dm_op_modified_memory_extent", { first_pfn, nr });
    structure!(table, dm::SetMemType, "struct xen_dm_op_set_mem_type", { first_pfn, mem_type, nr });
    structure!(table, dm::InjectEvent, "struct xen_dm_op_inject_event", {
        cr2, error_code, insn_len, kind: "type", vcpuid, vector,
    });
    structure!(table, dm::RemoteShutdown, "struct xen_dm_op_remote_shutdown", { reason });
    structure!(table, dm::NrVcpus, "struct xen_dm_op_nr_vcpus", { vcpus });
    table.own("dm::COUNT", "one more than the last operation");
    table.own("dm::MAX_BUFFERS", "a limit of the implementation");
    for name in ["CreateServer", "CreateServer.handle_bufioreq", "CreateServer.id", "CreateServer.tail"] {
        table.own(&format!("dm::{name}"), "longer than in C: its tail is that of the buffer");
    }
    for name in ["Head", "Head.op"] {
        table.own(&format!("dm::{name}"), "the part of the structure before its union");
    }
}

fn pv(table: &mut Table) {
    numbers!(table, pv, {
        CODE_SELECTOR: "FLAT_RING3_CS64",
        COMMAND_LINE: "MAX_GUEST_CMDLINE",
        CONTEXT_IN_KERNEL: "VGCF_in_kernel",
        CONTEXT_ONLINE: "VGCF_online",
        DATA_SELECTOR: "FLAT_RING3_SS64",
        INVALIDATE_PAGE: "UVMF_INVLPG",
        PIN_L4_TABLE: "MMUEXT_PIN_L4_TABLE",
        IN_SYSCALL: "VGCF_in_syscall",
        SEGBASE_FS: "SEGBASE_FS",
        SEGBASE_GS_KERNEL: "SEGBASE_GS_KERNEL",
        SEGBASE_GS_USER: "SEGBASE_GS_USER",
    });
    structure!(table, pv::TrapInfo, "struct trap_info", { address, cs, flags, vector });
    structure!(table, pv::IretContext, "struct iret_context", {
        cs, flags, r11, rax, rcx, rflags, rip, rsp, ss,
    });
    structure!(table, pv::MmuextOp, "struct mmuext_op", { arg1, arg2, cmd });
    structure!(table, pv::StartInfo, "struct start_info", {
        cmd_line, console_evtchn: "console.domU.evtchn", console_mfn: "console.domU.mfn",
        first_p2m_pfn, flags, magic, mfn_list, mod_len, mod_start, nr_p2m_frames, nr_pages,
        nr_pt_frames, pt_base, shared_info, store_evtchn, store_mfn,
    });
    structure!(table, pv::UserRegisters, "struct cpu_user_regs", {
        entry_vector, error_code, r10, r11, r12, r13, r14, r15, r8, r9, rax, rbp, rbx, rcx, rdi,
        rdx, rflags, rip, rsi, rsp,
    });
    for name in ["cs", "ds", "es", "fs", "gs", "ss"] {
        table.own(&format!("pv::UserRegisters.{name}"), "a selector, with what fills its word up in C");
    }
    structure!(table, pv::GuestContext, "struct vcpu_guest_context", {
        ctrlreg, debugreg, event_callback_eip, failsafe_callback_eip, flags, fpu: "fpu_ctxt",
        fs_base, gdt_ents, gdt_frames, gs_base_kernel, gs_base_user, kernel_sp, kernel_ss, ldt_base,
        ldt_ents, syscall_callback_eip, traps: "trap_ctxt", user_regs, vm_assist,
    });
    table.own("pv::START_MAGIC", "a text; the headers say it in prose");
}
