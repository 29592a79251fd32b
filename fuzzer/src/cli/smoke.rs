//! `hyperfuzz smoke`: a bounded campaign whose last line is the verdict.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;

use super::{
    Exit,
    ci::{CiOptions, Preset},
    options::{CampaignOptions, TargetOptions, duration},
    session::{Many, Session, session},
};
use crate::{
    interface::interface,
    report::{operations, output::say},
};

/// Arguments of `hyperfuzz smoke`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Stop after this time; one minute, or that of the preset, if not given.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// Keep the campaign in this directory; without it nothing is kept unless something was found.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Seed of everything random.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// One worker for each of so many processors, for all of them, or for each in a list such as `0,2-5`.
    #[arg(long, value_name = "N|all|LIST", conflicts_with = "core")]
    cores: Option<String>,
    #[command(flatten)]
    ci: CiOptions,
    #[command(flatten)]
    campaign: CampaignOptions,
    #[command(flatten)]
    target: TargetOptions,
}

impl Args {
    /// How long the session takes.
    fn time(&self) -> Duration {
        self.time.unwrap_or_else(|| self.ci.preset.unwrap_or(Preset::Sanity).time())
    }
}

pub(super) fn run(mut args: Args) -> anyhow::Result<Exit> {
    let many = Many::wanted(args.cores.as_deref(), args.target.core, None, None)?;
    let scratch = tempfile::Builder::new()
        .prefix("hyperfuzz-smoke-")
        .tempdir()
        .context("cannot make a temporary directory; set TMPDIR to one with some space")?;
    let (dir, kept) = match &args.dir {
        Some(dir) => (dir.clone(), true),
        None => (scratch.path().join("campaign"), false),
    };
    let (target, plants) = (args.target.chosen().to_string(), args.target.plant.clone());
    let account = args.ci.account(&dir, kept, target, plants)?;
    args.campaign.known = account.known();
    let result = fuzz(&args, &dir, many);
    let written = account.write(result.as_ref());
    let mut session = match result {
        Ok(session) => session,
        Err(mut error) => {
            if let Err(also) = written {
                error = error.context(format!("{also:#}, and before that"));
            }
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
    written?;
    Ok(session.exit())
}

/// Looks for a machine, and runs the session.
fn fuzz(args: &Args, dir: &Path, many: Option<Many>) -> anyhow::Result<Session> {
    let settings = args.target.settings()?;
    session(&settings, dir, args.seed, Some(args.time()), &args.campaign, many)
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches};

    use super::*;

    fn parse(line: &str) -> Args {
        let command = Args::augment_args(clap::Command::new("smoke"));
        let matches = command.try_get_matches_from(line.split(' ')).unwrap();
        Args::from_arg_matches(&matches).unwrap()
    }

    #[test]
    fn a_preset_says_how_long_and_an_option_overrides_it() {
        for (line, seconds) in [
            ("smoke", 60),
            ("smoke --preset sanity", 60),
            ("smoke --preset nightly --dir c", 3_600),
            ("smoke --preset weekend --dir c", 48 * 3_600),
            ("smoke --preset weekend --time 90 --dir c", 90),
            ("smoke --time 2h --preset sanity", 7_200),
        ] {
            assert_eq!(parse(line).time(), Duration::from_secs(seconds), "{line}");
        }
    }
}
