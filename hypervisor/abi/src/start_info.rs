//! The PVH start-of-day structures (`public/arch-x86/hvm/start_info.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Identifies a [`StartInfo`] (`XEN_HVM_START_MAGIC_VALUE`).
pub const MAGIC: u32 = 0x336e_c578;
/// Version of the structure: with a memory map.
pub const VERSION: u32 = 1;
/// The domain may control others (`SIF_PRIVILEGED`, `public/xen.h`).
pub const SIF_PRIVILEGED: u32 = 1 << 0;
/// The domain is the first one (`SIF_INITDOMAIN`).
pub const SIF_INITDOMAIN: u32 = 1 << 1;
/// Usable memory (`XEN_HVM_MEMMAP_TYPE_RAM`, as E820).
pub const MEMMAP_RAM: u32 = 1;
/// Not for the guest (`XEN_HVM_MEMMAP_TYPE_RESERVED`).
pub const MEMMAP_RESERVED: u32 = 2;

/// At the guest-physical address in EBX at entry (`hvm_start_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartInfo {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`VERSION`].
    pub version: u32,
    /// `SIF_*` flags.
    pub flags: u32,
    /// Modules.
    pub nr_modules: u32,
    /// Guest-physical address of the first [`Module`].
    pub modlist_paddr: u64,
    /// Guest-physical address of the command line, zero-terminated; 0 if none.
    pub cmdline_paddr: u64,
    /// Guest-physical address of the RSDP; 0 if none.
    pub rsdp_paddr: u64,
    /// Guest-physical address of the first [`MemmapEntry`].
    pub memmap_paddr: u64,
    /// Entries of the memory map.
    pub memmap_entries: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<StartInfo>() == 56);

/// A module (`hvm_modlist_entry`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Module {
    /// Guest-physical address.
    pub paddr: u64,
    /// Bytes.
    pub size: u64,
    /// Guest-physical address of its command line; 0 if none.
    pub cmdline_paddr: u64,
    /// Zero.
    pub reserved: u64,
}

const _: () = assert!(size_of::<Module>() == 32);

/// A range of guest-physical memory (`hvm_memmap_table_entry`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemmapEntry {
    /// First byte.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// `MEMMAP_*`.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<MemmapEntry>() == 24);
