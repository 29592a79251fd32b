//! Findings as they lie in a campaign's directory, and what is said of them there.
//!
//! `finding.json` and the files beside it are written once. [`seen`] and [`mark`] are what changes afterwards.

pub mod mark;
pub mod seen;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::{
    mark::{Mark, Status},
    seen::Seen,
};
use super::{examine::DATA, json, store};
use crate::{
    target::Target,
    triage::{bucket::Bucket, verify::Reproduction},
};

/// What `finding.json` says, as far as it is needed to list a finding and to repeat it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stored {
    /// Where it belongs.
    pub bucket: Bucket,
    /// One line that says what happened.
    pub summary: String,
    /// How often its program reproduced it.
    pub reproduction: Reproduction,
    /// Calls of its program.
    pub calls: usize,
    /// Planted bugs that were switched on.
    pub plants: Vec<String>,
    /// Name of the target.
    pub target: String,
    /// Build of the target, in hexadecimal.
    pub build: String,
}

impl Stored {
    /// The finding that a program belongs to, if there is one beside it.
    ///
    /// # Errors
    /// When it cannot be understood: without it the wrong bugs would be planted, and the answer would mislead.
    pub fn beside(program: &Path) -> anyhow::Result<Option<Self>> {
        json::read(&program.with_file_name(DATA))
            .context("the program cannot be repeated as it was found; copy it elsewhere to replay it without that file")
    }

    /// The target that it was found on.
    ///
    /// # Errors
    /// When this build does not have it.
    pub fn target(&self) -> anyhow::Result<Target> {
        target(&self.target)
    }
}

/// The target of a finding, by its name.
///
/// # Errors
/// When this build does not have it.
pub(super) fn target(name: &str) -> anyhow::Result<Target> {
    Target::from_str(name, false)
        .map_err(|_| anyhow::anyhow!("the finding is of target {name}, which this build does not have"))
}

/// A finding with what is said of it.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where its files are.
    pub directory: PathBuf,
    /// What was found.
    pub stored: Stored,
    /// What it is taken for.
    pub mark: Mark,
    /// When it was seen; none for one of a fuzzer that did not note that.
    pub seen: Option<Seen>,
}

impl Entry {
    fn read(directory: PathBuf) -> anyhow::Result<Self> {
        let path = directory.join(DATA);
        let stored = json::read(&path)?.with_context(|| format!("{} is missing", path.display()))?;
        let (mark, seen) = (Mark::load(&directory)?, Seen::load(&directory)?);
        Ok(Self { directory, stored, mark, seen })
    }

    /// The program to repeat it with: minimised, or as it was found where a fuzzer was stopped before it got further.
    ///
    /// # Errors
    /// When there is none.
    pub fn program(&self) -> anyhow::Result<PathBuf> {
        program_in(&self.directory)
    }
}

/// The findings of a campaign: those to look at first, then in the order in which they were seen. The campaign may be going on.
///
/// # Errors
/// When there is no campaign, or a file of a finding cannot be read or understood.
pub fn read(campaign: &Path) -> anyhow::Result<Vec<Entry>> {
    store::description(campaign)?;
    let found = store::findings(campaign)?.into_values();
    let mut entries = found.map(Entry::read).collect::<anyhow::Result<Vec<_>>>()?;
    let first = |entry: &Entry| entry.seen.as_ref().map_or(0, |seen| seen.all.first);
    entries.sort_by(|a, b| {
        (a.mark.status, first(a), &a.stored.bucket).cmp(&(b.mark.status, first(b), &b.stored.bucket))
    });
    Ok(entries)
}

/// The finding whose bucket has this name, or is the only one whose name begins so.
///
/// # Errors
/// When there is none, or there are several.
pub fn find<'a>(entries: &'a [Entry], name: &str) -> anyhow::Result<&'a Entry> {
    if let Some(entry) = entries.iter().find(|entry| entry.stored.bucket.name() == name) {
        return Ok(entry);
    }
    let found: Vec<&Entry> =
        entries.iter().filter(|entry| entry.stored.bucket.name().starts_with(name)).collect();
    match found.as_slice() {
        [entry] => Ok(entry),
        [] => bail!("no finding has a bucket that begins with `{name}`; `hyperfuzz triage` lists them"),
        several => {
            let names: Vec<&str> = several.iter().map(|entry| entry.stored.bucket.name()).collect();
            bail!("`{name}` may be one of {}; say more of the name", names.join(", "))
        }
    }
}

/// The program of a finding: minimised, or as it was found where a fuzzer was stopped before it got further.
///
/// # Errors
/// When the directory holds neither.
pub fn program_in(directory: &Path) -> anyhow::Result<PathBuf> {
    let candidates = ["program.hf", "original.hf"].map(|name| directory.join(name));
    match candidates.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!(
            "{} is not the directory of a finding: no program.hf in it (a campaign has them in findings/)",
            directory.display()
        ),
    }
}

/// How many findings have each status, of those that some have.
pub fn count(entries: &[Entry]) -> Vec<(Status, usize)> {
    let of = |status: &Status| entries.iter().filter(|entry| entry.mark.status == *status).count();
    Status::value_variants()
        .iter()
        .map(|status| (*status, of(status)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// A finding that nothing is known of but the name of its bucket.
#[cfg(test)]
pub(crate) fn only_named(bucket: &str) -> Entry {
    let stored = Stored {
        bucket: Bucket::from_name(bucket).unwrap(),
        summary: String::new(),
        reproduction: Reproduction { reproduced: 1, runs: 1, on_clean_boot: true },
        calls: 1,
        plants: Vec::new(),
        target: "reference-pv".into(),
        build: String::new(),
    };
    Entry { directory: PathBuf::new(), stored, mark: Mark::default(), seen: None }
}

#[cfg(test)]
mod tests {
    use super::{only_named as entry, *};

    #[test]
    fn a_bucket_is_found_by_what_is_its_alone() {
        let entries = ["fault-a-1", "fault-a-12", "hang-b-3"].map(entry);
        let name = |text| find(&entries, text).map(|entry| entry.stored.bucket.name());
        assert_eq!(name("hang").unwrap(), "hang-b-3");
        assert_eq!(
            name("fault-a-1").unwrap(),
            "fault-a-1",
            "a whole name is meant, even if another begins so"
        );
        let error = name("fault").unwrap_err().to_string();
        assert!(error.contains("fault-a-1, fault-a-12"), "{error}");
        assert!(name("panic").unwrap_err().to_string().contains("`panic`"));
    }

    #[test]
    fn only_what_there_is_is_counted() {
        let mut entries = ["a-1", "b-2", "c-3"].map(entry);
        entries[1].mark.status = Status::Fixed;
        assert_eq!(count(&entries), [(Status::New, 2), (Status::Fixed, 1)]);
    }
}
