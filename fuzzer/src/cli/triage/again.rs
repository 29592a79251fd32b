//! Findings on other builds: `triage verify` and `triage bisect`.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use serde_json::json;

use crate::{
    campaign::{
        findings::{
            self, Entry,
            mark::{Mark, Status},
        },
        store,
    },
    cli::{Exit, options::TargetOptions},
    engine::{Engine, build_name, qemu::QemuEngine},
    report::{finding::printable, live::emit, output::say},
    triage::{
        bisect::{self, Bisected},
        bucket::Classifier,
        verify::{self, Answer, Reproduction},
    },
};

/// Runs of each program.
const RUNS: u32 = 3;

/// Arguments of `hyperfuzz triage verify`.
#[derive(Debug, clap::Args)]
pub(super) struct VerifyArgs {
    /// Names of buckets, or the beginnings of them; all findings if none is given.
    buckets: Vec<String>,
    /// How often to run each program; the first run is on a clean boot, the others after a reset.
    #[arg(long, value_name = "N", default_value_t = RUNS, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Mark new and known findings that are not reproduced as fixed, and fixed ones that are as new.
    #[arg(long)]
    update: bool,
    #[command(flatten)]
    target: TargetOptions,
}

impl VerifyArgs {
    /// Those that repeat one finding and change nothing.
    pub(super) fn of(bucket: &str) -> Self {
        Self { buckets: vec![bucket.to_owned()], runs: RUNS, update: false, target: TargetOptions::default() }
    }
}

/// Arguments of `hyperfuzz triage bisect`.
#[derive(Debug, clap::Args)]
pub(super) struct BisectArgs {
    /// The name of a bucket, or the beginning of it.
    bucket: String,
    /// Images of the hypervisor, whose names sort in the order in which they were built. Files that are no ELF files are passed over.
    #[arg(value_name = "IMAGES_DIR")]
    images: PathBuf,
    /// How often to run the program on each; it is enough that one run reproduces the finding.
    #[arg(long, value_name = "N", default_value_t = RUNS, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    #[command(flatten)]
    target: TargetOptions,
}

/// A machine to repeat findings on.
struct Machine {
    /// Target and planted bugs of the findings that it is good for.
    good_for: (String, Vec<String>),
    engine: QemuEngine,
    classifier: Classifier,
}

impl Machine {
    fn start(entry: &Entry, options: &TargetOptions) -> anyhow::Result<Self> {
        let settings = options.repeating(Some(&entry.stored))?.settings()?;
        Ok(Self {
            good_for: (entry.stored.target.clone(), entry.stored.plants.clone()),
            classifier: Classifier::new(settings.symbols()?),
            engine: settings.start()?,
        })
    }

    fn is_good_for(&self, entry: &Entry) -> bool {
        let (target, plants) = &self.good_for;
        (target, plants) == (&entry.stored.target, &entry.stored.plants)
    }

    fn build(&self) -> String {
        build_name(&self.engine.build_id())
    }

    fn repeat(&mut self, entry: &Entry, runs: u32) -> anyhow::Result<(Answer, Reproduction)> {
        let program = store::load_program(&entry.program()?)?;
        Ok(verify::repeat(&mut self.engine, &self.classifier, &program, &entry.stored.bucket, runs)?)
    }
}

pub(super) fn verify(entries: &[Entry], args: &VerifyArgs, json: bool) -> anyhow::Result<Exit> {
    let named = args.buckets.iter().map(|name| findings::find(entries, name));
    let mut chosen: Vec<&Entry> = named.collect::<anyhow::Result<_>>()?;
    if args.buckets.is_empty() {
        chosen = entries.iter().collect();
    }
    let mut machine: Option<Machine> = None;
    let mut answers = Vec::new();
    for entry in chosen {
        // There is never more than one: they share a processor.
        let mut good = match machine.take().filter(|machine| machine.is_good_for(entry)) {
            Some(machine) => machine,
            None => Machine::start(entry, &args.target)?,
        };
        let (answer, reproduction) = good.repeat(entry, args.runs)?;
        let build = good.build();
        machine = Some(good);
        let mark = entry.mark.after(&answer, reproduction, &build).filter(|_| args.update);
        if let Some(mark) = &mark {
            mark.store(&entry.directory)?;
        }
        tell(entry, &answer, reproduction, &build, mark.as_ref(), json);
        answers.push((entry, answer));
    }
    if !json {
        let count = |wanted: fn(&Answer) -> bool| answers.iter().filter(|(_, answer)| wanted(answer)).count();
        say!(
            "verdict: {} reproduced, {} not reproduced, {} end in another bucket",
            count(|answer| *answer == Answer::Reproduced),
            count(|answer| *answer == Answer::Gone),
            count(|answer| matches!(answer, Answer::Other(_))),
        );
    }
    Ok(exit(entries, &answers))
}

fn tell(
    entry: &Entry,
    answer: &Answer,
    reproduction: Reproduction,
    build: &str,
    mark: Option<&Mark>,
    json: bool,
) {
    let Reproduction { reproduced, runs, .. } = reproduction;
    let bucket = &entry.stored.bucket;
    if json {
        emit(&json!({
            "bucket": bucket, "answer": answer, "reproduction": reproduction, "build": build,
            "found_in": entry.stored.build, "status": mark.unwrap_or(&entry.mark).status,
        }));
        return;
    }
    let other = if let Answer::Other(other) = answer { format!(" (in {other})") } else { String::new() };
    let marked = mark.map_or_else(String::new, |mark| format!(", now marked {}", mark.status));
    say!("{:14}  {reproduced} of {runs}  {bucket}{other}{marked}", word(answer));
}

const fn word(answer: &Answer) -> &'static str {
    match answer {
        Answer::Reproduced => "reproduced",
        Answer::Gone => "not reproduced",
        Answer::Other(_) => "other bucket",
    }
}

/// The exit code of a session that has met this.
fn exit(entries: &[Entry], answers: &[(&Entry, Answer)]) -> Exit {
    let is_known = |status| matches!(status, Status::Known | Status::FalsePositive);
    let met = answers.iter().filter_map(|(entry, answer)| match answer {
        Answer::Reproduced => Some(is_known(entry.mark.status)),
        Answer::Other(other) => {
            let entry = entries.iter().find(|entry| entry.stored.bucket == *other);
            Some(entry.is_some_and(|entry| is_known(entry.mark.status)))
        }
        Answer::Gone => None,
    });
    met.fold(Exit::Clean, |exit, known| match (exit, known) {
        (Exit::NewFinding, _) | (_, false) => Exit::NewFinding,
        _ => Exit::KnownFindings,
    })
}

pub(super) fn bisect(entries: &[Entry], args: &BisectArgs, json: bool) -> anyhow::Result<Exit> {
    let entry = findings::find(entries, &args.bucket)?;
    if args.target.hypervisor.is_some() {
        bail!("--image names one image, and `bisect` takes those of {}", args.images.display());
    }
    let images = images_in(&args.images)?;
    let name = |at: usize| {
        let name = images[at].file_name().map(|name| name.to_string_lossy().into_owned());
        printable(&name.unwrap_or_default())
    };
    let steps = bisect::steps(images.len());
    let mut step = 0;
    let found = bisect::bisect(images.len(), |at| -> anyhow::Result<bool> {
        step += 1;
        let options = TargetOptions { hypervisor: Some(images[at].clone()), ..args.target.clone() };
        let (answer, reproduction, build) = Machine::start(entry, &options)
            .and_then(|mut machine| {
                let (answer, reproduction) = machine.repeat(entry, args.runs)?;
                Ok((answer, reproduction, machine.build()))
            })
            .with_context(|| format!("{} cannot be tried; move it away to go on without it", name(at)))?;
        if json {
            emit(&json!({
                "event": "step", "image": images[at].display().to_string(), "build": build, "answer": answer,
                "reproduction": reproduction,
            }));
        } else {
            let short = build.get(..12).unwrap_or(&build);
            say!("step {step} of at most {steps}: {} (build {short}): {}", name(at), word(&answer));
        }
        Ok(answer == Answer::Reproduced)
    })?;
    let bucket = &entry.stored.bucket;
    match found {
        Bisected::Turn { at, answer } => {
            let what = if answer { "reproduces" } else { "does not reproduce" };
            if json {
                emit(&json!({
                    "event": "end", "first": images[at].display().to_string(), "before": images[at - 1].display().to_string(),
                    "reproduces": answer,
                }));
            } else {
                say!("verdict: {} is the first image that {what} {bucket}, after {}", name(at), name(at - 1));
            }
            Ok(Exit::Clean)
        }
        Bisected::Same(answer) => bail!(
            "the ends do not differ: {} and {} both {} {bucket}; add an older image that {} it, or a newer one",
            name(0),
            name(images.len() - 1),
            if answer { "reproduce" } else { "do not reproduce" },
            if answer { "does not reproduce" } else { "reproduces" },
        ),
        Bisected::TooFew => bail!(
            "{} has {} images, and there is nothing between fewer than two",
            args.images.display(),
            images.len()
        ),
    }
}

/// The ELF files of a directory, in the order of their names.
fn images_in(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let list = || format!("cannot list {}", directory.display());
    let mut images = Vec::new();
    for file in std::fs::read_dir(directory).with_context(list)? {
        let path = file.with_context(list)?.path();
        let mut magic = [0; 4];
        if path.is_file()
            && File::open(&path).and_then(|mut file| file.read_exact(&mut magic)).is_ok()
            && magic == *b"\x7fELF"
        {
            images.push(path);
        }
    }
    images.sort();
    Ok(images)
}
