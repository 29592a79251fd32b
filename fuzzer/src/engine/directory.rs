//! The private directory of a machine: everything that QEMU is started with, in memory where there is room for it.
//!
//! It goes as soon as QEMU has opened all of it, or else when its owner ends. An owner that was killed leaves it behind, with megabytes of memory: so
//! each has a file that its owner keeps locked, and whoever makes a directory first removes those whose lock nobody has.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use tempfile::TempDir;

use super::{error::EngineError, process::at};

/// What names of such directories begin with.
const PREFIX: &str = "hyperfuzz-";
/// Name of the file that is locked.
const OWNER: &str = "owner";

/// A private directory. Dropping it removes it.
#[derive(Debug)]
pub(super) struct WorkDirectory {
    // Dropped first: others leave it alone until it is gone.
    directory: TempDir,
    _owner: File,
}

impl WorkDirectory {
    /// Makes one: in the directory that was asked for, or else where memory files are cheap.
    ///
    /// # Errors
    /// When none can be made.
    pub(super) fn make(wanted: Option<&Path>) -> Result<Self, EngineError> {
        match wanted {
            Some(parent) => Self::within(parent).map_err(at(parent, "the private directory")),
            None => Self::within(Path::new("/dev/shm")).or_else(|_| {
                let parent = std::env::temp_dir();
                Self::within(&parent).map_err(at(&parent, "the private directory"))
            }),
        }
    }

    fn within(parent: &Path) -> io::Result<Self> {
        remove_orphans(parent);
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        // It gets its name when it is locked: before, nobody looks at the directory.
        let unlocked = directory.path().join("owner.new");
        let owner = File::create_new(&unlocked)?;
        owner.try_lock().map_err(io::Error::from)?;
        fs::rename(unlocked, directory.path().join(OWNER))?;
        Ok(Self { directory, _owner: owner })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// Removes directories whose owners are gone. What cannot be removed stays: it may be another user's.
fn remove_orphans(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().filter_map(Result::ok) {
        if !entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            continue;
        }
        let Ok(owner) = File::open(entry.path().join(OWNER)) else { continue };
        if owner.try_lock().is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_directories_without_an_owner_are_removed() {
        let parent = tempfile::tempdir().unwrap();
        let owned = WorkDirectory::make(Some(parent.path())).unwrap();
        let orphan = parent.path().join("hyperfuzz-orphan");
        let stranger = parent.path().join("hyperfuzz-smoke-results");
        let other = parent.path().join("precious");
        for directory in [&orphan, &stranger, &other] {
            fs::create_dir(directory).unwrap();
        }
        for directory in [&orphan, &other] {
            fs::write(directory.join(OWNER), "").unwrap();
        }
        let second = WorkDirectory::make(Some(parent.path())).unwrap();
        assert!(!orphan.exists());
        for directory in [owned.path(), second.path(), &stranger, &other] {
            assert!(directory.is_dir(), "{}", directory.display());
        }
        let gone = owned.path().to_owned();
        drop(owned);
        assert!(!gone.exists() && second.path().is_dir());
    }
}
