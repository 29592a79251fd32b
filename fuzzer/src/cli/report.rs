//! `hyperfuzz report`: one page about a campaign, and its coverage for other tools.

use std::{
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::Context;

use super::{Exit, signals::stop_flag};
use crate::{
    campaign::{operations::Record, store::write_atomically},
    coverage,
    report::{
        output::{self, say},
        page::{self, Reader},
        serve::Live,
    },
};

/// Where the page is served unless another address is given.
const ADDRESS: &str = "127.0.0.1:8080";

/// Arguments of `hyperfuzz report`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The campaign's directory. It may be going on.
    #[arg(value_name = "DIR", default_value = "campaign")]
    campaign: PathBuf,
    /// Where to write the page.
    #[arg(long, short, value_name = "FILE", default_value = "report.html")]
    output: PathBuf,
    /// Write no file, but serve the page to browsers on this machine, where it keeps itself up to date, until Ctrl-C.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        num_args = 0..=1,
        default_missing_value = ADDRESS,
        value_parser = loopback,
        conflicts_with_all = ["output", "lcov"]
    )]
    live: Option<SocketAddr>,
    /// Also write the coverage as an lcov tracefile, for genhtml and editors.
    #[arg(long, value_name = "FILE")]
    lcov: Option<PathBuf>,
    /// What the paths of the tracefile begin with: the directory of the hypervisor's repository.
    #[arg(long, value_name = "DIR", requires = "lcov")]
    sources: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut reader = Reader::new(&args.campaign);
    let data = reader.read()?;
    if reader.map().is_none() {
        // Who closed standard error does not want to know.
        let _ = writeln!(
            std::io::stderr(),
            "note: the campaign is about build {}, and this hyperfuzz carries another one: the report has no source code",
            data.campaign.build
        );
    }
    if let Some(address) = args.live {
        return serve(address, &mut reader);
    }
    let html = page::render(&data.campaign.target, &serde_json::to_string(&data)?, None);
    write_atomically(&args.output, html.as_bytes())?;
    output::put(format_args!("{}\n", args.output.display()));
    if let Some(path) = &args.lcov {
        let map = reader.map().context("without the build that was fuzzed there is no coverage to export")?;
        let record = Record::load(&args.campaign)?.unwrap_or_default();
        let root = args.sources.as_deref().map_or_else(String::new, prefix);
        write_atomically(path, coverage::lcov::render(&map.files(&record.covered), &root).as_bytes())?;
        output::put(format_args!("{}\n", path.display()));
    }
    Ok(Exit::Clean)
}

/// Serves the page until Ctrl-C.
fn serve(address: SocketAddr, reader: &mut Reader) -> anyhow::Result<Exit> {
    let stop = stop_flag()?;
    let live = Live::bind(address)?;
    say!("http://{}/ until Ctrl-C", live.address());
    live.run(reader, &stop)?;
    Ok(Exit::Clean)
}

/// Reads an address of this machine that no other machine reaches.
///
/// # Errors
/// What is expected.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let text = text.replace("localhost", &Ipv4Addr::LOCALHOST.to_string());
    match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        Ok(_) => {
            Err("only this machine itself is served: 127.0.0.1 or [::1]; from others use `ssh -L`".into())
        }
        Err(_) => Err(format!("expected an address and a port, such as {ADDRESS}; DIR stands before --live")),
    }
}

fn prefix(root: &Path) -> String {
    format!("{}/", root.display().to_string().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_this_machine_are_served() {
        assert_eq!(loopback("localhost:0"), loopback("127.0.0.1:0"));
        assert!(loopback("[::1]:8080").is_ok());
        for (bad, word) in [
            ("0.0.0.0:80", "ssh -L"),
            ("192.0.2.1:80", "ssh -L"),
            ("campaign", "before --live"),
            ("8080", "such as"),
        ] {
            assert!(loopback(bad).unwrap_err().contains(word), "{bad}");
        }
    }
}
