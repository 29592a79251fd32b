//! The inner cargo's `RUSTC_WRAPPER`: adds SanitizerCoverage to the crates that are the hypervisor proper.
//!
//! Cargo has no stable way to give flags to single crates. The allocator, the entry code and the run-time that the
//! instrumentation calls must stay without: the first two would be noise, the last would recurse.

use std::{
    env,
    ffi::{OsStr, OsString},
    hash::{DefaultHasher, Hash, Hasher},
    process::{Command, ExitCode},
};

/// Set where this executable is to be a compiler.
pub(crate) const ACTIVE: &str = "HYPERFUZZ_RUSTC_WRAPPER";

/// The crates that are measured. `hypervisor` is the library: the image's own crate has another name.
const INSTRUMENTED: [&str; 3] = ["hypervisor", "coverage_hypercall", "xen_abi"];

/// The flags. Optimisation stays at 1: above that, branches become conditional moves and lose their edges.
const FLAGS: [&str; 7] = [
    "-Copt-level=1",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=3",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    // Callbacks of comparisons are called only while the log is on: a branch costs an emulator less than a call and a return.
    "-Cllvm-args=-sanitizer-coverage-gated-trace-callbacks",
];

/// What the wrapper adds, in one number: cargo does not see it, and would keep what was compiled with other flags.
pub(crate) fn fingerprint() -> u64 {
    let mut hasher = DefaultHasher::new();
    (INSTRUMENTED, FLAGS).hash(&mut hasher);
    hasher.finish()
}

/// Runs the compiler that the first argument names, with the rest.
pub(crate) fn run() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let Some(rustc) = args.next() else {
        eprintln!("{ACTIVE} is set, but there is no compiler to run");
        return ExitCode::FAILURE;
    };
    let args: Vec<OsString> = args.collect();
    let mut command = Command::new(&rustc);
    command.args(&args);
    if is_instrumented(&args) {
        command.args(FLAGS);
    }
    match command.status() {
        Ok(status) => ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1)),
        Err(error) => {
            eprintln!("running {}: {error}", rustc.display());
            ExitCode::FAILURE
        }
    }
}

fn is_instrumented(args: &[OsString]) -> bool {
    let of_hypervisor = args.iter().any(|arg| arg == "--cfg=hyperfuzz_image=\"hypervisor\"");
    let name = args.windows(2).find(|pair| pair[0] == "--crate-name").map(|pair| pair[1].as_os_str());
    of_hypervisor && INSTRUMENTED.iter().any(|&crate_name| name == Some(OsStr::new(crate_name)))
}
