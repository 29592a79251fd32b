//! Accesses through pointers that nobody checked: what the planted memory errors do.
#![expect(unsafe_code, reason = "a planted memory error accesses memory that it does not own, on purpose")]

use core::arch::asm;

/// Reads eight bytes at whatever address this is.
///
/// Sound only in the image with a bug planted, where a crash or corrupted memory is what is wanted and the machine is
/// thrown away afterwards. Tests on the host replace it.
#[inline(never)]
pub fn wild_read(at: u64) -> u64 {
    let value;
    // SAFETY: nothing is guaranteed, which is the point of the planted bug; the machine is reset after the run.
    unsafe { asm!("mov {}, qword ptr [{}]", out(reg) value, in(reg) at, options(nostack, readonly)) };
    value
}

/// Writes eight bytes at whatever address this is; see [`wild_read`].
#[inline(never)]
pub fn wild_write(at: u64, value: u64) {
    // SAFETY: nothing is guaranteed, which is the point of the planted bug; the machine is reset after the run.
    unsafe { asm!("mov qword ptr [{}], {}", in(reg) at, in(reg) value, options(nostack)) };
}
