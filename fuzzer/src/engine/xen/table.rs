//! The symbol table that an image of Xen carries for its own call traces.
//!
//! Images of distributions are stripped, but Xen prints names in its traces, and so the link has put a table into the read-only data
//! (Xen's `xen/tools/symbols.c` writes it, `xen/common/symbols.c` reads it): addresses, the number of names, the names, markers, tokens,
//! and an index of the tokens, in this order. A name is a byte with its length and so many numbers of tokens; the first character of what
//! they spell is the type. Nothing says where the table is. It is found by the tokens of the ten digits, which no compression
//! replaces, and everything else is checked against it.

use std::ops::Range;

/// Tokens of a table.
const TOKENS: usize = 256;
/// Names between two markers.
const STRIDE: usize = 256;
/// The index lies so far behind the tokens at most.
const NEAR: usize = 16 << 10;
/// All names take so many bytes at most.
const NAMES: usize = 4 << 20;

/// A name for an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Distance from `XEN_VIRT_START`, in bytes.
    pub offset: u32,
    /// The letter that `nm` prints: `t` and `T` are code.
    pub kind: u8,
    /// Name, with the source file where it is not unique.
    pub name: String,
}

/// Reads words out of bytes, which may end anywhere.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn half(self, at: usize) -> Option<usize> {
        Some(u16::from_le_bytes(self.0.get(at..at.checked_add(2)?)?.try_into().ok()?).into())
    }

    fn word(self, at: usize) -> Option<u32> {
        Some(u32::from_le_bytes(self.0.get(at..at.checked_add(4)?)?.try_into().ok()?))
    }
}

/// Reads the table of an image, in ascending order of addresses. None if there is no table of the known form.
#[must_use]
pub fn read(image: &[u8]) -> Option<Vec<Symbol>> {
    let digits: Vec<u8> = (b'0'..=b'9').flat_map(|digit| [digit, 0]).collect();
    let mut from = 0;
    while let Some(at) = image.get(from..)?.windows(digits.len()).position(|window| window == digits) {
        if let Some(symbols) = read_around(image, from + at) {
            return Some(symbols);
        }
        from += at + 1;
    }
    None
}

/// Reads the table whose token `0` is at this offset.
fn read_around(image: &[u8], zero: usize) -> Option<Vec<Symbol>> {
    let tokens = Tokens::find(image, zero)?;
    let markers = markers(image, tokens.start)?;
    let count = (markers.len() - 1) * STRIDE + 1..markers.len() * STRIDE + 1;
    let first = tokens.start - markers.len() * 4;
    let at = (first.saturating_sub(NAMES)..first).rev().filter(|at| at % 4 == 0);
    let (at, count, names) = at
        .filter_map(|at| Some((at, Bytes(image).word(at)? as usize)))
        .filter(|(_, number)| count.contains(number))
        .find_map(|(at, number)| {
            let starts = [at + 4, at + 8, at + 16].into_iter();
            let names = starts.filter_map(|start| names(image, start, number, &markers)).next()?;
            Some((at, number, names))
        })?;
    let offsets = offsets(image, at, count)?;
    let symbols = offsets.into_iter().zip(names).map(|(offset, name)| {
        let text = tokens.expand(image, name)?;
        let (kind, name) = (*text.first()?, String::from_utf8(text[1..].to_vec()).ok()?);
        Some(Symbol { offset, kind, name })
    });
    symbols.collect()
}

/// What each token stands for.
struct Tokens {
    /// Offset of the first token in the image.
    start: usize,
    /// Offset of each from the first.
    index: Vec<usize>,
}

impl Tokens {
    /// Finds the index behind the token `0`: offsets that ascend from zero, of which each begins a text.
    fn find(image: &[u8], zero: usize) -> Option<Self> {
        (zero..zero + NEAR).filter(|at| at % 2 == 0).find_map(|at| {
            let index: Vec<usize> = (0..TOKENS).map_while(|n| Bytes(image).half(at + 2 * n)).collect();
            let ascends = index.len() == TOKENS && index[0] == 0 && index.is_sorted_by(|a, b| a < b);
            let start = zero.checked_sub(*index.get(usize::from(b'0'))?).filter(|_| ascends)?;
            let begin = index[1..].iter().all(|offset| image.get(start + offset - 1) == Some(&0));
            begin.then_some(Self { start, index })
        })
    }

    /// The text that a name stands for.
    fn expand(&self, image: &[u8], name: Range<usize>) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        for token in image.get(name)? {
            let rest = image.get(self.start + self.index[usize::from(*token)]..)?;
            text.extend(rest.iter().take_while(|byte| **byte != 0));
        }
        Some(text)
    }
}

/// The markers, which end where the tokens begin: where each 256th name is, ascending from zero.
fn markers(image: &[u8], tokens: usize) -> Option<Vec<u32>> {
    let mut markers = Vec::new();
    let mut at = tokens & !3;
    loop {
        at = at.checked_sub(4)?;
        let marker = Bytes(image).word(at)?;
        match markers.last() {
            // Alignment.
            None if marker == 0 && tokens - at < 16 => continue,
            Some(last) if marker >= *last => return None,
            _ => markers.push(marker),
        }
        if marker == 0 {
            markers.reverse();
            return Some(markers);
        }
    }
}

/// Where the tokens of each name are, if so many names from `start` on agree with the markers.
fn names(image: &[u8], start: usize, count: usize, markers: &[u32]) -> Option<Vec<Range<usize>>> {
    let mut names = Vec::new();
    let mut at = start;
    for number in 0..count {
        if number % STRIDE == 0 && markers.get(number / STRIDE).map(|m| *m as usize) != Some(at - start) {
            return None;
        }
        let len = usize::from(*image.get(at)?);
        names.push(at + 1..at + 1 + len);
        at += 1 + len;
    }
    Some(names)
}

/// The addresses, which end where the number of names is, as distances: words of 32 bits that do not descend.
fn offsets(image: &[u8], number_at: usize, count: usize) -> Option<Vec<u32>> {
    (0..32).step_by(4).find_map(|padding| {
        let start = number_at.checked_sub(padding + 4 * count)?;
        let offsets: Option<Vec<u32>> = (0..count).map(|n| Bytes(image).word(start + 4 * n)).collect();
        offsets.filter(|offsets| offsets.is_sorted() && offsets.first() != offsets.last())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table as the link of Xen writes it, with the names as they are.
    fn table(symbols: &[(u32, &str)]) -> Vec<u8> {
        let mut image = vec![0xcc; 64];
        symbols.iter().for_each(|(offset, _)| image.extend(offset.to_le_bytes()));
        image.extend((symbols.len() as u32).to_le_bytes());
        let mut names = Vec::new();
        let mut markers = Vec::new();
        for (n, (_, name)) in symbols.iter().enumerate() {
            if n % STRIDE == 0 {
                markers.extend((names.len() as u32).to_le_bytes());
            }
            names.push(name.len() as u8);
            names.extend(name.bytes());
        }
        names.resize(names.len().next_multiple_of(4), 0);
        image.extend(names);
        image.extend(markers);
        // Each token but the digits and letters stands for a word.
        let (mut tokens, mut index) = (Vec::new(), Vec::new());
        for token in 0..=255u8 {
            index.extend((tokens.len() as u16).to_le_bytes());
            match token {
                b'0'..=b'9' | b'A'..=b'z' => tokens.push(token),
                _ => tokens.extend(b"word"),
            }
            tokens.push(0);
        }
        image.extend(tokens);
        image.resize(image.len().next_multiple_of(4), 0);
        image.extend(index);
        image.extend([0xcc; 64]);
        image
    }

    #[test]
    fn names_are_found_and_spelled_out() {
        let mut symbols = vec![(0, "T_start"), (0x10, "tdo_\u{1}"), (0x20, "Tpanic")];
        symbols.extend((0..600).map(|n| (0x100 + n, "dmany")));
        let read = read(&table(&symbols)).expect("there is a table");
        assert_eq!(read.len(), symbols.len());
        let first: Vec<_> = read[..4].iter().map(|s| (s.offset, s.kind, s.name.as_str())).collect();
        assert_eq!(
            first,
            [(0, b'T', "_start"), (0x10, b't', "do_word"), (0x20, b'T', "panic"), (0x100, b'd', "many")]
        );
    }

    #[test]
    fn what_is_no_table_is_none() {
        let whole = table(&(0..300).map(|n| (n * 16, "Tname")).collect::<Vec<_>>());
        assert!(read(&whole).is_some());
        assert_eq!(read(b""), None);
        assert_eq!(read(&[0; 4096]), None);
        // Cut off anywhere, or with a marker that does not agree.
        for end in (0..whole.len() - 64).step_by(7) {
            assert_eq!(read(&whole[..end]), None, "{end}");
        }
        let mut other = table(&(0..300).map(|n| (n, "Tname")).collect::<Vec<_>>());
        assert!(read(&other).is_some());
        let length = other.windows(6).position(|window| window == b"\x05Tname").unwrap();
        other[length] = 6;
        assert_eq!(read(&other), None);
    }
}
