// SPDX-License-Identifier: GPL-2.0-or-later
//! Guest memory as it was at the snapshot. Most pages of a machine that has just booted are alike, so each content is kept once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Bytes of a page: `TARGET_PAGE_SIZE`.
pub(crate) const PAGE: usize = 4096;

/// A copy of memory.
#[derive(Default)]
pub(crate) struct Pristine {
    /// Where the content of each page is, in pages of `contents`.
    pages: Vec<u32>,
    contents: Vec<u8>,
}

impl Pristine {
    /// Copies memory, which consists of whole pages.
    pub(crate) fn of(memory: &[u8]) -> Self {
        let mut copy = Self::default();
        let mut known: HashMap<&[u8], u32> = HashMap::new();
        for page in memory.chunks_exact(PAGE) {
            let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
            let place = match known.entry(page) {
                Entry::Occupied(found) => *found.get(),
                Entry::Vacant(new) => {
                    copy.contents.extend_from_slice(page);
                    *new.insert(next)
                }
            };
            copy.pages.push(place);
        }
        copy.contents.shrink_to_fit();
        copy
    }

    /// A page, if there is one of that number.
    pub(crate) fn page(&self, number: usize) -> Option<&[u8]> {
        let at = *self.pages.get(number)? as usize * PAGE;
        self.contents.get(at..at + PAGE)
    }

    /// The word of eight bytes at an address that is a multiple of eight.
    pub(crate) fn word(&self, at: usize) -> Option<u64> {
        let page = self.page(at / PAGE)?;
        page.get(at % PAGE..)?.first_chunk().copied().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_are_alike_are_kept_once() {
        let mut memory = vec![0; 5 * PAGE];
        memory[PAGE..2 * PAGE].fill(7);
        memory[4 * PAGE..].fill(7);
        memory[3 * PAGE + 8] = 1;
        let copy = Pristine::of(&memory);
        for (number, page) in memory.chunks(PAGE).enumerate() {
            assert_eq!(copy.page(number), Some(page));
        }
        assert_eq!((copy.page(5), copy.contents.len()), (None, 3 * PAGE));
        assert_eq!((copy.word(3 * PAGE + 8), copy.word(5 * PAGE)), (Some(1), None));
    }
}
