//! Guest memory after an execution, for comparison with another machine's.

use std::sync::Arc;

/// Bytes of a page.
pub const PAGE: usize = 4096;

/// How an execution left its machine.
#[derive(Clone, Debug)]
pub struct Aftermath {
    /// All of guest memory.
    pub memory: Vec<u8>,
    /// [`page_hashes`] of the machine at its snapshot: boots need not be alike to the last byte.
    pub pristine: Arc<[u64]>,
}

/// A hash of each page of a memory: to tell changed pages, not to withstand anybody.
#[must_use]
pub fn page_hashes(memory: &[u8]) -> Vec<u64> {
    memory.chunks(PAGE).map(page_hash).collect()
}

/// The hash of one page. Four lanes of multiplications, as a single one would wait for each result.
#[must_use]
pub fn page_hash(page: &[u8]) -> u64 {
    /// The golden ratio's fraction, made odd.
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut lanes = [1u64, 2, 3, 4];
    let (blocks, rest) = page.as_chunks::<32>();
    for block in blocks {
        let (words, _) = block.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = (*lane ^ u64::from_le_bytes(*word)).wrapping_mul(K).rotate_left(29);
        }
    }
    let bytes = rest.iter().map(|byte| u64::from(*byte));
    lanes.into_iter().chain(bytes).fold(0, |hash, word| (hash ^ word).wrapping_mul(K).rotate_left(29))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_tell_pages_apart() {
        let mut memory = vec![0; 2 * PAGE + 5];
        let before = page_hashes(&memory);
        assert_eq!(before.len(), 3);
        for at in [0, 8, 31, 32, PAGE - 1, PAGE, 2 * PAGE + 4] {
            memory[at] ^= 1;
            assert_ne!(page_hashes(&memory)[at / PAGE], before[at / PAGE], "{at}");
            memory[at] ^= 1;
        }
        assert_eq!(page_hashes(&memory), before);
    }
}
