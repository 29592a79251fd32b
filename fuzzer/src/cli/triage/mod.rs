//! `hyperfuzz triage`: what a campaign has found, and what came of it.

mod again;
mod interactive;
mod screen;

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::Exit;
use crate::{
    campaign::{
        examine::{DATA, REPORT},
        findings::{
            self, Entry,
            mark::{MAX_NOTE, Status},
        },
        json,
    },
    report::{
        finding::printable,
        findings::{data, head, table},
        live::emit,
        output::{self, say},
    },
};

/// Arguments of `hyperfuzz triage`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The campaign's directory. It may be going on.
    #[arg(default_value = "campaign")]
    dir: PathBuf,
    /// Write results as lines of JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the findings, those to look at first at the top; what `triage` does by itself where it cannot ask for keys.
    List,
    /// Show the report of a finding, when it was seen, and its mark.
    Show {
        /// The name of a bucket, or the beginning of it.
        bucket: String,
    },
    /// Say what a finding is taken for.
    Mark {
        /// The name of a bucket, or the beginning of it.
        bucket: String,
        /// Findings of any status are known to `fuzz`, but for one that is fixed: if it is met again, it is a new finding.
        status: Status,
        /// Why; the note that there is stays if none is given.
        #[arg(long, value_name = "TEXT", value_parser = note)]
        note: Option<String>,
    },
    /// Repeat the programs of findings on clean boots, of this build or of another one.
    Verify(again::VerifyArgs),
    /// Find the first of many builds in which a finding is there, or is not there any more.
    Bisect(again::BisectArgs),
}

/// Takes a line of text.
fn note(text: &str) -> Result<String, String> {
    if text.len() > MAX_NOTE {
        return Err(format!("expected at most {MAX_NOTE} bytes"));
    }
    Ok(text.to_owned())
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut entries = findings::read(&args.dir)?;
    if args.command.is_none() && !args.json && interactive::is_possible() {
        interactive::run(&format!("findings of {}", args.dir.display()), &mut entries)?;
        return Ok(Exit::Clean);
    }
    match args.command.as_ref().unwrap_or(&Command::List) {
        Command::List if args.json => entries.iter().for_each(|entry| emit(&data(entry))),
        Command::List => output::put(format_args!("{}", table(&entries))),
        Command::Show { bucket } => show(findings::find(&entries, bucket)?, args.json)?,
        Command::Mark { bucket, status, note } => {
            mark(findings::find(&entries, bucket)?.clone(), *status, note.clone(), args.json)?;
        }
        Command::Verify(verify) => return again::verify(&entries, verify, args.json),
        Command::Bisect(bisect) => return again::bisect(&entries, bisect, args.json),
    }
    Ok(Exit::Clean)
}

fn show(entry: &Entry, json: bool) -> anyhow::Result<()> {
    if json {
        let finding: Option<Value> = json::read(&entry.directory.join(DATA))?;
        let Value::Object(mut all) = data(entry) else { bail!("a finding without fields") };
        all.insert("finding".into(), json!(finding));
        emit(&all);
        return Ok(());
    }
    output::put(format_args!("{}", printable(&finding_text(entry)?)));
    Ok(())
}

/// What is known of a finding, and its report.
fn finding_text(entry: &Entry) -> anyhow::Result<String> {
    let path = entry.directory.join(REPORT);
    let report = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(format!("{}\n{}", head(entry), String::from_utf8_lossy(&report)))
}

fn mark(mut entry: Entry, status: Status, note: Option<String>, json: bool) -> anyhow::Result<()> {
    entry.mark = entry.mark.by_hand(status, note);
    entry.mark.store(&entry.directory)?;
    if json {
        emit(&data(&entry));
    } else {
        say!("{}: {status}", entry.stored.bucket);
    }
    Ok(())
}
