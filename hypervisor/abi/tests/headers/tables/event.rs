//! `event`, against `event_channel.h`.

use crate::table::Table;

pub(super) fn add(table: &mut Table) {
    table.include(&["xen.h", "event_channel.h"]);
    numbers!(table, event, {
        BIND_INTERDOMAIN: "EVTCHNOP_bind_interdomain",
        BIND_VIRQ: "EVTCHNOP_bind_virq",
        BIND_PIRQ: "EVTCHNOP_bind_pirq",
        CLOSE: "EVTCHNOP_close",
        SEND: "EVTCHNOP_send",
        STATUS: "EVTCHNOP_status",
        ALLOC_UNBOUND: "EVTCHNOP_alloc_unbound",
        BIND_IPI: "EVTCHNOP_bind_ipi",
        BIND_VCPU: "EVTCHNOP_bind_vcpu",
        UNMASK: "EVTCHNOP_unmask",
        RESET: "EVTCHNOP_reset",
        INIT_CONTROL: "EVTCHNOP_init_control",
        EXPAND_ARRAY: "EVTCHNOP_expand_array",
        SET_PRIORITY: "EVTCHNOP_set_priority",
        STATUS_CLOSED: "EVTCHNSTAT_closed",
        STATUS_UNBOUND: "EVTCHNSTAT_unbound",
        STATUS_INTERDOMAIN: "EVTCHNSTAT_interdomain",
        STATUS_PIRQ: "EVTCHNSTAT_pirq",
        STATUS_VIRQ: "EVTCHNSTAT_virq",
        STATUS_IPI: "EVTCHNSTAT_ipi",
        PIRQ_WILL_SHARE: "BIND_PIRQ__WILL_SHARE",
        NR_VIRQS: "NR_VIRQS",
        VIRQ_TIMER: "VIRQ_TIMER",
        VIRQ_DEBUG: "VIRQ_DEBUG",
        VIRQ_XENOPROF: "VIRQ_XENOPROF",
        VIRQ_ARGO: "VIRQ_ARGO",
        VIRQ_XENPMU: "VIRQ_XENPMU",
        CHANNELS_2L: "EVTCHN_2L_NR_CHANNELS",
        FIFO_PRIORITY_DEFAULT: "EVTCHN_FIFO_PRIORITY_DEFAULT",
        FIFO_PRIORITY_MIN: "EVTCHN_FIFO_PRIORITY_MIN",
        FIFO_MAX_QUEUES: "EVTCHN_FIFO_MAX_QUEUES",
        FIFO_PENDING: "EVTCHN_FIFO_PENDING",
        FIFO_MASKED: "EVTCHN_FIFO_MASKED",
        FIFO_LINKED: "EVTCHN_FIFO_LINKED",
        FIFO_BUSY: "EVTCHN_FIFO_BUSY",
        FIFO_LINK_BITS: "EVTCHN_FIFO_LINK_BITS",
        FIFO_LINK_MASK: "EVTCHN_FIFO_LINK_MASK",
        FIFO_NR_CHANNELS: "EVTCHN_FIFO_NR_CHANNELS",
        FIFO_READY: "offsetof(struct evtchn_fifo_control_block, ready)",
        FIFO_HEAD: "offsetof(struct evtchn_fifo_control_block, head)",
        FIFO_BLOCK_LEN: "sizeof(struct evtchn_fifo_control_block)",
    });
    structure!(table, event::AllocUnbound, "struct evtchn_alloc_unbound", { dom, remote_dom, port });
    structure!(table, event::BindInterdomain, "struct evtchn_bind_interdomain", {
        remote_dom, remote_port, local_port,
    });
    structure!(table, event::BindVirq, "struct evtchn_bind_virq", { virq, vcpu, port });
    structure!(table, event::BindPirq, "struct evtchn_bind_pirq", { pirq, flags, port });
    structure!(table, event::BindIpi, "struct evtchn_bind_ipi", { vcpu, port });
    structure!(table, event::Port, "struct evtchn_close", { port });
    structure!(table, event::Status, "struct evtchn_status", {
        dom, port, status, vcpu, detail: "u.virq", remote_port: "u.interdomain.port",
    });
    structure!(table, event::BindVcpu, "struct evtchn_bind_vcpu", { port, vcpu });
    structure!(table, event::Reset, "struct evtchn_reset", { dom });
    structure!(table, event::InitControl, "struct evtchn_init_control", {
        control_gfn, offset, vcpu, link_bits, reserved: "_pad",
    });
    structure!(table, event::ExpandArray, "struct evtchn_expand_array", { array_gfn });
    structure!(table, event::SetPriority, "struct evtchn_set_priority", { port, priority });
    // One structure stands for three.
    for (operation, name) in [("send", "send"), ("unmask", "unmask")] {
        let size = size_of::<xen_abi::event::Port>() as i64;
        table.check(format!("argument of {operation}"), format!("sizeof(struct evtchn_{name})"), size);
    }
}
