//! The directory of a benchmark.
//!
//! ```text
//! DIR/bench.json            what is measured with, and where: later invocations must be the same
//! DIR/lock                  held while a benchmark runs here
//! DIR/trials/<name>.json    one file for each finished trial
//! DIR/results.csv           one row for each trial and bug
//! DIR/results.json          everything that was computed
//! DIR/index.html            for people
//! ```

use std::{
    fs::{self, File, TryLockError},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::record::{FORMAT, Task, Trial};
use crate::{campaign::store::write_atomically, images};

/// What a benchmark is measured with, and where. The file `bench.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// Version of hyperfuzz.
    pub hyperfuzz: String,
    /// SHA-256 of the fuzzer's executable: generator, engine and images.
    pub fuzzer: String,
    /// SHA-256 of the hypervisor's image.
    pub hypervisor: String,
    /// SHA-256 of the agent's image.
    pub agent: String,
    /// First line of what QEMU says of its version.
    pub qemu: String,
    /// Processor model and number, kernel, memory.
    pub machine: String,
    /// Command lines that worked here, without the path of the executable.
    pub commands: Vec<String>,
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A line of a file that begins with a word, without it.
fn line_of(path: &str, word: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(word)).unwrap_or("unknown");
    line.trim_start_matches([' ', '\t', ':']).trim().to_owned()
}

impl Manifest {
    /// The manifest of this executable on this machine.
    ///
    /// # Errors
    /// When the executable cannot be read, or QEMU does not start.
    pub fn here(qemu: &Path) -> anyhow::Result<Self> {
        let executable = std::env::current_exe().context("cannot find the executable")?;
        let bytes = fs::read(&executable)
            .with_context(|| format!("cannot read the executable {}", executable.display()))?;
        let version = Command::new(qemu)
            .arg("--version")
            .output()
            .with_context(|| format!("cannot start {}", qemu.display()))?;
        let version = String::from_utf8_lossy(&version.stdout).lines().next().unwrap_or_default().to_owned();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let command: Vec<String> = std::env::args().skip(1).collect();
        Ok(Self {
            format: FORMAT,
            hyperfuzz: env!("CARGO_PKG_VERSION").into(),
            fuzzer: sha256(&bytes),
            hypervisor: sha256(images::HYPERVISOR),
            agent: sha256(images::AGENT),
            qemu: version,
            machine: format!(
                "{} x {}, Linux {}, {} of memory",
                cores,
                line_of("/proc/cpuinfo", "model name"),
                line_of("/proc/sys/kernel/osrelease", ""),
                line_of("/proc/meminfo", "MemTotal"),
            ),
            commands: vec![format!("hyperfuzz {}", command.join(" "))],
        })
    }

    /// In what two manifests differ that must not.
    fn difference<'a>(&'a self, other: &'a Self) -> Option<(&'static str, &'a str, &'a str)> {
        [
            ("hypervisor", &self.hypervisor, &other.hypervisor),
            ("agent", &self.agent, &other.agent),
            ("fuzzer", &self.fuzzer, &other.fuzzer),
            ("QEMU", &self.qemu, &other.qemu),
        ]
        .into_iter()
        .find(|(_, left, right)| left != right)
        .map(|(what, left, right)| (what, left.as_str(), right.as_str()))
    }
}

/// An open benchmark. Nobody else can open it while this lives.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    manifest: Manifest,
    _lock: File,
}

impl Store {
    /// Opens a benchmark, or makes one where the directory is empty or missing.
    ///
    /// # Errors
    /// When it cannot be used, or holds trials of another build; it is left as it was.
    pub fn open(root: &Path, here: Manifest) -> anyhow::Result<Self> {
        let path = root.join("bench.json");
        let exists = path.exists();
        if !exists && fs::read_dir(root).is_ok_and(|mut entries| entries.any(|e| !is_ours(&e))) {
            bail!("{} is not empty and holds no benchmark; choose another directory", root.display());
        }
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        let lock = File::create(root.join("lock"))
            .with_context(|| format!("cannot make {}", root.join("lock").display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{} is in use by another hyperfuzz", root.display())
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", root.display()));
            }
        }
        let manifest = if exists { Self::merge(&path, here)? } else { here };
        let store = Self { root: root.to_owned(), manifest, _lock: lock };
        store.write_json("bench.json", &store.manifest)?;
        Ok(store)
    }

    /// The manifest that stands in a directory, if this executable may go on with it.
    fn merge(path: &Path, here: Manifest) -> anyhow::Result<Manifest> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut found: Manifest = serde_json::from_str(&text).with_context(|| {
            format!("{} is no manifest of a benchmark; move the directory away to start anew", path.display())
        })?;
        if found.format != FORMAT {
            bail!(
                "{}: format {}, but this hyperfuzz reads format {FORMAT}; use another directory",
                path.display(),
                found.format
            );
        }
        if let Some((what, theirs, ours)) = found.difference(&here) {
            bail!(
                "{} was measured with another build: {what} {theirs}, now {ours}; results of two builds cannot be mixed: \
                 use another directory, or the build that it was begun with",
                path.display()
            );
        }
        for command in here.commands {
            if !found.commands.contains(&command) {
                found.commands.push(command);
            }
        }
        Ok(found)
    }

    /// What it is measured with.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    fn trial_name(task: &Task) -> String {
        format!("trials/{}.json", task.name())
    }

    /// The result of a task, if it was finished before.
    ///
    /// # Errors
    /// A file that cannot be read, or is about another task of the same name: another seed, cap or set of bugs.
    pub fn finished(&self, task: &Task) -> anyhow::Result<Option<Trial>> {
        let name = Self::trial_name(task);
        let Some(trial) = self.read_json::<Trial>(&name)? else { return Ok(None) };
        if trial.task != *task {
            bail!(
                "{} was run with other options (seed {}, cap {} s, {} planted bugs); use the same options, or another directory",
                self.root.join(&name).display(),
                trial.task.seed,
                trial.task.cap_seconds,
                trial.task.plants.len()
            );
        }
        Ok(Some(trial))
    }

    /// All finished trials, in the order of their names.
    ///
    /// # Errors
    /// The first file that cannot be read.
    pub fn trials(&self) -> anyhow::Result<Vec<Trial>> {
        let directory = self.root.join("trials");
        let mut paths = Vec::new();
        if !directory.exists() {
            return Ok(Vec::new());
        }
        for entry in
            fs::read_dir(&directory).with_context(|| format!("cannot list {}", directory.display()))?
        {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                paths.push(path);
            }
        }
        paths.sort();
        paths
            .iter()
            .map(|path| {
                let text =
                    fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
                serde_json::from_str(&text)
                    .with_context(|| format!("{} is no trial; remove it to have it repeated", path.display()))
            })
            .collect()
    }

    /// Stores a finished trial.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&self, trial: &Trial) -> anyhow::Result<()> {
        self.write_json(&Self::trial_name(&trial.task), trial)
    }

    /// Puts a file into the directory, or into one below it, whole or not at all.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        let path = self.root.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        Ok(write_atomically(&path, content)?)
    }

    /// What [`Self::write_json`] has stored under this name, if it has.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn read_json<T: serde::de::DeserializeOwned>(&self, name: &str) -> anyhow::Result<Option<T>> {
        let path = self.root.join(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let value = serde_json::from_str(&text);
        value
            .map(Some)
            .with_context(|| format!("{} is damaged; remove it to have it repeated", path.display()))
    }

    /// As [`Self::write`], for something that has a form in JSON.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_json(&self, name: &str, content: &impl Serialize) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(content)?;
        writeln!(text)?;
        self.write(name, &text)
    }
}

/// What a benchmark that was killed before it wrote its manifest may have left.
fn is_ours(entry: &std::io::Result<fs::DirEntry>) -> bool {
    let name = entry.as_ref().map(fs::DirEntry::file_name).unwrap_or_default();
    name == "lock" || name == "trials" || name == "bench.json.tmp"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(hypervisor: &str) -> Manifest {
        Manifest {
            format: FORMAT,
            hyperfuzz: "0".into(),
            fuzzer: "f".into(),
            hypervisor: hypervisor.into(),
            agent: "a".into(),
            qemu: "7.2".into(),
            machine: "m".into(),
            commands: vec!["bench".into()],
        }
    }

    #[test]
    fn another_build_is_refused_and_the_same_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("b");
        drop(Store::open(&root, manifest("one")).unwrap());
        let before = fs::read(root.join("bench.json")).unwrap();
        let error = Store::open(&root, manifest("two")).unwrap_err().to_string();
        assert!(error.contains("another build") && error.contains("one") && error.contains("two"), "{error}");
        assert_eq!(fs::read(root.join("bench.json")).unwrap(), before);
        let again =
            Store::open(&root, Manifest { commands: vec!["more".into()], ..manifest("one") }).unwrap();
        assert_eq!(again.manifest().commands, ["bench", "more"]);
        let second = Store::open(&root, manifest("one")).unwrap_err().to_string();
        assert!(second.contains("in use"), "{second}");
    }

    #[test]
    fn what_is_no_benchmark_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("thesis.tex"), "precious").unwrap();
        let error = Store::open(directory.path(), manifest("one")).unwrap_err().to_string();
        assert!(error.contains("holds no benchmark"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
