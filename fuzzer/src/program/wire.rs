//! The wire form: what files and other machines get.
//!
//! `HFPG`, version (u16), length of the body (u32), CRC-32 of the body (u32), all little-endian; the body is the
//! program in postcard. Operations are in it by name, so that it outlives changes of the interface's tables.

use thiserror::Error;

use super::{
    model::Program,
    validate::{self, Invalid},
};

/// What a wire program starts with.
pub const MAGIC: [u8; 4] = *b"HFPG";
/// Version of the form.
pub const VERSION: u16 = 2;
/// Longest wire program, in bytes.
pub const MAX_LEN: usize = 0x10_0000;

const HEADER: usize = 14;

/// Why bytes are not a program.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// Too short, or not ours.
    #[error("not a program: it does not start with \"HFPG\"")]
    Magic,
    /// Of another version.
    #[error("a program of version {0}; this build reads version {VERSION}")]
    Version(u16),
    /// It stops too early, or goes on too long.
    #[error("the header says {expected} bytes, there are {found}")]
    Length {
        /// What the header says.
        expected: usize,
        /// Bytes behind the header.
        found: usize,
    },
    /// Longer than [`MAX_LEN`].
    #[error("{0} bytes; at most {MAX_LEN} are allowed")]
    Oversized(usize),
    /// The checksum is wrong.
    #[error("the checksum is wrong: the program was damaged")]
    Checksum,
    /// The body is not a program of this interface.
    #[error("the body is not a program: {0}")]
    Body(postcard::Error),
    /// It is a program, but not a valid one.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Encodes a program.
///
/// # Errors
/// [`WireError::Oversized`], which no valid program is: its lowered form is far shorter, but has no names.
pub fn encode(program: &Program) -> Result<Vec<u8>, WireError> {
    let body = postcard::to_stdvec(program).map_err(WireError::Body)?;
    if body.len() > MAX_LEN - HEADER {
        return Err(WireError::Oversized(body.len() + HEADER));
    }
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Decodes a program and validates it.
///
/// # Errors
/// [`WireError`] says what is wrong with the bytes.
pub fn decode(bytes: &[u8]) -> Result<Program, WireError> {
    if bytes.len() > MAX_LEN {
        return Err(WireError::Oversized(bytes.len()));
    }
    let Some((header, body)) = bytes.split_at_checked(HEADER) else { return Err(WireError::Magic) };
    if header[..4] != MAGIC {
        return Err(WireError::Magic);
    }
    let version = u16::from_le_bytes([header[4], header[5]]);
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    let expected = u32::from_le_bytes([header[6], header[7], header[8], header[9]]) as usize;
    if expected != body.len() {
        return Err(WireError::Length { expected, found: body.len() });
    }
    if crc32(body) != u32::from_le_bytes([header[10], header[11], header[12], header[13]]) {
        return Err(WireError::Checksum);
    }
    let (program, rest) = postcard::take_from_bytes::<Program>(body).map_err(WireError::Body)?;
    if !rest.is_empty() {
        return Err(WireError::Length { expected: body.len() - rest.len(), found: body.len() });
    }
    validate::validate(&program)?;
    Ok(program)
}

/// CRC-32 of IEEE 802.3, bit by bit: programs are short.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_check_string() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn damage_is_named() {
        let good = encode(&Program::default()).expect("short");
        assert_eq!(decode(&good), Ok(Program::default()));
        assert_eq!(decode(&good[..5]), Err(WireError::Magic));
        assert_eq!(decode(&good[..good.len() - 1]), Err(WireError::Length { expected: 1, found: 0 }));
        assert_eq!(decode(&vec![0; MAX_LEN + 1]), Err(WireError::Oversized(MAX_LEN + 1)));
        let mut other = good.clone();
        other[4] = 9;
        assert_eq!(decode(&other), Err(WireError::Version(9)));
        let mut other = good.clone();
        *other.last_mut().expect("not empty") ^= 1;
        assert_eq!(decode(&other), Err(WireError::Checksum));
        let mut other = good;
        other[0] = 0;
        assert_eq!(decode(&other), Err(WireError::Magic));
    }

    #[test]
    fn deep_nesting_is_refused_before_it_hurts() {
        // A call whose argument is an array in an array in an array ...
        let mut body = vec![1, 1, 0];
        let name = b"xen_version.version";
        body.push(name.len() as u8);
        body.extend_from_slice(name);
        body.push(1);
        for _ in 0..20_000 {
            body.extend_from_slice(&[4, 1]);
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&crc32(&body).to_le_bytes());
        bytes.extend_from_slice(&body);
        assert!(matches!(decode(&bytes), Err(WireError::Body(_))));
    }
}
