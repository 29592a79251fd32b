//! `argo`, against `argo.h`.

use crate::table::Table;

pub(super) fn add(table: &mut Table) {
    table.include(&["argo.h"]);
    numbers!(table, argo, {
        REGISTER_RING: "XEN_ARGO_OP_register_ring",
        UNREGISTER_RING: "XEN_ARGO_OP_unregister_ring",
        SENDV: "XEN_ARGO_OP_sendv",
        NOTIFY: "XEN_ARGO_OP_notify",
        DOMID_ANY: "XEN_ARGO_DOMID_ANY",
        MAX_RING_SIZE: "XEN_ARGO_MAX_RING_SIZE",
        MAXIOV: "XEN_ARGO_MAXIOV",
        MSG_SLOT_SIZE: "XEN_ARGO_MSG_SLOT_SIZE",
        REGISTER_FLAG_FAIL_EXIST: "XEN_ARGO_REGISTER_FLAG_FAIL_EXIST",
        RING_EXISTS: "XEN_ARGO_RING_EXISTS",
        RING_SHARED: "XEN_ARGO_RING_SHARED",
        RING_EMPTY: "XEN_ARGO_RING_EMPTY",
        RING_SUFFICIENT: "XEN_ARGO_RING_SUFFICIENT",
        RING_EMSGSIZE: "XEN_ARGO_RING_EMSGSIZE",
        RING_EBUSY: "XEN_ARGO_RING_EBUSY",
        RING_RX_PTR: "offsetof(struct xen_argo_ring, rx_ptr)",
        RING_TX_PTR: "offsetof(struct xen_argo_ring, tx_ptr)",
        RING_HEADER_LEN: "offsetof(struct xen_argo_ring, ring)",
    });
    structure!(table, argo::Iov, "struct xen_argo_iov", { iov_hnd, iov_len, pad });
    structure!(table, argo::Addr, "struct xen_argo_addr", { aport, domain_id, pad });
    structure!(table, argo::SendAddr, "struct xen_argo_send_addr", { src, dst });
    structure!(table, argo::RegisterRing, "struct xen_argo_register_ring", { aport, partner_id, pad, len });
    structure!(table, argo::UnregisterRing, "struct xen_argo_unregister_ring", { aport, partner_id, pad });
    structure!(table, argo::RingDataEnt, "struct xen_argo_ring_data_ent", {
        ring, flags, pad, space_required, max_message_size,
    });
    structure!(table, argo::RingData, "struct xen_argo_ring_data", { nent, pad });
    structure!(table, argo::MessageHeader, "struct xen_argo_ring_message_header", {
        len, source, message_type,
    });
}
