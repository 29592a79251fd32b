//! The command line: one file per command, exit codes in one place.

mod bench;
mod boot;
mod ci;
mod complete;
mod corpus;
mod debugger;
mod doctor;
mod effectiveness;
mod export;
mod fuzz;
mod interface;
mod options;
mod packages;
mod regress;
mod replay;
mod report;
mod session;
mod signals;
mod smoke;
mod speed;
mod triage;
mod triage_bench;
mod worker;

use std::{io::Write, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

use crate::report::{finding::printable, output};

/// How a command ended, as scripts see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Nothing was found.
    Clean = 0,
    /// Something new was found.
    NewFinding = 1,
    /// Only what was known before was found again.
    KnownFindings = 2,
    /// hyperfuzz itself, or what it was given, failed; the message says what to do.
    Failed = 3,
    /// `boot`: the guest asked for a reboot. This and the next four are ten plus Xen's reason of a shutdown.
    GuestReboot = 11,
    /// `boot`: the guest suspended itself.
    GuestSuspend = 12,
    /// `boot`: the guest crashed, by itself or because it could not go on.
    GuestCrash = 13,
    /// `boot`: the guest's watchdog expired.
    GuestWatchdog = 14,
    /// `boot`: the guest asked for a soft reset.
    GuestSoftReset = 15,
    /// `boot`: the guest waits for something that will never happen.
    GuestBlocked = 16,
    /// `boot`: the guest ran until the time was over.
    GuestLate = 17,
    /// `boot`: Ctrl-C, as shells count it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Coverage-guided fuzzing of a hypervisor's hypercall interface, inside stock QEMU.
#[derive(Debug, Parser)]
#[command(name = "hyperfuzz", version, about, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 nothing found, 1 new finding, 2 only known findings, 3 hyperfuzz itself failed."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a campaign in a directory until Ctrl-C, or go on with the one that is there.
    Fuzz(fuzz::Args),
    /// Run a short campaign, for continuous integration.
    Smoke(smoke::Args),
    /// Run one program on a clean boot and show what each call returned.
    Replay(replay::Args),
    /// List the findings of a campaign, mark them, try them on another build, find the build that brought one.
    Triage(triage::Args),
    /// Run programs that once showed a defect again, and say which of them still fail.
    Regress(regress::Args),
    /// Run any PVH guest image in a domain of the target, with its console on standard output.
    Boot(boot::Args),
    /// List, show, convert and check program files.
    #[command(subcommand)]
    Corpus(corpus::Command),
    /// Write a program, or that of a finding, as text, in wire form, or as a guest in C.
    Export(export::Args),
    /// Print what the fuzzer knows of the hypercalls, or what a campaign did with each.
    Interface(interface::Args),
    /// Write one self-contained page about a campaign: progress, findings, operations, source coverage.
    Report(report::Args),
    /// Say what this machine has, what is missing, and what will be used.
    Doctor(doctor::Args),
    /// Measure.
    #[command(subcommand)]
    Bench(bench::Command),
    /// Write a completion script for a shell to standard output.
    Completions(complete::CompletionsArgs),
    /// Write man pages, one for each command, into a directory.
    Man(complete::ManArgs),
    /// One worker of `fuzz --cores`, which starts it.
    #[command(hide = true)]
    Worker,
}

/// The command line as data, for those who describe it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Parses the command line, runs the command, and turns errors into a message and an exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and are no failure. Clap's own code for bad usage, 2, means something
            // else here.
            let exit = if error.use_stderr() { Exit::Failed } else { Exit::Clean };
            let _ = error.print();
            return exit.into();
        }
    };
    if let Err(error) = signals::explain_lost_memory() {
        return fail(format_args!("{error:#}"));
    }
    let result = match cli.command {
        Command::Fuzz(args) => fuzz::run(args),
        Command::Smoke(args) => smoke::run(args),
        Command::Replay(args) => replay::run(&args),
        Command::Triage(args) => triage::run(&args),
        Command::Regress(args) => regress::run(&args),
        Command::Boot(args) => boot::run(&args),
        Command::Corpus(command) => corpus::run(&command),
        Command::Export(args) => export::run(&args),
        Command::Interface(args) => interface::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Bench(command) => bench::run(&command),
        Command::Completions(args) => complete::completions(&args),
        Command::Man(args) => complete::man(&args),
        Command::Worker => worker::run(),
    };
    match result {
        Ok(exit) => match output::failure() {
            None => exit.into(),
            Some(error) => fail(format_args!("cannot write to standard output: {error}")),
        },
        Err(error) => fail(format_args!("{error:#}")),
    }
}

/// The last words of a command that failed. Names of files and words of programs may be in them: they go to a terminal.
fn fail(error: std::fmt::Arguments<'_>) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {}", printable(&error.to_string()));
    Exit::Failed.into()
}
