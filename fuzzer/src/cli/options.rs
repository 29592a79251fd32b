//! Options that several commands share.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use include_dir::{Dir, include_dir};

use crate::{
    campaign::{check::Every, findings::Stored, runner::Care, store},
    engine::{
        version::{self, Reset},
        xen,
    },
    images::Image,
    program::{Program, model::CALLS, text},
    target::{Oracles, Settings, Target},
    triage::{bucket::Bucket, verify},
};

/// One well-formed call per sub-operation, as the repository has them.
static SEEDS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../corpora/seeds");
/// What campaigns on Xen itself start from beside them.
static XEN_SEEDS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../corpora/xen");

/// What is fuzzed, and with which machine.
#[derive(Clone, Debug, Args)]
pub(super) struct TargetOptions {
    /// What to fuzz; reference-hvm, or the target of the finding that is replayed, if not given.
    #[arg(long, value_name = "NAME")]
    pub(super) target: Option<Target>,
    /// Planted bugs to switch on, separated by commas: a test of the fuzzer, not of the hypervisor.
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(super) plant: Vec<String>,
    /// What the hypervisor looks at after each call; `replay` audits, the others do not, if not given.
    #[arg(long, value_name = "WHAT")]
    pub(super) oracles: Option<Oracles>,
    /// The QEMU to use.
    #[arg(long, value_name = "PATH", default_value_os_t = version::default_binary())]
    pub(super) qemu: PathBuf,
    /// How the machine is reset before each program: in QEMU's process, which takes microseconds, or by `loadvm`, which takes many
    /// milliseconds and works with any QEMU that has plugins; the faster one that works, if not given.
    #[arg(long, value_name = "HOW")]
    pub(super) reset: Option<Reset>,
    /// The processor that the fuzzer and its QEMU share; the first that this process may use, if not given.
    #[arg(long, value_name = "N")]
    pub(super) core: Option<usize>,
    /// Another build of the reference hypervisor, an ELF file, instead of the one that this executable carries.
    #[arg(long = "image", value_name = "PATH")]
    pub(super) hypervisor: Option<PathBuf>,
    /// Image of Xen for the targets that have it, compressed or not; the newest that is installed or was unpacked, if not given.
    #[arg(long, value_name = "PATH")]
    pub(super) xen: Option<PathBuf>,
    /// Further words for Xen's command line.
    #[arg(long, value_name = "WORDS", default_value = "", allow_hyphen_values = true)]
    pub(super) xen_args: String,
    /// Install missing packages of the distribution. Xen's is only unpacked, into this user's directory for caches.
    #[arg(long)]
    pub(super) install: bool,
}

/// What holds where nothing is said on the command line.
impl Default for TargetOptions {
    fn default() -> Self {
        Self {
            target: None,
            plant: Vec::new(),
            oracles: None,
            qemu: version::default_binary(),
            reset: None,
            core: None,
            hypervisor: None,
            xen: None,
            xen_args: String::new(),
            install: false,
        }
    }
}

impl TargetOptions {
    /// What to fuzz.
    pub(super) fn chosen(&self) -> Target {
        self.target.unwrap_or(Target::ReferenceHvm)
    }

    /// Checks the machine, installs what is missing if that was asked for, and says what to start.
    ///
    /// # Errors
    /// What is missing, and how to get it.
    pub(super) fn settings(&self) -> anyhow::Result<Settings> {
        super::doctor::require(&self.qemu, self.install)?;
        let settings = Settings::new(self.chosen(), &self.plant, &self.qemu, self.core)?;
        let settings = match self.reset {
            Some(reset) => settings.with_reset(reset),
            None => settings,
        };
        let settings = match &self.hypervisor {
            Some(path) => settings.with_image(Image::read(path)?)?,
            None => settings,
        };
        let xen = self.chosen().xen_guest().is_some();
        if xen && !self.plant.is_empty() {
            bail!(
                "--plant: the bugs are planted in the reference hypervisor, and {} has none",
                self.chosen()
            );
        }
        if xen && self.install && self.xen.is_none() && xen::installed().is_none() {
            super::packages::unpack_xen()?;
        }
        settings
            .with_oracles(self.oracles.unwrap_or_default())
            .with_xen_words(&self.xen_args)
            .with_xen(self.xen.as_deref())
    }

    /// The options to repeat a finding with: its target and its planted bugs, unless others are named, and a look at all frames, for which
    /// one program has the time.
    ///
    /// # Errors
    /// When this build does not have the finding's target.
    pub(super) fn repeating(&self, stored: Option<&Stored>) -> anyhow::Result<Self> {
        let mut options = self.clone();
        options.oracles.get_or_insert(Oracles::Audit);
        if let Some(stored) = stored {
            if options.plant.is_empty() {
                options.plant.clone_from(&stored.plants);
            }
            if options.target.is_none() {
                options.target = Some(stored.target()?);
            }
        }
        Ok(options)
    }
}

/// How a campaign begins and ends.
#[derive(Clone, Debug, Args)]
pub(super) struct CampaignOptions {
    /// Stop after this many executions.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) execs: Option<u64>,
    /// What a new campaign starts from: `empty`, `seeds`, or a directory of programs.
    #[arg(long, value_name = "empty|seeds|DIR", default_value = "seeds")]
    pub(super) corpus: String,
    /// Stop at the first confirmed finding.
    #[arg(long)]
    pub(super) until_finding: bool,
    /// Most calls in a generated program.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=CALLS as i64))]
    pub(super) max_calls: u16,
    /// Write events as lines of JSON to standard output.
    #[arg(long)]
    pub(super) json: bool,
    /// Execute the program again on a freshly booted machine and compare, each time after this many executions; 0 for never. If
    /// not given, as often as one or two hundredths of the time allow.
    #[arg(long, value_name = "N")]
    pub(super) check_every: Option<u64>,
    /// Runs that the reproduction rate of a finding is taken from; the first of them on a clean boot.
    #[arg(long, value_name = "N", default_value_t = verify::REPLAYS, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) replays: u32,
    /// Keep a sample of what is executed.
    #[arg(skip)]
    pub(super) sample: bool,
    /// Buckets that are known beside those that the campaign has.
    #[arg(skip)]
    pub(super) known: BTreeSet<Bucket>,
}

impl CampaignOptions {
    /// How findings and machines are looked at.
    pub(super) fn care(&self) -> Care {
        let every = self.check_every.map_or(Every::Sensible, Every::Executions);
        Care { replays: self.replays, every, sample: self.sample }
    }

    /// Whether machines are checked at all.
    pub(super) fn checks(&self) -> bool {
        self.check_every != Some(0)
    }

    /// The programs that a new campaign starts from.
    ///
    /// # Errors
    /// The first file that cannot be read or understood.
    pub(super) fn initial(&self, target: Target) -> anyhow::Result<Vec<Program>> {
        match self.corpus.as_str() {
            "empty" => Ok(Vec::new()),
            "seeds" => {
                let mut programs = seeds()?;
                if target.interface().only_domain().is_some() {
                    programs.extend(parsed(&XEN_SEEDS)?);
                }
                Ok(programs)
            }
            directory => {
                let programs = store::load_directory(directory.as_ref())
                    .context("--corpus takes `empty`, `seeds` or a directory of programs")?;
                if programs.is_empty() {
                    bail!("--corpus {directory}: no program there (files *.hf or *.hfw)");
                }
                Ok(programs)
            }
        }
    }
}

/// The seeds that this binary carries.
///
/// # Errors
/// A seed that cannot be parsed, which the tests exclude.
pub(super) fn seeds() -> anyhow::Result<Vec<Program>> {
    parsed(&SEEDS)
}

/// The programs of a folder that this binary carries.
fn parsed(folder: &'static Dir<'static>) -> anyhow::Result<Vec<Program>> {
    embedded(folder)?
        .into_iter()
        .map(|(name, source)| text::parse(source).with_context(|| format!("seed {name}")))
        .collect()
}

/// Names and texts of the programs in a directory that this binary carries, in the order of their names.
///
/// # Errors
/// One that is not text, which the tests exclude.
pub(super) fn embedded(directory: &'static Dir<'static>) -> anyhow::Result<Vec<(String, &'static str)>> {
    let mut files: Vec<_> = directory
        .files()
        .filter(|f| f.path().extension().is_some_and(|e| e == store::TEXT_EXTENSION))
        .collect();
    files.sort_by_key(|f| f.path());
    files
        .into_iter()
        .map(|file| {
            let name = file.path().display().to_string();
            let source = file.contents_utf8().with_context(|| format!("{name} is not text"))?;
            Ok((name, source))
        })
        .collect()
}

/// Parses `90`, `90s`, `15m`, `2h`, `1d`.
///
/// # Errors
/// What is expected.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, "s"),
    };
    let factor = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err("expected a number of seconds, or a number with s, m, h or d".into()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor));
    // A century of fuzzing is enough, and keeps the arithmetic of clocks away from its limits.
    match seconds {
        Some(s @ 1..=3_155_760_000) => Ok(Duration::from_secs(s)),
        _ => Err("expected between one second and a hundred years".into()),
    }
}

/// Reads a number of processors, `all`, or a list of them.
///
/// # Errors
/// What is expected, or processors that there are not.
pub(super) fn cores(text: &str, usable: &[usize]) -> anyhow::Result<Vec<usize>> {
    if text == "all" {
        return Ok(usable.to_vec());
    }
    if let Ok(count) = text.parse::<usize>() {
        if count == 0 || count > usable.len() {
            bail!("there are {} processors that this process may use", usable.len());
        }
        return Ok(usable[..count].to_vec());
    }
    let expected = "expected a number of processors, `all`, or a list such as `0,2-5`";
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) =
            first.parse().ok().zip(last.parse().ok()).filter(|(a, b)| a <= b).context(expected)?;
        for core in first..=last {
            if !usable.contains(&core) {
                bail!("processor {core} is none that this process may use");
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["", "h", "1.5h", "-1", "0", "1w", "99999999999999999999", "18446744073709551615d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn processors() {
        let of = |text| cores(text, &[0, 1, 2, 5]).map_err(|error| error.to_string());
        assert_eq!(of("all"), Ok(vec![0, 1, 2, 5]));
        assert_eq!(of("2"), Ok(vec![0, 1]));
        assert_eq!(of("5,0-2"), Ok(vec![5, 0, 1, 2]));
        assert_eq!(of("1,1"), Ok(vec![1, 1]), "two workers may share one");
        for (bad, word) in [
            ("0", "4 processors"),
            ("5", "4 processors"),
            ("3,4", "processor 3"),
            ("2-0", "list"),
            ("x", "list"),
            ("", "list"),
        ] {
            assert!(of(bad).unwrap_err().contains(word), "{bad}");
        }
    }

    #[test]
    fn every_seed_parses() {
        assert!(seeds().unwrap().len() > 20);
    }
}
