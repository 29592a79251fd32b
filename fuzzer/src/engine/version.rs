//! Which QEMU there is, and in which way it can be reset.
//!
//! | QEMU | plugin API | |
//! |---|---|---|
//! | before 6.1 | none or 1 | refused: its plugins take their arguments in another form |
//! | 6.1 to 7.1 | 1 | from outside |
//! | 7.2 to 10.0 | 1, 2, 3, 4 | from inside, if it exports its internal symbols; 7.2 and 10.0 are tested |
//! | 10.1 and later | 5 and later | from outside, until somebody has looked at its internals |

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::error::EngineError;
use super::process::describe;

/// Name of the variable that names another QEMU than the one in `PATH`.
pub const QEMU_VARIABLE: &str = "HYPERFUZZ_QEMU";
/// Name of the variable that says how machines are reset, where no option does.
pub const RESET_VARIABLE: &str = "HYPERFUZZ_RESET";

/// The QEMU that is used if no option names one.
#[must_use]
pub fn default_binary() -> PathBuf {
    env::var_os(QEMU_VARIABLE).map_or_else(|| "qemu-system-x86_64".into(), PathBuf::from)
}

/// How a machine is to be reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Reset {
    /// In QEMU's process if it can be done there, by `loadvm` otherwise.
    #[default]
    Auto,
    /// By the plugin in QEMU's process: microseconds.
    InProcess,
    /// Through QEMU's monitor: many milliseconds, with any QEMU that has plugins.
    Loadvm,
}

impl Reset {
    /// How the environment wants it.
    ///
    /// # Errors
    /// What it may say.
    pub fn from_environment() -> Result<Self, String> {
        match env::var(RESET_VARIABLE) {
            Err(_) => Ok(Self::Auto),
            Ok(word) => Self::from_str(&word, false).map_err(|_| {
                format!("{RESET_VARIABLE} is {word:?}, but must be `auto`, `in-process` or `loadvm`")
            }),
        }
    }
}

/// How a machine is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By the plugin in QEMU's process.
    InProcess,
    /// From outside, through QEMU's monitor.
    Loadvm,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InProcess => "in-process",
            Self::Loadvm => "loadvm",
        })
    }
}

/// A version of QEMU: major and minor number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32);

/// The first version that works at all.
pub const OLDEST: Version = Version(6, 1);
/// The first and the last version whose internals the plugin knows.
const INTERNALS: (Version, Version) = (Version(7, 2), Version(10, 0));
/// The versions that are tested.
const TESTED: [Version; 2] = [Version(7, 2), Version(10, 0)];

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl Version {
    /// The version in what `--version` prints.
    #[must_use]
    pub fn parse(output: &str) -> Option<Self> {
        let word =
            output.lines().next()?.strip_prefix("QEMU emulator version ")?.split_whitespace().next()?;
        let mut numbers = word.split('.').map(|number| number.parse().ok());
        Some(Self(numbers.next()??, numbers.next()??))
    }

    /// True where the plugin knows the internals of this version.
    #[must_use]
    pub fn has_known_internals(self) -> bool {
        (INTERNALS.0..=INTERNALS.1).contains(&self)
    }

    /// True where this version is tested.
    #[must_use]
    pub fn is_tested(self) -> bool {
        TESTED.contains(&self)
    }

    /// How a machine of this version is reset, as far as the version tells, and why not in QEMU's process.
    #[must_use]
    pub fn way(self, wanted: Reset) -> (Way, Option<String>) {
        match wanted {
            Reset::InProcess => (Way::InProcess, None),
            Reset::Loadvm => (Way::Loadvm, None),
            Reset::Auto if self.has_known_internals() => (Way::InProcess, None),
            Reset::Auto => {
                let (first, last) = INTERNALS;
                (
                    Way::Loadvm,
                    Some(format!(
                        "the internals of QEMU {self} are not known, those of {first} to {last} are"
                    )),
                )
            }
        }
    }
}

/// Asks a QEMU for its version.
///
/// # Errors
/// If it cannot be started, is no QEMU, or is too old.
pub fn ask(binary: &Path) -> Result<Version, EngineError> {
    let output = Command::new(binary)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(|source| EngineError::Start { binary: binary.to_owned(), source })?;
    let refused = |found| EngineError::Version { binary: binary.to_owned(), found, needed: OLDEST };
    match Version::parse(&String::from_utf8_lossy(&output.stdout)) {
        Some(version) if output.status.success() && version >= OLDEST => Ok(version),
        Some(version) if output.status.success() => Err(refused(version.to_string())),
        _ => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            Err(refused(format!("of no known version ({}) {}", describe(output.status), stderr.trim())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_versions() {
        let read = |text: &str| Version::parse(&format!("QEMU emulator version {text}\nCopyright (c)\n"));
        assert_eq!(read("7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"), Some(Version(7, 2)));
        assert_eq!(read("10.0.2 (Debian 1:10.0.2+ds-2)"), Some(Version(10, 0)));
        assert_eq!(read("9.0"), Some(Version(9, 0)));
        assert_eq!(read("next"), None);
        assert_eq!(Version::parse("bash, version 5"), None);
    }

    #[test]
    fn unknown_versions_are_reset_from_outside() {
        assert!(Version(7, 2) < Version(10, 0) && Version(7, 20) > Version(7, 2));
        assert_eq!(Version(8, 2).way(Reset::Auto), (Way::InProcess, None));
        for unknown in [Version(7, 1), Version(10, 1), Version(11, 0)] {
            let (way, why) = unknown.way(Reset::Auto);
            assert_eq!(way, Way::Loadvm);
            assert!(why.unwrap().contains(&format!("QEMU {unknown} ")));
            assert_eq!(unknown.way(Reset::InProcess), (Way::InProcess, None));
        }
    }
}
