//! `hyperfuzz fuzz`.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};

use super::{
    Exit,
    options::{CampaignOptions, TargetOptions, duration},
    session::{Many, session},
};
use crate::doctor::usable_cores;

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
    let many = many(&args)?;
    let session = session(&settings, &args.dir, seed, args.time, &args.campaign, many)?;
    session.print_end(&args.campaign);
    Ok(session.exit())
}

/// Several workers, if there shall be more than one, or other machines.
///
/// # Errors
/// Processors that there are not.
fn many(args: &Args) -> anyhow::Result<Option<Many>> {
    let (listen, join) = (args.listen.clone(), args.join.clone());
    let usable = usable_cores();
    let cores = match (&args.cores, args.target.core) {
        (Some(text), _) => cores(text, &usable).with_context(|| format!("--cores {text}"))?,
        (None, Some(core)) => vec![core],
        (None, None) => usable.first().copied().into_iter().collect(),
    };
    let alone = cores.len() == 1 && listen.is_none() && join.is_none();
    Ok((!alone).then_some(Many { cores, listen, join }))
}

/// Reads a number of processors, `all`, or a list of them.
fn cores(text: &str, usable: &[usize]) -> anyhow::Result<Vec<usize>> {
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
}
