//! What the inner cargo may see of the outer one: as little as possible, or the images would depend on how the user
//! builds the fuzzer.

use std::{env, process::Command};

/// Variables of the outer cargo's that speak of the machine and not of the build.
const KEEP: [&str; 3] = ["CARGO_HOME", "CARGO_MAKEFLAGS", "CARGO_INSTALL_ROOT"];
/// Families of them that do.
const KEEP_PREFIXES: [&str; 6] =
    ["CARGO_NET_", "CARGO_HTTP_", "CARGO_REGISTRIES_", "CARGO_REGISTRY_", "CARGO_SOURCE_", "CARGO_TERM_"];
/// Variables that change what rustc does or that cargo sets for one build script.
const DROP: [&str; 13] = [
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_LINKER",
    "TARGET",
    "HOST",
    "OUT_DIR",
    "OPT_LEVEL",
    "DEBUG",
    "PROFILE",
    "NUM_JOBS",
    "LD_LIBRARY_PATH",
];

/// Removes the outer build from a command's environment.
pub(crate) fn scrub(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let of_cargo = name == "CARGO" || name.starts_with("CARGO_") || name.starts_with("DEP_");
        let kept = KEEP.contains(&name) || KEEP_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        if (of_cargo && !kept) || DROP.contains(&name) || name.starts_with("__CARGO") {
            command.env_remove(name);
        }
    }
}

/// Fixes everything of the release profile that reaches the code, whatever the workspace or the user says.
pub(crate) fn fix_profile(command: &mut Command, whole_program: bool) {
    for (name, value) in [
        ("OPT_LEVEL", if whole_program { "3" } else { "2" }),
        ("DEBUG", "line-tables-only"),
        ("STRIP", "none"),
        // A hypervisor that wraps silently hides what the fuzzer is looking for.
        ("OVERFLOW_CHECKS", "true"),
        ("DEBUG_ASSERTIONS", "false"),
        // One unit per crate: the order of the counters then depends on the source alone.
        ("CODEGEN_UNITS", "1"),
        ("LTO", if whole_program { "fat" } else { "off" }),
        ("INCREMENTAL", "false"),
        ("PANIC", "abort"),
    ] {
        command.env(format!("CARGO_PROFILE_RELEASE_{name}"), value);
    }
}
