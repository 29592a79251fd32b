//! `hyperfuzz interface`: what the fuzzer knows of the hypercalls, and what a campaign did with each.

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::json;

use super::Exit;
use crate::{
    campaign::{operations::Record, store},
    interface::interface,
    report::{interface as report, live::emit, output},
    target::{self, Target},
};

/// Arguments of `hyperfuzz interface`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only the operations of these families.
    #[arg(value_name = "FAMILY")]
    families: Vec<String>,
    /// What a campaign did with each operation: calls, results, and edges that were first covered by a program in which it occurs
    /// (an edge counts for each operation of that program). Entries of multicalls have no results of their own.
    #[arg(long, value_name = "DIR")]
    campaign: Option<PathBuf>,
    /// What this target knows. Without it, that of the campaign, or the reference hypervisor.
    #[arg(long)]
    target: Option<Target>,
    /// Write lines of JSON, one for each operation.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let interface = match (args.target, &args.campaign) {
        (Some(target), _) => target.interface(),
        (None, Some(dir)) => store::description(dir)
            .map_or_else(|_| interface(), |description| target::interface_of(&description.target)),
        (None, None) => interface(),
    };
    let known: Vec<&str> = interface.families().iter().map(|(family, ..)| *family).collect();
    if let Some(family) = args.families.iter().find(|family| !known.contains(&family.as_str())) {
        bail!("there is no family {family}; there are {}", known.join(", "));
    }
    let record = match &args.campaign {
        None => None,
        Some(dir) => {
            let record =
                Record::load(dir).with_context(|| format!("reading the campaign {}", dir.display()))?;
            match record {
                Some(record) => Some(record),
                None => bail!(
                    "{} holds no record of operations: it is no campaign, or one that has not run yet",
                    dir.display()
                ),
            }
        }
    };
    let entries = report::entries(interface, &args.families, record.as_ref());
    if args.json {
        entries.iter().for_each(emit);
        if let Some(record) = &record {
            emit(&json!({
                "executions": record.executions, "edges": record.covered.len(), "edges_total": record.edges_total,
            }));
        }
    } else if let Some(record) = &record {
        output::put(format_args!(
            "{}\n{} executions, {} of {} edges\n",
            report::render_campaign(&entries),
            record.executions,
            record.covered.len(),
            record.edges_total
        ));
    } else {
        output::put(format_args!("{}", report::render(&entries)));
    }
    Ok(Exit::Clean)
}
