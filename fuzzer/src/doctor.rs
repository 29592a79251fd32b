//! Looks at the machine and says what the engine will find on it. Printing is up to the caller.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hyperfuzz_control::symbols;
use object::read::elf::{ElfFile64, FileHeader, Sym};
use object::{Endianness, elf::FileHeader64};

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Works, but not as well as it could.
    Poor,
    /// The engine will not work.
    Missing,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What, in a few words.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it, if there is something to do.
    pub advice: Option<&'static str>,
}

impl Check {
    /// A check that needs nothing to be done.
    fn good(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Good, found: found.into(), advice: None }
    }

    /// A check that needs something to be done.
    fn bad(name: &'static str, verdict: Verdict, found: impl Into<String>, advice: &'static str) -> Self {
        Self { name, verdict, found: found.into(), advice: Some(advice) }
    }
}

/// QEMU versions whose internals the plugin knows.
const KNOWN_VERSION: &str = "7.2";
/// Where guest memory goes unless another directory is named.
const SHARED_MEMORY: &str = "/dev/shm";

/// Looks at everything. `qemu` is a path, or a name that is looked up in `PATH`; `ram_size` is the guest memory of
/// one worker, in bytes.
#[must_use]
pub fn examine(qemu: &Path, ram_size: u64) -> Vec<Check> {
    let mut checks = Vec::new();
    match find_program(qemu) {
        Some(path) => {
            checks.push(Check::good("QEMU binary", path.display().to_string()));
            checks.push(version(&path));
            checks.extend(exported(&path));
        }
        None => checks.push(Check::bad(
            "QEMU binary",
            Verdict::Missing,
            format!("`{}` is not there", qemu.display()),
            "install the package qemu-system-x86 (7.2), or name another binary",
        )),
    }
    checks.push(shared_memory(Path::new(SHARED_MEMORY), ram_size));
    checks.push(cores());
    checks
}

/// The worst verdict of all.
#[must_use]
pub fn worst(checks: &[Check]) -> Verdict {
    checks.iter().map(|check| check.verdict).max().unwrap_or(Verdict::Good)
}

/// Looks a program up as a shell would.
fn find_program(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return name.is_file().then(|| name.to_owned());
    }
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// Asks QEMU for its version.
fn version(path: &Path) -> Check {
    const NAME: &str = "QEMU version";
    let output = Command::new(path).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let found = text.lines().next().unwrap_or("it does not say").to_owned();
    match parse_version(&text) {
        Some(version) if version == KNOWN_VERSION || version.starts_with(&format!("{KNOWN_VERSION}.")) => {
            Check::good(NAME, found)
        }
        Some(_) => Check::bad(
            NAME,
            Verdict::Missing,
            found,
            "the plugin knows the internals of QEMU 7.2 (Debian 12) only: install that version beside this one and name it",
        ),
        None => Check::bad(NAME, Verdict::Missing, found, "name the binary of QEMU's x86_64 system emulator"),
    }
}

/// The version in QEMU's answer.
fn parse_version(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("QEMU emulator version ")?;
    rest.split_whitespace().next()
}

/// The names of all dynamic symbols that a program defines.
fn defined_symbols(bytes: &[u8]) -> Option<std::collections::HashSet<&[u8]>> {
    let file = ElfFile64::<Endianness>::parse(bytes).ok()?;
    let endian = file.endian();
    let header: &FileHeader64<Endianness> = file.elf_header();
    let sections = header.sections(endian, bytes).ok()?;
    let table = sections.symbols(endian, bytes, object::elf::SHT_DYNSYM).ok()?;
    let defined = table.iter().filter(|symbol| !symbol.is_undefined(endian));
    Some(defined.filter_map(|symbol| table.symbol_name(endian, symbol).ok()).collect())
}

/// Looks for the symbols that the plugin needs.
fn exported(path: &Path) -> Vec<Check> {
    const PLUGINS: &str = "plugin support";
    const INTERNALS: &str = "exported internals";
    let advice = "use a distribution's build of QEMU: it has plugins and exports its internal symbols";
    let bytes = fs::read(path).unwrap_or_default();
    let Some(defined) = defined_symbols(&bytes) else {
        let found = "its symbols cannot be read";
        return vec![Check::bad(
            INTERNALS,
            Verdict::Missing,
            found,
            "name the binary itself, not a wrapper script",
        )];
    };
    let check = |name, needed: &[&[&str]]| {
        let missing: Vec<_> = needed
            .iter()
            .filter(|names| !names.iter().any(|name| defined.contains(name.as_bytes())))
            .map(|names| names.join(" or "))
            .collect();
        if missing.is_empty() {
            Check::good(name, format!("all {} symbols", needed.len()))
        } else {
            Check::bad(name, Verdict::Missing, format!("without {}", missing.join(", ")), advice)
        }
    };
    vec![check(PLUGINS, symbols::PLUGIN_API), check(INTERNALS, symbols::INTERNAL)]
}

/// Looks how many machines have room in a directory.
fn shared_memory(directory: &Path, ram_size: u64) -> Check {
    const NAME: &str = "room for guest memory";
    let shown = directory.display();
    let Ok(state) = rustix::fs::statvfs(directory) else {
        let found = format!("{shown} is not there");
        return Check::bad(
            NAME,
            Verdict::Poor,
            found,
            "the directory for temporary files is used, which may be slower",
        );
    };
    let free = state.f_bavail.saturating_mul(state.f_frsize);
    let machines = free / ram_size.max(1);
    let found = format!("{} MiB free in {shown}: {machines} machines", free >> 20);
    if machines == 0 {
        Check::bad(
            NAME,
            Verdict::Poor,
            found,
            "make it larger (`mount -o remount,size=1G /dev/shm`) or name a work directory",
        )
    } else {
        Check::good(NAME, found)
    }
}

/// Looks on which cores this process may run.
fn cores() -> Check {
    const NAME: &str = "cores";
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => {
            let count = set.count();
            let can_pin = rustix::thread::sched_setaffinity(None, &set).is_ok();
            let found = format!("{count} usable: {count} workers");
            if can_pin {
                Check::good(NAME, found)
            } else {
                Check::bad(
                    NAME,
                    Verdict::Poor,
                    format!("{found}, but they cannot be pinned"),
                    "allow sched_setaffinity: without it each execution takes up to 100 µs longer",
                )
            }
        }
        Err(error) => Check::bad(NAME, Verdict::Poor, error.to_string(), "allow sched_getaffinity"),
    }
}

/// The cores on which this process may run, for one worker each.
#[must_use]
pub fn usable_cores() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_version() {
        let text = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright (c) 2003-2022\n";
        assert_eq!(parse_version(text), Some("7.2.22"));
        assert_eq!(parse_version("bash, version 5"), None);
    }

    #[test]
    fn names_what_is_missing() {
        let checks = examine(Path::new("/nonexistent/qemu"), 32 << 20);
        assert_eq!(worst(&checks), Verdict::Missing);
        assert!(checks[0].found.contains("/nonexistent/qemu") && checks[0].advice.is_some());
        // A program that is no QEMU: this test itself.
        let checks = exported(&env::current_exe().unwrap());
        assert!(checks.iter().all(|check| check.verdict == Verdict::Missing), "{checks:?}");
    }

    #[test]
    fn tells_when_there_is_no_room() {
        let directory = env::temp_dir();
        assert_eq!(shared_memory(&directory, u64::MAX).verdict, Verdict::Poor);
        assert_eq!(shared_memory(&directory, 1).verdict, Verdict::Good);
    }
}
