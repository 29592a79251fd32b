//! `sched_op` (`public/sched.h`): `cmd`, pointer to the operation's structure.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Gives the processor up.
pub const YIELD: u32 = 0;
/// Waits for an event.
pub const BLOCK: u32 = 1;
/// [`Shutdown`].
pub const SHUTDOWN: u32 = 2;
/// [`Poll`].
pub const POLL: u32 = 3;
/// [`RemoteShutdown`].
pub const REMOTE_SHUTDOWN: u32 = 4;
/// [`Shutdown`].
pub const SHUTDOWN_CODE: u32 = 5;
/// [`Watchdog`].
pub const WATCHDOG: u32 = 6;
/// [`PinOverride`].
pub const PIN_OVERRIDE: u32 = 7;
/// Ended of its own accord.
pub const SHUTDOWN_POWEROFF: u32 = 0;
/// Wants to be started again.
pub const SHUTDOWN_REBOOT: u32 = 1;
/// Was suspended.
pub const SHUTDOWN_SUSPEND: u32 = 2;
/// Crashed.
pub const SHUTDOWN_CRASH: u32 = 3;
/// The watchdog expired.
pub const SHUTDOWN_WATCHDOG: u32 = 4;
/// Wants its state in the hypervisor reset.
pub const SHUTDOWN_SOFT_RESET: u32 = 5;
/// The last valid reason.
pub const SHUTDOWN_MAX: u32 = 5;
/// Most ports of one [`Poll`].
pub const POLL_MAX_PORTS: u32 = 128;

/// Why the domain ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Shutdown {
    /// One of `SHUTDOWN_*`.
    pub reason: u32,
}

const _: () = assert!(size_of::<Shutdown>() == 4);

/// Waits for one of several ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Poll {
    /// Guest-virtual address of an array of `u32`.
    pub ports: u64,
    /// Entries of the array, at most [`POLL_MAX_PORTS`].
    pub nr_ports: u32,
    /// Padding.
    pub reserved: u32,
    /// Absolute system time in nanoseconds; 0: none.
    pub timeout: u64,
}

const _: () = assert!(size_of::<Poll>() == 24);
const _: () = assert!(offset_of!(Poll, nr_ports) == 8);
const _: () = assert!(offset_of!(Poll, timeout) == 16);

/// Ends another domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RemoteShutdown {
    /// Which domain.
    pub domain_id: u16,
    /// Padding.
    pub reserved: u16,
    /// One of `SHUTDOWN_*`.
    pub reason: u32,
}

const _: () = assert!(size_of::<RemoteShutdown>() == 8);
const _: () = assert!(offset_of!(RemoteShutdown, reason) == 4);

/// Sets a watchdog timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Watchdog {
    /// 0: a new one.
    pub id: u32,
    /// Seconds.
    pub timeout: u32,
}

const _: () = assert!(size_of::<Watchdog>() == 8);

/// Pins the vCPU to a processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PinOverride {
    /// Which; negative: undo.
    pub pcpu: i32,
}

const _: () = assert!(size_of::<PinOverride>() == 4);
