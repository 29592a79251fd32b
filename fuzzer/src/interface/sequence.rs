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
];

/// The operation that makes this one possible.
pub fn before(operation: &str) -> Option<&'static str> {
    BEFORE.iter().find(|(after, _)| *after == operation).map(|(_, before)| *before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::interface;

    #[test]
    fn all_are_operations_and_none_waits_for_itself() {
        for (after, before) in BEFORE {
            assert!(interface().by_name(after).is_some() && interface().by_name(before).is_some(), "{after}");
            let mut chain = Some(*before);
            for _ in BEFORE {
                chain = chain.and_then(super::before);
            }
            assert_eq!(chain, None, "{after}");
        }
    }
}
