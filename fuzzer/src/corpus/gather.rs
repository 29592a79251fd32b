//! Brings programs of several places together, each once.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};

use crate::{
    campaign::store::{self, Store, WIRE_EXTENSION},
    interface::Interface,
    program::{Program, lower, validate},
};

/// What came of programs that were to be taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Programs that are new there.
    pub added: usize,
    /// Programs that were there already, or came twice.
    pub known: usize,
    /// What was refused: why, beginning with the file.
    pub refused: Vec<String>,
}

/// Reads a program that can be executed: it validates, and the agent can take it.
///
/// # Errors
/// What is wrong, beginning with the file.
pub fn load(path: &Path) -> Result<Program, String> {
    let program = store::load_program(path).map_err(|error| error.to_string())?;
    let check = validate::validate(&program)
        .map_err(|error| error.to_string())
        .and_then(|()| lower::lower(&program, 1).map_err(|error| error.to_string()));
    match check {
        Ok(_) => Ok(program),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

/// Where the programs of a campaign, or of a directory of programs, are.
#[must_use]
pub fn place(dir: &Path) -> PathBuf {
    if dir.join("campaign.json").exists() { dir.join("corpus") } else { dir.to_owned() }
}

/// The program files of campaigns and directories.
///
/// # Errors
/// A directory that cannot be read, or has no programs.
pub fn programs_of(dirs: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for dir in dirs {
        let found = store::program_files(&place(dir))?;
        if found.is_empty() {
            bail!("{}: no program there (files *.hf or *.hfw, or a campaign)", dir.display());
        }
        files.extend(found);
    }
    Ok(files)
}

/// A name for a program in a directory where some names are taken: its own, or with its digest where that is taken.
fn name(path: &Path, digest: &str, taken: &BTreeSet<String>) -> String {
    let part = |part: Option<&std::ffi::OsStr>| part.map(|p| p.to_string_lossy().into_owned());
    let stem = part(path.file_stem()).unwrap_or_default();
    let extension = part(path.extension()).unwrap_or_else(|| WIRE_EXTENSION.to_owned());
    let own = format!("{stem}.{extension}");
    if taken.contains(&own) { format!("{stem}-{digest}.{extension}") } else { own }
}

/// Copies programs into a directory of programs, which is made if it is not there. Files keep their form and, as far as they are
/// distinct, their names.
///
/// # Errors
/// When the directory is a campaign, holds files that are no programs, or cannot be written.
pub fn merge(out: &Path, files: &[PathBuf], progress: &mut dyn FnMut(usize)) -> anyhow::Result<Taken> {
    if out.join("campaign.json").exists() {
        bail!("{0} is a campaign; `hyperfuzz corpus import {0} FILE…` adds programs to one", out.display());
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    let mut digests = BTreeSet::new();
    let mut names = BTreeSet::new();
    for path in store::program_files(out)? {
        digests.insert(store::digest(&store::load_program(&path)?));
        names.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
    }
    let mut taken = Taken::default();
    for (index, path) in files.iter().enumerate() {
        progress(index);
        let program = match load(path) {
            Ok(program) => program,
            Err(why) => {
                taken.refused.push(why);
                continue;
            }
        };
        let digest = store::digest(&program);
        if !digests.insert(digest.clone()) {
            taken.known += 1;
            continue;
        }
        let name = name(path, &digest, &names);
        let content = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        store::write_atomically(&out.join(&name), &content)?;
        names.insert(name);
        taken.added += 1;
    }
    Ok(taken)
}

/// Adds programs to the corpus of a campaign, whose target knows these hypercalls.
///
/// # Errors
/// When the corpus cannot be written.
pub fn import(
    store: &mut Store,
    interface: &Interface,
    files: &[PathBuf],
    progress: &mut dyn FnMut(usize),
) -> anyhow::Result<Taken> {
    let mut taken = Taken::default();
    for (index, path) in files.iter().enumerate() {
        progress(index);
        let program = match load(path) {
            Ok(program) => program,
            Err(why) => {
                taken.refused.push(why);
                continue;
            }
        };
        let unknown = program.operations().into_iter().find(|name| interface.by_name(name).is_none());
        if let Some(name) = unknown {
            let target = &store.description().target;
            taken.refused.push(format!("{}: target {target} does not have {name}", path.display()));
            continue;
        }
        if store.add(&program)? {
            taken.added += 1;
        } else {
            taken.known += 1;
        }
    }
    Ok(taken)
}

/// Writes chosen program files into a new directory, under their names.
///
/// # Errors
/// When the directory cannot be written.
pub fn copy(files: &[&Path], out: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))?;
    for path in files {
        let name = path.file_name().context("a program file has a name")?;
        let content = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        store::write_atomically(&out.join(name), &content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{text, wire};

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in files {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        directory
    }

    fn names(dir: &Path) -> Vec<String> {
        let files = store::program_files(dir).unwrap();
        files.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
    }

    #[test]
    fn each_program_is_taken_once_and_keeps_its_name() {
        let one = directory(&[
            ("a.hf", "# yields\nd1 sched_op.yield()\n"),
            ("b.hf", "d2 sched_op.yield()\n"),
            ("bad.hf", "d1 no.such()\n"),
        ]);
        let two = directory(&[("a.hf", "d2 sched_op.yield()\n"), ("b.hf", "d0 sched_op.yield()\n")]);
        let out = one.path().join("out");
        let files = programs_of(&[one.path().to_owned(), two.path().to_owned()]).unwrap();
        let taken = merge(&out, &files, &mut |_| {}).unwrap();
        assert_eq!((taken.added, taken.known), (3, 1));
        assert!(taken.refused.len() == 1 && taken.refused[0].contains("bad.hf"), "{taken:?}");
        let found = names(&out);
        assert_eq!(found.len(), 3);
        assert_eq!(&found[..1], ["a.hf"]);
        assert!(found[1].starts_with("b-") && found[2] == "b.hf", "{found:?}");
        assert_eq!(std::fs::read(out.join("a.hf")).unwrap(), b"# yields\nd1 sched_op.yield()\n");

        let again = merge(&out, &files, &mut |_| {}).unwrap();
        assert_eq!((again.added, again.known), (0, 4));
        assert_eq!(names(&out), found);
    }

    #[test]
    fn the_same_program_in_either_form_is_one() {
        let program = text::parse("d1 sched_op.yield()\n").unwrap();
        let one = directory(&[("a.hf", "d1 sched_op.yield()\n")]);
        std::fs::write(one.path().join("a.hfw"), wire::encode(&program).unwrap()).unwrap();
        let files = programs_of(&[one.path().to_owned()]).unwrap();
        let taken = merge(&one.path().join("out"), &files, &mut |_| {}).unwrap();
        assert_eq!((taken.added, taken.known), (1, 1));
    }
}
