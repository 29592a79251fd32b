//! `vm_assist` (`public/xen.h`): `cmd`, type.

/// Switches a type on.
pub const ENABLE: u64 = 0;
/// Switches a type off.
pub const DISABLE: u64 = 1;
/// 32-bit pv: segments seem to be 4 GiB large.
pub const TYPE_4GB_SEGMENTS: u64 = 0;
/// 32-bit pv: says so where that was used.
pub const TYPE_4GB_SEGMENTS_NOTIFY: u64 = 1;
/// pv: page tables seem to be writable.
pub const TYPE_WRITABLE_PAGETABLES: u64 = 2;
/// 32-bit pv: page directories above 4 GiB.
pub const TYPE_PAE_EXTENDED_CR3: u64 = 3;
/// pv: the I/O privilege level is in the flags.
pub const TYPE_ARCHITECTURAL_IOPL: u64 = 4;
/// Updates of registered run states are marked ([`crate::vcpu::RUNSTATE_UPDATE`]).
pub const TYPE_RUNSTATE_UPDATE_FLAG: u64 = 5;
/// 64-bit pv: the machine-to-physical table is not mapped for user code.
pub const TYPE_M2P_STRICT: u64 = 32;
