//! The subset of Xen's public ABI that the reference hypervisor speaks.
//!
//! Numbers, structures and error codes of x86-64 as Xen's `public/` headers define them; each module names its
//! header. Structures are copied from and to guest memory as bytes: every gap has a name, every layout is asserted,
//! and nothing here trusts what a guest has written.
#![no_std]
#![forbid(unsafe_code)]

pub mod argo;
pub mod console;
pub mod cpuid;
pub mod dm;
pub mod domctl;
pub mod elfnote;
pub mod errno;
pub mod event;
pub mod grant;
pub mod hvm;
pub mod hypercall;
pub mod memory;
pub mod multicall;
pub mod pv;
pub mod sched;
pub mod shared_info;
pub mod start_info;
pub mod sysctl;
pub mod vcpu;
pub mod version;
pub mod vm_assist;

/// Identifies a domain on the wire (`domid_t`).
pub type DomId = u16;
/// The caller itself. Domain identifiers from here on are reserved (`DOMID_SELF`, `public/xen.h`).
pub const DOMID_SELF: DomId = 0x7ff0;
/// First identifier that no ordinary domain has (`DOMID_FIRST_RESERVED`).
pub const DOMID_FIRST_RESERVED: DomId = 0x7ff0;
/// Owner of pages that belong to nobody (`DOMID_INVALID`).
pub const DOMID_INVALID: DomId = 0x7ff4;
/// Bits of an address within a page.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes of a page.
pub const PAGE_SIZE: usize = 4096;
