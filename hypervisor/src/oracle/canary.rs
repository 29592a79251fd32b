//! Canaries: beside copy buffers on the stack, and around blocks of the heap.

use crate::hypervisor::Hypervisor;
use coverage_hypercall::crash::CrashKind;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes behind a buffer that nothing may touch: the canary, and room for what runs over it.
const GUARD: usize = 256;
const CANARY: u64 = 0x5afe_c0de_d00d_feed;

/// A copy buffer on the stack, with a canary right behind it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C, packed)]
pub(crate) struct Guarded<const N: usize> {
    bytes: [u8; N],
    canary: [u8; 8],
    room: [u8; GUARD - 8],
}

impl<const N: usize> Guarded<N> {
    /// Bytes that an overrun can reach; beyond it there is other memory.
    pub(crate) const ROOM: usize = N + GUARD;

    /// An empty buffer.
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], canary: CANARY.to_le_bytes(), room: [0; GUARD - 8] }
    }

    /// The first `len` bytes from the start of the buffer, to be copied to: as a pointer and a length would have it, without a
    /// look at where the buffer ends.
    pub(crate) fn unchecked(&mut self, len: usize) -> &mut [u8] {
        let all = self.as_mut_bytes();
        let len = len.min(all.len());
        &mut all[..len]
    }

    /// The first `len` bytes of the buffer, or all of it.
    pub(crate) fn text(&self, len: usize) -> &[u8] {
        &self.as_bytes()[..len.min(N)]
    }
}

impl Hypervisor {
    /// Nothing ran over the end of a buffer.
    pub(crate) fn check_canary<const N: usize>(&mut self, buffer: &Guarded<N>) {
        if buffer.canary != CANARY.to_le_bytes() && self.options.oracles {
            self.violation(CrashKind::StackCanary, "a copy overran its buffer on the stack");
        }
    }

    /// Nothing ran over the end of a block of the heap, or wrote to it after it was freed.
    pub(crate) fn check_heap(&mut self, thorough: bool) {
        if let Some(what) = self.memory.machine.heap_damage(thorough) {
            self.violation(CrashKind::HeapCanary, what);
        }
    }
}
