//! `memory_op` (`public/memory.h`): `cmd`, pointer to the operation's structure.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Reservation`]: returns the extents that were allocated.
pub const INCREASE_RESERVATION: u32 = 0;
/// [`Reservation`]: returns the extents that were freed.
pub const DECREASE_RESERVATION: u32 = 1;
/// Returns the highest machine frame of RAM.
pub const MAXIMUM_RAM_PAGE: u32 = 2;
/// [`Domain`]: returns its pages.
pub const CURRENT_RESERVATION: u32 = 3;
/// [`Domain`]: returns the most pages that it may have.
pub const MAXIMUM_RESERVATION: u32 = 4;
/// [`MachphysMfnList`].
pub const MACHPHYS_MFN_LIST: u32 = 5;
/// [`Reservation`]: returns the extents that were populated.
pub const POPULATE_PHYSMAP: u32 = 6;
/// [`AddToPhysmap`].
pub const ADD_TO_PHYSMAP: u32 = 7;
/// [`MemoryMap`].
pub const MEMORY_MAP: u32 = 9;
/// [`MemoryMap`]; privileged.
pub const MACHINE_MEMORY_MAP: u32 = 10;
/// [`Exchange`].
pub const EXCHANGE: u32 = 11;
/// [`MachphysMapping`].
pub const MACHPHYS_MAPPING: u32 = 12;
/// [`ForeignMemoryMap`].
pub const SET_MEMORY_MAP: u32 = 13;
/// [`Domain`]: returns the highest frame in use.
pub const MAXIMUM_GPFN: u32 = 14;
/// [`RemoveFromPhysmap`].
pub const REMOVE_FROM_PHYSMAP: u32 = 15;
/// [`PodTarget`]; privileged.
pub const SET_POD_TARGET: u32 = 16;
/// [`PodTarget`]; privileged.
pub const GET_POD_TARGET: u32 = 17;
/// Returns the pages saved by sharing.
pub const GET_SHARING_FREED_PAGES: u32 = 18;
/// Returns the pages that are shared.
pub const GET_SHARING_SHARED_PAGES: u32 = 19;
/// [`AddToPhysmapBatch`].
pub const ADD_TO_PHYSMAP_BATCH: u32 = 23;
/// [`Reservation`]; privileged.
pub const CLAIM_PAGES: u32 = 24;
/// [`MachphysMfnList`].
pub const MACHPHYS_COMPAT_MFN_LIST: u32 = 25;
/// [`AcquireResource`].
pub const ACQUIRE_RESOURCE: u32 = 28;
/// Low bits of `cmd` that name the operation; the rest is where a preempted call goes on (`MEMOP_CMD_MASK`).
pub const CMD_MASK: u32 = 0x3f;
/// Bits above which `cmd` says at which extent to go on (`MEMOP_EXTENT_SHIFT`).
pub const CMD_START_SHIFT: u32 = 6;
/// The shared-info page.
pub const MAPSPACE_SHARED_INFO: u32 = 0;
/// A page of the grant table.
pub const MAPSPACE_GRANT_TABLE: u32 = 1;
/// Flag in the index of a page of the grant table: a status page (`XENMAPIDX_grant_table_status`).
pub const MAPIDX_GRANT_TABLE_STATUS: u64 = 1 << 31;
/// A frame of the domain itself.
pub const MAPSPACE_GMFN: u32 = 2;
/// Several such frames.
pub const MAPSPACE_GMFN_RANGE: u32 = 3;
/// A frame of another domain; batch only.
pub const MAPSPACE_GMFN_FOREIGN: u32 = 4;
/// Device memory; Arm only.
pub const MAPSPACE_DEV_MMIO: u32 = 5;
/// Flag in `mem_flags`.
pub const MEMF_POPULATE_ON_DEMAND: u32 = 0x1_0000;
/// Flag in `mem_flags`.
pub const MEMF_EXACT_NODE: u32 = 0x2_0000;
/// Flag in `mem_flags`.
pub const MEMF_VNODE: u32 = 0x4_0000;
/// Usable memory.
pub const E820_RAM: u32 = 1;
/// Reserved memory.
pub const E820_RESERVED: u32 = 2;

/// Node that means any (`XENMEMF_get_node` of flags without one).
pub const NO_NODE: u32 = 0xff;

/// Address width that `mem_flags` asks for, in bits; 0: any.
pub const fn memf_address_bits(flags: u32) -> u32 {
    flags & 0xff
}

/// Node that `mem_flags` asks for; 255: any.
pub const fn memf_node(flags: u32) -> u32 {
    (flags >> 8).wrapping_sub(1) & 0xff
}

/// Extents of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Reservation {
    /// Guest-virtual address of an array of `u64` frame numbers; 0: none.
    pub extent_start: u64,
    /// Entries of the array.
    pub nr_extents: u64,
    /// An extent has 1 << this many pages.
    pub extent_order: u32,
    /// `MEMF_*`, address width, node.
    pub mem_flags: u32,
    /// Whose memory.
    pub domid: u16,
    /// Padding.
    pub reserved: [u16; 3],
}

const _: () = assert!(size_of::<Reservation>() == 32);
const _: () = assert!(offset_of!(Reservation, extent_order) == 16);
const _: () = assert!(offset_of!(Reservation, domid) == 24);

/// Gives extents away and gets others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exchange {
    /// What is given.
    pub input: Reservation,
    /// What is wanted.
    pub output: Reservation,
    /// In: zero. Out: input extents that were exchanged.
    pub nr_exchanged: u64,
}

const _: () = assert!(size_of::<Exchange>() == 72);

/// Names a domain (`xen_memory_domain`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Domain {
    /// Which.
    pub domid: u16,
}

const _: () = assert!(size_of::<Domain>() == 2);

/// Asks where the machine-to-physical table lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MachphysMfnList {
    /// In: entries of the array.
    pub max_extents: u32,
    /// Padding.
    pub reserved0: u32,
    /// Guest-virtual address of an array of `u64`.
    pub extent_start: u64,
    /// Out: entries that were written.
    pub nr_extents: u32,
    /// Padding.
    pub reserved1: u32,
}

const _: () = assert!(size_of::<MachphysMfnList>() == 24);

/// Where the machine-to-physical table is mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MachphysMapping {
    /// Out: first byte.
    pub v_start: u64,
    /// Out: byte behind it.
    pub v_end: u64,
    /// Out: highest frame in it.
    pub max_mfn: u64,
}

const _: () = assert!(size_of::<MachphysMapping>() == 24);

/// Maps a page at a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddToPhysmap {
    /// In: whose physmap.
    pub domid: u16,
    /// In: pages, for `MAPSPACE_GMFN_RANGE`; out: pages that are left.
    pub size: u16,
    /// In: `MAPSPACE_*`.
    pub space: u32,
    /// In: which page of that space.
    pub idx: u64,
    /// In: where it is to appear.
    pub gpfn: u64,
}

const _: () = assert!(size_of::<AddToPhysmap>() == 24);
const _: () = assert!(offset_of!(AddToPhysmap, space) == 4);

/// Maps several pages at frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AddToPhysmapBatch {
    /// In: whose physmap.
    pub domid: u16,
    /// In: `MAPSPACE_*`.
    pub space: u16,
    /// In: pages.
    pub size: u16,
    /// In: whose pages; zero but for `MAPSPACE_GMFN_FOREIGN`.
    pub foreign_domid: u16,
    /// Guest-virtual address of an array of `u64`: which pages.
    pub idxs: u64,
    /// Guest-virtual address of an array of `u64`: where they are to appear.
    pub gpfns: u64,
    /// Guest-virtual address of an array of `i32`: results.
    pub errs: u64,
}

const _: () = assert!(size_of::<AddToPhysmapBatch>() == 32);

/// Unmaps a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RemoveFromPhysmap {
    /// In: whose physmap.
    pub domid: u16,
    /// Padding.
    pub reserved: [u16; 3],
    /// In: which frame.
    pub gpfn: u64,
}

const _: () = assert!(size_of::<RemoveFromPhysmap>() == 16);

/// Pages that are to be populated on demand (`xen_pod_target`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PodTarget {
    /// In: pages that the domain is to have.
    pub target_pages: u64,
    /// Out: pages that it has.
    pub tot_pages: u64,
    /// Out: pages that wait for a place.
    pub pod_cache_pages: u64,
    /// Out: places that wait for a page.
    pub pod_entries: u64,
    /// In: whose.
    pub domid: u16,
    /// Padding.
    pub reserved: [u16; 3],
}

const _: () = assert!(size_of::<PodTarget>() == 40);

/// The memory map that a domain is to be shown (`xen_foreign_memory_map`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ForeignMemoryMap {
    /// In: to which domain.
    pub domid: u16,
    /// Padding.
    pub reserved: [u16; 3],
    /// In: the map.
    pub map: MemoryMap,
}

const _: () = assert!(size_of::<ForeignMemoryMap>() == 24);

/// Asks for a memory map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MemoryMap {
    /// In: entries that fit; out: entries that were written.
    pub nr_entries: u32,
    /// Padding.
    pub reserved: u32,
    /// Guest-virtual address of an array of [`E820Entry`].
    pub buffer: u64,
}

const _: () = assert!(size_of::<MemoryMap>() == 16);

/// Resource of [`AcquireResource`]: pages of an I/O request server.
pub const RESOURCE_IOREQ_SERVER: u16 = 0;
/// Resource: pages of a grant table.
pub const RESOURCE_GRANT_TABLE: u16 = 1;
/// Identifier in a grant table: the shared pages.
pub const RESOURCE_GRANT_TABLE_SHARED: u32 = 0;
/// Identifier in a grant table: the status pages.
pub const RESOURCE_GRANT_TABLE_STATUS: u32 = 1;

/// Maps pages of a domain's resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AcquireResource {
    /// In: whose.
    pub domid: u16,
    /// In: `RESOURCE_*`.
    pub kind: u16,
    /// In: which one of that kind.
    pub id: u32,
    /// In: pages. Out, where it was 0 and there is no list: pages that there can be.
    pub nr_frames: u32,
    /// Zero.
    pub pad: u32,
    /// In: first page.
    pub frame: u64,
    /// Guest-virtual address of an array of `u64`: where they are to appear; 0: tell the size.
    pub frame_list: u64,
}

const _: () = assert!(size_of::<AcquireResource>() == 32);
const _: () = assert!(offset_of!(AcquireResource, frame) == 16);

/// Bytes of an entry of a memory map: `u64` first byte, `u64` bytes, `u32` kind, without padding.
pub const E820_ENTRY_LEN: usize = 20;

/// An entry of a memory map, as its bytes lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct E820Entry {
    /// First byte.
    pub addr: u64,
    /// Bytes.
    pub size: u64,
    /// `E820_*`.
    pub kind: u32,
}

impl E820Entry {
    /// The entry as it is written to memory.
    pub fn to_bytes(self) -> [u8; E820_ENTRY_LEN] {
        let mut out = [0; E820_ENTRY_LEN];
        out[..8].copy_from_slice(&self.addr.to_le_bytes());
        out[8..16].copy_from_slice(&self.size.to_le_bytes());
        out[16..].copy_from_slice(&self.kind.to_le_bytes());
        out
    }

    /// The entry that lies in memory so.
    pub fn from_bytes(bytes: &[u8; E820_ENTRY_LEN]) -> Self {
        let word = |at: usize| bytes[at..].first_chunk::<8>().map_or(0, |word| u64::from_le_bytes(*word));
        let kind = bytes[16..].first_chunk::<4>().map_or(0, |kind| u32::from_le_bytes(*kind));
        Self { addr: word(0), size: word(8), kind }
    }
}
