//! `hyperfuzz replay`: one program, on a clean boot, call by call.

use std::{
    fs::File,
    io::{ErrorKind, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde_json::json;

use super::{Exit, options::TargetOptions};
use crate::{
    campaign::store,
    engine::{Engine, Execution, build_name},
    program::text,
    report::{
        finding::{self, printable},
        live::emit,
        output::{self, say},
    },
    target::{Oracles, Target},
    triage::{
        bucket::{Bucket, Classifier},
        verify,
    },
};

/// Arguments of `hyperfuzz replay`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A program in text or wire form, or the directory of a finding.
    file: PathBuf,
    /// How often to run it; the first run is on a clean boot, the others after a reset.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Write the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Longest description of a finding that is read, in bytes.
const MAX_FINDING: u64 = 16 << 20;

/// What a stored finding says about the program beside it.
#[derive(Debug, serde::Deserialize)]
struct Stored {
    bucket: Bucket,
    plants: Vec<String>,
    target: String,
    build: String,
}

/// The finding that a program belongs to, if there is one beside it.
///
/// # Errors
/// When it cannot be understood: without it the wrong bugs would be planted, and the answer would mislead.
fn stored(program: &Path) -> anyhow::Result<Option<Stored>> {
    let path = program.with_file_name("finding.json");
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

/// The program of a finding: minimised, or as it was found where a fuzzer was stopped before it got further.
fn program_in(directory: &Path) -> anyhow::Result<PathBuf> {
    let candidates = ["program.hf", "original.hf"].map(|name| directory.join(name));
    match candidates.into_iter().find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!(
            "{} is not the directory of a finding: no program.hf in it (a campaign has them in findings/)",
            directory.display()
        ),
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let file = if args.file.is_dir() { program_in(&args.file)? } else { args.file.clone() };
    let program = store::load_program(&file)?;
    let expected = stored(&file)?;
    let mut target = args.target.clone();
    if let (true, Some(stored)) = (target.plant.is_empty(), &expected) {
        target.plant.clone_from(&stored.plants);
    }
    // One program has the time for a look at all frames.
    target.oracles.get_or_insert(Oracles::Audit);
    if let (None, Some(stored)) = (target.target, &expected) {
        target.target = Some(Target::from_str(&stored.target, false).map_err(|_| {
            anyhow::anyhow!("the finding is of target {}, which this build does not have", stored.target)
        })?);
    }
    let settings = target.settings()?;
    let classifier = Classifier::new(settings.symbols()?);
    let mut engine = settings.start()?;
    let build = build_name(&engine.build_id());
    let other_build = expected.as_ref().filter(|stored| stored.build != build);
    let mut execution = Execution::default();
    let mut buckets = Vec::new();
    let mut first = None;
    for _ in 0..args.runs {
        if !verify::run_once(&mut engine, &program, &mut execution)? {
            anyhow::bail!("{}: the program is too long for the agent", file.display());
        }
        buckets.push(classifier.classify(&program, &execution));
        first.get_or_insert_with(|| execution.clone());
    }
    drop(engine);
    let execution = first.unwrap_or_default();
    let bucket = buckets.first().cloned().flatten();
    let same = buckets.iter().filter(|b| **b == bucket).count();
    let stack = finding::stack(&classifier, &execution);
    let transcript = finding::transcript(&program, &execution);
    let summary = finding::summary(&program, &execution);
    let crash = execution.crash.as_deref().map(finding::Crash::from_record);
    let reproduced = expected.as_ref().map(|e| bucket.as_ref() == Some(&e.bucket));
    if args.json {
        emit(&json!({
            "program": text::print(&program), "bucket": bucket, "summary": summary, "transcript": transcript,
            "stack": stack, "crash": crash, "runs": args.runs, "same": same, "blocks": execution.blocks, "reproduced": reproduced,
            "build": build, "other_build": other_build.map(|stored| &stored.build),
            "console": String::from_utf8_lossy(&execution.console),
        }));
    } else {
        output::put(format_args!("{transcript}"));
        if !execution.console.is_empty() {
            say!("\nconsole\n\n{}", printable(&String::from_utf8_lossy(&execution.console)).trim_end());
        }
        if !stack.is_empty() {
            say!("\nstack of the hypervisor\n");
            stack.iter().for_each(|line| say!("  {line}"));
        }
        say!();
        if args.runs > 1 {
            say!("{same} of {} runs ended alike", args.runs);
        }
        if let Some(stored) = other_build {
            say!("the finding is of build {}; this is build {build}", stored.build);
        }
        match (&expected, reproduced) {
            (Some(e), Some(true)) => say!("reproduced: {}", e.bucket),
            (Some(e), _) => say!("NOT reproduced: {}", e.bucket),
            _ => {}
        }
        match &bucket {
            Some(bucket) => say!("verdict: {summary} [{bucket}]"),
            None => say!("verdict: {summary}"),
        }
    }
    Ok(if bucket.is_some() { Exit::NewFinding } else { Exit::Clean })
}
