//! `hyperfuzz fuzz`.

use std::{path::PathBuf, time::Duration};

use super::{
    Exit,
    options::{CampaignOptions, TargetOptions, duration},
    session::{Many, session},
};
/// Arguments of `hyperfuzz fuzz`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The campaign's directory; made if it is not there, gone on with if it is.
    #[arg(default_value = "campaign")]
    dir: PathBuf,
    /// Stop after this time: 90, 15m, 2h, 1d.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// Seed of everything random; from the clock if not given. A campaign that is resumed keeps its own.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// One worker for each of so many processors, for all of them, or for each in a list such as `0,2-5`.
    #[arg(long, value_name = "N|all|LIST", conflicts_with = "core")]
    cores: Option<String>,
    /// Let the same campaign on other machines join, at this address; programs and findings are shared. There is no
    /// authentication: only on networks that are trusted.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Join the campaign of another machine.
    #[arg(long, value_name = "HOST:PORT")]
    join: Option<String>,
    #[command(flatten)]
    campaign: CampaignOptions,
    #[command(flatten)]
    target: TargetOptions,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let seed = args.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() as u64
    });
    let settings = args.target.settings()?;
    let many = Many::wanted(args.cores.as_deref(), args.target.core, args.listen, args.join)?;
    let session = session(&settings, &args.dir, seed, args.time, &args.campaign, many)?;
    session.print_end(&args.campaign);
    Ok(session.exit())
}
