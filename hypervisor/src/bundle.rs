//! The bundle: one boot module with everything that the hypervisor needs, a cpio archive in `newc` format.
//!
//! Format: each entry is a header of 110 bytes in ASCII (magic `070701` and thirteen hexadecimal numbers of eight digits),
//! the name with a final zero, padding to four bytes, the content, padding to four bytes. An entry called `TRAILER!!!`
//! ends the archive.

use core::fmt;

const MAGIC: &[u8; 6] = b"070701";
const HEADER: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";

/// Why a bundle cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// A header does not begin with the magic of `newc`.
    Magic,
    /// A number in a header is not hexadecimal.
    Number,
    /// The archive ends inside an entry, or without its trailer.
    Truncated,
    /// There is no file of that name.
    Missing(&'static str),
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("the boot module is no cpio archive in newc format"),
            Self::Number => f.write_str("the boot module has a header with a bad number"),
            Self::Truncated => f.write_str("the boot module ends too early"),
            Self::Missing(name) => write!(f, "the boot module holds no {name}"),
        }
    }
}

/// Content of the first file called `name`.
///
/// # Errors
/// [`BundleError`], also where the archive is damaged before the file.
pub fn find<'a>(bundle: &'a [u8], name: &'static str) -> Result<&'a [u8], BundleError> {
    let mut rest = bundle;
    loop {
        let header = rest.get(..HEADER).ok_or(BundleError::Truncated)?;
        if !header.starts_with(MAGIC) {
            return Err(BundleError::Magic);
        }
        let size = field(header, 6)?;
        let name_len = field(header, 11)?;
        let name_end = HEADER.checked_add(name_len).ok_or(BundleError::Truncated)?;
        let entry_name = rest.get(HEADER..name_end).ok_or(BundleError::Truncated)?;
        let entry_name = entry_name.strip_suffix(&[0]).unwrap_or(entry_name);
        if entry_name == TRAILER {
            return Err(BundleError::Missing(name));
        }
        let start = name_end.next_multiple_of(4);
        let end = start.checked_add(size).ok_or(BundleError::Truncated)?;
        let content = rest.get(start..end).ok_or(BundleError::Truncated)?;
        if entry_name == name.as_bytes() {
            return Ok(content);
        }
        rest = rest.get(end.next_multiple_of(4)..).ok_or(BundleError::Truncated)?;
    }
}

fn field(header: &[u8], index: usize) -> Result<usize, BundleError> {
    let at = MAGIC.len() + index * 8;
    header[at..at + 8].iter().try_fold(0, |value, digit| {
        let digit = (*digit as char).to_digit(16).ok_or(BundleError::Number)?;
        Ok(value << 4 | digit as usize)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloc::{format, vec::Vec};
    use proptest::prelude::*;

    /// An archive of these files.
    pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, content) in files.iter().copied().chain([("TRAILER!!!", &b""[..])]) {
            let header = format!(
                "070701{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
                1,
                0o100_644,
                0,
                0,
                1,
                0,
                content.len(),
                0,
                0,
                0,
                0,
                name.len() + 1,
                0
            );
            out.extend_from_slice(header.as_bytes());
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            out.resize(out.len().next_multiple_of(4), 0);
            out.extend_from_slice(content);
            out.resize(out.len().next_multiple_of(4), 0);
        }
        out
    }

    #[test]
    fn files_are_found_by_name() {
        let bundle = archive(&[("a", b"first"), ("bcd", b"second one")]);
        assert_eq!(find(&bundle, "a"), Ok(&b"first"[..]));
        assert_eq!(find(&bundle, "bcd"), Ok(&b"second one"[..]));
        assert_eq!(find(&bundle, "bc"), Err(BundleError::Missing("bc")));
    }

    #[test]
    fn damage_is_named() {
        let bundle = archive(&[("a", b"first")]);
        assert_eq!(find(b"", "a"), Err(BundleError::Truncated));
        assert_eq!(find(&bundle[..115], "a"), Err(BundleError::Truncated));
        assert_eq!(find(&bundle[..150], "b"), Err(BundleError::Truncated));
        let mut bad = bundle.clone();
        bad[5] = b'2';
        assert_eq!(find(&bad, "a"), Err(BundleError::Magic));
        let mut bad = bundle;
        bad[60] = b'x';
        assert_eq!(find(&bad, "a"), Err(BundleError::Number));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(find(&bytes, "agent.elf").is_err());
        }

        #[test]
        fn damaged_archives_never_panic(at in 0usize..260, value: u8, cut in 0usize..260) {
            let mut bundle = archive(&[("domains.conf", b"text"), ("agent.elf", b"code")]);
            let n = at % bundle.len();
            bundle[n] = value;
            bundle.truncate(bundle.len() - cut % bundle.len());
            let _ = find(&bundle, "agent.elf");
        }
    }
}
