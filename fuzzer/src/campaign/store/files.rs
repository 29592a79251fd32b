//! Single files: written whole or not at all, read up to a limit, understood or named.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use super::error::{StoreError, io_error};
use crate::program::{Program, text, wire};

/// Extension of a program in text form.
pub const TEXT_EXTENSION: &str = "hf";
/// Extension of a program in wire form.
pub const WIRE_EXTENSION: &str = "hfw";
/// What the name of a file ends with that is not in its place yet.
const HALF_WRITTEN: &str = ".tmp";
/// Largest program file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// Puts a file into its place, whole or not at all.
///
/// # Errors
/// When it cannot be written; a file that stood there before still does.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    write(path, content, |_| Ok(()))
}

/// As [`write_atomically`]; the content is on the disk before the file is in its place, so that a power failure cannot leave it empty. That takes
/// milliseconds.
///
/// # Errors
/// When it cannot be written; a file that stood there before still does.
pub(super) fn write_durably(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    write(path, content, File::sync_all)
}

fn write(path: &Path, content: &[u8], finish: fn(&File) -> io::Result<()>) -> Result<(), StoreError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(HALF_WRITTEN);
    let beside = PathBuf::from(beside);
    let written = File::create(&beside)
        .and_then(|mut file| {
            file.write_all(content)?;
            finish(&file)
        })
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| {
        // A half-written file is of no use to anybody; if it cannot be removed either, the next start does it.
        let _ = fs::remove_file(&beside);
        io_error("write", path)(error)
    })
}

/// Removes what a killed fuzzer has left half-written in a directory, and gives the names of the other files there.
///
/// # Errors
/// When the directory cannot be read, or a file cannot be removed.
pub(super) fn sweep(directory: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
        let entry = entry.map_err(io_error("list", directory))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(HALF_WRITTEN) {
            remove(&entry.path())?;
        } else {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a file that may be there.
///
/// # Errors
/// When it is there and cannot be removed.
pub(super) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Reads a text that others may have written; none where there is no such file.
///
/// # Errors
/// When it cannot be read, has more than `most` bytes, or is not text.
pub fn read_text(path: &Path, most: u64) -> Result<Option<String>, StoreError> {
    let bad = |reason: String| StoreError::Program { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    match File::open(path).and_then(|file| file.take(most + 1).read_to_end(&mut bytes)) {
        Ok(size) if size as u64 > most => Err(bad(format!("more than {most} bytes"))),
        Ok(_) => String::from_utf8(bytes).map(Some).map_err(|_| bad("not text".into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

/// Reads a program in either form.
///
/// # Errors
/// When the file cannot be read, is too large, or holds no program.
pub fn load_program(path: &Path) -> Result<Program, StoreError> {
    let bad = |reason: String| StoreError::Program { path: path.to_owned(), reason };
    let mut bytes = Vec::new();
    // The size that the file system tells is not asked: devices and pipes have none.
    File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut bytes))
        .map_err(io_error("read", path))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(bad(format!("more than the {MAX_FILE} bytes that a program may have")));
    }
    if bytes.starts_with(&wire::MAGIC) {
        return wire::decode(&bytes).map_err(|e| bad(e.to_string()));
    }
    let source = str::from_utf8(&bytes).map_err(|_| bad("neither a program in wire form nor text".into()))?;
    text::parse(source).map_err(|e| bad(e.to_string()))
}

/// Reads all programs of a directory, in the order of their names. Files with other extensions are passed over.
///
/// # Errors
/// The first file that cannot be read or understood.
pub fn load_directory(directory: &Path) -> Result<Vec<Program>, StoreError> {
    program_files(directory)?.iter().map(|path| load_program(path)).collect()
}

/// The program files of a directory, in the order of their names.
///
/// # Errors
/// When the directory cannot be read.
pub fn program_files(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_error("list", directory))? {
        let path = entry.map_err(io_error("list", directory))?.path();
        let known = path.extension().is_some_and(|e| e == TEXT_EXTENSION || e == WIRE_EXTENSION);
        if known && path.is_file() {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
