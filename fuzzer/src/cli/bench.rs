//! `hyperfuzz bench`: measurements, as ratios of one run.

use super::{
    Exit, effectiveness,
    speed::{self, Speed},
    triage_bench,
};

/// The commands of `hyperfuzz bench`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Executions and hypercalls per second of the engine and of the fuzzer, against the ceiling: the same programs repeated
    /// inside the guest without host and without reset. Where the time goes, what a reset costs, how much memory it takes.
    Speed(Box<Speed>),
    /// How soon the fuzzer, and lesser ones on the same engine, find planted bugs.
    Effectiveness(Box<effectiveness::Args>),
    /// How short the programs are that triage leaves of planted bugs, and how well its buckets tell the bugs apart.
    Triage(Box<triage_bench::Args>),
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Speed(args) => speed::run(args),
        Command::Effectiveness(args) => effectiveness::run(args),
        Command::Triage(args) => triage_bench::run(args),
    }
}
