//! Findings as they lie in their directories, for commands that run them again.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use super::examine::DATA;
use crate::{target::Target, triage::bucket::Bucket};

/// Longest description of a finding that is read, in bytes.
const MAX_FINDING: u64 = 16 << 20;

/// What a stored finding says about the program beside it.
#[derive(Debug, serde::Deserialize)]
pub struct Stored {
    /// Where it belongs.
    pub bucket: Bucket,
    /// Planted bugs that were switched on.
    pub plants: Vec<String>,
    target: String,
    /// Build of the target, in hexadecimal.
    pub build: String,
}

impl Stored {
    /// The target that it was found on.
    ///
    /// # Errors
    /// That this build does not have it.
    pub fn target(&self) -> anyhow::Result<Target> {
        target(&self.target)
    }

    /// The finding that a program belongs to, if there is one beside it.
    ///
    /// # Errors
    /// When it cannot be understood: without it the wrong bugs would be planted, and the answer would mislead.
    pub fn beside(program: &Path) -> anyhow::Result<Option<Self>> {
        let path = program.with_file_name(DATA);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let mut text = String::new();
        file.take(MAX_FINDING)
            .read_to_string(&mut text)
            .map_err(anyhow::Error::from)
            .and_then(|_| Ok(serde_json::from_str(&text)?))
            .with_context(|| {
                format!("{} is damaged; copy the program elsewhere to replay it without it", path.display())
            })
            .map(Some)
    }
}

/// The target of a finding, by its name.
///
/// # Errors
/// That this build does not have it.
pub(super) fn target(name: &str) -> anyhow::Result<Target> {
    clap::ValueEnum::from_str(name, false).map_err(|_: String| {
        anyhow::anyhow!("the finding is of target {name}, which this build does not have")
    })
}

/// The program of a finding: minimised, or as it was found where a fuzzer was stopped before it got further.
///
/// # Errors
/// That the directory is not that of a finding.
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
