//! `sched`, against `sched.h`.

use crate::table::Table;

pub(super) fn add(table: &mut Table) {
    table.include(&["sched.h"]);
    numbers!(table, sched, {
        YIELD: "SCHEDOP_yield",
        BLOCK: "SCHEDOP_block",
        SHUTDOWN: "SCHEDOP_shutdown",
        POLL: "SCHEDOP_poll",
        REMOTE_SHUTDOWN: "SCHEDOP_remote_shutdown",
        SHUTDOWN_CODE: "SCHEDOP_shutdown_code",
        WATCHDOG: "SCHEDOP_watchdog",
        PIN_OVERRIDE: "SCHEDOP_pin_override",
        SHUTDOWN_POWEROFF: "SHUTDOWN_poweroff",
        SHUTDOWN_REBOOT: "SHUTDOWN_reboot",
        SHUTDOWN_SUSPEND: "SHUTDOWN_suspend",
        SHUTDOWN_CRASH: "SHUTDOWN_crash",
        SHUTDOWN_WATCHDOG: "SHUTDOWN_watchdog",
        SHUTDOWN_SOFT_RESET: "SHUTDOWN_soft_reset",
        SHUTDOWN_MAX: "SHUTDOWN_MAX",
    });
    table.own("sched::POLL_MAX_PORTS", "a limit of the implementation");
    structure!(table, sched::Shutdown, "struct sched_shutdown", { reason });
    structure!(table, sched::Poll, "struct sched_poll", { ports, nr_ports, timeout });
    structure!(table, sched::RemoteShutdown, "struct sched_remote_shutdown", { domain_id, reason });
    structure!(table, sched::Watchdog, "struct sched_watchdog", { id, timeout });
    structure!(table, sched::PinOverride, "struct sched_pin_override", { pcpu });
}
