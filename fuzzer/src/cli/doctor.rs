//! `hyperfuzz doctor`.

use std::path::{Path, PathBuf};

use anyhow::bail;
use serde_json::json;

use super::{Exit, packages};
use crate::{
    doctor::{self, Check, Verdict},
    images,
    report::{live::emit, output::say},
    target::RAM_SIZE,
};

/// Arguments of `hyperfuzz doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Install missing packages of the distribution.
    #[arg(long)]
    install: bool,
    /// The QEMU to look at.
    #[arg(long, value_name = "PATH", default_value_os_t = crate::engine::version::default_binary())]
    qemu: PathBuf,
    /// Write the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut checks = doctor::examine(&args.qemu, RAM_SIZE);
    if args.install && doctor::worst(&checks) == Verdict::Missing {
        packages::install_qemu()?;
        checks = doctor::examine(&args.qemu, RAM_SIZE);
    }
    let usable = doctor::worst(&checks) != Verdict::Missing;
    if args.json {
        let rows: Vec<_> = checks
            .iter()
            .map(|c| json!({ "name": c.name, "verdict": word(c), "found": c.found, "advice": c.advice }))
            .collect();
        emit(&json!({ "checks": rows, "usable": usable, "build": images::build() }));
    } else {
        for check in &checks {
            say!("{:8} {:18} {}", word(check), check.name, check.found);
            if let Some(advice) = check.advice {
                say!("{:27} {advice}", "");
            }
        }
        say!("verdict: {}", if usable { "this machine can fuzz" } else { "something is missing" });
    }
    Ok(if usable { Exit::Clean } else { Exit::Failed })
}

fn word(check: &Check) -> &'static str {
    match check.verdict {
        Verdict::Good => "ok",
        Verdict::Poor => "poor",
        Verdict::Missing => "MISSING",
    }
}

/// Makes sure that a machine can be started, installing what is missing if that was asked for.
///
/// # Errors
/// What is missing, and how to get it.
pub(super) fn require(qemu: &Path, may_install: bool) -> anyhow::Result<()> {
    let missing = || {
        let checks = doctor::examine(qemu, RAM_SIZE);
        checks.into_iter().find(|check| check.verdict == Verdict::Missing)
    };
    let Some(first) = missing() else { return Ok(()) };
    if may_install {
        packages::install_qemu()?;
        let Some(still) = missing() else { return Ok(()) };
        bail!("{}: {}; {}", still.name, still.found, still.advice.unwrap_or("see `hyperfuzz doctor`"));
    }
    bail!(
        "{}: {}; {} (--install does it on Debian-like systems; `hyperfuzz doctor` shows everything)",
        first.name,
        first.found,
        first.advice.unwrap_or("no advice")
    );
}
