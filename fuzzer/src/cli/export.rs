//! `hyperfuzz export`: reproducers for people who do not have hyperfuzz.

use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;

use super::Exit;
use crate::{
    campaign::store::{self, write_atomically},
    program::{c, text, wire},
    report::output,
};

/// Name of the program in a finding's directory.
const PROGRAM: &str = "program.hf";
/// Name of the report in a finding's directory.
const REPORT: &str = "report.txt";

/// Arguments of `hyperfuzz export`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A program in text or wire form, or the directory of a finding.
    file: PathBuf,
    /// What to write.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Where to write it; standard output if not given. The wire form needs a file.
    #[arg(long, short, value_name = "FILE", required_if_eq("format", "wire"))]
    output: Option<PathBuf>,
}

/// What a program can be written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// One call per line.
    Text,
    /// As the fuzzer stores it.
    Wire,
    /// A guest in one file: build it with gcc, boot it under any hypervisor that takes PVH guests.
    C,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let finding = args.file.is_dir();
    let file = if finding { args.file.join(PROGRAM) } else { args.file.clone() };
    let program = store::load_program(&file)?;
    let bytes = match args.format {
        Format::Text => text::print(&program).into_bytes(),
        Format::Wire => wire::encode(&program)?,
        Format::C => {
            let about = about(finding.then(|| args.file.join(REPORT)));
            c::render(&program, &about)
                .with_context(|| format!("{} cannot be written as a guest in C", file.display()))?
                .into_bytes()
        }
    };
    match &args.output {
        Some(path) => write_atomically(path, &bytes)?,
        None => output::put(format_args!("{}", String::from_utf8_lossy(&bytes))),
    }
    Ok(Exit::Clean)
}

/// What the comment at the top of a guest says: the head of the finding's report, if there is one.
fn about(report: Option<PathBuf>) -> String {
    let mut about = "A guest that repeats what hyperfuzz found.".to_owned();
    let report = report.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    for line in report.lines().take_while(|line| !line.is_empty()) {
        about.push('\n');
        about.push_str(line);
    }
    about
}
