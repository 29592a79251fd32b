//! The hypervisor's source code as it was built: it travels inside the executable, so that a report shows what was fuzzed
//! and not what lies in some directory by now.

use std::{fs, io, path::Path};

use include_dir::{Dir, include_dir};

const HYPERVISOR: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../hypervisor");
const CONTRACT: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../coverage-hypercall/src");

/// The text of a source file, by its path below the repository.
pub fn text(path: &str) -> Option<&'static str> {
    if let Some(rest) = path.strip_prefix("hypervisor/") {
        return HYPERVISOR.get_file(rest)?.contents_utf8();
    }
    CONTRACT.get_file(path.strip_prefix("coverage-hypercall/src/")?)?.contents_utf8()
}

/// Paths of the source files of the hypervisor itself below the repository, in the order of their names.
pub fn hypervisor() -> Vec<String> {
    fn below(directory: &Dir<'_>, found: &mut Vec<String>) {
        found.extend(directory.files().map(|file| format!("hypervisor/{}", file.path().display())));
        directory.dirs().for_each(|inner| below(inner, found));
    }
    let mut found = Vec::new();
    HYPERVISOR.get_dir("src").into_iter().for_each(|directory| below(directory, &mut found));
    found.retain(|path| path.ends_with(".rs") && !path.contains("/tests/"));
    found.sort();
    found
}

/// Writes all source files below a directory, by their paths below the repository.
///
/// # Errors
/// When one of them cannot be written.
pub fn write(to: &Path) -> io::Result<()> {
    for (below, directory) in [("hypervisor", &HYPERVISOR), ("coverage-hypercall/src", &CONTRACT)] {
        let to = to.join(below);
        fs::create_dir_all(&to)?;
        directory.extract(to)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_found_by_the_names_that_stacks_have() {
        let text = text("hypervisor/src/hypercall/sched_op.rs").expect("it is part of the image");
        assert!(text.contains("fn poll"));
        assert_eq!(super::text("library/core/src/ptr.rs"), None);
        assert_eq!(super::text("hypervisor/../Cargo.toml"), None);
        let all = hypervisor();
        assert!(all.iter().any(|path| path == "hypervisor/src/hypercall/sched_op.rs"), "{all:?}");
        assert!(all.iter().all(|path| super::text(path).is_some()));
    }

    #[test]
    fn sources_are_written_where_stacks_say_that_they_are() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path()).unwrap();
        for path in ["hypervisor/src/hypercall/sched_op.rs", "coverage-hypercall/src/lib.rs"] {
            assert_eq!(std::fs::read_to_string(dir.path().join(path)).unwrap(), text(path).unwrap());
        }
    }
}
