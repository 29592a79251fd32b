//! `dm_op` (`public/hvm/dm_op.h`): domain, number of buffers, pointer to an array of [`Buffer`]s. The first one holds a
//! [`Head`] and the operation's structure.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`CreateServer`].
pub const CREATE_IOREQ_SERVER: u32 = 1;
/// [`ServerInfo`].
pub const GET_IOREQ_SERVER_INFO: u32 = 2;
/// [`Range`].
pub const MAP_IO_RANGE: u32 = 3;
/// [`Range`].
pub const UNMAP_IO_RANGE: u32 = 4;
/// [`ServerState`].
pub const SET_IOREQ_SERVER_STATE: u32 = 5;
/// [`DestroyServer`].
pub const DESTROY_IOREQ_SERVER: u32 = 6;
/// [`TrackVram`]; the second buffer takes a bitmap.
pub const TRACK_DIRTY_VRAM: u32 = 7;
/// [`IntxLevel`].
pub const SET_PCI_INTX_LEVEL: u32 = 8;
/// [`IsaLevel`].
pub const SET_ISA_IRQ_LEVEL: u32 = 9;
/// [`LinkRoute`].
pub const SET_PCI_LINK_ROUTE: u32 = 10;
/// [`ModifiedMemory`]; the second buffer holds [`Extent`]s.
pub const MODIFIED_MEMORY: u32 = 11;
/// [`SetMemType`].
pub const SET_MEM_TYPE: u32 = 12;
/// [`InjectEvent`].
pub const INJECT_EVENT: u32 = 13;
/// [`RemoteShutdown`].
pub const REMOTE_SHUTDOWN: u32 = 16;
/// [`NrVcpus`].
pub const NR_VCPUS: u32 = 20;
/// Operations are numbered below this.
pub const COUNT: u32 = 21;
/// Flag of [`ServerInfo`]: no frames are wanted.
pub const NO_GFNS: u16 = 1;
/// Buffers that a call may have.
pub const MAX_BUFFERS: u32 = 2;

/// A buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Buffer {
    /// Guest-virtual address.
    pub h: u64,
    /// Bytes.
    pub size: u64,
}

/// What the first buffer begins with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Head {
    /// Which operation.
    pub op: u32,
    /// Zero.
    pub pad: u32,
}

/// Makes a server of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CreateServer {
    /// How requests are buffered: 0 to 2.
    pub handle_bufioreq: u8,
    /// Zero.
    pub pad: [u8; 3],
    /// Out: its number.
    pub id: u16,
    /// Not looked at.
    pub tail: u16,
}

/// Where a server is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ServerInfo {
    /// Which.
    pub id: u16,
    /// [`NO_GFNS`].
    pub flags: u16,
    /// Out: port of buffered requests.
    pub bufioreq_port: u32,
    /// Out: frame of requests.
    pub ioreq_gfn: u64,
    /// Out: frame of buffered requests.
    pub bufioreq_gfn: u64,
}

const _: () = assert!(size_of::<ServerInfo>() == 24);

/// Addresses that a server looks after.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Range {
    /// Which server.
    pub id: u16,
    /// Zero.
    pub pad: u16,
    /// Ports, memory or PCI: 0 to 2.
    pub kind: u32,
    /// First address.
    pub start: u64,
    /// Last address.
    pub end: u64,
}

const _: () = assert!(size_of::<Range>() == 24);

/// Switches a server on or off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ServerState {
    /// Which.
    pub id: u16,
    /// Not zero: on.
    pub enabled: u8,
    /// Zero.
    pub pad: u8,
}

/// Takes a server away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DestroyServer {
    /// Which.
    pub id: u16,
    /// Zero.
    pub pad: u16,
}

/// Asks which pages of a screen were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TrackVram {
    /// Pages.
    pub nr: u32,
    /// Zero.
    pub pad: u32,
    /// First frame.
    pub first_pfn: u64,
}

/// Level of a PCI interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IntxLevel {
    /// PCI domain.
    pub domain: u16,
    /// Bus.
    pub bus: u8,
    /// Device.
    pub device: u8,
    /// Pin.
    pub intx: u8,
    /// Level: 0 or 1.
    pub level: u8,
}

/// Level of an ISA interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IsaLevel {
    /// Interrupt.
    pub isa_irq: u8,
    /// Level: 0 or 1.
    pub level: u8,
}

/// Route of a PCI interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct LinkRoute {
    /// Link.
    pub link: u8,
    /// Interrupt.
    pub isa_irq: u8,
}

/// Says what a device has written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ModifiedMemory {
    /// Extents in the second buffer.
    pub nr_extents: u32,
    /// How many of them are done.
    pub opaque: u32,
}

/// Frames that were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Extent {
    /// How many.
    pub nr: u32,
    /// Zero.
    pub pad: u32,
    /// The first.
    pub first_pfn: u64,
}

const _: () = assert!(size_of::<Extent>() == 16);

/// Changes the type of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetMemType {
    /// How many.
    pub nr: u32,
    /// One of [`crate::hvm::memory`].
    pub mem_type: u16,
    /// Zero.
    pub pad: u16,
    /// The first.
    pub first_pfn: u64,
}

const _: () = assert!(size_of::<SetMemType>() == 16);

/// Raises an exception or interrupt in a vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InjectEvent {
    /// Which vCPU.
    pub vcpuid: u32,
    /// Vector.
    pub vector: u8,
    /// Type.
    pub kind: u8,
    /// Bytes of the instruction.
    pub insn_len: u8,
    /// Zero.
    pub pad0: u8,
    /// Error code.
    pub error_code: u32,
    /// Zero.
    pub pad1: u32,
    /// Address of a page fault.
    pub cr2: u64,
}

const _: () = assert!(size_of::<InjectEvent>() == 24);

/// Ends the domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RemoteShutdown {
    /// Why.
    pub reason: u32,
}

/// Number of vCPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NrVcpus {
    /// Out.
    pub vcpus: u32,
}
