//! `hyperfuzz corpus merge` and `hyperfuzz corpus import`.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::json;

use crate::{
    campaign::store::Store,
    cli::Exit,
    corpus::gather::{self, Taken},
    report::{finding::printable, live::emit, output::say, steps::Steps},
    target::Target,
};

/// Arguments of `hyperfuzz corpus merge`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Merge {
    /// The directory of programs to merge into; made if it is not there.
    out: PathBuf,
    /// Campaigns and directories of programs.
    #[arg(required = true)]
    from: Vec<PathBuf>,
    /// Write the result as a line of JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `hyperfuzz corpus import`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Import {
    /// The campaign; no fuzzer may be running in it.
    dir: PathBuf,
    /// Programs in text or wire form, and directories of them.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Write the result as a line of JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn merge(args: &Merge) -> anyhow::Result<Exit> {
    let files = gather::programs_of(&args.from)?;
    let mut steps = Steps::new("programs read", files.len(), args.json);
    let taken = gather::merge(&args.out, &files, &mut |done| steps.show(done));
    steps.end();
    Ok(conclude(&taken?, &args.out.display().to_string(), args.json))
}

pub(super) fn import(args: &Import) -> anyhow::Result<Exit> {
    let files = super::program_files(&args.files)?;
    let mut store = Store::amend(&args.dir)?;
    let name = &store.description().target;
    let target = Target::from_str(name, false)
        .map_err(|_| anyhow::anyhow!("{}: target {name} is none that this build has", args.dir.display()))?;
    let mut steps = Steps::new("programs read", files.len(), args.json);
    let taken = gather::import(&mut store, target.interface(), &files, &mut |done| steps.show(done));
    steps.end();
    Ok(conclude(&taken?, &args.dir.join("corpus").display().to_string(), args.json))
}

/// Says what came of it.
fn conclude(taken: &Taken, place: &str, json: bool) -> Exit {
    let Taken { added, known, refused } = taken;
    if json {
        emit(&json!({ "dir": place, "added": added, "known": known, "refused": refused }));
    } else {
        refused.iter().for_each(|why| say!("refused {}", printable(why)));
        say!("{added} programs added to {place}, {known} were there, {} refused", refused.len());
    }
    if refused.is_empty() { Exit::Clean } else { Exit::Failed }
}
