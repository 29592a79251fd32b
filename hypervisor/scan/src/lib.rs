//! Searches through bytes, for the oracles.
//!
//! They look at all that a call hands out and at whole pages. In an instrumented crate that would be most of what the
//! comparison log holds, and would tell a fuzzer what they look for.
#![no_std]
#![forbid(unsafe_code)]

/// A word of eight bytes by which memory is recognised. All words that are searched for together have one upper half, the
/// tag, so that a search compares once per four bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u32);

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where its tag lies.
    pub at: usize,
    /// The half behind the tag, or before it: what the word says.
    pub says: [Option<u32>; 2],
}

impl Tag {
    /// A tag made of a seed. It is never zero, nor anything else that fills memory.
    pub const fn new(seed: u64) -> Self {
        // The finaliser of SplitMix64 spreads the seed over all bits; the last step keeps out words of equal bytes.
        let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self((x >> 32) as u32 & 0x7fff_ff00 | 0x8000_0001)
    }

    /// The word that says `what`.
    pub const fn word(self, what: u32) -> u64 {
        (self.0 as u64) << 32 | what as u64
    }

    /// Fills memory with the word that says `what`.
    pub fn fill(self, out: &mut [u8], what: u32) {
        let word = self.word(what).to_le_bytes();
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// First tag at or behind `from`, both counted in steps of four bytes from the start of `data`.
    #[inline(never)]
    pub fn find(self, data: &[u8], from: usize) -> Option<Found> {
        let half = |index: usize| {
            let bytes = data.get(index.checked_mul(4)?..)?.first_chunk::<4>()?;
            Some(u32::from_le_bytes(*bytes))
        };
        let (halves, _) = data.as_chunks::<4>();
        let mut skipped = from.div_ceil(4).min(halves.len());
        // Four at a time, as long as none of them is it: turns of a loop are what an emulator is slow at.
        while let Some([a, b, c, d]) = halves[skipped..].first_chunk::<4>() {
            let differs = |half: &[u8; 4]| u64::from(u32::from_le_bytes(*half) ^ self.0);
            // A product of nonzero numbers of 32 bits is nonzero in 64.
            if differs(a) * differs(b) == 0 || differs(c) * differs(d) == 0 {
                break;
            }
            skipped += 4;
        }
        let index = skipped + halves[skipped..].iter().position(|bytes| *bytes == self.0.to_le_bytes())?;
        Some(Found { at: index * 4, says: [index.checked_sub(1).and_then(half), half(index + 1)] })
    }
}

/// True where all bytes are the same as `byte`.
#[inline(never)]
pub fn is_filled(data: &[u8], byte: u8) -> bool {
    let word = [byte; 8];
    let (words, rest) = data.as_chunks::<8>();
    let mut differs = 0;
    for chunk in words {
        differs |= u64::from_le_bytes(*chunk) ^ u64::from_le_bytes(word);
    }
    differs == 0 && rest.iter().all(|b| *b == byte)
}

/// One step of a digest.
#[inline(always)]
const fn step(digest: u64, value: u64) -> u64 {
    (digest.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95)
}

/// Mixes a number into a digest.
#[inline(never)]
pub const fn mix(digest: u64, value: u64) -> u64 {
    step(digest, value)
}

/// Mixes bytes into a digest.
#[inline(never)]
pub fn mix_bytes(mut digest: u64, data: &[u8]) -> u64 {
    // Turns of a loop are what an emulator is slow at: eight words at a time.
    let (blocks, rest) = data.as_chunks::<64>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        let [a, b, c, d, e, f, g, h] = [0, 1, 2, 3, 4, 5, 6, 7].map(|n| u64::from_le_bytes(words[n]));
        digest = step(step(step(step(digest, a), b), c), d);
        digest = step(step(step(step(digest, e), f), g), h);
    }
    let (words, rest) = rest.as_chunks::<8>();
    for word in words {
        digest = step(digest, u64::from_le_bytes(*word));
    }
    for byte in rest {
        digest = step(digest, u64::from(*byte));
    }
    digest
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::vec;

    #[test]
    fn tags_are_no_common_words() {
        for seed in 0..1000 {
            let tag = Tag::new(seed).0.to_le_bytes();
            assert!(tag.iter().any(|byte| *byte != tag[0]), "{tag:x?}");
        }
        assert_ne!(Tag::new(1), Tag::new(2));
    }

    proptest! {
        /// A word is found wherever it lies on four bytes, and nothing is found where there is none.
        #[test]
        fn words_are_found(len in 8usize..200, place in 0usize..50, seed: u64, what: u32) {
            let tag = Tag::new(seed);
            let mut data = vec![0; len];
            prop_assert_eq!(tag.find(&data, 0), None);
            let at = (place * 4).min((len - 8) / 4 * 4);
            data[at..at + 8].copy_from_slice(&tag.word(what).to_le_bytes());
            let found = tag.find(&data, 0).unwrap();
            prop_assert_eq!((found.at, found.says[0]), (at + 4, Some(what)));
            prop_assert_eq!(tag.find(&data, found.at + 4), None);
        }

        #[test]
        fn a_changed_byte_is_seen(len in 1usize..100, place: usize) {
            let mut data = vec![0xdf; len];
            prop_assert!(is_filled(&data, 0xdf));
            let digest = mix_bytes(0, &data);
            data[place % len] ^= 0x10;
            prop_assert!(!is_filled(&data, 0xdf));
            prop_assert_ne!(mix_bytes(0, &data), digest);
        }
    }
}
