//! The results as comma-separated values, and as text for people.

use std::fmt::Write;

use planted_bugs::Bug;

use super::{Results, Sample, hunt::Hunt, known};
use crate::bench::table::row;

/// Names of the columns.
const COLUMNS: [&str; 14] = [
    "bug",
    "target",
    "seed",
    "cap_seconds",
    "executions",
    "seconds",
    "bucket",
    "raw_hypercalls",
    "minimised_hypercalls",
    "shortest_known",
    "ratio",
    "reproduced",
    "runs",
    "triggers",
];

/// Hypercalls of the shortest known trigger of a hunted bug.
fn shortest(hunt: &Hunt) -> Option<usize> {
    Bug::from_name(&hunt.bug).map(known::shortest)
}

/// One row for each bug; what was not found in time has empty fields.
pub fn csv(hunts: &[Hunt]) -> String {
    let mut out = String::new();
    row(&mut out, &COLUMNS.map(str::to_owned));
    for hunt in hunts {
        let shortest = shortest(hunt);
        let known = shortest.map_or_else(String::new, |n| n.to_string());
        let mut fields = vec![
            hunt.bug.clone(),
            hunt.target.clone(),
            hunt.seed.to_string(),
            hunt.cap_seconds.to_string(),
            hunt.executions.to_string(),
        ];
        match &hunt.found {
            Some(found) => fields.extend([
                format!("{:.1}", found.seconds),
                found.bucket.clone(),
                found.raw.to_string(),
                found.minimised.to_string(),
                known,
                shortest.map_or_else(String::new, |n| format!("{:.2}", found.minimised as f64 / n as f64)),
                found.reproduction.reproduced.to_string(),
                found.reproduction.runs.to_string(),
                found.triggers.to_string(),
            ]),
            None => {
                fields.extend([const { String::new() }; 4]);
                fields.push(known);
                fields.extend([const { String::new() }; 4]);
            }
        }
        row(&mut out, &fields);
    }
    out
}

/// Everything in Markdown.
pub fn markdown(results: &Results) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = write_bugs(&mut out, &results.hunts);
    if let Some((executions, ended_badly)) = results.campaign {
        let _ = writeln!(
            out,
            "\n## Buckets\n\nA campaign with all bugs planted: {executions} executions, {ended_badly} of them ended badly."
        );
    }
    for sample in &results.samples {
        let _ = write_sample(&mut out, sample);
    }
    out
}

fn write_bugs(out: &mut String, hunts: &[Hunt]) -> std::fmt::Result {
    writeln!(
        out,
        "## Programs\n\nSizes are in hypercalls; the entries of a multicall count each.\n\n\
         | bug | found after | as found | minimised | shortest known | reproduced | bucket |\n|---|---|---|---|---|---|---|"
    )?;
    for hunt in hunts {
        let known = shortest(hunt).map_or_else(String::new, |n| n.to_string());
        match &hunt.found {
            None => {
                writeln!(out, "| {} | not in {} s | | | {known} | | |", hunt.bug, hunt.cap_seconds)?;
            }
            Some(found) => {
                let other = if found.triggers { "" } else { " (does not trigger it)" };
                writeln!(
                    out,
                    "| {} | {:.1} s | {} | {} | {known} | {}/{} | `{}`{other} |",
                    hunt.bug,
                    found.seconds,
                    found.raw,
                    found.minimised,
                    found.reproduction.reproduced,
                    found.reproduction.runs,
                    found.bucket
                )?;
            }
        }
    }
    Ok(())
}

fn write_sample(out: &mut String, sample: &Sample) -> std::fmt::Result {
    let judgement = &sample.judgement;
    writeln!(
        out,
        "\n### The {} sample\n\n{} crashes, of which {} are of one of several triggered bugs. Left out: {} of which nobody can tell \
         the bug, {} without a planted bug, {} that did not crash again.\n\n\
         Precision {:.3}, recall {:.3}, purity {:.3}; {} bugs, {} buckets.\n",
        sample.name,
        judgement.crashes,
        sample.decided,
        sample.undecided,
        sample.untriggered,
        sample.not_again,
        judgement.precision,
        judgement.recall,
        judgement.purity,
        judgement.bugs.len(),
        judgement.buckets.len(),
    )?;
    writeln!(out, "| bug | buckets, with its crashes in each |\n|---|---|")?;
    for (bug, buckets) in &judgement.bugs {
        let counts: Vec<_> = buckets
            .iter()
            .map(|bucket| {
                let crashes = judgement.buckets.get(bucket).and_then(|bugs| bugs.get(bug));
                format!("`{bucket}` {}", crashes.copied().unwrap_or(0))
            })
            .collect();
        writeln!(out, "| {bug} | {} |", counts.join(", "))?;
    }
    for (bucket, bugs) in judgement.mixed() {
        let counts: Vec<_> = bugs.iter().map(|(bug, crashes)| format!("{bug} {crashes}")).collect();
        writeln!(out, "\n`{bucket}` mixes {}.", counts.join(", "))?;
    }
    Ok(())
}
