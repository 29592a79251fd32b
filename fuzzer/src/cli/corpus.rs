//! `hyperfuzz corpus`: program files. All but `cmin` and `functions` do without a machine.

mod cmin;
mod functions;
mod together;

use std::path::{Path, PathBuf};

use anyhow::bail;

use super::Exit;
use crate::{
    campaign::store::{self, TEXT_EXTENSION, WIRE_EXTENSION},
    corpus::gather,
    program::{text, wire},
    report::{
        finding::printable,
        output::{self, say},
    },
};

/// The commands of `hyperfuzz corpus`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// List the programs of a directory, one per line.
    List {
        /// The directory.
        dir: PathBuf,
    },
    /// Print a program as text.
    Show {
        /// The file, text or wire.
        file: PathBuf,
    },
    /// Convert a program; the extension of OUTPUT says into what: .hf text, .hfw wire.
    Convert {
        /// The file to read, text or wire.
        input: PathBuf,
        /// The file to write; it must not exist.
        output: PathBuf,
    },
    /// Check files or directories: whether they can be read, name what exists, and fit the agent.
    Validate {
        /// Files and directories.
        #[arg(required = true)]
        paths: Vec<PathBuf>,
    },
    /// Keep a small set of programs that covers what all of them cover, in a directory of its own; nothing is deleted.
    Cmin(Box<cmin::Args>),
    /// Say which functions of the hypervisor the programs enter, and for which operation.
    Functions(Box<functions::Args>),
    /// Bring the programs of campaigns and directories together in one directory, each once.
    Merge(together::Merge),
    /// Add programs to the corpus of a campaign that is not running.
    Import(together::Import),
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::List { dir } => list(dir)?,
        Command::Show { file } => output::put(format_args!("{}", text::print(&store::load_program(file)?))),
        Command::Convert { input, output } => convert(input, output)?,
        Command::Validate { paths } => return check(paths),
        Command::Cmin(args) => return cmin::run(args),
        Command::Functions(args) => return functions::run(args),
        Command::Merge(args) => return together::merge(args),
        Command::Import(args) => return together::import(args),
    }
    Ok(Exit::Clean)
}

fn list(dir: &Path) -> anyhow::Result<()> {
    for path in store::program_files(dir)? {
        let program = store::load_program(&path)?;
        let names: Vec<_> = program.calls.iter().map(|call| call.op.operation().name).collect();
        let file = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        say!("{file}  {:>2} calls  {}", program.calls.len(), names.join(", "));
    }
    Ok(())
}

fn convert(input: &Path, output: &Path) -> anyhow::Result<()> {
    let program = store::load_program(input)?;
    let content = match output.extension().and_then(|e| e.to_str()) {
        Some(TEXT_EXTENSION) => text::print(&program).into_bytes(),
        Some(WIRE_EXTENSION) => wire::encode(&program)?,
        _ => bail!("{}: name it .{TEXT_EXTENSION} for text or .{WIRE_EXTENSION} for wire", output.display()),
    };
    if output.exists() {
        bail!("{} exists; it is not overwritten", output.display());
    }
    Ok(store::write_atomically(output, &content)?)
}

fn check(paths: &[PathBuf]) -> anyhow::Result<Exit> {
    let files = program_files(paths)?;
    let problems: Vec<_> = files.iter().filter_map(|path| gather::load(path).err()).collect();
    problems.iter().for_each(|problem| say!("{}", printable(problem)));
    say!("{} programs, {} with problems", files.len(), problems.len());
    Ok(if problems.is_empty() { Exit::Clean } else { Exit::Failed })
}

/// Files, and the program files of directories.
///
/// # Errors
/// A directory that cannot be read, or is a campaign.
fn program_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let found = store::program_files(path)?;
            if found.is_empty() && path.join("campaign.json").exists() {
                bail!("{0} is a campaign; its programs are in {0}/corpus and {0}/findings", path.display());
            }
            files.extend(found);
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}
