//! `argo_op` (`public/argo.h`): `cmd`, two pointers, two numbers.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`RegisterRing`], array of frames, their number, flags.
pub const REGISTER_RING: u32 = 1;
/// [`UnregisterRing`], nothing else.
pub const UNREGISTER_RING: u32 = 2;
/// [`SendAddr`], array of [`Iov`], their number, type of the message: returns its bytes.
pub const SENDV: u32 = 3;
/// [`RingData`] with an array of [`RingDataEnt`] behind it, or nothing.
pub const NOTIFY: u32 = 4;
/// Any domain, as a partner; the sender itself, as a source.
pub const DOMID_ANY: u16 = crate::DOMID_INVALID;
/// Most bytes of a ring.
pub const MAX_RING_SIZE: u32 = 0x100_0000;
/// Most pieces of a message.
pub const MAXIOV: u32 = 8;
/// Messages begin at multiples of this.
pub const MSG_SLOT_SIZE: u32 = 16;
/// Flag of [`REGISTER_RING`]: fails where the ring is there already.
pub const REGISTER_FLAG_FAIL_EXIST: u32 = 1;
/// In [`RingDataEnt::flags`]: there is such a ring.
pub const RING_EXISTS: u16 = 1;
/// Anybody may send to it.
pub const RING_SHARED: u16 = 1 << 1;
/// There is nothing in it.
pub const RING_EMPTY: u16 = 1 << 2;
/// The space that was asked for is there.
pub const RING_SUFFICIENT: u16 = 1 << 3;
/// The space that was asked for will never be there.
pub const RING_EMSGSIZE: u16 = 1 << 4;
/// Too many wait for space already.
pub const RING_EBUSY: u16 = 1 << 5;
/// In a ring: `u32`, where its owner reads on.
pub const RING_RX_PTR: usize = 0;
/// In a ring: `u32`, where the next message goes.
pub const RING_TX_PTR: usize = 4;
/// Bytes before the messages of a ring.
pub const RING_HEADER_LEN: usize = 64;

/// A piece of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Iov {
    /// Guest-virtual address.
    pub iov_hnd: u64,
    /// Bytes.
    pub iov_len: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<Iov>() == 16);

/// One end of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Addr {
    /// Its port.
    pub aport: u32,
    /// Its domain.
    pub domain_id: u16,
    /// Zero.
    pub pad: u16,
}

const _: () = assert!(size_of::<Addr>() == 8);

/// From whom and to whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SendAddr {
    /// From whom.
    pub src: Addr,
    /// To whom.
    pub dst: Addr,
}

const _: () = assert!(size_of::<SendAddr>() == 16);

/// Which ring is made, and for whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegisterRing {
    /// Port of the ring.
    pub aport: u32,
    /// Who may send to it; [`DOMID_ANY`]: everybody.
    pub partner_id: u16,
    /// Zero.
    pub pad: u16,
    /// Bytes for messages.
    pub len: u32,
}

const _: () = assert!(size_of::<RegisterRing>() == 12);

/// Which ring goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UnregisterRing {
    /// Port of the ring.
    pub aport: u32,
    /// Who may send to it.
    pub partner_id: u16,
    /// Zero.
    pub pad: u16,
}

const _: () = assert!(size_of::<UnregisterRing>() == 8);

/// A question about a ring, and the answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RingDataEnt {
    /// In: whose ring, and which.
    pub ring: Addr,
    /// Out: `RING_*`.
    pub flags: u16,
    /// Zero.
    pub pad: u16,
    /// In: bytes that are to be sent.
    pub space_required: u32,
    /// Out: most bytes of a message.
    pub max_message_size: u32,
}

const _: () = assert!(size_of::<RingDataEnt>() == 20);
const _: () = assert!(offset_of!(RingDataEnt, space_required) == 12);

/// How many questions follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RingData {
    /// Entries.
    pub nent: u32,
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<RingData>() == 8);

/// What stands before the bytes of a message in a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MessageHeader {
    /// Bytes, with this header.
    pub len: u32,
    /// From whom.
    pub source: Addr,
    /// Type of the message.
    pub message_type: u32,
}

const _: () = assert!(size_of::<MessageHeader>() == 16);
