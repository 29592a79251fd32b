//! `vcpu` and `vm_assist`, against `vcpu.h`, `hvm/hvm_vcpu.h` and `xen.h`.

use crate::table::Table;

pub(super) fn add(table: &mut Table) {
    table.include(&["xen.h", "vcpu.h", "hvm/hvm_vcpu.h"]);
    vcpu(table);
    vm_assist(table);
}

fn vcpu(table: &mut Table) {
    numbers!(table, vcpu, {
        DOWN: "VCPUOP_down",
        GET_PHYSID: "VCPUOP_get_physid",
        GET_RUNSTATE_INFO: "VCPUOP_get_runstate_info",
        HVM_MODE_32B: "VCPU_HVM_MODE_32B",
        HVM_MODE_64B: "VCPU_HVM_MODE_64B",
        INITIALISE: "VCPUOP_initialise",
        IS_UP: "VCPUOP_is_up",
        PVCLOCK_TSC_STABLE: "XEN_PVCLOCK_TSC_STABLE_BIT",
        REGISTER_RUNSTATE_MEMORY_AREA: "VCPUOP_register_runstate_memory_area",
        REGISTER_VCPU_INFO: "VCPUOP_register_vcpu_info",
        REGISTER_VCPU_TIME_MEMORY_AREA: "VCPUOP_register_vcpu_time_memory_area",
        RUNSTATE_UPDATE: "XEN_RUNSTATE_UPDATE",
        SEND_NMI: "VCPUOP_send_nmi",
        SET_PERIODIC_TIMER: "VCPUOP_set_periodic_timer",
        SET_SINGLESHOT_TIMER: "VCPUOP_set_singleshot_timer",
        STOP_PERIODIC_TIMER: "VCPUOP_stop_periodic_timer",
        STOP_SINGLESHOT_TIMER: "VCPUOP_stop_singleshot_timer",
        UP: "VCPUOP_up",
        RUNSTATE_RUNNING: "RUNSTATE_running",
        RUNSTATE_RUNNABLE: "RUNSTATE_runnable",
        RUNSTATE_BLOCKED: "RUNSTATE_blocked",
        RUNSTATE_OFFLINE: "RUNSTATE_offline",
        SSHOTTMR_FUTURE: "VCPU_SSHOTTMR_future",
    });
    structure!(table, vcpu::RunstateInfo, "struct vcpu_runstate_info", { state, state_entry_time, time });
    structure!(table, vcpu::Area, "struct vcpu_register_runstate_memory_area", { addr: "addr.p" });
    structure!(table, vcpu::PeriodicTimer, "struct vcpu_set_periodic_timer", { period_ns });
    structure!(table, vcpu::SingleshotTimer, "struct vcpu_set_singleshot_timer", { flags, timeout_abs_ns });
    structure!(table, vcpu::RegisterVcpuInfo, "struct vcpu_register_vcpu_info", { mfn, offset, rsvd });
    structure!(table, vcpu::Physid, "struct vcpu_get_physid", { phys_id });
    structure!(table, vcpu::TimeInfo, "struct vcpu_time_info", {
        flags, system_time, tsc_shift, tsc_timestamp, tsc_to_system_mul, version,
    });
    structure!(table, vcpu::Hvm32, "struct vcpu_hvm_x86_32", {
        cr0, cr3, cr4, cs_ar, cs_base, cs_limit, ds_ar, ds_base, ds_limit, eax, ebp, ebx, ecx, edi,
        edx, efer, eflags, eip, es_ar, es_base, es_limit, esi, esp, ss_ar, ss_base, ss_limit, tr_ar,
        tr_base, tr_limit,
    });
    structure!(table, vcpu::Hvm64, "struct vcpu_hvm_x86_64", {
        cr0, cr3, cr4, efer, rax, rbp, rbx, rcx, rdi, rdx, rflags, rip, rsi, rsp,
    });
    structure!(table, vcpu::HvmContext, "struct vcpu_hvm_context", { cpu_regs, mode });
    table.own("vcpu::REGISTER_RUNSTATE_PHYS_AREA", "newer than Xen 4.17, whose headers may be those at hand");
    table
        .own("vcpu::REGISTER_VCPU_TIME_PHYS_AREA", "newer than Xen 4.17, whose headers may be those at hand");
}

fn vm_assist(table: &mut Table) {
    numbers!(table, vm_assist, {
        DISABLE: "VMASST_CMD_disable",
        ENABLE: "VMASST_CMD_enable",
        TYPE_4GB_SEGMENTS: "VMASST_TYPE_4gb_segments",
        TYPE_4GB_SEGMENTS_NOTIFY: "VMASST_TYPE_4gb_segments_notify",
        TYPE_ARCHITECTURAL_IOPL: "VMASST_TYPE_architectural_iopl",
        TYPE_M2P_STRICT: "VMASST_TYPE_m2p_strict",
        TYPE_PAE_EXTENDED_CR3: "VMASST_TYPE_pae_extended_cr3",
        TYPE_RUNSTATE_UPDATE_FLAG: "VMASST_TYPE_runstate_update_flag",
        TYPE_WRITABLE_PAGETABLES: "VMASST_TYPE_writable_pagetables",
    });
}
