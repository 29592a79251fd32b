//! `sched_op`: giving the processor away. Numbers: Xen `public/sched.h`.

use super::types::*;

/// `__HYPERVISOR_sched_op`.
const NUMBER: u32 = 29;

const REASONS: &[Named] =
    &[("poweroff", 0), ("reboot", 1), ("suspend", 2), ("crash", 3), ("watchdog", 4), ("soft_reset", 5)];
const REASON: Type = int(4, Kind::Enum(REASONS));

const SHUTDOWN: StructType = StructType { name: "sched_shutdown", fields: &[field("reason", REASON)] };
const POLL: StructType = StructType {
    name: "sched_poll",
    fields: &[
        field("ports", ptr_in(&Type::Array(&PORT))),
        field("nr_ports", int(4, Kind::Len("ports"))),
        field("timeout", int(8, Kind::Const(1))),
    ],
};
const REMOTE: StructType = StructType {
    name: "sched_remote_shutdown",
    fields: &[field("domain_id", PEER), field("reason", REASON)],
};
const WATCHDOG: StructType = StructType {
    name: "sched_watchdog",
    fields: &[field("id", int(4, Kind::Range(0, 2))), field("timeout", int(4, Kind::Range(0, 30)))],
};
const PIN: StructType =
    StructType { name: "sched_pin_override", fields: &[field("pcpu", int(4, Kind::Range(0, 1)))] };

const fn op(name: &'static str, number: u64, args: &'static [Field], returns: Returns) -> Operation {
    Operation { name, number: NUMBER, select: Select::First(number), args, results: &[], returns }
}

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op("sched_op.yield", 0, &[], Returns::Zero),
    op("sched_op.block", 1, &[], Returns::Zero),
    op("sched_op.shutdown", 2, &[field("arg", ptr_in(&Type::Struct(&SHUTDOWN)))], Returns::Never),
    op("sched_op.poll", 3, &[field("arg", ptr_in(&Type::Struct(&POLL)))], Returns::Zero),
    op("sched_op.remote_shutdown", 4, &[field("arg", ptr_in(&Type::Struct(&REMOTE)))], Returns::Zero),
    op("sched_op.shutdown_code", 5, &[field("arg", ptr_in(&Type::Struct(&SHUTDOWN)))], Returns::Zero),
    Operation {
        name: "sched_op.watchdog",
        number: NUMBER,
        select: Select::First(6),
        args: &[field("arg", ptr_in(&Type::Struct(&WATCHDOG)))],
        results: &[returns(Resource::Number)],
        returns: Returns::Value,
    },
    op("sched_op.pin_override", 7, &[field("arg", ptr_in(&Type::Struct(&PIN)))], Returns::Zero),
];
