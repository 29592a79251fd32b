//! What `smoke` does for continuous integration: presets, baselines, and the files that it leaves.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::ValueEnum;

use super::session::Session;
use crate::{
    campaign::{
        baseline::{Baseline, Known},
        store,
    },
    report::ci::{Item, Outcome, Outputs, writable},
    triage::bucket::Bucket,
};

/// How long, for what purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Preset {
    /// One minute, for every change.
    Sanity,
    /// One hour; goes on with the campaign in `--dir`.
    Nightly,
    /// Two days; goes on with the campaign in `--dir`.
    Weekend,
}

impl Preset {
    /// How long a session takes.
    pub(super) fn time(self) -> Duration {
        Duration::from_secs(match self {
            Self::Sanity => 60,
            Self::Nightly => 3_600,
            Self::Weekend => 2 * 86_400,
        })
    }

    /// Whether the campaign is gone on with, and has to have a directory.
    fn resumes(self) -> bool {
        self != Self::Sanity
    }
}

/// Options for continuous integration.
#[derive(Debug, clap::Args)]
pub(super) struct CiOptions {
    /// Settings for a purpose; options that are given go before them.
    #[arg(long, value_name = "NAME")]
    pub(super) preset: Option<Preset>,
    #[command(flatten)]
    outputs: Outputs,
    /// Findings that are known, and do not count as new: a bucket in each line, `#` for comments, or JSON.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Add what was found to a baseline; it may be the same file, and is made if it is not there.
    #[arg(long, value_name = "FILE")]
    write_baseline: Option<PathBuf>,
}

/// A session as its reports will tell of it.
pub(super) struct Account<'a> {
    options: &'a CiOptions,
    baseline: Baseline,
    dir: &'a Path,
    /// Findings that the campaign had before.
    before: BTreeSet<Bucket>,
    began: Instant,
    target: String,
    plants: Vec<String>,
}

impl CiOptions {
    /// Looks at everything that could be wrong with the options, before any time is spent.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn account<'a>(
        &'a self,
        dir: &'a Path,
        kept: bool,
        target: String,
        plants: Vec<String>,
    ) -> anyhow::Result<Account<'a>> {
        if let Some(preset) = self.preset.filter(|preset| preset.resumes() && !kept) {
            let name =
                preset.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
            bail!("--preset {name} goes on with a campaign from run to run; say with --dir where it is kept");
        }
        self.outputs.check()?;
        if let Some(path) = &self.write_baseline {
            writable(path).with_context(|| format!("--write-baseline {}", path.display()))?;
            // To learn after the session that it is none would be late.
            Baseline::read(path).context("--write-baseline")?;
        }
        let baseline = match &self.baseline {
            None => Baseline::default(),
            Some(path) => match Baseline::read(path).context("--baseline")? {
                Some(baseline) => baseline,
                None if self.write_baseline.as_ref() == Some(path) => Baseline::default(),
                None => bail!(
                    "--baseline {}: there is no such file; --write-baseline with the same name makes it",
                    path.display()
                ),
            },
        };
        let before = store::findings(dir)?.into_keys().collect();
        Ok(Account { options: self, baseline, dir, before, began: Instant::now(), target, plants })
    }
}

impl Account<'_> {
    /// Buckets of the baseline.
    pub(super) fn known(&self) -> BTreeSet<Bucket> {
        self.baseline.buckets()
    }

    /// Writes the reports about a session, or about what is there of one that failed.
    ///
    /// # Errors
    /// The first file that cannot be written; the others are.
    pub(super) fn write(&self, result: Result<&Session, &anyhow::Error>) -> anyhow::Result<()> {
        let outcome = self.outcome(result);
        let written = self.options.outputs.write(&outcome);
        let added = self.options.write_baseline.as_deref().map_or(Ok(()), |path| {
            let known = |item: Item| Known {
                place: item.source_line(),
                summary: Some(item.summary),
                bucket: item.bucket,
            };
            Baseline::add(path, outcome.findings.into_iter().map(known).collect())
        });
        written.and(added)
    }

    fn outcome(&self, result: Result<&Session, &anyhow::Error>) -> Outcome {
        let about = store::description(self.dir).ok();
        let (new, again): (BTreeSet<_>, Vec<_>) = match result {
            Ok(session) => (
                session.findings.iter().map(|(bucket, _)| bucket.clone()).collect(),
                session.known_again().cloned().collect(),
            ),
            // It has taken its counters with it, but what it had found is stored.
            Err(_) => {
                let found = store::findings(self.dir).unwrap_or_default().into_keys();
                let new =
                    |bucket: &Bucket| !self.before.contains(bucket) && self.baseline.get(bucket).is_none();
                (found.filter(new).collect(), Vec::new())
            }
        };
        let times = |bucket: &Bucket| match result {
            Ok(session) => session.statistics.crashes.get(bucket).copied().unwrap_or_default(),
            Err(_) => 0,
        };
        let item = |bucket: &Bucket, known| {
            Item::new(self.dir, bucket, known, self.baseline.get(bucket), times(bucket))
        };
        let new = new.iter().map(|bucket| item(bucket, false));
        let findings = new.chain(again.iter().map(|bucket| item(bucket, true))).collect();
        Outcome {
            target: self.target.clone(),
            build: about.map(|about| about.build),
            plants: self.plants.clone(),
            time: result.map_or_else(|_| self.began.elapsed(), Session::elapsed),
            figures: result.ok().map(Session::figures),
            findings,
            failure: result.err().map(|error| format!("{error:#}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> CiOptions {
        CiOptions { preset: None, outputs: Outputs::default(), baseline: None, write_baseline: None }
    }

    #[test]
    fn presets_that_go_on_need_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let with = |preset, kept| {
            let options = CiOptions { preset: Some(preset), ..options() };
            options.account(dir.path(), kept, String::new(), Vec::new()).map(|_| ())
        };
        assert!(with(Preset::Sanity, false).is_ok());
        for preset in [Preset::Nightly, Preset::Weekend] {
            assert!(with(preset, true).is_ok());
            assert!(with(preset, false).unwrap_err().to_string().contains("--dir"));
        }
    }

    #[test]
    fn a_baseline_that_is_missing_is_made_where_it_is_to_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known.txt");
        let options = CiOptions { baseline: Some(path.clone()), ..options() };
        let account = |options: &CiOptions| {
            options.account(dir.path(), true, String::new(), Vec::new()).map(|account| account.known())
        };
        assert!(account(&options).unwrap_err().to_string().contains("no such file"));
        let options = CiOptions { write_baseline: Some(path), ..options };
        assert_eq!(account(&options).unwrap(), BTreeSet::new());
    }

    #[test]
    fn a_session_that_failed_is_told_of_with_what_it_had_stored() {
        let dir = tempfile::tempdir().unwrap();
        let campaign = dir.path().join("c");
        let finding = |name: &str| {
            let finding = campaign.join("findings").join(name);
            std::fs::create_dir_all(&finding).unwrap();
            std::fs::write(finding.join("report.txt"), "what happened").unwrap();
        };
        finding("fault-old-01");
        let known = dir.path().join("known.txt");
        std::fs::write(&known, "fault-listed-02\n").unwrap();
        let options = CiOptions {
            outputs: Outputs { junit: Some(dir.path().join("j.xml")), ..Outputs::default() },
            baseline: Some(known.clone()),
            write_baseline: Some(known.clone()),
            ..options()
        };
        let account = options.account(&campaign, true, "reference-pv".into(), Vec::new()).unwrap();
        ["fault-listed-02", "fault-new-03"].into_iter().for_each(finding);
        account.write(Err(&anyhow::anyhow!("the disk is full"))).unwrap();
        let xml = std::fs::read_to_string(dir.path().join("j.xml")).unwrap();
        assert!(xml.contains("fault-new-03") && xml.contains("the disk is full"), "{xml}");
        assert!(!xml.contains("fault-old-01") && !xml.contains("fault-listed-02"), "{xml}");
        let known = std::fs::read_to_string(known).unwrap();
        assert!(known.contains("fault-new-03") && !known.contains("fault-old-01"), "{known}");
    }
}
