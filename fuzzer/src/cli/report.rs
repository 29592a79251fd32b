//! `hyperfuzz report`: one page about a campaign, and its coverage for other tools.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::Exit;
use crate::{
    campaign::{
        operations::Record,
        store::{self, write_atomically},
    },
    coverage::{self, Map},
    images,
    report::{output, page},
    triage::{points, symbols::Symbols},
};

/// Arguments of `hyperfuzz report`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The campaign's directory. It may be going on.
    #[arg(value_name = "DIR", default_value = "campaign")]
    campaign: PathBuf,
    /// Where to write the page.
    #[arg(long, short, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    /// Also write the coverage as an lcov tracefile, for genhtml and editors.
    #[arg(long, value_name = "FILE")]
    lcov: Option<PathBuf>,
    /// What the paths of the tracefile begin with: the directory of the hypervisor's repository.
    #[arg(long, value_name = "DIR", requires = "lcov")]
    sources: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let description = store::description(&args.campaign)?;
    let map = map_of(&description.build)?;
    if map.is_none() {
        // Who closed standard error does not want to know.
        let _ = writeln!(
            std::io::stderr(),
            "note: the campaign is about build {}, and this hyperfuzz carries another one: the report has no source code",
            description.build
        );
    }
    let data = page::Data::read(&args.campaign, map.as_ref())?;
    let html = page::render(&data)?;
    write_atomically(&args.output, html.as_bytes())?;
    output::put(format_args!("{}\n", args.output.display()));
    if let Some(path) = &args.lcov {
        let map = map.context("without the build that was fuzzed there is no coverage to export")?;
        let record = Record::load(&args.campaign)?.unwrap_or_default();
        let root = args.sources.as_deref().map_or_else(String::new, prefix);
        write_atomically(path, coverage::lcov::render(&map.files(&record.covered), &root).as_bytes())?;
        output::put(format_args!("{}\n", path.display()));
    }
    Ok(Exit::Clean)
}

fn prefix(root: &Path) -> String {
    format!("{}/", root.display().to_string().trim_end_matches('/'))
}

/// The source code behind the edges of a build, if it is the one that this executable carries.
fn map_of(build: &str) -> anyhow::Result<Option<Map>> {
    if images::build().as_deref() != Some(build) {
        return Ok(None);
    }
    let symbols = Symbols::from_elf(images::HYPERVISOR)?;
    Ok(Some(Map::new(&points::read(images::HYPERVISOR)?, &symbols)))
}
