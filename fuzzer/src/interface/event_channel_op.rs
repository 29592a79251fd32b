//! `event_channel_op`: ports, two-level and FIFO. Numbers: Xen `public/event_channel.h`.

use xen_abi::{event as abi, hypercall};

use super::types::*;

const NUMBER: u32 = hypercall::EVENT_CHANNEL_OP as u32;

const VIRQS: &[Named] = &[
    ("timer", 0),
    ("debug", 1),
    ("console", 2),
    ("dom_exc", 3),
    ("tbuf", 4),
    ("debugger", 6),
    ("xenoprof", 7),
    ("con_ring", 8),
    ("pcpu_state", 9),
    ("mem_event", 10),
    ("argo", 11),
    ("enomem", 12),
    ("xenpmu", 13),
];
const PIRQ_FLAGS: &[Named] = &[("will_share", 1)];

// ANCHOR: bind_interdomain
const BIND_INTERDOMAIN: StructType = StructType {
    name: "evtchn_bind_interdomain",
    fields: &[
        field("remote_dom", PEER),
        field("remote_port", int(4, Kind::PortOf("remote_dom"))),
        out("local_port", PORT),
    ],
};
// ANCHOR_END: bind_interdomain
const BIND_VIRQ: StructType = StructType {
    name: "evtchn_bind_virq",
    fields: &[field("virq", int(4, Kind::Enum(VIRQS))), field("vcpu", VCPU), out("port", PORT)],
};
const BIND_PIRQ: StructType = StructType {
    name: "evtchn_bind_pirq",
    fields: &[
        field("pirq", int(4, Kind::Range(0, 32))),
        field("flags", int(4, Kind::Flags(PIRQ_FLAGS))),
        out("port", PORT),
    ],
};
const PORT_ONLY: StructType = StructType { name: "evtchn_port", fields: &[field("port", PORT)] };
const STATUS: StructType = StructType {
    name: "evtchn_status",
    fields: &[
        field("dom", DOMAIN),
        field("port", int(4, Kind::PortOf("dom"))),
        out("status", U32),
        out("vcpu", U32),
        out("detail", Type::Blob(8)),
    ],
};
// ANCHOR: alloc_unbound
const ALLOC_UNBOUND: StructType = StructType {
    name: "evtchn_alloc_unbound",
    fields: &[field("dom", DOMAIN), field("remote_dom", PEER), out("port", PORT)],
};
// ANCHOR_END: alloc_unbound
const BIND_IPI: StructType =
    StructType { name: "evtchn_bind_ipi", fields: &[field("vcpu", VCPU), out("port", PORT)] };
const BIND_VCPU: StructType =
    StructType { name: "evtchn_bind_vcpu", fields: &[field("port", PORT), field("vcpu", VCPU)] };
const RESET: StructType = StructType { name: "evtchn_reset", fields: &[field("dom", DOMAIN)] };
const INIT_CONTROL: StructType = StructType {
    name: "evtchn_init_control",
    fields: &[
        field("control_gfn", FRAME),
        field("offset", int(4, Kind::Range(0, 0xfc0))),
        field("vcpu", VCPU),
        out("link_bits", int(1, Kind::Plain)),
        out("pad", Type::Blob(7)),
    ],
};
const EXPAND_ARRAY: StructType =
    StructType { name: "evtchn_expand_array", fields: &[field("array_gfn", FRAME)] };
const SET_PRIORITY: StructType = StructType {
    name: "evtchn_set_priority",
    fields: &[field("port", PORT), field("priority", int(4, Kind::Range(0, 15)))],
};

const fn op(
    name: &'static str,
    number: u32,
    args: &'static [Field],
    results: &'static [ResultSpec],
) -> Operation {
    Operation::sub(NUMBER, number as u64, name, args).giving(results)
}

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op(
        "event_channel_op.bind_interdomain",
        abi::BIND_INTERDOMAIN,
        &[field("arg", ptr_inout(&Type::Struct(&BIND_INTERDOMAIN)))],
        &[gives("local_port", Resource::Port)],
    ),
    op(
        "event_channel_op.bind_virq",
        abi::BIND_VIRQ,
        &[field("arg", ptr_inout(&Type::Struct(&BIND_VIRQ)))],
        &[gives("port", Resource::Port)],
    ),
    op(
        "event_channel_op.bind_pirq",
        abi::BIND_PIRQ,
        &[field("arg", ptr_inout(&Type::Struct(&BIND_PIRQ)))],
        &[gives("port", Resource::Port)],
    ),
    op("event_channel_op.close", abi::CLOSE, &[field("arg", ptr_in(&Type::Struct(&PORT_ONLY)))], &[]),
    op("event_channel_op.send", abi::SEND, &[field("arg", ptr_in(&Type::Struct(&PORT_ONLY)))], &[]),
    op("event_channel_op.status", abi::STATUS, &[field("arg", ptr_inout(&Type::Struct(&STATUS)))], &[]),
    op(
        "event_channel_op.alloc_unbound",
        abi::ALLOC_UNBOUND,
        &[field("arg", ptr_inout(&Type::Struct(&ALLOC_UNBOUND)))],
        &[gives("port", Resource::Port)],
    ),
    op(
        "event_channel_op.bind_ipi",
        abi::BIND_IPI,
        &[field("arg", ptr_inout(&Type::Struct(&BIND_IPI)))],
        &[gives("port", Resource::Port)],
    ),
    op("event_channel_op.bind_vcpu", abi::BIND_VCPU, &[field("arg", ptr_in(&Type::Struct(&BIND_VCPU)))], &[]),
    op("event_channel_op.unmask", abi::UNMASK, &[field("arg", ptr_in(&Type::Struct(&PORT_ONLY)))], &[]),
    op("event_channel_op.reset", abi::RESET, &[field("arg", ptr_in(&Type::Struct(&RESET)))], &[]),
    op(
        "event_channel_op.init_control",
        abi::INIT_CONTROL,
        &[field("arg", ptr_inout(&Type::Struct(&INIT_CONTROL)))],
        &[],
    ),
    op(
        "event_channel_op.expand_array",
        abi::EXPAND_ARRAY,
        &[field("arg", ptr_in(&Type::Struct(&EXPAND_ARRAY)))],
        &[],
    ),
    op(
        "event_channel_op.set_priority",
        abi::SET_PRIORITY,
        &[field("arg", ptr_in(&Type::Struct(&SET_PRIORITY)))],
        &[],
    ),
];
