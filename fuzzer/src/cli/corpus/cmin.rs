//! `hyperfuzz corpus cmin`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::ValueEnum;
use serde_json::json;

use crate::{
    campaign::store,
    cli::{Exit, options::TargetOptions},
    corpus::{distill, gather},
    report::{finding::printable, live::emit, output::say, steps::Steps},
    target::Target,
    triage::bucket::Classifier,
};

/// Arguments of `hyperfuzz corpus cmin`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A campaign, or a directory of programs. Of a campaign, target and planted bugs are those that it has.
    dir: PathBuf,
    /// Where the programs that are kept are copied to: a directory that is empty or not there; DIR/distilled, if not given.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Write the result as a line of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let output = args.output.clone().unwrap_or_else(|| args.dir.join("distilled"));
    if std::fs::read_dir(&output).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} is not empty; choose another directory with --output", output.display());
    }
    let files = gather::programs_of(std::slice::from_ref(&args.dir))?;
    let programs = files
        .iter()
        .map(|file| gather::load(file).map_err(anyhow::Error::msg))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let settings = target(&args.dir, &args.target)?.settings()?;
    let classifier = Classifier::new(settings.symbols()?);
    let mut engine = settings.start()?;
    let mut steps = Steps::new("programs executed", files.len(), args.json);
    let distilled = distill::distill(&mut engine, &classifier, &programs, &mut |done| steps.show(done));
    steps.end();
    drop(engine);
    let distilled = distilled?;
    let kept: Vec<&Path> = distilled.kept.iter().map(|index| files[*index].as_path()).collect();
    gather::copy(&kept, &output)?;
    if args.json {
        let bad: Vec<_> = distilled
            .bad
            .iter()
            .map(|(index, bucket)| json!({ "file": files[*index].display().to_string(), "bucket": bucket }))
            .collect();
        emit(&json!({
            "dir": output.display().to_string(), "programs": files.len(), "kept": kept.len(), "edges": distilled.edges,
            "hypercalls_before": distilled.hypercalls_before, "hypercalls": distilled.hypercalls, "left_out": bad,
        }));
        return Ok(Exit::Clean);
    }
    for (index, bucket) in &distilled.bad {
        say!("left out {}: ends as {bucket}", printable(&files[*index].display().to_string()));
    }
    say!(
        "{} of {} programs kept, {} of {} hypercalls, all of {} edges; they are in {}",
        kept.len(),
        files.len(),
        distilled.hypercalls,
        distilled.hypercalls_before,
        distilled.edges,
        output.display()
    );
    say!("  fuzz from them: hyperfuzz fuzz NEW --corpus {}", output.display());
    Ok(Exit::Clean)
}

/// The options, with those of the campaign where they were not given.
pub(super) fn target(dir: &Path, options: &TargetOptions) -> anyhow::Result<TargetOptions> {
    let mut options = options.clone();
    if dir.join("campaign.json").exists() {
        let description = store::description(dir)?;
        if options.target.is_none() {
            options.target = Some(Target::from_str(&description.target, false).map_err(|_| {
                anyhow::anyhow!(
                    "the campaign is about {}, which this build does not have",
                    description.target
                )
            })?);
        }
        if options.plant.is_empty() {
            options.plant = description.plants;
        }
    }
    Ok(options)
}
