//! What a session came to, in the forms that continuous integration reads: JUnit, SARIF, and a summary in Markdown.
//!
//! [`Outcome`] is what all of them are made from.

mod junit;
mod sarif;
#[cfg(test)]
mod schemas;
mod summary;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use serde::Deserialize;

use super::finding::printable;
use crate::{
    campaign::{
        baseline::Known,
        check::Tally,
        examine::{DATA, REPORT},
        store::{read_text, write_atomically},
    },
    coverage::sources,
    triage::{
        bucket::{Bucket, SourceLine, module_of},
        verify::Reproduction,
    },
};

/// Largest file of a finding that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;

/// What a session came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Name of the target.
    pub target: String,
    /// Build of the target in hexadecimal, if the session came so far as to know it.
    pub build: Option<String>,
    /// Planted bugs that were switched on.
    pub plants: Vec<String>,
    /// How long it took.
    pub time: Duration,
    /// What was done, unless the session failed.
    pub figures: Option<Figures>,
    /// What was found, what is new first.
    pub findings: Vec<Item>,
    /// Why the session failed, if it did.
    pub failure: Option<String>,
}

/// What a session did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Programs that were executed.
    pub executions: u64,
    /// Calls that came back.
    pub calls: u64,
    /// Edges that the corpus covers, and edges that there are.
    pub edges: (usize, usize),
    /// Programs in the corpus.
    pub corpus: usize,
    /// Machines that had to be replaced.
    pub restarts: u64,
    /// Candidates that a clean boot did not confirm.
    pub unconfirmed: usize,
    /// Checks of the machine.
    pub checks: Tally,
}

/// A finding.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where it belongs.
    pub bucket: Bucket,
    /// Whether it was known before.
    pub known: bool,
    /// One line that says what happened.
    pub summary: String,
    /// Where in the sources, if that is known.
    pub place: Option<Place>,
    /// How often its program reproduced it, where that was tried.
    pub reproduction: Option<Reproduction>,
    /// The report that people read, if there is one.
    pub report: Option<String>,
    /// Executions of the session that ended in it; zero where they were not counted.
    pub times: u64,
}

/// A place in the sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Path below the repository.
    pub file: String,
    /// Line, from one on, if it is known.
    pub line: Option<u32>,
    /// Function, if it is known.
    pub function: Option<String>,
}

impl From<SourceLine> for Place {
    fn from(SourceLine { file, line, function }: SourceLine) -> Self {
        Self { file, line: (line > 0).then_some(line), function: Some(function) }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.file)?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// What is needed of a stored finding.
#[derive(Deserialize)]
struct Stored {
    summary: String,
    place: Option<SourceLine>,
    reproduction: Reproduction,
}

impl Item {
    /// A finding as a campaign's directory has it, or else a baseline. What neither knows is left out.
    #[must_use]
    pub fn new(campaign: &Path, bucket: &Bucket, known: bool, baseline: Option<&Known>, times: u64) -> Self {
        let directory = campaign.join("findings").join(bucket.name());
        let read = |name: &str| read_text(&directory.join(name), MAX_FILE).ok().flatten();
        let stored = read(DATA).and_then(|text| serde_json::from_str::<Stored>(&text).ok());
        let baseline = baseline.cloned();
        let (summary, place, reproduction) = match stored {
            Some(stored) => (Some(stored.summary), stored.place, Some(stored.reproduction)),
            None => baseline.map_or((None, None, None), |known| (known.summary, known.place, None)),
        };
        Self {
            known,
            summary: summary.map_or_else(|| bucket.to_string(), |text| one_line(&text)),
            place: place.map(Place::from).or_else(|| file_of(bucket)),
            reproduction,
            report: read(REPORT).map(|text| printable(&text)),
            times,
            bucket: bucket.clone(),
        }
    }

    /// Its place, as a baseline keeps it.
    #[must_use]
    pub fn source_line(&self) -> Option<SourceLine> {
        let Place { file, line, function } = self.place.clone()?;
        Some(SourceLine { file, line: line?, function: function.unwrap_or_default() })
    }
}

/// The file of the module that a bucket is named after. A hang has no stack, but it has an operation.
fn file_of(bucket: &Bucket) -> Option<Place> {
    let place = bucket.name().strip_prefix(bucket.kind())?.strip_prefix('-')?;
    let sources = sources::hypervisor();
    let of_module = |path: &&String| {
        let module = module_of(path).unwrap_or_default().replace('_', "-");
        place.strip_prefix(&module).is_some_and(|rest| !module.is_empty() && rest.starts_with('-'))
    };
    // `sched-op` and not `sched`.
    let file = sources.iter().filter(of_module).max_by_key(|path| module_of(path).map(str::len))?;
    Some(Place { file: file.clone(), line: None, function: None })
}

/// Text without line ends and other control characters.
fn one_line(text: &str) -> String {
    printable(text).replace(['\n', '\t'], " ").trim().to_owned()
}

impl Outcome {
    /// Findings that were not known before, or those that were.
    fn of(&self, known: bool) -> impl Iterator<Item = &Item> {
        self.findings.iter().filter(move |item| item.known == known)
    }

    /// One line that says how many of each there are.
    fn verdict(&self) -> String {
        let (new, known) = (self.of(false).count(), self.of(true).count());
        match &self.failure {
            Some(_) => format!("hyperfuzz failed after {new} new findings"),
            None => format!("{new} new, {known} known findings"),
        }
    }

    /// The exit code of the command.
    fn exit(&self) -> u8 {
        match (&self.failure, self.of(false).next(), self.of(true).next()) {
            (Some(_), _, _) => 3,
            (None, Some(_), _) => 1,
            (None, None, Some(_)) => 2,
            (None, None, None) => 0,
        }
    }
}

/// Files for continuous integration.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Outputs {
    /// Write the findings as JUnit XML, a test case for each.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Write the findings as SARIF 2.1.0, with their places in the sources.
    #[arg(long, value_name = "FILE")]
    pub sarif: Option<PathBuf>,
    /// Write a summary in Markdown, or append it to a file that is there.
    #[arg(long, value_name = "FILE")]
    pub summary: Option<PathBuf>,
}

impl Outputs {
    /// Looks whether files could be written there: to know it before an hour of fuzzing is better than after it.
    ///
    /// # Errors
    /// The first path where none can be.
    pub fn check(&self) -> anyhow::Result<()> {
        for (option, path) in
            [("--junit", &self.junit), ("--sarif", &self.sarif), ("--summary", &self.summary)]
        {
            if let Some(path) = path {
                writable(path).with_context(|| format!("{option} {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Writes the files that are wanted.
    ///
    /// # Errors
    /// The first one that cannot be written; the others are.
    pub fn write(&self, outcome: &Outcome) -> anyhow::Result<()> {
        let mut result = Ok(());
        if let Some(path) = &self.junit {
            let written =
                junit::render(outcome).and_then(|text| Ok(write_atomically(path, text.as_bytes())?));
            result = result.and(written);
        }
        if let Some(path) = &self.sarif {
            let written =
                sarif::render(outcome).and_then(|text| Ok(write_atomically(path, text.as_bytes())?));
            result = result.and(written);
        }
        if let Some(path) = &self.summary {
            result = result.and(append(path, &summary::render(outcome)));
        }
        result
    }
}

/// Whether a file can be made at a path, or is there.
///
/// # Errors
/// What stands in the way.
pub fn writable(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() {
        bail!("a directory is there");
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        bail!("there is no directory {}; make it first", parent.display());
    }
    Ok(())
}

/// Writes a file, or appends to one that is there: it may belong to others, who go on writing to it.
fn append(path: &Path, text: &str) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(write_atomically(path, text.as_bytes())?);
    }
    File::options()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot append to {}", path.display()))
}
