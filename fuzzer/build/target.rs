//! What the images are compiled for.
//!
//! `x86_64-unknown-none` where rustup has it or can fetch it, else the host's own target with flags that make
//! it bare: core and alloc are then those of the host, which use SSE.

use std::{env, path::Path, process::Command};

/// Environment variable that forces a way: `none`, `host`, or `auto`.
pub(crate) const CHOICE: &str = "HYPERFUZZ_IMAGE_TARGET";

const BARE: &str = "x86_64-unknown-none";
const HOST: &str = "x86_64-unknown-linux-gnu";

/// The two ways to build an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ImageTarget {
    /// The bare-metal target.
    Bare,
    /// The host's target, bent.
    Host,
}

impl ImageTarget {
    /// Obeys the environment, or finds out what there is.
    pub(crate) fn choose() -> Result<Self, String> {
        match env::var(CHOICE).as_deref() {
            Ok("none") => Ok(Self::Bare),
            Ok("host") => Ok(Self::Host),
            Ok("auto") | Err(_) => Ok(Self::find()),
            Ok(other) => Err(format!("{CHOICE} is `{other}`: it takes none, host or auto")),
        }
    }

    fn find() -> Self {
        if is_installed() {
            return Self::Bare;
        }
        let added = Command::new("rustup").args(["target", "add", BARE]).output();
        if added.is_ok_and(|output| output.status.success()) && is_installed() {
            return Self::Bare;
        }
        println!(
            "cargo:warning=target {BARE} is not installed and rustup cannot add it: building the images for {HOST}"
        );
        Self::Host
    }

    /// Name of the target.
    pub(crate) const fn triple(self) -> &'static str {
        match self {
            Self::Bare => BARE,
            Self::Host => HOST,
        }
    }

    /// Flags for rustc. The `image` is named by a `cfg`, which tells the wrapper what it builds and keeps the
    /// two images' dependencies apart in one target directory.
    pub(crate) fn flags(self, root: &Path, image: &str) -> Vec<String> {
        let mut flags = vec![
            format!("--cfg=hyperfuzz_image=\"{image}\""),
            format!("--remap-path-prefix={}=.", root.display()),
            "-Crelocation-model=static".into(),
            // The crash record's stack walk follows them.
            "-Cforce-frame-pointers=yes".into(),
        ];
        if let Ok(home) = env::var("CARGO_HOME") {
            // The build id should not depend on where a machine keeps its registry.
            flags.push(format!("--remap-path-prefix={home}=/cargo"));
        }
        match self {
            Self::Bare => flags.push("-Clink-arg=--build-id=sha1".into()),
            Self::Host => {
                if image == "hypervisor" {
                    flags.push("-Ccode-model=kernel".into());
                }
                flags.push("-Cno-redzone=yes".into());
                flags.extend(
                    [
                        "-nostartfiles",
                        "-nostdlib",
                        "-static",
                        "-no-pie",
                        "-Wl,--build-id=sha1",
                        "-Wl,-z,norelro",
                    ]
                    .map(|arg| format!("-Clink-arg={arg}")),
                );
            }
        }
        flags
    }
}

/// True where the compiler has a core library for the bare target.
fn is_installed() -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    Command::new(rustc)
        .args(["--print", "target-libdir", "--target", BARE])
        .output()
        .is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir())
}
