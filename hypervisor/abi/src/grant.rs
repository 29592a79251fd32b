//! `grant_table_op` (`public/grant_table.h`): `cmd`, pointer to an array of the operation's structure, entries of it.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`MapGrantRef`].
pub const MAP_GRANT_REF: u32 = 0;
/// [`UnmapGrantRef`].
pub const UNMAP_GRANT_REF: u32 = 1;
/// [`SetupTable`].
pub const SETUP_TABLE: u32 = 2;
/// No longer there.
pub const DUMP_TABLE: u32 = 3;
/// For guests whose memory is not translated.
pub const TRANSFER: u32 = 4;
/// [`Copy`].
pub const COPY: u32 = 5;
/// [`QuerySize`].
pub const QUERY_SIZE: u32 = 6;
/// [`UnmapAndReplace`].
pub const UNMAP_AND_REPLACE: u32 = 7;
/// [`SetVersion`]; takes no count.
pub const SET_VERSION: u32 = 8;
/// [`GetStatusFrames`].
pub const GET_STATUS_FRAMES: u32 = 9;
/// [`GetVersion`]; takes no count.
pub const GET_VERSION: u32 = 10;
/// [`SwapGrantRef`].
pub const SWAP_GRANT_REF: u32 = 11;
/// [`CacheFlush`].
pub const CACHE_FLUSH: u32 = 12;
/// Low bits of `cmd` that name the operation (`GNTTABOP_CMD_MASK` of Xen's `common/grant_table.c`).
pub const CMD_MASK: u32 = 0xfff;

/// Entries that outlive a change of the version.
pub const RESERVED_ENTRIES: u32 = 8;

/// Type of an entry: grants nothing.
pub const GTF_INVALID: u16 = 0;
/// Type: the domain may map and access the frame.
pub const GTF_PERMIT_ACCESS: u16 = 1;
/// Type: the domain may give a frame.
pub const GTF_ACCEPT_TRANSFER: u16 = 2;
/// Type, version 2: the domain may use a grant of a third one.
pub const GTF_TRANSITIVE: u16 = 3;
/// Bits of the type.
pub const GTF_TYPE_MASK: u16 = 3;
/// Not to be written to.
pub const GTF_READONLY: u16 = 1 << 2;
/// Set by the hypervisor: somebody may read.
pub const GTF_READING: u16 = 1 << 3;
/// Set by the hypervisor: somebody may write.
pub const GTF_WRITING: u16 = 1 << 4;
/// Cache attribute: write-through.
pub const GTF_PWT: u16 = 1 << 5;
/// Cache attribute: disabled.
pub const GTF_PCD: u16 = 1 << 6;
/// Cache attribute: the upper bit of the page attribute table's index.
pub const GTF_PAT: u16 = 1 << 7;
/// Version 2: a part of the page, for copies only.
pub const GTF_SUB_PAGE: u16 = 1 << 8;

/// Map for devices.
pub const GNTMAP_DEVICE_MAP: u32 = 1 << 0;
/// Map for processors.
pub const GNTMAP_HOST_MAP: u32 = 1 << 1;
/// Map read-only.
pub const GNTMAP_READONLY: u32 = 1 << 2;
/// Map for the current application, too.
pub const GNTMAP_APPLICATION_MAP: u32 = 1 << 3;
/// `host_addr` is the machine address of a page-table entry.
pub const GNTMAP_CONTAINS_PTE: u32 = 1 << 4;

/// The source of a copy is a grant reference.
pub const GNTCOPY_SOURCE_GREF: u16 = 1 << 0;
/// The destination of a copy is a grant reference.
pub const GNTCOPY_DEST_GREF: u16 = 1 << 1;

/// Write back.
pub const CACHE_CLEAN: u32 = 1 << 0;
/// Invalidate.
pub const CACHE_INVAL: u32 = 1 << 1;
/// [`CacheFlush::a`] is a grant reference.
pub const CACHE_SOURCE_GREF: u32 = 1 << 31;

/// How one entry of an array ended (`enum grant_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub i16);

impl Status {
    /// Done.
    pub const OKAY: Self = Self(0);
    /// Something is wrong.
    pub const GENERAL_ERROR: Self = Self(-1);
    /// No such domain.
    pub const BAD_DOMAIN: Self = Self(-2);
    /// No such reference.
    pub const BAD_GNTREF: Self = Self(-3);
    /// No such handle.
    pub const BAD_HANDLE: Self = Self(-4);
    /// A virtual address that cannot be used.
    pub const BAD_VIRT_ADDR: Self = Self(-5);
    /// A device address that belongs to another mapping.
    pub const BAD_DEV_ADDR: Self = Self(-6);
    /// No space in the I/O page tables.
    pub const NO_DEVICE_SPACE: Self = Self(-7);
    /// Not allowed.
    pub const PERMISSION_DENIED: Self = Self(-8);
    /// Not a page that can be used so.
    pub const BAD_PAGE: Self = Self(-9);
    /// A copy that crosses the end of a page.
    pub const BAD_COPY_ARG: Self = Self(-10);
    /// An address that is too large.
    pub const ADDRESS_TOO_BIG: Self = Self(-11);
    /// The entry is in use.
    pub const EAGAIN: Self = Self(-12);
    /// No handle is left.
    pub const NO_SPACE: Self = Self(-13);

    /// It is one of those above.
    pub const fn is_known(self) -> bool {
        matches!(self.0, -13..=0)
    }
}

/// What every entry of a table begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EntryHeader {
    /// `GTF_*`.
    pub flags: u16,
    /// Who may use it.
    pub domid: u16,
}

/// An entry of a table of version 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EntryV1 {
    /// Flags and domain.
    pub header: EntryHeader,
    /// Guest frame.
    pub frame: u32,
}

/// An entry of a table of version 2; what the middle means depends on the type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EntryV2 {
    /// Flags and domain.
    pub header: EntryHeader,
    /// Sub-page: first byte. Transitive: the other domain.
    pub page_off: u16,
    /// Sub-page: bytes.
    pub length: u16,
    /// Guest frame. Transitive: the lower half is the other domain's reference.
    pub frame: u64,
}

/// Maps a granted frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MapGrantRef {
    /// In: where it is to appear; for translated guests a guest-physical address.
    pub host_addr: u64,
    /// In: `GNTMAP_*`.
    pub flags: u32,
    /// In: which grant.
    pub grant: u32,
    /// In: whose grant.
    pub dom: u16,
    /// Out: a [`Status`].
    pub status: i16,
    /// Out: names the mapping.
    pub handle: u32,
    /// Out: where devices find it.
    pub dev_bus_addr: u64,
}

/// Takes a mapping away, or a part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnmapGrantRef {
    /// In: where it is for processors; 0: leave that.
    pub host_addr: u64,
    /// In: where it is for devices; 0: leave that.
    pub dev_bus_addr: u64,
    /// In: which mapping.
    pub handle: u32,
    /// Out: a [`Status`].
    pub status: i16,
    /// Padding.
    pub reserved: u16,
}

/// Takes a mapping for processors away and puts another page there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnmapAndReplace {
    /// In: where it is.
    pub host_addr: u64,
    /// In: where the page is that comes there.
    pub new_addr: u64,
    /// In: which mapping.
    pub handle: u32,
    /// Out: a [`Status`].
    pub status: i16,
    /// Padding.
    pub reserved: u16,
}

/// Makes a table of so many frames at least.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetupTable {
    /// In: whose.
    pub dom: u16,
    /// Padding.
    pub reserved0: u16,
    /// In: frames.
    pub nr_frames: u32,
    /// Out: a [`Status`].
    pub status: i16,
    /// Padding.
    pub reserved1: [u16; 3],
    /// Guest-virtual address of an array of `u64`: where they are.
    pub frame_list: u64,
}

/// One end of a copy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CopyEnd {
    /// Frame, or in the lower half a reference.
    pub u: u64,
    /// Whose.
    pub domid: u16,
    /// First byte in the page.
    pub offset: u16,
    /// Padding.
    pub reserved: u32,
}

/// Copies within a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Copy {
    /// In: from where.
    pub source: CopyEnd,
    /// In: to where.
    pub dest: CopyEnd,
    /// In: bytes.
    pub len: u16,
    /// In: `GNTCOPY_*`.
    pub flags: u16,
    /// Out: a [`Status`].
    pub status: i16,
    /// Padding.
    pub reserved: u16,
}

/// Asks how large a table is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct QuerySize {
    /// In: whose.
    pub dom: u16,
    /// Padding.
    pub reserved0: u16,
    /// Out: frames that it has.
    pub nr_frames: u32,
    /// Out: frames that it can have.
    pub max_nr_frames: u32,
    /// Out: a [`Status`].
    pub status: i16,
    /// Padding.
    pub reserved1: u16,
}

/// Changes the version of the caller's table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetVersion {
    /// In: 1 or 2; out: what it is.
    pub version: u32,
}

/// Asks where the status frames are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetStatusFrames {
    /// In: entries of the array.
    pub nr_frames: u32,
    /// In: whose.
    pub dom: u16,
    /// Out: a [`Status`].
    pub status: i16,
    /// Guest-virtual address of an array of `u64`.
    pub frame_list: u64,
}

/// Asks for the version of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetVersion {
    /// In: whose.
    pub dom: u16,
    /// Padding.
    pub pad: u16,
    /// Out: the version.
    pub version: u32,
}

/// Exchanges two entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SwapGrantRef {
    /// In: one.
    pub ref_a: u32,
    /// In: the other.
    pub ref_b: u32,
    /// Out: a [`Status`].
    pub status: i16,
    /// Padding.
    pub reserved: u16,
}

/// Maintains caches for a part of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CacheFlush {
    /// In: device address, or in the lower half a reference.
    pub a: u64,
    /// In: first byte in the page.
    pub offset: u16,
    /// In: bytes.
    pub length: u16,
    /// In: `CACHE_*`.
    pub op: u32,
}

const _: () = assert!(size_of::<EntryV1>() == 8 && size_of::<EntryV2>() == 16);
const _: () = assert!(offset_of!(EntryV2, frame) == 8);
const _: () = assert!(size_of::<MapGrantRef>() == 32 && offset_of!(MapGrantRef, dev_bus_addr) == 24);
const _: () = assert!(size_of::<UnmapGrantRef>() == 24 && offset_of!(UnmapGrantRef, status) == 20);
const _: () = assert!(size_of::<UnmapAndReplace>() == 24 && offset_of!(UnmapAndReplace, status) == 20);
const _: () = assert!(size_of::<SetupTable>() == 24 && offset_of!(SetupTable, frame_list) == 16);
const _: () = assert!(size_of::<Copy>() == 40 && offset_of!(Copy, status) == 36);
const _: () = assert!(size_of::<QuerySize>() == 16 && offset_of!(QuerySize, status) == 12);
const _: () = assert!(size_of::<SetVersion>() == 4 && size_of::<GetVersion>() == 8);
const _: () = assert!(size_of::<GetStatusFrames>() == 16 && offset_of!(GetStatusFrames, frame_list) == 8);
const _: () = assert!(size_of::<SwapGrantRef>() == 12 && offset_of!(SwapGrantRef, status) == 8);
const _: () = assert!(size_of::<CacheFlush>() == 16 && offset_of!(CacheFlush, op) == 12);
