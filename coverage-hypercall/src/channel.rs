//! The channel: one region of memory that the host and the agents of all domains share.
//!
//! The reference hypervisor maps it as a static shared-memory region named `channel` at [`CHANNEL_GPA`] in
//! each domain; elsewhere the agent allocates it and says where it is. The host pokes a request into the
//! request ring before each execution and reads the completion ring after it. All fields are written by
//! somebody whom the reader does not trust: copy once, then validate.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::ring::Ring;

/// Guest-physical address of the channel in a domain of the reference hypervisor.
pub const CHANNEL_GPA: u64 = 0x1000_0000;
/// Guest-physical (and, in the agent, guest-virtual) address of the arena that programs may write to.
pub const ARENA_GPA: u64 = 0x20_0000;
/// Bytes of the arena. A pointer argument is an offset in it, unless it is bad on purpose.
pub const ARENA_LEN: u32 = 0x4_0000;
/// First frame of the playground: ordinary RAM of the domain that neither agent nor arena uses, so that a
/// program can give frames away without sawing off the branch it sits on.
pub const PLAYGROUND_GFN: u64 = 0x280;
/// Frames of the playground.
pub const PLAYGROUND_FRAMES: u64 = 0x80;
/// Where the channel begins in a domain of a hypervisor that maps none: behind the playground. Who starts that domain makes
/// the agent's image reach to the end of it ([`CHANNEL_LEN`]).
pub const OWN_CHANNEL: u64 = (PLAYGROUND_GFN + PLAYGROUND_FRAMES) << 12;

/// Guest frame where an agent maps the first frame of its grant table, once a program grants something. It lies behind the
/// channel, where the same page tables serve both.
pub const GRANT_TABLE_GFN: u64 = (CHANNEL_GPA >> 12) + 0x100;
/// Frames of a grant table that an agent maps at most.
pub const GRANT_TABLE_FRAMES: u64 = 16;

/// Identifies a [`ChannelHeader`]: `HFZCHAN1`.
pub const CHANNEL_MAGIC: u64 = u64::from_le_bytes(*b"HFZCHAN1");
/// Result slots that calls of one program can fill and use, in whichever domain.
pub const SLOTS: usize = 64;

/// The request ring.
pub const REQUEST_RING: Ring = Ring::new(0x1_0000);
/// The completion ring.
pub const COMPLETION_RING: Ring = Ring::new(0x1_0000);
/// Offset of the request ring's data in the channel.
pub const REQUEST_DATA: usize = 0x1000;
/// Offset of the completion ring's data in the channel.
pub const COMPLETION_DATA: usize = REQUEST_DATA + 0x1_0000;
/// Bytes of the channel: header page and both rings.
pub const CHANNEL_LEN: usize = COMPLETION_DATA + 0x1_0000;

/// First page of the channel.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ChannelHeader {
    /// [`CHANNEL_MAGIC`]; written by the first agent.
    pub magic: u64,
    /// Request ring, producer's counter: the host.
    pub request_produced: u32,
    /// Request ring, consumer's counter: the agents.
    pub request_consumed: u32,
    /// Completion ring, producer's counter: the agents.
    pub completion_produced: u32,
    /// Completion ring, consumer's counter: the host.
    pub completion_consumed: u32,
    /// Number of the next call of the current program that nobody has begun.
    pub next_call: u32,
    /// Byte offset of that call in the program.
    pub next_offset: u32,
    /// Turns of the current program that are left after this one ([`crate::program::Header::repeat`]).
    pub turns_left: u32,
    /// Not used, zero.
    pub reserved: u32,
    /// Bit n: slot n was filled.
    pub slots_filled: u64,
    /// Results of earlier calls.
    pub slots: [u64; SLOTS],
}

const _: () = assert!(size_of::<ChannelHeader>() == 48 + SLOTS * 8);
const _: () = assert!(size_of::<ChannelHeader>() <= REQUEST_DATA);
const _: () = assert!(SLOTS <= u64::BITS as usize);
