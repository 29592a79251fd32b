//! The files that are shared with QEMU: guest memory and the control file.
//!
//! The other side writes to them at will, so nothing here ever makes a reference to their content, except to
//! the atomics of the control structure: bytes are copied out or in, within bounds.
#![expect(unsafe_code, reason = "copies bytes out of and into memory that another process writes")]

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;
use std::ptr;
use std::sync::atomic::Ordering;

use coverage_hypercall::harness::CmpEntry;
use hyperfuzz_control::{
    COMPARISONS_LEN, COMPARISONS_OFFSET, Control, DATA_LEN, DATA_OFFSET, EDGES_LEN, EDGES_OFFSET, FILE_LEN,
    PATH_OFFSET,
};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, fallocate};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Makes a file of `len` zero bytes for which there is room, and maps it.
fn create(path: &Path, len: usize) -> io::Result<(File, MmapRaw)> {
    let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
    // Without this a full file system would show itself as SIGBUS, at some later access.
    fallocate(&file, FallocateFlags::empty(), 0, len as u64)?;
    let map = MmapOptions::new().len(len).map_raw(&file)?;
    Ok((file, map))
}

/// Guest memory. Addresses are offsets in it, which are the machine's physical addresses.
#[derive(Debug)]
pub(super) struct GuestMemory {
    map: MmapRaw,
}

impl GuestMemory {
    /// Makes the file and maps it.
    ///
    /// # Errors
    /// If there is no room, or the file cannot be made.
    pub(super) fn create(path: &Path, len: usize) -> io::Result<Self> {
        let (_, map) = create(path, len)?;
        Ok(Self { map })
    }

    /// Bytes of guest memory.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.map.len()
    }

    /// Copies bytes out. False, and nothing is copied, where the range is not in memory.
    #[must_use]
    pub(super) fn read(&self, at: usize, to: &mut [u8]) -> bool {
        let inside = at.checked_add(to.len()).is_some_and(|end| end <= self.map.len());
        if inside {
            // SAFETY: the range lies in the mapping (checked above), which lives as long as `self`; no reference to
            // it exists. The guest may write at the same time: then the copy holds whatever, which callers expect.
            unsafe { self.map.as_ptr().add(at).copy_to_nonoverlapping(to.as_mut_ptr(), to.len()) };
        }
        inside
    }

    /// Copies bytes in. False, and nothing is copied, where the range is not in memory.
    #[must_use]
    pub(super) fn write(&self, at: usize, bytes: &[u8]) -> bool {
        let inside = at.checked_add(bytes.len()).is_some_and(|end| end <= self.map.len());
        if inside {
            // SAFETY: the range lies in the mapping (checked above), which lives as long as `self`; no reference to
            // it exists.
            unsafe { self.map.as_mut_ptr().add(at).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        }
        inside
    }

    /// Makes the content equal to `copy`, which is as long. Returns the number of pages that were not.
    pub(super) fn make_equal(&self, copy: &[u8]) -> u32 {
        const PAGE: usize = 4096;
        let mut buffer = [0; PAGE];
        let mut changed = 0;
        for (page, expected) in copy.chunks(PAGE).enumerate() {
            let found = &mut buffer[..expected.len()];
            if self.read(page * PAGE, found) && found != expected && self.write(page * PAGE, expected) {
                changed += 1;
            }
        }
        changed
    }

    /// Copies a structure out, if all of it lies in memory.
    #[must_use]
    pub(super) fn read_struct<T: FromBytes + IntoBytes>(&self, at: usize) -> Option<T> {
        let mut value = T::new_zeroed();
        self.read(at, value.as_mut_bytes()).then_some(value)
    }
}

/// The mapped control file.
#[derive(Debug)]
pub(super) struct ControlFile {
    map: MmapRaw,
}

impl ControlFile {
    /// Makes the file, with room for so many words of a path, and maps it.
    ///
    /// # Errors
    /// If there is no room, or the file cannot be made.
    pub(super) fn create(path: &Path, path_room: u32) -> io::Result<Self> {
        let (_, map) = create(path, FILE_LEN + path_room as usize * size_of::<u32>())?;
        let file = Self { map };
        file.control().path_room.store(path_room, Ordering::Relaxed);
        Ok(file)
    }

    /// The control structure.
    #[must_use]
    pub(super) fn control(&self) -> &Control {
        // SAFETY: the mapping is page-aligned, has FILE_LEN bytes, which is more than a `Control`, and lives as long as
        // `self`. A `Control` consists of atomics, for which every content is valid and concurrent change is sound.
        unsafe { &*self.map.as_ptr().cast::<Control>() }
    }

    /// Copies the counters of edges that the plugin keeps. For whoever has the machine.
    pub(super) fn edges(&self, to: &mut Vec<u8>) {
        to.resize(EDGES_LEN, 0);
        // SAFETY: the range lies in the mapping, which has FILE_LEN bytes; no reference to this part of it exists.
        unsafe { self.map.as_ptr().add(EDGES_OFFSET).copy_to_nonoverlapping(to.as_mut_ptr(), EDGES_LEN) };
    }

    /// Copies the comparisons that the plugin has noted. For whoever has the machine.
    pub(super) fn comparisons(&self, to: &mut Vec<CmpEntry>) {
        let noted = self.control().comparisons.load(Ordering::Relaxed) as usize;
        to.resize(noted.min(COMPARISONS_LEN / size_of::<CmpEntry>()), CmpEntry::new_zeroed());
        let bytes = to.as_mut_slice().as_mut_bytes();
        // SAFETY: the range lies in the mapping, which has FILE_LEN bytes; no reference to this part of it exists.
        unsafe {
            let from = self.map.as_ptr().add(COMPARISONS_OFFSET);
            from.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len());
        }
    }

    /// Copies the path of the last execution, as far as there was room for it. For whoever has the machine.
    pub(super) fn path(&self) -> Vec<u32> {
        let noted = usize::try_from(self.control().path_len.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        // What the map has room for, whatever the other side has made of `path_room`.
        let room = (self.map.len() - PATH_OFFSET) / size_of::<u32>();
        let mut words = vec![0u32; noted.min(room)];
        // SAFETY: the range lies in the mapping (checked above) and is aligned; no reference to this part of it exists.
        unsafe {
            let from = self.map.as_ptr().add(PATH_OFFSET).cast::<u32>();
            ptr::copy_nonoverlapping(from, words.as_mut_ptr(), words.len());
        }
        words
    }

    /// Stages bytes at an offset of the poke data. False where they do not fit.
    #[must_use]
    pub(super) fn stage(&self, at: usize, bytes: &[u8]) -> bool {
        let inside = at.checked_add(bytes.len()).is_some_and(|end| end <= DATA_LEN);
        if inside {
            // SAFETY: the range lies in the mapping (checked above); no reference to this part of it exists.
            unsafe {
                let to = self.map.as_mut_ptr().add(DATA_OFFSET + at);
                ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            }
        }
        inside
    }

    /// The bytes that were staged at an offset of the poke data, if they lie there.
    #[must_use]
    pub(super) fn staged(&self, at: usize, len: usize) -> Option<Vec<u8>> {
        at.checked_add(len).filter(|end| *end <= DATA_LEN)?;
        let mut bytes = vec![0; len];
        // SAFETY: the range lies in the mapping (checked above); no reference to this part of it exists.
        unsafe {
            let from = self.map.as_ptr().add(DATA_OFFSET + at);
            ptr::copy_nonoverlapping(from, bytes.as_mut_ptr(), len);
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_in_bounds() {
        let directory = tempfile::tempdir().unwrap();
        let memory = GuestMemory::create(&directory.path().join("ram"), 8192).unwrap();
        let mut byte = [1];
        assert!(memory.read(8191, &mut byte));
        assert_eq!(byte, [0]);
        assert!(!memory.read(8192, &mut byte));
        assert!(!memory.read(usize::MAX, &mut byte));
        assert!(memory.read_struct::<u64>(8184).is_some() && memory.read_struct::<u64>(8185).is_none());
        let mut copy = vec![0; 8192];
        copy[5000] = 7;
        assert_eq!((memory.make_equal(&copy), memory.make_equal(&copy)), (1, 0));
        assert!(memory.read(5000, &mut byte) && byte == [7]);
        assert!(memory.write(8191, &[1]) && !memory.write(8191, &[1, 2]));
        let control = ControlFile::create(&directory.path().join("control"), 2).unwrap();
        assert!(control.stage(DATA_LEN - 1, &[1]));
        assert_eq!(control.staged(DATA_LEN - 1, 1), Some(vec![1]));
        assert_eq!(control.staged(DATA_LEN - 1, 2), None);
        assert!(!control.stage(DATA_LEN, &[1]) && !control.stage(usize::MAX, &[1]));
        assert_eq!(control.control().answer.load(Ordering::Relaxed), 0);
        assert!(control.path().is_empty());
        control.control().path_len.store(9, Ordering::Relaxed);
        control.control().path_room.store(9, Ordering::Relaxed);
        assert_eq!(control.path(), [0, 0], "no more than there is room for");
    }
}
