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
//! not at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    program::{Program, text, wire},
    triage::bucket::Bucket,
};

/// Version of the directory's layout.
pub const FORMAT: u32 = 1;
/// Name of the directory of findings.
const FINDINGS: &str = "findings";
/// Extension of a program in text form.
pub const TEXT_EXTENSION: &str = "hf";
/// Extension of a program in wire form.
pub const WIRE_EXTENSION: &str = "hfw";
/// Files that a finding may have, in the order in which they are stored: the last one makes it complete.
pub const FINDING_FILES: [&str; 7] = [
    "original.hf",
    "program.hf",
    "program.hfw",
    "regression.hf",
    "console.log",
    "finding.json",
    "report.txt",
];
/// Largest program file that is read, in bytes.
pub const MAX_FILE: u64 = 1 << 20;

/// Why a campaign directory, or a file in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An operation on a file failed.
    #[error("cannot {action} {}: {error}{}", path.display(), hint(error))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Another fuzzer works here.
    #[error("{} is in use by another hyperfuzz; stop that one, or choose another directory", .0.display())]
    Locked(PathBuf),
    /// The directory holds something else.
    #[error("{} is not empty and holds no campaign; choose another directory", .0.display())]
    Foreign(PathBuf),
    /// `campaign.json` cannot be understood.
    #[error("{}: {reason}; move the directory away to start anew (nothing in it was changed)", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The campaign is about another target or build.
    #[error(
        "{} is a campaign about {what} {theirs}, this is {ours}; use another directory, or start one from its corpus with --corpus {}",
        path.display(), path.join("corpus").display()
    )]
    Mismatch {
        /// The campaign directory.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// The campaign's.
        theirs: String,
        /// This build's.
        ours: String,
    },
    /// A program file cannot be understood.
    #[error("{}: {reason}", path.display())]
    Program {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of JSON cannot be understood.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "; free some space and start again, nothing that was saved is lost",
        io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "; raise the limit of this user or process and start again, nothing that was saved is lost"
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "; check who owns the directory, and whether it may be written to"
        }
        _ => "",
    }
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::Io { action, path, error }
}

/// What a campaign is about. The file `campaign.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of hyperfuzz that made it.
    pub hyperfuzz: String,
    /// Name of the target.
    pub target: String,
    /// Build of the target, in hexadecimal.
    pub build: String,
    /// Planted bugs that are switched on.
    pub plants: Vec<String>,
    /// Seed of the first session.
    pub seed: u64,
    /// Sessions that were begun.
    pub sessions: u64,
}

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
                let found = Self::parse_description(&path, &text)?;
                Self::same(root, "target", &found.target, &wanted.target)?;
                Self::same(root, "build", &found.build, &wanted.build)?;
                Self::same(root, "planted bugs", &found.plants.join(","), &wanted.plants.join(","))?;
                found
            }
        };
        description.sessions += 1;
        let mut store =
            Self { root: root.to_owned(), description, entries: BTreeSet::new(), next: 0, _lock: lock };
        store.write_description()?;
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

    fn parse_description(path: &Path, text: &str) -> Result<Description, StoreError> {
        let bad = |reason: String| StoreError::Description { path: path.to_owned(), reason };
        // The format is looked at first: another version's fields are none of our business.
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|e| bad(format!("not a campaign description: {e}")))?;
        match value.get("format").and_then(serde_json::Value::as_u64) {
            Some(format) if format == u64::from(FORMAT) => {}
            Some(format) => {
                return Err(bad(format!("format {format}, but this hyperfuzz reads format {FORMAT}")));
            }
            None => return Err(bad("no format number".into())),
        }
        serde_json::from_value(value).map_err(|e| bad(format!("not a campaign description: {e}")))
    }

    fn same(root: &Path, what: &'static str, theirs: &str, ours: &str) -> Result<(), StoreError> {
        if theirs == ours {
            return Ok(());
        }
        let show = |s: &str| if s.is_empty() { "(none)".to_owned() } else { s.to_owned() };
        Err(StoreError::Mismatch { path: root.to_owned(), what, theirs: show(theirs), ours: show(ours) })
    }

    fn write_description(&self) -> Result<(), StoreError> {
        let path = self.root.join("campaign.json");
        let mut text = serde_json::to_string_pretty(&self.description).unwrap_or_default();
        text.push('\n');
        write_atomically(&path, text.as_bytes())
    }

    /// Remembers what the corpus holds, and removes what a killed fuzzer left half-written.
    fn index(&mut self) -> Result<(), StoreError> {
        let corpus = self.root.join("corpus");
        for entry in fs::read_dir(&corpus).map_err(io_error("list", &corpus))? {
            let entry = entry.map_err(io_error("list", &corpus))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".tmp") {
                fs::remove_file(entry.path()).map_err(io_error("remove", &entry.path()))?;
                continue;
            }
            let Some((number, rest)) = name.split_once('-') else { continue };
            let (Ok(number), Some(digest)) = (number.parse::<u64>(), rest.strip_suffix(".hf")) else {
                continue;
            };
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
        let parent = self.root.join("mismatches");
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
            write_atomically(&directory.join(name), content)?;
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

/// What the campaign in a directory is about. It may be going on: nothing is locked or changed.
///
/// # Errors
/// When there is none, or it cannot be understood.
pub fn description(root: &Path) -> Result<Description, StoreError> {
    let path = root.join("campaign.json");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let reason = "there is no campaign here; `hyperfuzz fuzz DIR` makes one".into();
            return Err(StoreError::Program { path, reason });
        }
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    Store::parse_description(&path, &text)
}

/// Sixteen hexadecimal digits that name a program by its content.
pub fn digest(program: &Program) -> String {
    let hash = Sha256::digest(text::print(program));
    hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Puts a file into its place, whole or not at all.
///
/// # Errors
/// When it cannot be written; a file that stood there before still does.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    let beside = PathBuf::from(beside);
    let written = File::create(&beside)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|error| {
        // A half-written file is of no use to anybody; if it cannot be removed either, the next start does it.
        let _ = fs::remove_file(&beside);
        io_error("write", path)(error)
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    fn description() -> Description {
        Description {
            format: FORMAT,
            hyperfuzz: "0.1.0".into(),
            target: "reference-hvm".into(),
            build: "00".into(),
            plants: Vec::new(),
            seed: 7,
            sessions: 0,
        }
    }

    #[test]
    fn a_second_fuzzer_is_refused_and_a_later_one_resumes() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("c");
        let first = Store::open(&root, description()).unwrap();
        assert_eq!(first.session_seed(), 7);
        assert!(matches!(Store::open(&root, description()), Err(StoreError::Locked(_))));
        drop(first);
        let second = Store::open(&root, description()).unwrap();
        assert_eq!(second.description().sessions, 2);
        assert_ne!(second.session_seed(), 7);
    }

    #[test]
    fn amending_is_no_session_and_needs_a_campaign_that_nobody_uses() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Store::amend(dir.path()).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        let open = Store::open(dir.path(), description()).unwrap();
        assert!(matches!(Store::amend(dir.path()), Err(StoreError::Locked(_))));
        drop(open);
        let mut store = Store::amend(dir.path()).unwrap();
        let program = text::parse("d1 sched_op.yield()").unwrap();
        assert!(store.add(&program).unwrap() && !store.add(&program).unwrap());
        drop(store);
        assert_eq!(Store::open(dir.path(), description()).unwrap().description().sessions, 2);
    }

    #[test]
    fn foreign_directories_and_other_builds_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "precious").unwrap();
        assert!(matches!(Store::open(dir.path(), description()), Err(StoreError::Foreign(_))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

        let root = dir.path().join("c");
        drop(Store::open(&root, description()).unwrap());
        let other = Description { build: "01".into(), ..description() };
        let error = Store::open(&root, other).unwrap_err();
        assert!(error.to_string().contains("--corpus"), "{error}");
    }

    #[test]
    fn other_formats_and_garbage_are_named() {
        let dir = tempfile::tempdir().unwrap();
        for (text, word) in
            [("{\"format\": 9}", "format 9"), ("garbage", "not a campaign"), ("{}", "no format")]
        {
            fs::write(dir.path().join("campaign.json"), text).unwrap();
            let error = Store::open(dir.path(), description()).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
            assert_eq!(fs::read_to_string(dir.path().join("campaign.json")).unwrap(), text);
        }
    }

    #[test]
    fn oversized_and_binary_files_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let big = dir.path().join("big.hf");
        fs::write(&big, vec![b'#'; MAX_FILE as usize + 1]).unwrap();
        assert!(load_program(&big).unwrap_err().to_string().contains("big.hf"));
        let binary = dir.path().join("binary.hf");
        fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
        assert!(load_program(&binary).unwrap_err().to_string().contains("neither"));
    }

    #[test]
    fn half_written_files_are_removed_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        drop(Store::open(dir.path(), description()).unwrap());
        let half = dir.path().join("corpus/000000-aa.hf.tmp");
        fs::write(&half, "r0 = d1 ev").unwrap();
        drop(Store::open(dir.path(), description()).unwrap());
        assert!(!half.exists());
    }
}
