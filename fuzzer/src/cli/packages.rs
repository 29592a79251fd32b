//! Packages of the distribution: QEMU's is installed, Xen's only unpacked, as an installed one changes how the machine boots.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, bail};

use crate::engine::xen;

/// The package that holds QEMU.
const QEMU: &str = "qemu-system-x86";
/// Names of packages that hold an image of Xen begin and end so; a version is in between.
const XEN: (&str, &str) = ("xen-hypervisor-", "-amd64");

/// Installs QEMU.
///
/// # Errors
/// What went wrong, and what to do.
pub(super) fn install_qemu() -> anyhow::Result<()> {
    if which("apt-get").is_none() {
        bail!("--install works with apt-get only; install QEMU for x86-64 guests with your package manager");
    }
    let steps: [&[&str]; 2] =
        [&["apt-get", "update"], &["apt-get", "install", "-y", "--no-install-recommends", QEMU]];
    for step in steps {
        run(&elevated(step), Path::new("."))
            .with_context(|| format!("install the package {QEMU} yourself"))?;
    }
    Ok(())
}

/// Downloads the package of the newest Xen and unpacks its image to where [`xen::installed`] finds it.
///
/// # Errors
/// What went wrong, and what to do.
pub(super) fn unpack_xen() -> anyhow::Result<()> {
    unpack().context("get an image of Xen yourself, and name it with --xen")
}

fn unpack() -> anyhow::Result<()> {
    if which("apt-get").is_none() || which("dpkg-deb").is_none() {
        bail!("--install works with apt-get and dpkg-deb only");
    }
    let place = xen::unpacked_directory().context("neither XDG_CACHE_HOME nor HOME is set")?;
    run(&elevated(&["apt-get", "update"]), Path::new("."))?;
    let (first, last) = XEN;
    let names =
        run(&["apt-cache", "search", "--names-only", &format!("^{first}[0-9.]+{last}$")], Path::new("."))?;
    let name = newest(&names).context("the distribution has no package xen-hypervisor-*-amd64")?;
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    // In the same file system, so that the image can be renamed into its place.
    let work =
        tempfile::tempdir_in(&place).with_context(|| format!("cannot write to {}", place.display()))?;
    run(&["apt-get", "download", name], work.path())?;
    let package = find(work.path(), |file| file.ends_with(".deb"))?;
    let tree = work.path().join("tree");
    run(&["dpkg-deb", "-x", &package.display().to_string(), &tree.display().to_string()], work.path())?;
    let image = find(&tree.join("boot"), |file| file.starts_with("xen-") && file.ends_with(".gz"))?;
    let name = image.file_name().context("an image without a name")?;
    fs::rename(&image, place.join(name)).with_context(|| format!("cannot write to {}", place.display()))?;
    let _ = writeln!(std::io::stderr(), "unpacked: {}", place.join(name).display());
    Ok(())
}

/// The name with the highest version among lines of `name - description`.
fn newest(lines: &str) -> Option<&str> {
    let version = |name: &str| -> Vec<u32> {
        let digits = name.trim_start_matches(XEN.0).trim_end_matches(XEN.1);
        digits.split('.').filter_map(|part| part.parse().ok()).collect()
    };
    lines.lines().filter_map(|line| line.split_whitespace().next()).max_by_key(|name| version(name))
}

/// A file in a directory whose name is as wanted.
fn find(directory: &Path, wanted: impl Fn(&str) -> bool) -> anyhow::Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    let mut found = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(&wanted)
    });
    found.next().with_context(|| format!("{} lacks what was expected", directory.display()))
}

/// The same command as root.
fn elevated<'a>(words: &[&'a str]) -> Vec<&'a str> {
    let prefix: &[&str] = if rustix::process::geteuid().is_root() { &[] } else { &["sudo", "-n"] };
    prefix.iter().chain(words).copied().collect()
}

/// Runs a command, and says so. Gives what it has written.
fn run(words: &[&str], directory: &Path) -> anyhow::Result<String> {
    let _ = writeln!(std::io::stderr(), "running: {}", words.join(" "));
    let output = Command::new(words[0])
        .args(&words[1..])
        .current_dir(directory)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .with_context(|| format!("cannot run {}", words[0]))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}", words.join(" "), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn which(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let lines = "xen-hypervisor-4.9-amd64 - Xen\nxen-hypervisor-4.17-amd64 - Xen\nxen-hypervisor-4.8.5-amd64 - Xen\n";
        assert_eq!(newest(lines), Some("xen-hypervisor-4.17-amd64"));
        assert_eq!(newest(""), None);
    }
}
