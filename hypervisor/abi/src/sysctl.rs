//! `sysctl` (`public/sysctl.h` of Xen 4.17): pointer to a [`Sysctl`]. For the control domain only.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XEN_SYSCTL_INTERFACE_VERSION`.
pub const INTERFACE_VERSION: u32 = 0x15;
/// [`Physinfo`].
pub const PHYSINFO: u32 = 3;
/// [`GetDomainInfoList`].
pub const GET_DOMAIN_INFO_LIST: u32 = 6;
/// [`CoverageOp`].
pub const COVERAGE_OP: u32 = 20;

/// Hardware-assisted guests (`XEN_SYSCTL_PHYSCAP_hvm`).
pub const PHYSCAP_HVM: u32 = 1 << 0;
/// Paravirtualised guests.
pub const PHYSCAP_PV: u32 = 1 << 1;
/// Nested paging.
pub const PHYSCAP_HAP: u32 = 1 << 3;
/// Grant tables of version 1.
pub const PHYSCAP_GNTTAB_V1: u32 = 1 << 8;
/// Grant tables of version 2.
pub const PHYSCAP_GNTTAB_V2: u32 = 1 << 9;

/// Operations of [`CoverageOp`].
pub mod coverage {
    /// Tells how many bytes there are to read.
    pub const GET_SIZE: u32 = 0;
    /// Copies all of them.
    pub const READ: u32 = 1;
    /// Zeroes all counters.
    pub const RESET: u32 = 2;
}

/// The argument: what is asked for, and a union of structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, align(8))]
pub struct Sysctl {
    /// Which operation.
    pub cmd: u32,
    /// [`INTERFACE_VERSION`].
    pub interface_version: u32,
    /// The operation's structure.
    pub u: [u8; 128],
}

const _: () = assert!(size_of::<Sysctl>() == 136 && offset_of!(Sysctl, u) == 8);

/// The machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Physinfo {
    /// Threads of a core.
    pub threads_per_core: u32,
    /// Cores of a socket.
    pub cores_per_socket: u32,
    /// Processors.
    pub nr_cpus: u32,
    /// Highest number of a processor.
    pub max_cpu_id: u32,
    /// Nodes.
    pub nr_nodes: u32,
    /// Highest number of a node.
    pub max_node_id: u32,
    /// Clock rate.
    pub cpu_khz: u32,
    /// `PHYSCAP_*`.
    pub capabilities: u32,
    /// Of the architecture.
    pub arch_capabilities: u32,
    /// Padding.
    pub pad: u32,
    /// Pages of memory.
    pub total_pages: u64,
    /// Those that nobody has.
    pub free_pages: u64,
    /// Those that wait to be cleaned.
    pub scrub_pages: u64,
    /// Those that were claimed.
    pub outstanding_pages: u64,
    /// Highest frame.
    pub max_mfn: u64,
    /// Words of CPUID.
    pub hw_cap: [u32; 8],
}

const _: () = assert!(size_of::<Physinfo>() == 112);

/// Asks for several domains at a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetDomainInfoList {
    /// Lowest identifier.
    pub first_domain: u16,
    /// Padding.
    pub pad: u16,
    /// Entries of the buffer.
    pub max_domains: u32,
    /// Guest-virtual address of an array of [`crate::domctl::GetDomainInfo`].
    pub buffer: u64,
    /// Out: entries that were written.
    pub num_domains: u32,
    /// Padding.
    pub pad2: u32,
}

const _: () = assert!(size_of::<GetDomainInfoList>() == 24);

/// Coverage of the hypervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CoverageOp {
    /// One of [`coverage`].
    pub cmd: u32,
    /// In and out: bytes of the buffer.
    pub size: u32,
    /// Guest-virtual address.
    pub buffer: u64,
}
