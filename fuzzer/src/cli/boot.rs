//! `hyperfuzz boot`: any PVH guest image in a domain of the reference hypervisor, its console on standard output.

use std::{io::Write, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use serde_json::json;

use super::{
    Exit,
    options::{TargetOptions, duration},
    signals::stop_flag,
};
use crate::{
    engine::boot::{self, Ending, Guest},
    images,
    report::{finding::printable, live::emit, output},
    target::Target,
};

/// Least memory of a guest, in bytes.
const LEAST: u64 = 1 << 20;
/// Most memory of a guest, in bytes.
const MOST: u64 = 512 << 20;
/// Most bytes of console text that `--json` keeps.
const KEPT: usize = 1 << 20;

/// Arguments of `hyperfuzz boot`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 the guest powered off; 11 reboot, 12 suspend, 13 crash, 14 watchdog, 15 soft reset (ten \
                        plus Xen's reason); 16 it waits for ever; 17 it ran until --time; 1 the hypervisor crashed; 3 \
                        hyperfuzz failed; 130 Ctrl-C."
)]
pub(super) struct Args {
    /// The guest: an ELF file with a PVH entry note (Xen, type 18).
    image: PathBuf,
    /// Memory of the guest: a number of bytes, or one with K, M or G.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "32M")]
    memory: u64,
    /// Command line of the guest.
    #[arg(long, value_name = "TEXT", default_value = "")]
    cmdline: String,
    /// Say in the guest's start info that it is the initial domain.
    #[arg(long)]
    initial_domain: bool,
    /// Stop it after this time.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "60")]
    time: Duration,
    /// Write the result as one line of JSON instead of the console.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// Parses `33554432`, `32768K`, `32M`, `1G`.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 10),
        Some(b'M') => (&text[..text.len() - 1], 20),
        Some(b'G') => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(1 << shift));
    match bytes {
        Some(n) if n.is_multiple_of(4096) && (LEAST..=MOST).contains(&n) => Ok(n),
        _ => Err(format!("expected a multiple of 4K from {}M to {}M", LEAST >> 20, MOST >> 20)),
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    if args.cmdline.contains(['\n', '\r', '#']) || !args.cmdline.is_ascii() {
        bail!("--cmdline takes one line of ASCII without `#`");
    }
    if let Some(target) = args.target.target.filter(|target| *target != Target::ReferenceHvm) {
        bail!(
            "--target {}: a guest image brings its own kernel, which only {} runs",
            target,
            Target::ReferenceHvm
        );
    }
    let guest = Guest {
        image: images::read_elf(&args.image)?,
        memory: args.memory,
        command_line: args.cmdline.clone(),
        initial: args.initial_domain,
    };
    let settings = args.target.settings()?;
    let machine = settings.standalone();
    let stop = stop_flag()?;
    let mut kept = Vec::new();
    let report = boot::run(&machine, &guest, args.time, &stop, |text| {
        if args.json {
            kept.extend_from_slice(&text[..text.len().min(KEPT - kept.len())]);
        } else {
            output::put(format_args!("{}", String::from_utf8_lossy(text)));
        }
    })
    .with_context(|| format!("booting {}", args.image.display()))?;
    let (exit, what) = verdict(report.ending);
    if args.json {
        emit(&json!({
            "image": args.image.display().to_string(), "ended": what, "exit": exit as u8, "seconds": report.time.as_secs_f64(),
            "console": String::from_utf8_lossy(&kept), "hypervisor": report.log,
        }));
        return Ok(exit);
    }
    let mut err = std::io::stderr().lock();
    if exit != Exit::Clean {
        // Who closed standard error does not want to know.
        let _ = writeln!(err, "--- hypervisor ---\n{}", printable(&report.log));
    }
    let _ = writeln!(err, "verdict: {what}");
    Ok(exit)
}

/// Exit code and words for an ending.
fn verdict(ending: Ending) -> (Exit, &'static str) {
    match ending {
        Ending::Shutdown(0) => (Exit::Clean, "powered off"),
        Ending::Shutdown(1) => (Exit::GuestReboot, "asked for a reboot"),
        Ending::Shutdown(2) => (Exit::GuestSuspend, "suspended itself"),
        Ending::Shutdown(4) => (Exit::GuestWatchdog, "its watchdog expired"),
        Ending::Shutdown(5) => (Exit::GuestSoftReset, "asked for a soft reset"),
        Ending::Shutdown(_) => (Exit::GuestCrash, "crashed"),
        Ending::Blocked => (Exit::GuestBlocked, "waits for something that will never happen"),
        Ending::Crash => (Exit::NewFinding, "the HYPERVISOR crashed"),
        Ending::Late => (Exit::GuestLate, "ran until the time was over"),
        Ending::Stopped => (Exit::Interrupted, "interrupted"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(size("32M"), Ok(32 << 20));
        assert_eq!(size("1048576"), Ok(1 << 20));
        assert_eq!(size("2048K"), Ok(2 << 20));
        for bad in ["", "M", "1K", "1G", "1048577", "-1M", "18446744073709551615G", "all"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }
}
