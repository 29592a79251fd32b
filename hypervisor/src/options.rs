//! The boot line of the hypervisor: words separated by spaces.

use alloc::{format, string::String};
use planted_bugs::{Bug, Plants};

/// How guests run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// In SVM with nested paging, entered by PVH.
    #[default]
    Hvm,
    /// In ring 3, on the tables of their physical map.
    Pv,
}

/// What the boot line asks for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The boot line itself, as guests may read it.
    pub line: String,
    /// How guests run (`mode=hvm`, `mode=pv`).
    pub mode: Mode,
    /// Check invariants after each call (`oracles=off` turns it off).
    pub oracles: bool,
    /// Look at all frames when a program ends (`oracles=audit`).
    pub audit: bool,
    /// Repeat the console on the debug port (`verbose`).
    pub verbose: bool,
    /// Run the guests for their own sake, without a harness (`standalone`).
    pub standalone: bool,
    /// Planted bugs (`plant=NAME,NAME`).
    pub plants: Plants,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            line: String::new(),
            mode: Mode::Hvm,
            oracles: true,
            audit: false,
            verbose: false,
            standalone: false,
            plants: Plants::new(),
        }
    }
}

impl Options {
    /// Reads a boot line.
    ///
    /// # Errors
    /// A sentence that names the word and says what is allowed.
    pub fn parse(line: &str) -> Result<Self, String> {
        let mut options = Self { line: line.into(), ..Self::default() };
        for word in line.split_ascii_whitespace() {
            match word.split_once('=') {
                None if word == "verbose" => options.verbose = true,
                Some(("mode", "hvm")) => options.mode = Mode::Hvm,
                Some(("mode", "pv")) => options.mode = Mode::Pv,
                None if word == "standalone" => options.standalone = true,
                Some(("oracles", "on")) => options.oracles = true,
                Some(("oracles", "audit")) => (options.oracles, options.audit) = (true, true),
                Some(("oracles", "off")) => (options.oracles, options.audit) = (false, false),
                Some(("plant", names)) => {
                    for name in names.split(',') {
                        let bug = Bug::from_name(name).ok_or_else(|| {
                            let known = Bug::ALL.map(Bug::name).join(", ");
                            format!("boot line: no planted bug is called `{name}`; there are {known}")
                        })?;
                        options.plants.plant(bug);
                    }
                }
                _ => {
                    return Err(format!(
                        "boot line: `{word}` is not known; allowed are mode=hvm, mode=pv, plant=NAME,..., oracles=on, oracles=audit, oracles=off, verbose, standalone"
                    ));
                }
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_line_is_read() {
        let options = Options::parse("plant=count-sign,poll-hang oracles=off verbose").unwrap();
        assert!(!options.oracles && options.verbose);
        assert!(options.plants.is_planted(Bug::CountSign) && options.plants.is_planted(Bug::PollHang));
        assert!(!options.plants.is_planted(Bug::M2pDesync));
        assert!(Options::parse("oracles=audit").unwrap().audit);
        let options = Options::parse("").unwrap();
        assert!(options.oracles && !options.verbose && options.mode == Mode::Hvm);
        assert_eq!(Options::parse("mode=pv").unwrap().mode, Mode::Pv);
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert!(Options::parse("plant=nothing").unwrap_err().contains("`nothing`"));
        assert!(Options::parse("quiet").unwrap_err().contains("`quiet`"));
        assert!(Options::parse("oracles=maybe").unwrap_err().contains("oracles=off"));
    }
}
