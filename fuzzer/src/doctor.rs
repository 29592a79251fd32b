//! Looks at the machine and says what the engine will find on it. Printing is up to the caller.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::engine::version::{OLDEST, Reset, Version, Way};
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
            let version = ask_version(&path);
            checks.push(check_version(version.as_ref()));
            let (rest, lacking) = exported(&path);
            checks.extend(rest);
            checks.push(reset(version.ok().map(|(version, _)| version), lacking));
        }
        None => checks.push(Check::bad(
            "QEMU binary",
            Verdict::Missing,
            format!("`{}` is not there", qemu.display()),
            "install the package qemu-system-x86, or name another binary",
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

/// Asks QEMU for its version; gives it with the line that says so, or what it says instead.
fn ask_version(path: &Path) -> Result<(Version, String), String> {
    let output = Command::new(path).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let line = text.lines().next().unwrap_or("it does not say").to_owned();
    match Version::parse(&text) {
        Some(version) => Ok((version, line)),
        None => Err(line),
    }
}

/// Judges a version.
fn check_version(version: Result<&(Version, String), &String>) -> Check {
    const NAME: &str = "QEMU version";
    match version {
        Ok((version, line)) if *version < OLDEST => Check::bad(
            NAME,
            Verdict::Missing,
            line,
            "it is too old: QEMU 6.1 or later is needed; a current distribution's package qemu-system-x86 will do",
        ),
        Ok((version, line)) if version.is_tested() => Check::good(NAME, format!("{line}; tested")),
        Ok((_, line)) => Check::good(NAME, format!("{line}; not among those that are tested")),
        Err(line) => {
            Check::bad(NAME, Verdict::Missing, line, "name the binary of QEMU's x86_64 system emulator")
        }
    }
}

/// Says in which way machines are reset, and why: `lacking` is what the binary does not export for the faster one.
fn reset(version: Option<Version>, lacking: Option<String>) -> Check {
    const NAME: &str = "reset";
    let Some(version) = version else {
        return Check::bad(NAME, Verdict::Missing, "none", "see above: there is no QEMU that could be reset");
    };
    let why = match version.way(Reset::Auto) {
        (Way::Loadvm, why) => why,
        (Way::InProcess, _) => lacking,
    };
    match why {
        None => Check::good(NAME, "in-process, microseconds each time"),
        Some(why) => Check::bad(
            NAME,
            Verdict::Poor,
            format!("by loadvm, many milliseconds each time: {why}"),
            "use a distribution's build of QEMU 7.2 to 10.0, which exports its internal symbols",
        ),
    }
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

/// Looks for the symbols that the plugin needs. Says also what is missing for a reset in QEMU's process.
fn exported(path: &Path) -> (Vec<Check>, Option<String>) {
    const PLUGINS: &str = "plugin support";
    const INTERNALS: &str = "exported internals";
    let bytes = fs::read(path).unwrap_or_default();
    let Some(defined) = defined_symbols(&bytes) else {
        let found = "its symbols cannot be read";
        let advice =
            "name the binary itself, not a wrapper script, to know; the first start finds out by trying";
        return (vec![Check::bad(INTERNALS, Verdict::Poor, found, advice)], None);
    };
    let missing = |needed: &[&[&str]]| -> Vec<String> {
        let is_missing = |names: &&&[&str]| !names.iter().any(|name| defined.contains(name.as_bytes()));
        needed.iter().filter(is_missing).map(|names| names.join(" or ")).collect()
    };
    let check = |name, needed: &[&[&str]], verdict, advice| {
        let missing = missing(needed);
        if missing.is_empty() {
            Check::good(name, format!("all {} symbols", needed.len()))
        } else {
            Check::bad(name, verdict, format!("without {}", shorten(&missing)), advice)
        }
    };
    let plugins = check(
        PLUGINS,
        symbols::PLUGIN_API,
        Verdict::Missing,
        "use a build of QEMU with plugins, as distributions have it (configured with --enable-plugins)",
    );
    let internals = check(
        INTERNALS,
        symbols::INTERNAL,
        Verdict::Poor,
        "use a distribution's build of QEMU: it has loadable modules and so exports its internal symbols",
    );
    let lacking = missing(symbols::INTERNAL);
    let lacking = (!lacking.is_empty()).then(|| format!("it does not export {}", shorten(&lacking)));
    (vec![plugins, internals], lacking)
}

/// The first few of many names.
fn shorten(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
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
    fn says_how_machines_are_reset() {
        let known = Some(Version(7, 2));
        assert_eq!(reset(known, None).verdict, Verdict::Good);
        for check in [reset(known, Some("no tlb_flush".into())), reset(Some(Version(99, 0)), None)] {
            assert_eq!(check.verdict, Verdict::Poor);
            assert!(check.found.contains("loadvm") && check.advice.is_some(), "{check:?}");
        }
        assert!(reset(Some(Version(99, 0)), None).found.contains("QEMU 99.0"));
        let names = ["a", "b", "c", "d", "e"].map(str::to_owned);
        assert_eq!((shorten(&names[..2]), shorten(&names)), ("a, b".into(), "a, b, c and 2 more".into()));
    }

    #[test]
    fn judges_versions() {
        let judge = |major, minor| check_version(Ok(&(Version(major, minor), "it".to_owned())));
        assert_eq!(judge(5, 2).verdict, Verdict::Missing);
        assert!(judge(7, 2).found.ends_with("; tested") && judge(10, 0).found.ends_with("; tested"));
        assert_eq!(judge(8, 2).verdict, Verdict::Good);
        assert_eq!(check_version(Err(&"bash".to_owned())).verdict, Verdict::Missing);
    }

    #[test]
    fn names_what_is_missing() {
        let checks = examine(Path::new("/nonexistent/qemu"), 32 << 20);
        assert_eq!(worst(&checks), Verdict::Missing);
        assert!(checks[0].found.contains("/nonexistent/qemu") && checks[0].advice.is_some());
        // A program that is no QEMU: this test itself.
        let (checks, lacking) = exported(&env::current_exe().unwrap());
        let verdicts: Vec<_> = checks.iter().map(|check| check.verdict).collect();
        assert_eq!(verdicts, [Verdict::Missing, Verdict::Poor], "{checks:?}");
        assert!(lacking.is_some_and(|lacking| lacking.contains("qemu_get_cpu")));
    }

    #[test]
    fn tells_when_there_is_no_room() {
        let directory = env::temp_dir();
        assert_eq!(shared_memory(&directory, u64::MAX).verdict, Verdict::Poor);
        assert_eq!(shared_memory(&directory, 1).verdict, Verdict::Good);
    }
}
