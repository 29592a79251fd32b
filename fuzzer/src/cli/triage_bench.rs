//! `hyperfuzz bench triage`: how short minimised programs are, and how well buckets tell bugs apart.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::bail;
use planted_bugs::Bug;
use serde_json::json;

use super::{
    Exit,
    options::{TargetOptions, duration, seeds},
    signals::stop_flag,
};
use crate::{
    bench::{
        store::{Manifest, Store},
        triage::{
            Results, Sample,
            crashes::{self, Collection},
            hunt::{Hunt, Means, hunt},
            table,
        },
    },
    report::{
        live::{clock, emit},
        output::{self, say},
    },
};

/// The smallest precision and recall of buckets that pass.
const WANTED: f64 = 0.95;

/// Arguments of `hyperfuzz bench triage`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The benchmark's directory; made if it is not there, gone on with if it is.
    dir: PathBuf,
    /// Longest time until a planted bug is found, on a build with that bug only. The bugs are those of --plant, or all.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "600")]
    cap: Duration,
    /// Crashes of a campaign with all bugs that are judged; 0 for none.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    crashes: u32,
    /// How long that campaign runs.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "600")]
    collect: Duration,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Write the results as a line of JSON to standard output.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    // What is planted says which bugs are hunted; a target plants what each hunt needs.
    let settings = args.target.settings()?;
    let bugs: Vec<Bug> = match settings.plants() {
        [] => Bug::ALL.to_vec(),
        names => names.iter().filter_map(|name| Bug::from_name(name)).collect(),
    };
    let seeds = seeds()?;
    let means =
        Means { settings: &settings, seeds: &seeds, seed: args.seed, cap: args.cap, stop: stop_flag()? };
    let store = Store::open(&args.dir, Manifest::here(&args.target.qemu)?)?;
    let begun = Instant::now();
    let mut note = |text: &str| eprintln!("{}  {text}", clock(begun.elapsed()));
    let mut results = Results::default();
    for bug in bugs {
        match hunted(&store, bug, &means, &mut note)? {
            Some(hunt) => results.hunts.push(hunt),
            None => bail!("interrupted; the same command goes on"),
        }
    }
    if args.crashes > 0 {
        let Some(collection) = collected(&store, args, &means, &mut note)? else {
            bail!("interrupted; the same command goes on");
        };
        results.campaign = Some((collection.executions, collection.ended_badly));
        for (name, sample) in [("uniform", &collection.uniform), ("even", &collection.even)] {
            note(&format!("judging {} crashes of the {name} sample", sample.len()));
            match crashes::attribute(sample, &settings, &means.stop, &mut note)? {
                Some(attributed) => results.samples.push(Sample::new(name, &attributed)),
                None => bail!("interrupted; the same command goes on"),
            }
        }
    }
    store.write_json("results.json", &results)?;
    store.write("results.csv", table::csv(&results.hunts).as_bytes())?;
    let text = table::markdown(&results);
    store.write("results.md", text.as_bytes())?;
    Ok(conclude(&results, &text, &args.dir, args.json))
}

/// The hunt for a bug that is stored, or a new one. None if it was stopped.
fn hunted(
    store: &Store,
    bug: Bug,
    means: &Means<'_>,
    note: &mut dyn FnMut(&str),
) -> anyhow::Result<Option<Hunt>> {
    let name = format!("bugs/{}.json", bug.name());
    if let Some(stored) = store.read_json::<Hunt>(&name)? {
        let target = means.settings.target().to_string();
        if (stored.seed, &stored.target) != (means.seed, &target) {
            bail!(
                "{name} was measured with other options ({}, seed {}); use the same options, or another directory",
                stored.target,
                stored.seed
            );
        }
        // More time may find what less did not.
        if stored.found.is_some() || stored.cap_seconds >= means.cap.as_secs() {
            return Ok(Some(stored));
        }
    }
    note(&format!("hunting {}", bug.name()));
    let Some((hunt, files)) = hunt(bug, means)? else { return Ok(None) };
    match &hunt.found {
        Some(found) => note(&format!(
            "{}: {:.1} s, {} hypercalls, minimised to {}, {}",
            hunt.bug, found.seconds, found.raw, found.minimised, found.bucket
        )),
        None => note(&format!("{}: not found in {} s", hunt.bug, hunt.cap_seconds)),
    }
    for (file, content) in files.iter().flat_map(|files| &files.files) {
        store.write(&format!("bugs/{}/{file}", hunt.bug), content)?;
    }
    store.write_json(&name, &hunt)?;
    Ok(Some(hunt))
}

/// The crashes that are stored, or new ones. None if it was stopped.
fn collected(
    store: &Store,
    args: &Args,
    means: &Means<'_>,
    note: &mut dyn FnMut(&str),
) -> anyhow::Result<Option<Collection>> {
    const NAME: &str = "crashes.json";
    let target = means.settings.target().to_string();
    if let Some(stored) = store.read_json::<Collection>(NAME)? {
        let same = stored.target == target
            && stored.seed == args.seed
            && stored.seconds == args.collect.as_secs()
            && stored.wanted == args.crashes;
        if !same {
            bail!(
                "{NAME} was collected with other options ({}, seed {}, {} crashes of {} s); use the same options, or another directory",
                stored.target,
                stored.seed,
                stored.wanted,
                stored.seconds
            );
        }
        return Ok(Some(stored));
    }
    note(&format!("collecting crashes for {} s", args.collect.as_secs()));
    let collection = crashes::collect(means, args.crashes, args.collect)?;
    if let Some(collection) = &collection {
        store.write_json(NAME, collection)?;
    }
    Ok(collection)
}

/// Says what came out.
fn conclude(results: &Results, text: &str, dir: &Path, json: bool) -> Exit {
    let found = results.hunts.iter().filter(|hunt| hunt.found.is_some()).count();
    let poor = results.samples.iter().any(|sample| {
        let judgement = &sample.judgement;
        judgement.precision < WANTED || judgement.recall < WANTED
    });
    if json {
        emit(&json!({ "results": results, "dir": dir.display().to_string() }));
    } else {
        output::put(format_args!("{text}"));
        say!("\nresults: {}", dir.join("results.md").display());
        say!(
            "verdict: {found} of {} bugs found; {}",
            results.hunts.len(),
            match (results.samples.is_empty(), poor) {
                (true, _) => "buckets were not judged".to_owned(),
                (false, false) => format!("buckets have precision and recall of at least {WANTED}"),
                (false, true) => format!("buckets have a precision or recall below {WANTED}"),
            }
        );
    }
    if poor || found < results.hunts.len() { Exit::NewFinding } else { Exit::Clean }
}
