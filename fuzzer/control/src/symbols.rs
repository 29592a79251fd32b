//! The symbols that the plugin needs of QEMU, so that the fuzzer can look for them without starting it.
//!
//! Each entry lists the names that one thing has in different versions of QEMU: one of them is enough.

/// Functions of the plugin API.
pub const PLUGIN_API: &[&[&str]] = &[
    &["qemu_plugin_register_vcpu_tb_trans_cb"],
    &["qemu_plugin_register_vcpu_tb_exec_inline", "qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu"],
    &["qemu_plugin_register_vcpu_tb_exec_cb"],
    &["qemu_plugin_register_vcpu_insn_exec_cb"],
    &["qemu_plugin_register_vcpu_insn_exec_inline", "qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu"],
    &["qemu_plugin_tb_n_insns"],
    &["qemu_plugin_tb_get_insn"],
    &["qemu_plugin_insn_data"],
    &["qemu_plugin_insn_size"],
    &["qemu_plugin_insn_vaddr"],
    &["qemu_plugin_insn_haddr"],
];

/// Internal functions and objects, without which the plugin cannot reset the machine.
pub const INTERNAL: &[&[&str]] = &[
    &["qemu_get_cpu"],
    &["async_run_on_cpu"],
    &["cpu_loop_exit_noexc"],
    &["qemu_mutex_lock_iothread_impl", "bql_lock_impl"],
    &["qemu_mutex_unlock_iothread", "bql_unlock"],
    &["cpu_disable_ticks"],
    &["qemu_ram_foreach_block"],
    &["qemu_ram_get_host_addr"],
    &["qemu_ram_get_used_length"],
    &["memory_region_from_host"],
    &["memory_region_get_ram_addr"],
    &["cpu_physical_memory_snapshot_and_clear_dirty"],
    &["tb_invalidate_phys_range"],
    &["tlb_flush"],
    &["tlb_flush_by_mmuidx"],
    &["vmstate_cpu_common"],
    &["vmstate_x86_cpu"],
    &["cpu_x86_update_dr7"],
    &["qio_channel_buffer_new"],
    &["qio_channel_read"],
    &["qio_channel_write"],
    &["qio_channel_io_seek"],
    &["object_unref"],
    &["qemu_file_new_output"],
    &["qemu_file_new_input"],
    &["qemu_fflush"],
    &["qemu_fclose"],
    &["qemu_save_device_state"],
    &["qemu_load_device_state"],
    &["qemu_shutdown_requested_get"],
    &["qemu_add_vm_change_state_handler"],
    &["qemu_get_aio_context"],
    &["aio_bh_schedule_oneshot_full"],
    &["runstate_set"],
    &["vm_start"],
    &["qapi_enum_parse"],
    &["RunState_lookup"],
];
