//! Hypercall numbers (`public/xen.h`, the list of hypercalls).

/// Exception handlers of a pv guest.
pub const SET_TRAP_TABLE: u64 = 0;
/// Memory reservations and the physmap.
pub const MEMORY_OP: u64 = 12;
/// Several calls in one.
pub const MULTICALL: u64 = 13;
/// The singleshot timer of a vCPU.
pub const SET_TIMER_OP: u64 = 15;
/// What hypervisor this is.
pub const XEN_VERSION: u64 = 17;
/// The hypervisor's console.
pub const CONSOLE_IO: u64 = 18;
/// Grant tables.
pub const GRANT_TABLE_OP: u64 = 20;
/// Assistance for paravirtualised guests.
pub const VM_ASSIST: u64 = 21;
/// Maps a page of another pv domain.
pub const UPDATE_VA_MAPPING_OTHERDOMAIN: u64 = 22;
/// Return of a pv guest from an exception.
pub const IRET: u64 = 23;
/// Virtual processors.
pub const VCPU_OP: u64 = 24;
/// FS and GS of a pv guest.
pub const SET_SEGMENT_BASE: u64 = 25;
/// Page tables of pv guests.
pub const MMUEXT_OP: u64 = 26;
/// Security modules.
pub const XSM_OP: u64 = 27;
/// The scheduler.
pub const SCHED_OP: u64 = 29;
/// Event channels.
pub const EVENT_CHANNEL_OP: u64 = 32;
/// Physical devices.
pub const PHYSDEV_OP: u64 = 33;
/// Hardware-assisted guests.
pub const HVM_OP: u64 = 34;
/// System control.
pub const SYSCTL: u64 = 35;
/// Domain control.
pub const DOMCTL: u64 = 36;
/// Argo messages.
pub const ARGO_OP: u64 = 39;
/// Device models.
pub const DM_OP: u64 = 41;
/// The hypervisor's file system.
pub const HYPFS_OP: u64 = 42;
/// Free on x86; the harness hypercall.
pub const ARCH_6: u64 = 54;
/// Free on x86; the coverage hypercall.
pub const ARCH_7: u64 = 55;
/// Stubs of 32 bytes that a hypercall page holds.
pub const COUNT: u64 = 128;
