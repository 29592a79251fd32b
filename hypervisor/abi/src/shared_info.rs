//! Layout of `struct shared_info` (`public/xen.h`) on x86-64, as offsets in its page.
//!
//! The page is written by guest and hypervisor alike, so it is never looked at through a structure.

/// Where the hypervisor puts the page before a guest does: a magic page outside of its RAM, at Xen's place for those of an Arm
/// guest (`GUEST_MAGIC_BASE`, `public/arch-arm.h`).
pub const SHARED_INFO_GPA: u64 = 0x3900_0000;
/// First `vcpu_info`.
pub const VCPU_INFO: usize = 0;
/// Bytes of a `vcpu_info`.
pub const VCPU_INFO_LEN: usize = 64;
/// Entries of `vcpu_info` (`XEN_LEGACY_MAX_VCPUS`).
pub const LEGACY_MAX_VCPUS: usize = 32;
/// In `vcpu_info`: byte, an event is pending.
pub const UPCALL_PENDING: usize = 0;
/// In `vcpu_info`: byte, upcalls are masked.
pub const UPCALL_MASK: usize = 1;
/// In `vcpu_info`: `u64`, which words of the pending array to look at.
pub const PENDING_SEL: usize = 8;
/// In `vcpu_info`: `vcpu_time_info`.
pub const TIME: usize = 32;
/// In `vcpu_info`: `u32`, odd while the time is being updated.
pub const TIME_VERSION: usize = 32;
/// In `vcpu_info`: `u64`, time-stamp counter at the last update.
pub const TIME_TSC: usize = 40;
/// In `vcpu_info`: `u64`, nanoseconds since boot.
pub const TIME_SYSTEM: usize = 48;
/// In `vcpu_info`: `u32`, scale of the time-stamp counter.
pub const TIME_MUL: usize = 56;
/// Array of 64 `u64`: pending bits of the ports.
pub const PENDING: usize = 2048;
/// Array of 64 `u64`: mask bits of the ports.
pub const MASK: usize = 2560;
/// `u32` version, `u32` seconds, `u32` nanoseconds, `u32` high part of the seconds.
pub const WALLCLOCK: usize = 3072;
/// Bytes of the structure.
pub const LEN: usize = 3136;

const _: () = assert!(PENDING == VCPU_INFO + LEGACY_MAX_VCPUS * VCPU_INFO_LEN);
const _: () = assert!(MASK == PENDING + 64 * 8 && WALLCLOCK == MASK + 64 * 8);
const _: () = assert!(LEN <= crate::PAGE_SIZE);
