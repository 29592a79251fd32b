//! Small files of JSON: read up to a limit, written whole or not at all.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use super::store::{StoreError, write_atomically};

/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// Reads a file, if it is there.
///
/// # Errors
/// When it cannot be read or understood.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::Io { action: "read", path: path.to_owned(), error }),
    };
    let mut text = String::new();
    file.take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(|error| error.to_string())
        .and_then(|_| serde_json::from_str(&text).map_err(|error| error.to_string()))
        .map(Some)
        .map_err(|reason| StoreError::Damaged { path: path.to_owned(), reason })
}

/// Writes a file for people and machines.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, value: &impl Serialize) -> Result<(), StoreError> {
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    write_atomically(path, text.as_bytes())
}
