//! Which operation makes another one possible, where no result says so: a feature is switched on before it is switched off, a
//! mapping exists before it is removed.

/// An operation, and the one that has to come before it in the same domain and on the same vCPU. Fields that have the same name in
/// both mean the same thing.
const BEFORE: &[(&str, &str)] = &[
    ("argo_op.unregister_ring", "argo_op.register_ring"),
    ("coverage_op.disable", "coverage_op.enable"),
    ("coverage_op.reset", "coverage_op.enable"),
    ("coverage_op.unmap", "coverage_op.map"),
    ("dm_op.destroy_ioreq_server", "dm_op.create_ioreq_server"),
    ("dm_op.map_io_range_to_ioreq_server", "dm_op.create_ioreq_server"),
    ("dm_op.set_ioreq_server_state", "dm_op.create_ioreq_server"),
    ("dm_op.unmap_io_range_from_ioreq_server", "dm_op.map_io_range_to_ioreq_server"),
    ("event_channel_op.expand_array", "event_channel_op.init_control"),
    ("event_channel_op.set_priority", "event_channel_op.expand_array"),
    ("grant_table_op.get_status_frames", "grant_table_op.set_version"),
    // A page can become a table only while nobody can write to it.
    ("mmuext_op.pin_l1_table", "update_va_mapping.protect"),
    ("mmuext_op.pin_l2_table", "update_va_mapping.protect"),
    ("mmuext_op.pin_l3_table", "update_va_mapping.protect"),
    ("mmuext_op.pin_l4_table", "update_va_mapping.protect"),
    ("mmuext_op.unpin_table", "mmuext_op.pin_l1_table"),
    ("mmuext_op.set_ldt", "update_va_mapping.protect"),
    ("mmu_update.normal", "mmuext_op.pin_l1_table"),
    ("mmu_update.preserve_ad", "mmuext_op.pin_l1_table"),
    ("mmu_update.no_translate", "mmuext_op.pin_l2_table"),
    ("pv_cpu.set_gdt", "update_va_mapping.protect"),
    ("pv_cpu.update_descriptor", "pv_cpu.set_gdt"),
    ("grant_table_op.map_at_page", "agent.write_grant"),
    ("agent.write_grant", "update_va_mapping.see_grants"),
    ("domctl.setvcpucontext", "domctl.max_vcpus"),
    ("domctl.getvcpucontext", "domctl.max_vcpus"),
    ("domctl.setvcpuaffinity", "domctl.max_vcpus"),
    ("domctl.getvcpuaffinity", "domctl.max_vcpus"),
    ("domctl.set_ext_vcpucontext", "domctl.max_vcpus"),
    ("domctl.get_ext_vcpucontext", "domctl.max_vcpus"),
    ("domctl.setvcpuextstate", "domctl.max_vcpus"),
    ("domctl.getvcpuextstate", "domctl.max_vcpus"),
    ("domctl.get_vcpu_msrs", "domctl.max_vcpus"),
    ("domctl.set_vcpu_msrs", "domctl.max_vcpus"),
    ("domctl.sendtrigger", "domctl.max_vcpus"),
    ("physdev_op.unmap_pirq", "physdev_op.map_pirq"),
    ("physdev_op.pci_device_remove", "physdev_op.pci_device_add"),
    ("kexec_op.kexec_unload", "kexec_op.kexec_load"),
    ("xenpmu_op.finish", "xenpmu_op.init"),
    ("sysctl.cpupool_destroy", "sysctl.cpupool_create"),
];

/// The operation that makes this one possible.
pub fn before(operation: &str) -> Option<&'static str> {
    BEFORE.iter().find(|(after, _)| *after == operation).map(|(_, before)| *before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::known;

    #[test]
    fn all_are_operations_and_none_waits_for_itself() {
        for (after, before) in BEFORE {
            assert!(known().by_name(after).is_some() && known().by_name(before).is_some(), "{after}");
            let mut chain = Some(*before);
            for _ in BEFORE {
                chain = chain.and_then(super::before);
            }
            assert_eq!(chain, None, "{after}");
        }
    }
}
