//! The crash record: what a hypervisor leaves behind for the host when it, or an oracle in it, gives up.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Identifies a [`CrashRecord`]: `HFZCRASH`.
pub const CRASH_MAGIC: u64 = u64::from_le_bytes(*b"HFZCRASH");
/// Version of the record.
pub const CRASH_VERSION: u32 = 1;
/// Return addresses in a record.
pub const MAX_FRAMES: usize = 32;
/// Bytes of the message in a record.
pub const MAX_MESSAGE: usize = 256;

/// What went wrong. On the wire it is a `u32`, so that a host can show a kind it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum CrashKind {
    /// An explicit panic: out of memory, unreachable state, failed conversion.
    Panic = 1,
    /// An assertion or a language check (bounds, overflow, `unwrap`) failed.
    Assertion = 2,
    /// The processor raised an exception in hypervisor code.
    Fault = 3,
    /// An exception on top of an exception, or a stack that ran into its guard page.
    DoubleFault = 4,
    /// Oracle: a canary beside a buffer on the stack was overwritten.
    StackCanary = 5,
    /// Oracle: a canary beside a heap block was overwritten.
    HeapCanary = 6,
    /// Oracle: the machine-to-physical table and a domain's p2m disagree.
    M2pIdentity = 7,
    /// Oracle: an operation ran with a privilege that its caller no longer had.
    Privilege = 8,
    /// Oracle: a call took more than its bound of work.
    Latency = 9,
    /// Oracle: a lock or the preemption count was still held on return.
    LockHeld = 10,
    /// Oracle: references do not add up.
    References = 11,
    /// Oracle: a frame in a p2m belongs to nobody.
    FreedFrame = 12,
    /// Oracle: a return value outside the operation's contract.
    ReturnContract = 13,
    /// Oracle: memory that nobody had initialised reached a guest.
    Uninitialised = 14,
    /// Oracle: a domain could see or change what belongs to another.
    Isolation = 15,
}

impl CrashKind {
    /// The kind with this number, if there is one.
    pub const fn from_u32(n: u32) -> Option<Self> {
        Some(match n {
            1 => Self::Panic,
            2 => Self::Assertion,
            3 => Self::Fault,
            4 => Self::DoubleFault,
            5 => Self::StackCanary,
            6 => Self::HeapCanary,
            7 => Self::M2pIdentity,
            8 => Self::Privilege,
            9 => Self::Latency,
            10 => Self::LockHeld,
            11 => Self::References,
            12 => Self::FreedFrame,
            13 => Self::ReturnContract,
            14 => Self::Uninitialised,
            15 => Self::Isolation,
            _ => return None,
        })
    }

    /// Name used in reports and bucket names: lower case, hyphens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Assertion => "assertion",
            Self::Fault => "fault",
            Self::DoubleFault => "double-fault",
            Self::StackCanary => "stack-canary",
            Self::HeapCanary => "heap-canary",
            Self::M2pIdentity => "m2p-identity",
            Self::Privilege => "privilege",
            Self::Latency => "latency",
            Self::LockHeld => "lock-held",
            Self::References => "references",
            Self::FreedFrame => "freed-frame",
            Self::ReturnContract => "return-contract",
            Self::Uninitialised => "uninitialised",
            Self::Isolation => "isolation",
        }
    }
}

/// The record. One per machine, at the address that the beacon names; `magic` is written last.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CrashRecord {
    /// [`CRASH_MAGIC`] once the record is complete.
    pub magic: u64,
    /// [`CRASH_VERSION`].
    pub version: u32,
    /// A [`CrashKind`].
    pub kind: u32,
    /// Exception vector, for `Fault` and `DoubleFault`.
    pub vector: u32,
    /// Domain whose vCPU was running, or `u32::MAX`.
    pub domain: u32,
    /// Hypercall that was being carried out, or `u64::MAX`.
    pub hypercall: u64,
    /// Error code of the exception.
    pub error: u64,
    /// Instruction that faulted, or the caller of the panic.
    pub rip: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// rax rbx rcx rdx rsi rdi rbp rsp r8 … r15; for a panic only rbp and rsp are set.
    pub gpr: [u64; 16],
    /// Return addresses, innermost first; `frame_count` of them are valid.
    pub frames: [u64; MAX_FRAMES],
    /// Valid entries of `frames`.
    pub frame_count: u32,
    /// Valid bytes of `message`.
    pub message_len: u32,
    /// UTF-8, cut off where it is too long: the message and, for a panic, file and line.
    pub message: [u8; MAX_MESSAGE],
}

const _: () = assert!(size_of::<CrashRecord>() == 72 + 16 * 8 + MAX_FRAMES * 8 + 8 + MAX_MESSAGE);

/// Index of rbp in [`CrashRecord::gpr`].
pub const GPR_RBP: usize = 6;
/// Index of rsp in [`CrashRecord::gpr`].
pub const GPR_RSP: usize = 7;
