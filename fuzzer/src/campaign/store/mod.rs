//! The campaign directory.
//!
//! ```text
//! DIR/campaign.json          what is fuzzed, by which build, from which seed; sessions so far
//! DIR/lock                   held while a fuzzer runs here
//! DIR/corpus/000012-9f….hf   programs in the order in which they were found
//! DIR/findings/<bucket>/     one directory per bucket; see [`super::findings`]
//! DIR/mismatches/000001/     machines that did not do what a fresh one does, if there were any
//! DIR/operations.json        what was done with each operation, over all sessions
//! DIR/metrics.jsonl          a line every few seconds
//! DIR/metrics.prom           the same of this moment, and over all sessions, for Prometheus
//! ```
//!
//! Every file but `metrics.jsonl` is written beside its place and renamed into it: at any moment a file is there whole or
//! not at all. `files` does that; `description` is the first of them.

mod description;
mod error;
mod files;
#[cfg(test)]
mod tests;

pub(in crate::campaign) use self::error::io_error;
pub use self::{
    description::{Description, FORMAT, description},
    error::StoreError,
    files::{
        MAX_FILE, TEXT_EXTENSION, WIRE_EXTENSION, load_directory, load_program, program_files, read_text,
        write_atomically,
    },
};

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use self::files::{remove, sweep, write_durably};
use crate::{
    program::{Program, text},
    triage::bucket::Bucket,
};

/// Name of the directory of findings.
const FINDINGS: &str = "findings";
/// Name of the directory of machines that did not do what a fresh one does.
const MISMATCHES: &str = "mismatches";
/// The program of a finding as it was found, which is stored before the finding is examined.
pub const ORIGINAL: &str = "original.hf";
/// Files that a finding may have, in the order in which they are stored: the last one makes it complete.
pub const FINDING_FILES: [&str; 7] =
    [ORIGINAL, "program.hf", "program.hfw", "regression.hf", "console.log", "finding.json", "report.txt"];

/// An open campaign. Nobody else can open it while this lives.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    description: Description,
    entries: BTreeSet<String>,
    next: u64,
    _lock: File,
}

impl Store {
    /// Opens a campaign, or makes one where the directory is empty or missing.
    ///
    /// # Errors
    /// [`StoreError`]; an existing directory is left as it was.
    pub fn open(root: &Path, wanted: Description) -> Result<Self, StoreError> {
        let path = root.join("campaign.json");
        if !path.exists() && root.exists() {
            let mut content = fs::read_dir(root).map_err(io_error("list", root))?;
            // Left by a campaign that was killed before it wrote its description: harmless.
            let ours = ["lock", "corpus", "findings", "campaign.json.tmp"];
            if content.any(|e| e.is_ok_and(|e| !ours.iter().any(|o| e.file_name() == **o))) {
                return Err(StoreError::Foreign(root.to_owned()));
            }
        }
        for directory in [root.to_owned(), root.join("corpus"), root.join(FINDINGS)] {
            fs::create_dir_all(&directory).map_err(io_error("make", &directory))?;
        }
        let lock = Self::lock(root)?;
        // Only now, as another fuzzer could have made it until we had the lock.
        let existing = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(StoreError::Description { path, reason: "not text".into() });
            }
            Err(error) => return Err(io_error("read", &path)(error)),
        };
        let mut description = match existing {
            None => wanted,
            Some(text) => {
                let found = Description::parse(&path, &text)?;
                found.is_about(&wanted, root)?;
                found
            }
        };
        description.sessions += 1;
        let mut store =
            Self { root: root.to_owned(), description, entries: BTreeSet::new(), next: 0, _lock: lock };
        store.description.store(root)?;
        store.index()?;
        Ok(store)
    }

    /// Opens a campaign that is there to change what it holds. It does not count as a session.
    ///
    /// # Errors
    /// [`StoreError`], also where there is no campaign.
    pub fn amend(root: &Path) -> Result<Self, StoreError> {
        description(root)?;
        let lock = Self::lock(root)?;
        let description = description(root)?;
        let mut store =
            Self { root: root.to_owned(), description, entries: BTreeSet::new(), next: 0, _lock: lock };
        store.index()?;
        Ok(store)
    }

    /// Keeps everybody else out as long as the file is open.
    fn lock(root: &Path) -> Result<File, StoreError> {
        let path = root.join("lock");
        let lock = File::create(&path).map_err(io_error("make", &path))?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::Locked(root.to_owned())),
            Err(fs::TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
        }
    }

    /// Remembers what the corpus holds, and removes what a fuzzer that was killed, or a machine that lost its power, left half-written.
    fn index(&mut self) -> Result<(), StoreError> {
        sweep(&self.root)?;
        for parent in
            [FINDINGS, MISMATCHES].map(|name| self.root.join(name)).iter().filter(|path| path.is_dir())
        {
            for name in sweep(parent)? {
                let directory = parent.join(name);
                if directory.is_dir() {
                    sweep(&directory)?;
                }
            }
        }
        let corpus = self.root.join("corpus");
        for name in sweep(&corpus)? {
            let Some((number, rest)) = name.split_once('-') else { continue };
            let (Ok(number), Some(digest)) = (number.parse::<u64>(), rest.strip_suffix(".hf")) else {
                continue;
            };
            let path = corpus.join(&name);
            // Programs are not waited for until they are on the disk: without power a file may have a name and no content.
            if fs::metadata(&path).map_err(io_error("read", &path))?.len() == 0 {
                remove(&path)?;
                continue;
            }
            self.next = self.next.max(number + 1);
            self.entries.insert(digest.to_owned());
        }
        Ok(())
    }

    /// Where it lives.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What it is about.
    pub fn description(&self) -> &Description {
        &self.description
    }

    /// Seed of this session: that of the campaign for the first, another for each that follows.
    pub fn session_seed(&self) -> u64 {
        let resumed = self.description.sessions.saturating_sub(1);
        // The golden ratio's fraction: consecutive sessions get seeds that have nothing in common.
        self.description.seed.wrapping_add(resumed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// The corpus, in the order in which it was found.
    ///
    /// # Errors
    /// The first file that cannot be read or understood.
    pub fn corpus(&self) -> Result<Vec<Program>, StoreError> {
        load_directory(&self.root.join("corpus"))
    }

    /// Programs in the corpus.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True where the corpus is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The files of a finding; the report is the last.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn finding_files(&self, bucket: &Bucket) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let directory = self.finding_directory(bucket);
        let read = |name: &str| {
            let path = directory.join(name);
            match fs::read(&path) {
                Ok(content) => Ok(Some((name.to_owned(), content))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(io_error("read", &path)(error)),
            }
        };
        let found: Result<Vec<_>, _> = FINDING_FILES.iter().map(|name| read(name)).collect();
        Ok(found?.into_iter().flatten().collect())
    }

    /// Adds a program to the corpus, unless it is there.
    ///
    /// True if it was not.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, program: &Program) -> Result<bool, StoreError> {
        let digest = digest(program);
        if self.entries.contains(&digest) {
            return Ok(false);
        }
        let path = self.root.join("corpus").join(format!("{:06}-{digest}.{TEXT_EXTENSION}", self.next));
        write_atomically(&path, text::print(program).as_bytes())?;
        self.entries.insert(digest);
        self.next += 1;
        Ok(true)
    }

    /// Buckets that have a finding.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn findings(&self) -> Result<BTreeSet<Bucket>, StoreError> {
        Ok(findings(&self.root)?.into_keys().collect())
    }

    /// Programs that opened a bucket and were not examined to the end, because a fuzzer was killed: in the order of the buckets' names.
    ///
    /// # Errors
    /// When a directory or a program cannot be read.
    pub fn unexamined(&self) -> Result<Vec<Program>, StoreError> {
        let path = self.root.join(FINDINGS);
        let mut directories = Vec::new();
        for entry in fs::read_dir(&path).map_err(io_error("list", &path))? {
            directories.push(entry.map_err(io_error("list", &path))?.path());
        }
        directories.sort();
        let begun = |directory: &PathBuf| {
            directory.join(ORIGINAL).is_file()
                && ["report.txt", "unconfirmed.json"].iter().all(|end| !directory.join(end).exists())
        };
        directories.iter().filter(|path| begun(path)).map(|path| load_program(&path.join(ORIGINAL))).collect()
    }

    /// Stores a finding: its files, in this order.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn add_finding(&self, bucket: &Bucket, files: &[(&str, &[u8])]) -> Result<PathBuf, StoreError> {
        Self::add_directory(self.finding_directory(bucket), files)
    }

    /// Where the files of a finding are.
    pub fn finding_directory(&self, bucket: &Bucket) -> PathBuf {
        self.root.join(FINDINGS).join(bucket.name())
    }

    /// Stores the report of a machine that was quarantined: its files, in this order.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn add_mismatch(&self, files: &[(&str, &[u8])]) -> Result<PathBuf, StoreError> {
        let parent = self.root.join(MISMATCHES);
        fs::create_dir_all(&parent).map_err(io_error("make", &parent))?;
        let taken = fs::read_dir(&parent)
            .map_err(io_error("list", &parent))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u64>().ok());
        let number = taken.max().unwrap_or(0) + 1;
        Self::add_directory(parent.join(format!("{number:06}")), files)
    }

    fn add_directory(directory: PathBuf, files: &[(&str, &[u8])]) -> Result<PathBuf, StoreError> {
        fs::create_dir_all(&directory).map_err(io_error("make", &directory))?;
        for (name, content) in files {
            write_durably(&directory.join(name), content)?;
        }
        Ok(directory)
    }
}

/// Buckets that have a finding in the campaign in a directory, which may be going on, with the directories that hold them; none where there is
/// no campaign.
///
/// # Errors
/// When the directory cannot be read.
pub fn findings(root: &Path) -> Result<BTreeMap<Bucket, PathBuf>, StoreError> {
    let path = root.join(FINDINGS);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(io_error("list", &path)(error)),
    };
    let mut found = BTreeMap::new();
    for entry in entries {
        let entry = entry.map_err(io_error("list", &path))?;
        // Complete findings only: the report is written last.
        if entry.path().join("report.txt").exists()
            && let Some(bucket) = entry.file_name().to_str().and_then(Bucket::from_name)
        {
            found.insert(bucket, entry.path());
        }
    }
    Ok(found)
}

/// Sixteen hexadecimal digits that name a program by its content.
pub fn digest(program: &Program) -> String {
    let hash = Sha256::digest(text::print(program));
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
