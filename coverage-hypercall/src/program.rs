//! The lowered form of a program, as the agent executes it, and the completions that it answers with.
//!
//! A request is a postcard [`Header`], followed by `header.calls` groups. A group is a postcard [`Group`] and
//! `group.len` bytes of postcard [`Insn`]s: what to write into the arena, one call, what to keep of its
//! results. Groups say how long they are, so that an agent which is not meant can step over them.
//!
//! Nothing in here can harm an agent that checks its bounds: addresses of `Write`, `Fill`, `Store`, `Watch` and
//! `Capture` are offsets in the arena, slots are below [`crate::channel::SLOTS`]. Only the arguments of the
//! call itself are free.

use serde::{Deserialize, Serialize, Serializer};

/// Identifies a lowered program: `HFZP`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"HFZP");
/// Version of this format. An agent refuses any other.
pub const VERSION: u16 = 1;
/// Longest lowered program, in bytes.
pub const MAX_LEN: usize = 0x4000;
/// Most calls in one program.
pub const MAX_CALLS: u16 = 64;
/// Most bytes of one output region that a completion reports.
pub const MAX_REPORTED: usize = 256;
/// Most regions that one group watches.
pub const MAX_WATCHES: usize = 16;
/// Most results that one group keeps.
pub const MAX_CAPTURES: usize = 16;

/// Calls with numbers from here on are the agent's own operations ([`agent_op`]), not hypercalls.
pub const AGENT_OPS: u32 = 0x1_0000;

/// Operations that the agent carries out itself, so that programs can touch what hypercalls gave them.
/// Arguments that are addresses are guest-virtual; a fault ends the call, is recorded, and harms nobody.
pub mod agent_op {
    use super::AGENT_OPS;
    /// Reads 8 bytes at the address `arg0`; the value is the result.
    pub const READ: u32 = AGENT_OPS;
    /// Writes the 8 bytes `arg1` at the address `arg0`.
    pub const WRITE: u32 = AGENT_OPS + 1;
    /// Executes UD2.
    pub const UD2: u32 = AGENT_OPS + 2;
    /// Reads the model-specific register `arg0`; the value is the result.
    pub const RDMSR: u32 = AGENT_OPS + 3;
    /// Writes `arg1` into the model-specific register `arg0`.
    pub const WRMSR: u32 = AGENT_OPS + 4;
    /// Executes CPUID leaf `arg0`, subleaf `arg1`; the result is EAX | EBX << 32.
    pub const CPUID: u32 = AGENT_OPS + 5;
    /// Reads a byte from I/O port `arg0`.
    pub const INB: u32 = AGENT_OPS + 6;
    /// Writes the byte `arg1` to I/O port `arg0`.
    pub const OUTB: u32 = AGENT_OPS + 7;
    /// Jumps to the address `arg0`; whatever runs there may return with RET or fault.
    pub const EXEC: u32 = AGENT_OPS + 8;
    /// Lets the domain `arg1` access the frame `arg2` by the grant reference `arg0`, with the further flags `arg3` (`GTF_*`).
    /// The result is the reference, as for the following ones, or the error of a hypercall that was needed.
    pub const GRANT_ACCESS: u32 = AGENT_OPS + 16;
    /// Lets the domain `arg1` copy `arg4` bytes from byte `arg3` of the frame `arg2` on by the reference `arg0`, with the
    /// further flags `arg5`. The table gets version 2.
    pub const GRANT_SUB_PAGE: u32 = AGENT_OPS + 17;
    /// Lets the domain `arg1` use the reference `arg3` of the domain `arg2` by the reference `arg0`, with the further flags
    /// `arg4`. The table gets version 2.
    pub const GRANT_TRANSITIVE: u32 = AGENT_OPS + 18;
    /// Grants nothing any more by the reference `arg0`.
    pub const GRANT_REVOKE: u32 = AGENT_OPS + 19;
}

/// What a request starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: u32,
    /// [`VERSION`].
    pub version: u16,
    /// Number of groups that follow.
    pub calls: u16,
    /// How often to run the program: 1, except when the ceiling is measured. Slots are cleared between
    /// turns; completions are written in the last one only.
    pub repeat: u32,
}

/// Announces one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Domain that issues the call.
    pub domain: u16,
    /// Virtual CPU that issues it.
    pub vcpu: u8,
    /// Bytes of the [`Insn`]s that follow.
    pub len: u16,
}

/// A number that is known now, or once an earlier call has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// A constant.
    Const(u64),
    /// The content of a slot; `otherwise` if no call filled it.
    Slot {
        /// Which slot.
        slot: u8,
        /// Stands in for the result of a call that failed.
        otherwise: u64,
    },
}

/// Where a result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// The return value.
    Return,
    /// `width` (1, 2, 4, 8) bytes at offset `at` of the arena, little-endian.
    Arena {
        /// Offset in the arena.
        at: u32,
        /// Bytes.
        width: u8,
    },
}

/// Writes bytes in one piece. Postcard writes the same for them one by one, which takes longer.
fn whole<S: Serializer>(bytes: &&[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(bytes)
}

/// One step of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Insn<'a> {
    /// Puts bytes at offset `at` of the arena.
    Write {
        /// Offset in the arena.
        at: u32,
        /// What to put there.
        #[serde(serialize_with = "whole")]
        bytes: &'a [u8],
    },
    /// Fills `len` bytes at offset `at` of the arena.
    Fill {
        /// Offset in the arena.
        at: u32,
        /// Bytes.
        len: u32,
        /// With what.
        byte: u8,
    },
    /// Stores the low `width` (1, 2, 4, 8) bytes of a number at offset `at` of the arena.
    Store {
        /// Offset in the arena.
        at: u32,
        /// Bytes.
        width: u8,
        /// The number.
        value: Source,
    },
    /// Asks for the bytes at `at..at + len` to be reported in the completion if the call changes them.
    Watch {
        /// Offset in the arena.
        at: u32,
        /// Bytes, at most [`MAX_REPORTED`].
        len: u32,
    },
    /// Issues the call. Exactly one in each group.
    Call {
        /// Hypercall number, or one of [`agent_op`].
        number: u32,
        /// Arguments in Xen's order: rdi rsi rdx r10 r8 r9.
        args: [Source; 6],
    },
    /// Keeps a result if the call returned zero or more and did not fault.
    Capture {
        /// Into which slot.
        slot: u8,
        /// From where.
        from: Origin,
    },
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// It returned; the value is what the hypercall put into rax.
    Returned(i64),
    /// It raised an exception in the guest.
    Faulted {
        /// Vector, as in the Intel SDM volume 3, table 6-1.
        vector: u8,
        /// Error code, zero where the vector has none.
        error: u32,
        /// Guest-virtual address of the instruction.
        rip: u64,
        /// CR2 where the vector is 14, else zero.
        address: u64,
    },
    /// The domain or vCPU that it names cannot run: blocked, dead, or not there.
    Skipped,
    /// The agent refused the group.
    Rejected(Reject),
}

/// Why an agent refused a group or a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reject {
    /// Postcard could not read it.
    Malformed,
    /// Wrong magic or version.
    Version,
    /// An offset outside the arena.
    Bounds,
    /// A slot that does not exist.
    Slot,
    /// Not exactly one call in the group, something other than captures behind it, too many watches or captures.
    Shape,
    /// A width that is not 1, 2, 4 or 8.
    Width,
    /// An agent operation that does not exist.
    Operation,
}

/// What an agent reports of one call. One record of the completion ring, in postcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion<'a> {
    /// Which call of the program.
    pub call: u16,
    /// How it ended.
    pub status: Status,
    /// Watched regions that changed: repeated postcard [`Change`]s.
    #[serde(serialize_with = "whole")]
    pub changes: &'a [u8],
}

/// A watched region after the call, if the call changed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change<'a> {
    /// Offset of the region in the arena.
    pub at: u32,
    /// All of its bytes.
    #[serde(serialize_with = "whole")]
    pub bytes: &'a [u8],
}

/// Call number in the completion that stands for a program which was refused as a whole.
pub const WHOLE_PROGRAM: u16 = u16::MAX;
