//! `console_io` (`public/xen.h`, `HYPERVISOR_console_io`): `cmd`, `count`, `buffer`.

/// Writes `count` bytes; 0 on success.
pub const WRITE: u32 = 0;
/// Reads up to `count` bytes; returns how many.
pub const READ: u32 = 1;
