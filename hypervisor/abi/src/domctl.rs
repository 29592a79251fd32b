//! `domctl` (`public/domctl.h` of Xen 4.17): pointer to a [`Domctl`]. For the control domain only.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// `XEN_DOMCTL_INTERFACE_VERSION`.
pub const INTERFACE_VERSION: u32 = 0x15;
/// [`CreateDomain`]; 0 as domain asks for any free identifier.
pub const CREATE_DOMAIN: u32 = 1;
/// Ends a domain and frees what it has.
pub const DESTROY_DOMAIN: u32 = 2;
/// Stops a domain until it is unpaused as often.
pub const PAUSE_DOMAIN: u32 = 3;
/// Takes one pause back.
pub const UNPAUSE_DOMAIN: u32 = 4;
/// [`GetDomainInfo`], of the domain or the next one.
pub const GET_DOMAIN_INFO: u32 = 5;
/// [`MaxMem`].
pub const MAX_MEM: u32 = 11;
/// [`VcpuContext`].
pub const SET_VCPU_CONTEXT: u32 = 12;
/// [`GetVcpuInfo`].
pub const GET_VCPU_INFO: u32 = 14;
/// [`MaxVcpus`]: makes the vCPUs that the domain was created for.
pub const MAX_VCPUS: u32 = 15;
/// [`DomainHandle`].
pub const SET_DOMAIN_HANDLE: u32 = 17;
/// [`SetDebugging`].
pub const SET_DEBUGGING: u32 = 18;
/// [`HypercallInit`].
pub const HYPERCALL_INIT: u32 = 22;
/// [`SetTimeOffset`].
pub const SET_TIME_OFFSET: u32 = 24;
/// Lets a domain that has shut down go on.
pub const RESUME_DOMAIN: u32 = 27;
/// [`AddressSize`]; paravirtualised guests only.
pub const SET_ADDRESS_SIZE: u32 = 35;
/// [`AddressSize`].
pub const GET_ADDRESS_SIZE: u32 = 36;

/// Hardware-assisted guest (`XEN_DOMCTL_CDF_hvm`).
pub const CDF_HVM: u32 = 1 << 0;
/// With nested paging.
pub const CDF_HAP: u32 = 1 << 1;
/// Memory integrity over suspension.
pub const CDF_S3_INTEGRITY: u32 = 1 << 2;
/// No out-of-sync shadow page tables.
pub const CDF_OOS_OFF: u32 = 1 << 3;
/// The domain runs xenstore.
pub const CDF_XS_DOMAIN: u32 = 1 << 4;
/// Devices may be assigned.
pub const CDF_IOMMU: u32 = 1 << 5;
/// Nested virtualisation.
pub const CDF_NESTED_VIRT: u32 = 1 << 6;
/// Virtual performance counters.
pub const CDF_VPMU: u32 = 1 << 7;
/// `XEN_X86_EMU_LAPIC` of `public/arch-x86/xen.h`, in [`ArchConfig::emulation_flags`].
pub const EMU_LAPIC: u32 = 1 << 0;
/// `XEN_X86_EMU_ALL`.
pub const EMU_ALL: u32 = 0x7ff;
/// `XEN_X86_MSR_RELAXED`, in [`ArchConfig::misc_flags`].
pub const MSR_RELAXED: u32 = 1 << 0;
/// Bits of [`CreateDomain::grant_opts`] that hold the version (`XEN_DOMCTL_GRANT_version_mask`).
pub const GRANT_VERSION_MASK: u32 = 0xf;

/// The domain is being destroyed (`XEN_DOMINF_dying`).
pub const DOMINF_DYING: u32 = 1 << 0;
/// Hardware-assisted guest.
pub const DOMINF_HVM_GUEST: u32 = 1 << 1;
/// The guest has shut down; why stands above [`DOMINF_SHUTDOWN_SHIFT`].
pub const DOMINF_SHUTDOWN: u32 = 1 << 2;
/// Paused by the control domain.
pub const DOMINF_PAUSED: u32 = 1 << 3;
/// All its vCPUs wait.
pub const DOMINF_BLOCKED: u32 = 1 << 4;
/// One of its vCPUs runs.
pub const DOMINF_RUNNING: u32 = 1 << 5;
/// A debugger is attached.
pub const DOMINF_DEBUGGED: u32 = 1 << 6;
/// The domain runs xenstore.
pub const DOMINF_XS_DOMAIN: u32 = 1 << 7;
/// Nested paging.
pub const DOMINF_HAP: u32 = 1 << 8;
/// Where the reason for a shutdown begins (`XEN_DOMINF_shutdownshift`).
pub const DOMINF_SHUTDOWN_SHIFT: u32 = 16;
/// The domain has no vCPU (`XEN_INVALID_MAX_VCPU_ID`).
pub const INVALID_MAX_VCPU_ID: u32 = u32::MAX;

/// The argument: what is asked for, of whom, and a union of structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Domctl {
    /// Which operation.
    pub cmd: u32,
    /// [`INTERFACE_VERSION`].
    pub interface_version: u32,
    /// Which domain.
    pub domain: u16,
    /// Padding.
    pub pad: [u16; 3],
    /// The operation's structure.
    pub u: [u8; 128],
}

const _: () = assert!(size_of::<Domctl>() == 144 && offset_of!(Domctl, u) == 16);

/// What differs between architectures (`struct xen_arch_domainconfig`, `public/arch-x86/xen.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ArchConfig {
    /// Devices that are emulated.
    pub emulation_flags: u32,
    /// `XEN_X86_*`.
    pub misc_flags: u32,
}

/// A domain to be created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateDomain {
    /// Security label.
    pub ssidref: u32,
    /// Its UUID.
    pub handle: [u8; 16],
    /// `CDF_*`.
    pub flags: u32,
    /// Options of the IOMMU.
    pub iommu_opts: u32,
    /// vCPUs that it can have.
    pub max_vcpus: u32,
    /// Highest event channel that it can have.
    pub max_evtchn_port: u32,
    /// Frames of its grant table; negative: the default.
    pub max_grant_frames: i32,
    /// Frames of its mappings of grants; negative: the default.
    pub max_maptrack_frames: i32,
    /// Version of grants.
    pub grant_opts: u32,
    /// Bytes of a trace buffer for each vCPU.
    pub vmtrace_size: u32,
    /// CPU pool.
    pub cpupool_id: u32,
    /// The rest.
    pub arch: ArchConfig,
}

const _: () = assert!(size_of::<CreateDomain>() == 64);

/// What is known of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetDomainInfo {
    /// Which it is.
    pub domain: u16,
    /// Padding.
    pub pad1: u16,
    /// `DOMINF_*`.
    pub flags: u32,
    /// Pages that it owns.
    pub tot_pages: u64,
    /// Most pages that it may own.
    pub max_pages: u64,
    /// Pages that it has claimed.
    pub outstanding_pages: u64,
    /// Pages that it shares.
    pub shr_pages: u64,
    /// Pages that are paged out.
    pub paged_pages: u64,
    /// Guest frame of its shared-info page.
    pub shared_info_frame: u64,
    /// Nanoseconds of processor time.
    pub cpu_time: u64,
    /// vCPUs that are up.
    pub nr_online_vcpus: u32,
    /// Highest number of a vCPU, or [`INVALID_MAX_VCPU_ID`].
    pub max_vcpu_id: u32,
    /// Security label.
    pub ssidref: u32,
    /// Its UUID.
    pub handle: [u8; 16],
    /// CPU pool.
    pub cpupool: u32,
    /// Bits of its physical addresses.
    pub gpaddr_bits: u8,
    /// Padding.
    pub pad2: [u8; 7],
    /// As it was created.
    pub arch_config: ArchConfig,
}

const _: () = assert!(size_of::<GetDomainInfo>() == 112);

/// What is known of a vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetVcpuInfo {
    /// In: which.
    pub vcpu: u32,
    /// It is up.
    pub online: u8,
    /// It waits for an event.
    pub blocked: u8,
    /// It runs.
    pub running: u8,
    /// Padding.
    pub pad: u8,
    /// Nanoseconds of processor time.
    pub cpu_time: u64,
    /// Processor.
    pub cpu: u32,
    /// Padding.
    pub pad2: u32,
}

const _: () = assert!(size_of::<GetVcpuInfo>() == 24);

/// State of a vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VcpuContext {
    /// Which.
    pub vcpu: u32,
    /// Padding.
    pub pad: u32,
    /// Guest-virtual address of a [`GuestContext`](crate::pv::GuestContext), or what other guests have in its place.
    pub ctxt: u64,
}

const _: () = assert!(size_of::<VcpuContext>() == 16);

/// Most memory of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaxMem {
    /// In KiB.
    pub max_memkb: u64,
}

/// vCPUs of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MaxVcpus {
    /// As many as the domain was created for.
    pub max: u32,
}

/// A UUID (`xen_domctl_setdomainhandle`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DomainHandle {
    /// The UUID.
    pub handle: [u8; 16],
}

/// Whether a debugger is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetDebugging {
    /// Not zero: it is.
    pub enable: u8,
}

/// Where a hypercall page is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HypercallInit {
    /// Guest frame.
    pub gmfn: u64,
}

/// How far a domain's clock is from the machine's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetTimeOffset {
    /// In seconds.
    pub time_offset_seconds: i64,
}

/// Bits of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddressSize {
    /// 32 or 64.
    pub size: u32,
}
