//! `hyperfuzz completions` and `hyperfuzz man`: what shells and `man` know of the command line.

use std::path::PathBuf;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::{Cli, Exit};
use crate::{
    campaign::store::write_atomically,
    report::output::{put, say},
};

/// Arguments of `hyperfuzz completions`.
#[derive(Debug, clap::Args)]
pub(super) struct CompletionsArgs {
    /// The shell.
    shell: Shell,
}

/// Arguments of `hyperfuzz man`.
#[derive(Debug, clap::Args)]
pub(super) struct ManArgs {
    /// Where to put the pages; made if it is not there.
    dir: PathBuf,
}

pub(super) fn completions(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    let mut command = visible(&Cli::command());
    clap_complete::generate(args.shell, &mut command, env!("CARGO_PKG_NAME"), &mut script);
    put(format_args!("{}", String::from_utf8_lossy(&script)));
    Ok(Exit::Clean)
}

pub(super) fn man(args: &ManArgs) -> anyhow::Result<Exit> {
    std::fs::create_dir_all(&args.dir)
        .with_context(|| format!("cannot make the directory {}", args.dir.display()))?;
    let mut root = Cli::command().disable_help_subcommand(true);
    // Gives every command the name with which its page begins.
    root.build();
    let mut pages = vec![root];
    while let Some(command) = pages.pop() {
        pages.extend(command.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
        let man = Man::new(command);
        let mut page = Vec::new();
        man.render(&mut page)?;
        let path = args.dir.join(man.get_filename());
        write_atomically(&path, &page)?;
        say!("{}", path.display());
    }
    Ok(Exit::Clean)
}

/// A command without what is hidden: scripts would offer it.
fn visible(command: &clap::Command) -> clap::Command {
    let arguments = command.get_arguments().filter(|argument| !argument.is_hide_set()).cloned();
    let commands = command.get_subcommands().filter(|command| !command.is_hide_set()).map(visible);
    let about = command.get_about().cloned().unwrap_or_default();
    clap::Command::new(command.get_name().to_owned()).about(about).args(arguments).subcommands(commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_offer_nothing_that_is_hidden() {
        let command = visible(&Cli::command());
        let names: Vec<_> = command.get_subcommands().map(clap::Command::get_name).collect();
        assert!(
            names.contains(&"smoke") && names.contains(&"bench") && !names.contains(&"worker"),
            "{names:?}"
        );
        let smoke = command.find_subcommand("smoke").unwrap();
        let options: Vec<_> = smoke.get_arguments().filter_map(clap::Arg::get_long).collect();
        assert!(options.contains(&"junit") && options.contains(&"xen"), "{options:?}");
    }
}
