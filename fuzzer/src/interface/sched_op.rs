//! `sched_op`: giving the processor away. Numbers: Xen `public/sched.h`.

use xen_abi::{hypercall, sched as abi};

use super::types::*;

const NUMBER: u32 = hypercall::SCHED_OP as u32;

const REASONS: &[Named] = &[
    ("poweroff", abi::SHUTDOWN_POWEROFF as u64),
    ("reboot", abi::SHUTDOWN_REBOOT as u64),
    ("suspend", abi::SHUTDOWN_SUSPEND as u64),
    ("crash", abi::SHUTDOWN_CRASH as u64),
    ("watchdog", abi::SHUTDOWN_WATCHDOG as u64),
    ("soft_reset", abi::SHUTDOWN_SOFT_RESET as u64),
];
const REASON: Type = int(4, Kind::Enum(REASONS));

/// Points in time, in nanoseconds since the start; 0 stands for no time-out at all.
const TIMEOUTS: &[Named] = &[("past", 1), ("never", 0), ("second", 1_000_000_000)];

const SHUTDOWN: StructType = StructType { name: "sched_shutdown", fields: &[field("reason", REASON)] };
const POLL: StructType = StructType {
    name: "sched_poll",
    fields: &[
        field("ports", ptr_in(&Type::Array(&PORT))),
        field("nr_ports", int(4, Kind::Len("ports"))),
        field("timeout", int(8, Kind::Enum(TIMEOUTS))),
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

const fn op(name: &'static str, number: u32, args: &'static [Field], returns: Returns) -> Operation {
    Operation::sub(NUMBER, number as u64, name, args).returning(returns)
}

/// The sub-operations.
pub(super) const OPERATIONS: &[Operation] = &[
    op("sched_op.yield", abi::YIELD, &[], Returns::Zero),
    op("sched_op.block", abi::BLOCK, &[], Returns::Zero),
    op("sched_op.shutdown", abi::SHUTDOWN, &[field("arg", ptr_in(&Type::Struct(&SHUTDOWN)))], Returns::Never),
    op("sched_op.poll", abi::POLL, &[field("arg", ptr_in(&Type::Struct(&POLL)))], Returns::Zero),
    op(
        "sched_op.remote_shutdown",
        abi::REMOTE_SHUTDOWN,
        &[field("arg", ptr_in(&Type::Struct(&REMOTE)))],
        Returns::Zero,
    ),
    op(
        "sched_op.shutdown_code",
        abi::SHUTDOWN_CODE,
        &[field("arg", ptr_in(&Type::Struct(&SHUTDOWN)))],
        Returns::Zero,
    ),
    Operation {
        name: "sched_op.watchdog",
        number: NUMBER,
        select: Select::First(abi::WATCHDOG as u64),
        args: &[field("arg", ptr_in(&Type::Struct(&WATCHDOG)))],
        results: &[returns(Resource::Number)],
        returns: Returns::Value,
    },
    op(
        "sched_op.pin_override",
        abi::PIN_OVERRIDE,
        &[field("arg", ptr_in(&Type::Struct(&PIN)))],
        Returns::Zero,
    ),
];
