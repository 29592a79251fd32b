//! The control file that the fuzzer and its QEMU plugin share.
//!
//! Both sides map the same file: a [`Control`] structure, then [`DATA_LEN`] bytes of staged poke data, then [`EDGES_LEN`] counters
//! of edges, then [`COMPARISONS_LEN`] bytes of comparisons, then room for [`Control::path_room`] words of a path. All fields are atomics, because both sides change them. One side at a time owns the machine, and hands it over by a
//! futex word: the host owns it from [`Control::answer`] on, the plugin from [`Control::doorbell`] on.
//!
//! Execution `n` (counted from 1) begins when the host sets `doorbell` to `n` and ends when the plugin sets `answer` to
//! `n + 1`; the plugin's first answer, 1, says that the snapshot has been taken.
#![no_std]
#![forbid(unsafe_code)]

pub mod symbols;

use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

/// Identifies a control file: `HFZCTRL1`.
pub const MAGIC: u64 = u64::from_le_bytes(*b"HFZCTRL1");
/// Version of the layout. A plugin refuses any other.
pub const VERSION: u32 = 8;
/// Most pokes of one execution.
pub const MAX_POKES: usize = 16;
/// Most places in a hypervisor that knows nothing of us at which it has given up, or at which a domain ends.
pub const MAX_ENDS: usize = 4;
/// Longest error message, in bytes.
pub const MAX_ERROR: usize = 1024;
/// Offset of the staged poke data in the file.
pub const DATA_OFFSET: usize = 4096;
/// Bytes of staged poke data.
pub const DATA_LEN: usize = 0x2_0000;
/// Offset of the counters of edges in the file: one byte each.
pub const EDGES_OFFSET: usize = DATA_OFFSET + DATA_LEN;
/// Counters of edges, a power of two. Several edges may share one.
pub const EDGES_LEN: usize = 0x1_0000;
/// Offset of the comparisons in the file; see [`Control::comparisons`].
pub const COMPARISONS_OFFSET: usize = EDGES_OFFSET + EDGES_LEN;
/// Bytes of comparisons: 4,096 of 32 bytes each, as the channel's `CmpEntry`.
pub const COMPARISONS_LEN: usize = 0x2_0000;
/// Bytes of the control file, without a path.
pub const FILE_LEN: usize = COMPARISONS_OFFSET + COMPARISONS_LEN;
/// Offset of the path in the file: for each block of the hypervisor's that was executed its offset from [`Control::edges_base`], and
/// [`EXIT`] for each VM exit, in the order in which they happened. Each is a `u32`.
pub const PATH_OFFSET: usize = FILE_LEN;
/// In a path: the hypervisor goes on after a VM exit.
pub const EXIT: u32 = u32::MAX;

/// Who has the machine. On the wire it is a `u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// The machine boots; there is no snapshot yet.
    Booting = 0,
    /// The machine stands still and the plugin waits for the doorbell.
    Waiting = 1,
    /// A program runs.
    Running = 2,
    /// The plugin has given up: see [`Control::error`].
    Failed = 3,
    /// As `Failed`, but only because this QEMU lacks what the plugin needs to reset it: [`BY_HOST`] works.
    Lacking = 4,
}

impl State {
    /// The state with this number, if there is one.
    pub const fn from_u32(n: u32) -> Option<Self> {
        Some(match n {
            0 => Self::Booting,
            1 => Self::Waiting,
            2 => Self::Running,
            3 => Self::Failed,
            4 => Self::Lacking,
            _ => return None,
        })
    }
}

/// How an execution ended. On the wire it is a `u32`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum End {
    /// Not an execution: the snapshot has been taken.
    Ready = 0,
    /// The done marker.
    Done = 1,
    /// The idle marker, or one of [`Control::domain_ends`].
    Idle = 2,
    /// The crash marker, or one of [`Control::ends`].
    Crash = 3,
    /// The hypervisor did not come back from one exit within its budget, or halted for ever.
    Hang = 4,
    /// The machine shut down or reset.
    TripleFault = 5,
    /// The guest ran on without end, or raised exceptions without end.
    Runaway = 6,
}

impl End {
    /// The end with this number, if there is one.
    pub const fn from_u32(n: u32) -> Option<Self> {
        Some(match n {
            0 => Self::Ready,
            1 => Self::Done,
            2 => Self::Idle,
            3 => Self::Crash,
            4 => Self::Hang,
            5 => Self::TripleFault,
            6 => Self::Runaway,
            _ => return None,
        })
    }
}

/// Bytes to be put into guest memory after the reset.
#[derive(Debug, Default)]
#[repr(C)]
pub struct Poke {
    /// Where, as an offset in guest memory.
    pub ram_offset: AtomicU64,
    /// Where the bytes lie in the staged data.
    pub data_offset: AtomicU32,
    /// Bytes.
    pub len: AtomicU32,
}

/// Head of the control file.
#[derive(Debug)]
#[repr(C)]
pub struct Control {
    /// [`MAGIC`]; written by the host before QEMU starts.
    pub magic: AtomicU64,
    /// [`VERSION`]; written by the host before QEMU starts.
    pub version: AtomicU32,
    /// A [`State`]; written by the plugin.
    pub state: AtomicU32,
    /// Futex word: number of the execution that the host asks for.
    pub doorbell: AtomicU32,
    /// Futex word: one more than the number of the last execution that ended; 1 after the snapshot.
    pub answer: AtomicU32,
    /// An [`End`]; written by the plugin before `answer`.
    pub end: AtomicU32,
    /// Pages that the last reset copied back.
    pub dirty_pages: AtomicU32,
    /// Physical address of the beacon, as the ready marker gave it. Not checked by the plugin.
    pub beacon: AtomicU64,
    /// Translated blocks that the last execution executed; for a hang or a runaway a figure that does not depend on when it was
    /// noticed.
    pub blocks: AtomicU64,
    /// Time that the last reset took, in nanoseconds.
    pub reset_ns: AtomicU64,
    /// Time from the end of the reset to the end of the last execution, in nanoseconds.
    pub run_ns: AtomicU64,
    /// Resets that also had to restore devices since the snapshot.
    pub device_resets: AtomicU64,
    /// Bytes of guest memory; written by the host before QEMU starts.
    pub ram_size: AtomicU64,
    /// Translated blocks that the hypervisor may execute in one exit, and before the first entry; written by the host. On a
    /// machine that never executes VMRUN, this limits the whole execution.
    pub budget: AtomicU64,
    /// VM exits that an execution may have; written by the host.
    pub guest_exits: AtomicU64,
    /// Translated blocks that guests may execute in one execution; written by the host.
    pub guest_blocks: AtomicU64,
    /// First byte of the code in which markers are honoured, as an offset in guest memory.
    pub text_base: AtomicU64,
    /// Bytes of that code. Zero: no marker but the ready marker is honoured.
    pub text_len: AtomicU64,
    /// What to put into guest memory after the reset.
    pub pokes: [Poke; MAX_POKES],
    /// Valid bytes of `error`.
    pub error_len: AtomicU32,
    /// Valid entries of `pokes`; written by the host.
    pub poke_count: AtomicU32,
    /// Why the plugin gave up, in UTF-8.
    pub error: [AtomicU8; MAX_ERROR],
    /// [`KEEP`], [`CONTINUE`] and [`COMPARE`]; written by the host.
    pub state_flags: AtomicU32,
    /// 1 while a guest has the processor, 0 while the hypervisor has; written by the plugin's
    /// watchdog every millisecond of a run, for a host that has waited too long.
    pub in_guest: AtomicU32,
    /// Who resets the machine: [`BY_PLUGIN`] or [`BY_HOST`]; written by the host before QEMU starts.
    pub reset_by: AtomicU32,
    /// Futex word, [`BY_HOST`] only: the vCPU waits in the callback of a marker until the host changes it.
    pub release: AtomicU32,
    /// Futex word, [`BY_HOST`] only: the last `doorbell` for which the plugin has made itself ready.
    pub begun: AtomicU32,
    /// [`BY_HOST`] only: the host asks what became of a machine that has shut down, or stands; wake `doorbell`.
    pub asked: AtomicU32,
    /// Futex word, [`BY_HOST`] only: the last `asked` that the plugin has answered in `blocks`.
    pub told: AtomicU32,
    /// QEMU's version: the major number in the upper half, the minor one in the lower; written by the host before QEMU
    /// starts.
    pub qemu: AtomicU32,
    /// Guest-virtual address from which on blocks are counted as the hypervisor's, or noted in the path; written by the host before
    /// QEMU starts.
    pub edges_base: AtomicU64,
    /// Bytes of the code whose blocks are counted or noted. Zero: the hypervisor counts for itself, and nobody wants a path.
    pub edges_len: AtomicU64,
    /// Privilege level whose markers are honoured: 0 for those of the hypervisor itself, 3 for those of an agent under a hypervisor
    /// that knows none, 0 with [`SVM_GUEST`] for those of such an agent in an SVM guest; written by the host before QEMU starts.
    pub marker_ring: AtomicU32,
    /// Words of a path that the file has room for. Zero: edges are counted, no path is noted. Written by the host before QEMU starts.
    pub path_room: AtomicU32,
    /// Words of the last execution's path, those included for which there was no room.
    pub path_len: AtomicU64,
    /// Guest-virtual addresses at which a hypervisor that knows nothing of us has given up; zero for none. Written by the host
    /// before QEMU starts.
    pub ends: [AtomicU64; MAX_ENDS],
    /// Guest-virtual addresses at which such a hypervisor ends a domain, for what that has done; zero for none. Written by the host before
    /// QEMU starts.
    pub domain_ends: [AtomicU64; MAX_ENDS],
    /// Guest-virtual address at which such a hypervisor breaks a long call off, for the guest to repeat it; zero if there is none. Written
    /// by the host before QEMU starts.
    pub breaks_off: AtomicU64,
    /// Guest-virtual address at which such a hypervisor is entered by system calls of a pv guest, which a path notes as [`EXIT`]s; zero if
    /// there is none. Written by the host before QEMU starts.
    pub enters: AtomicU64,
    /// Comparisons of the last execution that are in the file, if they were asked for: of values that differed.
    pub comparisons: AtomicU32,
    /// Zero.
    pub reserved: AtomicU32,
}

/// In [`Control::marker_ring`]: of code that an SVM guest executes.
pub const SVM_GUEST: u32 = 4;

/// In [`Control::reset_by`]: the plugin resets the machine between two executions, when the doorbell rings.
pub const BY_PLUGIN: u32 = 0;
/// In [`Control::reset_by`]: the host resets the machine through QEMU's monitor. It rings while the machine stands still, and lets
/// it run once `begun` says that the plugin knows. At a marker the vCPU waits for `release`; from then on the
/// plugin looks at nothing until the next doorbell.
pub const BY_HOST: u32 = 1;

/// In [`Control::state_flags`]: a run that ends with the done marker stops where it can go on, at the end of the block that holds
/// the marker.
pub const KEEP: u32 = 1;
/// In [`Control::state_flags`]: the machine goes on from where the last run stopped, which had [`KEEP`]; it is not reset.
pub const CONTINUE: u32 = 2;
/// In [`Control::state_flags`]: what a hypervisor compares that knows nothing of us is noted. Each of its instructions counts as a block
/// then, and no edges are counted.
pub const COMPARE: u32 = 4;

const _: () = assert!(size_of::<Poke>() == 16);
const _: () = assert!(core::mem::offset_of!(Control, doorbell) == 16);
const _: () = assert!(core::mem::offset_of!(Control, beacon) == 32);
const _: () = assert!(core::mem::offset_of!(Control, pokes) == 120);
const _: () = assert!(core::mem::offset_of!(Control, error) == 120 + MAX_POKES * 16 + 8);
const _: () = assert!(size_of::<Control>() == 216 + MAX_ENDS * 16 + MAX_POKES * 16 + MAX_ERROR);
const _: () = assert!(size_of::<Control>() <= DATA_OFFSET);

impl Control {
    /// QEMU's version: major and minor number.
    pub fn qemu_version(&self) -> (u32, u32) {
        let version = self.qemu.load(Ordering::Relaxed);
        (version >> 16, version & 0xffff)
    }

    /// Stores why the plugin gave up; the end of a text that is too long is lost.
    pub fn set_error(&self, text: &str) {
        self.give_up(State::Failed, text);
    }

    /// As [`Self::set_error`], where the host could reset this machine.
    pub fn set_lacking(&self, text: &str) {
        self.give_up(State::Lacking, text);
    }

    fn give_up(&self, state: State, text: &str) {
        let len = text.len().min(MAX_ERROR);
        for (slot, byte) in self.error.iter().zip(text.bytes()) {
            slot.store(byte, Ordering::Relaxed);
        }
        // `len` is at most MAX_ERROR, which fits.
        self.error_len.store(len as u32, Ordering::Relaxed);
        self.state.store(state as u32, Ordering::Release);
    }

    /// True where code at this offset in guest memory is the target's own: markers are honoured there. Nothing is before the
    /// snapshot.
    pub fn in_text(&self, offset: u64) -> bool {
        let base = self.text_base.load(Ordering::Relaxed);
        offset.wrapping_sub(base) < self.text_len.load(Ordering::Relaxed)
    }

    /// Copies out what [`Self::set_error`] stored: the buffer and the number of its bytes that are valid.
    pub fn error(&self) -> ([u8; MAX_ERROR], usize) {
        let mut text = [0; MAX_ERROR];
        for (byte, slot) in text.iter_mut().zip(&self.error) {
            *byte = slot.load(Ordering::Relaxed);
        }
        (text, (self.error_len.load(Ordering::Relaxed) as usize).min(MAX_ERROR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_the_wire() {
        for n in 0..16 {
            if let Some(state) = State::from_u32(n) {
                assert_eq!(state as u32, n);
            }
            if let Some(end) = End::from_u32(n) {
                assert_eq!(end as u32, n);
            }
        }
        assert_eq!(State::from_u32(5), None);
        assert_eq!(End::from_u32(7), None);
    }
}
