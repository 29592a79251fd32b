//! Single-producer single-consumer record rings: index arithmetic over memory that the caller owns.
//!
//! A ring is a pair of free-running `u32` counters (`produced`, `consumed`) and a data area whose size is a
//! power of two. A record is a little-endian `u32` length followed by that many bytes, padded to
//! [`ALIGN`] bytes. Records never wrap: where the rest of the area is too small, a [`SKIP`] word sends the
//! consumer to the start, so that a record can always be handed out as one slice.
//!
//! Both counters and all of the data may be written by a hostile peer. Nothing here trusts them: every answer
//! is a range inside the area, or an error.

use core::ops::Range;

/// Records start at multiples of this many bytes.
pub const ALIGN: u32 = 8;
/// Length word that tells the consumer to go on at the start of the area.
pub const SKIP: u32 = u32::MAX;
/// Bytes of the length word in front of each record, padding included.
pub const HEADER: u32 = ALIGN;

/// Why a ring operation was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// The record does not fit into the free part of the ring.
    Full,
    /// `produced - consumed` is larger than the ring, or a counter is not aligned: the peer wrote nonsense.
    CorruptIndex,
    /// A record's length word leads out of the produced part of the ring.
    CorruptRecord,
}

/// The shape of a ring: its size only, so that it can be a constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ring {
    size: u32,
}

/// Where to put a record: byte offsets in the data area, and the `produced` counter to publish afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Offset of a [`SKIP`] word to be written first, if the record starts over at the beginning.
    pub skip_at: Option<usize>,
    /// Offset of the record's length word.
    pub length_at: usize,
    /// Where the payload goes.
    pub payload: Range<usize>,
    /// Value of the `produced` counter once the record is complete.
    pub produced: u32,
}

/// A record found in the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where the payload lies in the data area.
    pub payload: Range<usize>,
    /// Value of the `consumed` counter once the record has been read.
    pub consumed: u32,
}

impl Ring {
    /// A ring over `size` bytes.
    ///
    /// # Panics
    /// If `size` is not a power of two of at least 64 bytes. Sizes are constants of the contract, never input.
    pub const fn new(size: u32) -> Self {
        assert!(size.is_power_of_two() && size >= 64);
        Self { size }
    }

    /// Bytes of the data area.
    pub const fn size(self) -> u32 {
        self.size
    }

    /// Bytes between the counters, if they are sane.
    fn used(self, produced: u32, consumed: u32) -> Result<u32, RingError> {
        let used = produced.wrapping_sub(consumed);
        if used > self.size || !produced.is_multiple_of(ALIGN) || !consumed.is_multiple_of(ALIGN) {
            return Err(RingError::CorruptIndex);
        }
        Ok(used)
    }

    /// Finds room for a record of `len` bytes.
    ///
    /// # Errors
    /// [`RingError::Full`] when there is none, [`RingError::CorruptIndex`] when the counters make no sense.
    pub fn place(self, produced: u32, consumed: u32, len: usize) -> Result<Placement, RingError> {
        let used = self.used(produced, consumed)?;
        let len = u32::try_from(len).map_err(|_| RingError::Full)?;
        if len > self.size {
            return Err(RingError::Full);
        }
        let need = HEADER + len.next_multiple_of(ALIGN);
        let offset = produced & (self.size - 1);
        let to_end = self.size - offset;
        let (skip_at, start, advance) =
            if need <= to_end { (None, offset, need) } else { (Some(offset as usize), 0, to_end + need) };
        if advance > self.size - used {
            return Err(RingError::Full);
        }
        let payload = (start + HEADER) as usize;
        Ok(Placement {
            skip_at,
            length_at: start as usize,
            payload: payload..payload + len as usize,
            produced: produced.wrapping_add(advance),
        })
    }

    /// Finds the next record, if there is one. `word` reads the little-endian `u32` at an offset of the area;
    /// it is called at most twice, each time with an aligned offset inside the area.
    ///
    /// # Errors
    /// [`RingError::CorruptIndex`] or [`RingError::CorruptRecord`] when the peer wrote nonsense.
    pub fn next(
        self,
        produced: u32,
        consumed: u32,
        mut word: impl FnMut(usize) -> u32,
    ) -> Result<Option<Record>, RingError> {
        let mut available = self.used(produced, consumed)?;
        let mut at = consumed;
        if available == 0 {
            return Ok(None);
        }
        let mut len = word((at & (self.size - 1)) as usize);
        if len == SKIP {
            let to_end = self.size - (at & (self.size - 1));
            if to_end >= available {
                return Err(RingError::CorruptRecord);
            }
            at = at.wrapping_add(to_end);
            available -= to_end;
            len = word(0);
        }
        let offset = at & (self.size - 1);
        if len > self.size || HEADER + len.next_multiple_of(ALIGN) > available.min(self.size - offset) {
            return Err(RingError::CorruptRecord);
        }
        let payload = (offset + HEADER) as usize;
        Ok(Some(Record {
            payload: payload..payload + len as usize,
            consumed: at.wrapping_add(HEADER + len.next_multiple_of(ALIGN)),
        }))
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use proptest::prelude::*;
    use std::{collections::VecDeque, vec, vec::Vec};

    fn word(area: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(area[at..at + 4].try_into().unwrap())
    }

    proptest! {
        /// Whatever is put in comes out again, in order, through any number of turns of the ring.
        #[test]
        fn behaves_like_a_queue(start in any::<u32>(), sizes in prop::collection::vec(0usize..300, 1..200)) {
            let ring = Ring::new(1024);
            let mut area = vec![0u8; 1024];
            let (mut produced, mut consumed) = (start & !7, start & !7);
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            for (n, len) in sizes.into_iter().enumerate() {
                let data = vec![n as u8; len];
                match ring.place(produced, consumed, len) {
                    Ok(p) => {
                        if let Some(at) = p.skip_at {
                            area[at..at + 4].copy_from_slice(&SKIP.to_le_bytes());
                        }
                        area[p.length_at..p.length_at + 4].copy_from_slice(&(len as u32).to_le_bytes());
                        area[p.payload].copy_from_slice(&data);
                        produced = p.produced;
                        model.push_back(data);
                    }
                    Err(e) => {
                        prop_assert_eq!(e, RingError::Full);
                        let record = ring.next(produced, consumed, |at| word(&area, at)).unwrap();
                        match record {
                            Some(r) => {
                                prop_assert_eq!(&area[r.payload], &model.pop_front().unwrap()[..]);
                                consumed = r.consumed;
                            }
                            None => prop_assert!(model.is_empty()),
                        }
                    }
                }
            }
            while let Some(r) = ring.next(produced, consumed, |at| word(&area, at)).unwrap() {
                prop_assert_eq!(&area[r.payload], &model.pop_front().unwrap()[..]);
                consumed = r.consumed;
            }
            prop_assert!(model.is_empty());
        }

        /// Nonsense in counters and data never yields a range outside the area.
        #[test]
        fn never_leaves_the_area(produced: u32, consumed: u32, len in any::<usize>(), words in any::<[u32; 2]>()) {
            let ring = Ring::new(256);
            let mut n = 0;
            if let Ok(Some(r)) = ring.next(produced, consumed, |at| {
                assert!(at + 4 <= 256);
                n += 1;
                words[n - 1]
            }) {
                prop_assert!(r.payload.end <= 256);
            }
            if let Ok(p) = ring.place(produced, consumed, len) {
                prop_assert!(p.payload.end <= 256 && p.payload.len() == len);
            }
        }
    }
}
