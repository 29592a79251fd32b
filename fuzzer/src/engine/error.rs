//! What can go wrong with a machine: what, where, and what to do about it.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::version::Version;

/// Why no machine can be had, or a request was refused.
#[derive(Debug, Error)]
pub enum EngineError {
    /// The working directory cannot be used.
    #[error("cannot make `{path}` ({what}): {source}; free some space there or name another work directory")]
    WorkDirectory {
        /// Which file or directory.
        path: PathBuf,
        /// What it is for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// QEMU cannot be started at all.
    #[error(
        "cannot start `{binary}`: {source}; install the package qemu-system-x86 or name another binary (--qemu)"
    )]
    Start {
        /// Which program.
        binary: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The target has no image to boot.
    #[error("there is no image of {0}; name one with --xen")]
    NoImage(&'static str),
    /// QEMU is too old, or none.
    #[error(
        "`{binary}` is QEMU {found}; hyperfuzz needs {needed} or later: install the package qemu-system-x86 of a \
         current distribution, or name another binary (--qemu)"
    )]
    Version {
        /// Which program.
        binary: PathBuf,
        /// What it says of itself.
        found: String,
        /// What it must be.
        needed: Version,
    },
    /// QEMU ended before the target was ready.
    #[error(
        "QEMU ended while the target booted ({status}){hint}\n--- QEMU said ---\n{stderr}\n--- console ---\n{console}"
    )]
    Died {
        /// How it ended.
        status: String,
        /// What to do about it.
        hint: &'static str,
        /// End of its standard error.
        stderr: String,
        /// End of the target's console.
        console: String,
    },
    /// Somebody else laid hands on a file that is shared with QEMU.
    #[error(
        "`{path}` ({what}) {problem} while QEMU started; keep others away from there, or name another work directory"
    )]
    Tampered {
        /// Which file.
        path: PathBuf,
        /// What it is for.
        what: &'static str,
        /// What happened to it.
        problem: String,
    },
    /// The target did not report that it is ready.
    #[error(
        "the target was not ready after {seconds} s: it hangs, or it never executes the ready marker; \
         boot it with the word `verbose` to see more\n--- console ---\n{console}"
    )]
    BootTimeout {
        /// The limit.
        seconds: u64,
        /// End of the target's console.
        console: String,
    },
    /// This QEMU cannot be reset in its own process.
    #[error("this QEMU cannot be reset in-process: {0}; `--reset loadvm` works without that, only slower")]
    Lacking(String),
    /// The machine cannot be handed to a debugger.
    #[error("the machine cannot be debugged: {0}")]
    Debugger(String),
    /// The plugin gave up.
    #[error("the QEMU plugin gave up: {0}")]
    Plugin(String),
    /// The target's beacon makes no sense.
    #[error(
        "the target's beacon is not usable: {field}: {problem}; rebuild target and fuzzer from the same source"
    )]
    Beacon {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A program that cannot be sent.
    #[error("the program has {len} bytes, but at most {max} can be sent; remove calls")]
    ProgramTooLong {
        /// Its bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// The machine cannot be controlled.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}
