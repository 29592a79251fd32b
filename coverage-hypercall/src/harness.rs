//! The harness hypercall, the marker instruction, the beacon and the comparison log.
//!
//! The harness hypercall is how an agent tells the hypervisor that it is ready, that a program is done, and
//! that another domain should go on. The hypervisor passes the first two on to the host by a *marker*: an
//! eight-byte NOP whose displacement names the event. It costs nothing where nobody looks, needs no port and no
//! exit, and the host's QEMU plugin finds it when it translates the code.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Hypercall number: `__HYPERVISOR_arch_6` of Xen's `public/xen.h`, free on x86.
pub const HARNESS_OP: u64 = 54;

/// Agent is up and waits for a program. Returns 0, each time a program is there or another domain switched to
/// the caller. The snapshot is taken when all domains are ready.
pub const HARNESS_READY: u64 = 0;
/// The program has ended. Does not return under a host that resets the machine; otherwise 0.
pub const HARNESS_DONE: u64 = 1;
/// Goes on in the domain `arg1` (bits 0..16), vCPU bits 16..24. Returns 0 once somebody switches back, −EAGAIN if that
/// vCPU cannot run, −ENOENT if there is none, −EINVAL for the caller itself.
pub const HARNESS_SWITCH: u64 = 2;
/// Says which domain calls: its number. For guests to which CPUID does not tell it.
pub const HARNESS_IDENTIFY: u64 = 3;

/// What a marker says. The numbers are the low byte of the NOP's displacement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Marker {
    /// Ready for the snapshot. RDI is the physical address of the [`Beacon`]. A jump or a return follows in host mode: hosts stop the
    /// machine there.
    Ready = 1,
    /// The program has ended.
    Done = 2,
    /// The crash record is complete.
    Crash = 3,
    /// No vCPU can run: all are blocked or dead.
    Idle = 4,
    /// A guest runs from here on. For guests that are entered by other means than VMRUN, which speaks for itself.
    Enter = 5,
    /// The hypervisor runs from here on.
    Leave = 6,
    /// The instruction behind the marker and its NOP is `mov cr3, rdi`, and the hypervisor's own half of the address space stays as it
    /// is. A host that keeps translations may carry it out itself, and forget the other half's only. RSI is 0 as long as all tables of
    /// guests are what they were at the ready marker; afterwards a number that changes whenever one of them does.
    Tables = 7,
}

impl Marker {
    /// The marker with this number, if there is one.
    pub const fn from_u8(n: u8) -> Option<Self> {
        Some(match n {
            1 => Self::Ready,
            2 => Self::Done,
            3 => Self::Crash,
            4 => Self::Idle,
            5 => Self::Enter,
            6 => Self::Leave,
            7 => Self::Tables,
            _ => return None,
        })
    }

    /// Machine code of the marker: `nop dword ptr [rax + disp32]` (0F 1F /0, mod 2), whose disp32 is
    /// `"HFZ"` above the number in the lowest byte.
    pub const fn code(self) -> [u8; 8] {
        // The bytes of disp32 in memory order: number, 'Z', 'F', 'H'.
        [0x0f, 0x1f, 0x80, self as u8, b'Z', b'F', b'H', 0x90]
    }

    /// Recognises the seven bytes of the NOP itself.
    pub const fn decode(code: &[u8]) -> Option<Self> {
        match code {
            [0x0f, 0x1f, 0x80, number, b'Z', b'F', b'H', ..] => Self::from_u8(*number),
            _ => None,
        }
    }
}

/// Bytes of the marker instruction, without the one-byte NOP behind it.
pub const MARKER_LEN: u64 = 7;

/// Ports of a machine that runs a guest for its own sake, without a harness.
pub mod standalone {
    /// What the guest writes to its console, byte by byte.
    pub const CONSOLE_PORT: u16 = 0x300;
    /// A byte here ends the machine (QEMU's `isa-debug-exit`, whose process then ends with twice the byte plus one).
    pub const EXIT_PORT: u16 = 0xf4;
    /// The crash record is complete.
    pub const EXIT_CRASH: u8 = 0x10;
    /// No vCPU can run, and none will.
    pub const EXIT_BLOCKED: u8 = 0x11;
    /// The first domain has ended; the low four bits are the reason of its shutdown.
    pub const EXIT_SHUTDOWN: u8 = 0x20;
}

/// Identifies a [`Beacon`]: `HFZBEACN`.
pub const BEACON_MAGIC: u64 = u64::from_le_bytes(*b"HFZBEACN");
/// Version of the beacon.
pub const BEACON_VERSION: u32 = 1;

/// A range of guest-physical memory, in bytes, as the machine under the hypervisor counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Region {
    /// First byte.
    pub base: u64,
    /// Bytes; 0 where there is no such region.
    pub len: u64,
}

/// Tells the host where everything is. Its physical address is in RDI at the ready marker.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Beacon {
    /// [`BEACON_MAGIC`].
    pub magic: u64,
    /// [`BEACON_VERSION`].
    pub version: u32,
    /// Number of domains that are ready.
    pub domains: u32,
    /// The channel ([`crate::channel`]).
    pub channel: Region,
    /// Coverage counters: one byte per edge, saturating neither here nor there.
    pub counters: Region,
    /// A [`CmpHeader`] and its entries.
    pub comparisons: Region,
    /// The crash record.
    pub crash: Region,
    /// The hypervisor's console: a [`ConsoleHeader`] and its text.
    pub console: Region,
    /// Planted-bug canaries, one [`Canary`] per bug; empty where there are none.
    pub canaries: Region,
    /// The hypervisor's code: markers are honoured here only.
    pub text: Region,
    /// Identifies the build: the coverage of two builds must not be mixed.
    pub build_id: [u8; 32],
}

/// What stands before the entries of the comparison log.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CmpHeader {
    /// Non-zero: record. Written by the host, or by the coverage hypercall.
    pub enabled: u32,
    /// Entries that were recorded, at most as many as fit; later comparisons are dropped.
    pub count: u32,
    /// Entries that fit.
    pub capacity: u32,
    /// Not used, zero.
    pub reserved: u32,
}

/// One comparison of two values in the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct CmpEntry {
    /// Return address of the callback: identifies the place.
    pub pc: u64,
    /// Left operand; the constant, where there is one.
    pub left: u64,
    /// Right operand.
    pub right: u64,
    /// Bytes of the operands: 1, 2, 4, 8.
    pub width: u32,
    /// 1 where `left` is a constant of the code.
    pub constant: u32,
}

/// What stands before the text of the console: a ring whose newest byte is at `written - 1`.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ConsoleHeader {
    /// Bytes that were ever written; the text lies at `written % size`.
    pub written: u64,
    /// Bytes of the text area.
    pub size: u64,
}

/// Evidence that a planted bug was reached and triggered. The fuzzer never reads it, only its evaluation does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Canary {
    /// Executions of the code that holds the bug, whether or not it is switched on.
    pub reached: u32,
    /// Executions in which the bug's condition was true.
    pub triggered: u32,
}

const _: () = assert!(size_of::<Beacon>() == 16 + 7 * 16 + 32);
const _: () = assert!(size_of::<CmpEntry>() == 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_survive_encoding() {
        for n in 0..=u8::MAX {
            if let Some(marker) = Marker::from_u8(n) {
                assert_eq!(Marker::decode(&marker.code()), Some(marker));
                assert_eq!(marker as u8, n);
            }
        }
        assert_eq!(Marker::decode(&[0x0f, 0x1f, 0x80, 1, b'Z', b'F']), None);
        assert_eq!(Marker::decode(&[0x0f, 0x1f, 0x80, 0, 0, 0, 0, 0]), None);
    }
}
