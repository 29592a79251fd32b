//! Values that programs tend to get wrong: numbers, addresses, shapes of pointers.

use rand::Rng;

use super::model::{Shape, mask};

/// A number that programs tend to get wrong.
pub(super) fn hostile<R: Rng + ?Sized>(rng: &mut R, width: u8) -> u64 {
    const LIMITS: [u64; 8] = [
        i8::MAX as u64,
        u8::MAX as u64,
        i16::MAX as u64,
        u16::MAX as u64,
        i32::MAX as u64,
        u32::MAX as u64,
        i64::MAX as u64,
        u64::MAX,
    ];
    let value = match rng.random_range(0..6) {
        0 => 0,
        1 => u64::MAX - rng.random_range(0..4),
        2 => (1u64 << rng.random_range(0..u32::from(width) * 8))
            .wrapping_add(rng.random_range(0..3))
            .wrapping_sub(1),
        3 => LIMITS[rng.random_range(0..LIMITS.len())].wrapping_add(rng.random_range(0..3)).wrapping_sub(1),
        4 => rng.random_range(0..64),
        _ => rng.random(),
    };
    value & mask(width)
}

/// An address where a guest has nothing: hypervisor and kernel halves, non-canonical ones, the ends of things.
pub(super) fn bad_address<R: Rng + ?Sized>(rng: &mut R) -> u64 {
    /// Xen's and the architecture's landmarks: Xen `asm/config.h`; AMD APM volume 2, section 5.3.1.
    const LANDMARKS: [u64; 14] = [
        0x8,
        0xfff,
        0x1000,
        0x10_0000,
        0x40_0000 - 8,
        0x40_0000,
        0xffff_f000,
        0x0000_7fff_ffff_fff8,
        0x0000_8000_0000_0000,
        0x8000_0000_0000_0000,
        0xffff_7fff_ffff_ffff,
        0xffff_8000_0000_0000,
        0xffff_82d0_8020_0000,
        0xffff_ffff_8000_0000,
    ];
    match rng.random_range(0..8) {
        0 => hostile(rng, 8),
        1 => 0xffff_8000_0000_0000 | (rng.random::<u64>() & 0x7fff_ffff_fff8),
        2 => rng.random_range(0..0x40_0000u64),
        3 => u64::MAX - rng.random_range(0..64),
        // An array that begins a few words below an end crosses it: of RAM, of the lower half, of everything.
        4..=6 => {
            const ENDS: [u64; 3] = [0x40_0000, 0x8000_0000_0000, 0];
            ENDS[rng.random_range(0..ENDS.len())].wrapping_sub(8 * rng.random_range(1..=4))
        }
        _ => LANDMARKS[rng.random_range(0..LANDMARKS.len())],
    }
}

/// A shape for a pointer to so many bytes; `plain` shapes excluded.
pub(super) fn odd_shape<R: Rng + ?Sized>(rng: &mut R, size: usize) -> Shape {
    let inside = size.clamp(2, 4095) as u16;
    match rng.random_range(0..10) {
        0 => Shape::Null,
        1..=3 => Shape::Bad(bad_address(rng)),
        4 => Shape::Unaligned(rng.random_range(1..16)),
        5 | 6 => Shape::Cross(rng.random_range(1..inside)),
        7 => Shape::End(rng.random_range(0..=inside)),
        _ => Shape::Over {
            back: rng.random_range(0..3),
            delta: if rng.random() { 0 } else { rng.random_range(0..64) },
        },
    }
}
