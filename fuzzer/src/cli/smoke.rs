//! `hyperfuzz smoke`: a short campaign whose last line is the verdict.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;

use super::{
    Exit,
    options::{CampaignOptions, TargetOptions, duration},
    session::session,
};
use crate::{
    interface::interface,
    report::{operations, output::say},
};

/// Arguments of `hyperfuzz smoke`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Stop after this time.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60")]
    time: Duration,
    /// Keep the campaign in this directory; without it nothing is kept unless something was found.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    campaign: CampaignOptions,
    #[command(flatten)]
    target: TargetOptions,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let settings = args.target.settings()?;
    let scratch = tempfile::Builder::new()
        .prefix("hyperfuzz-smoke-")
        .tempdir()
        .context("cannot make a temporary directory; set TMPDIR to one with some space")?;
    let (dir, kept) = match &args.dir {
        Some(dir) => (dir.clone(), true),
        None => (scratch.path().join("campaign"), false),
    };
    let mut session = match session(&settings, &dir, args.seed, Some(args.time), &args.campaign, None) {
        Ok(session) => session,
        Err(error) => {
            // What was found before it failed outlives it too.
            let found = std::fs::read_dir(dir.join("findings")).is_ok_and(|mut f| f.next().is_some());
            if found && !kept {
                let _ = scratch.keep();
                return Err(error.context(format!("findings so far are in {}", dir.display())));
            }
            return Err(error);
        }
    };
    if !args.campaign.json {
        say!("operations\n\n{}", operations::render(&operations::rows(interface(), &session.statistics)));
    }
    // What was found outlives the scratch directory.
    session.keep = kept || !session.findings.is_empty();
    if session.keep && args.dir.is_none() {
        let _ = scratch.keep();
    }
    session.print_end(&args.campaign);
    Ok(session.exit())
}
