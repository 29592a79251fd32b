//! Builds what travels inside `hyperfuzz`: the hypervisor's image, the agent, and QEMU's plugin.
//!
//! Each is built by a second cargo with its own target directory and flags, so that a user types nothing but
//! `cargo build`. The same executable is also that cargo's `RUSTC_WRAPPER` ([`wrapper`]).

mod environment;
mod target;
mod wrapper;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use target::ImageTarget;

fn main() -> ExitCode {
    if env::var_os(wrapper::ACTIVE).is_some() {
        return wrapper::run();
    }
    let manifest =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets the manifest directory"));
    let root = manifest.parent().expect("the package lies in the workspace").to_path_buf();
    for path in [
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
        "coverage-hypercall",
        "hypervisor",
        "xtf-agent",
        "fuzzer/build",
        "fuzzer/control",
        "fuzzer/plugin",
        // Not built here, but embedded by a macro that does not see when a file is added.
        "corpora/seeds",
        "corpora/regressions",
    ] {
        println!("cargo:rerun-if-changed={}", root.join(path).display());
    }
    println!("cargo:rerun-if-env-changed={}", target::CHOICE);

    match build_all(&root) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            println!("cargo::error={what}");
            ExitCode::FAILURE
        }
    }
}

fn build_all(root: &Path) -> Result<(), String> {
    let image = ImageTarget::choose()?;
    let host = env::var("HOST").map_err(|_| "cargo sets HOST for build scripts")?;
    let hypervisor = Artifact {
        package: "hypervisor",
        args: &["--bin", "hypervisor-image", "--features", "image"],
        file: "hypervisor-image",
        target: image.triple(),
        flags: image.flags(root, "hypervisor"),
        strip: false,
        whole_program: false,
    };
    let mut agent_flags = image.flags(root, "agent");
    agent_flags.push(format!("-Clink-arg=-T{}", root.join("xtf-agent/link.ld").display()));
    let agent = Artifact {
        package: "xtf-agent",
        args: &["--bin", "xtf-agent-image", "--features", "image"],
        file: "xtf-agent-image",
        target: image.triple(),
        flags: agent_flags,
        strip: false,
        whole_program: true,
    };
    let plugin = Artifact {
        package: "hyperfuzz-plugin",
        args: &["--lib"],
        file: "libhyperfuzz_plugin.so",
        target: &host,
        flags: Vec::new(),
        strip: true,
        whole_program: false,
    };
    for (variable, artifact) in
        [("HYPERFUZZ_HYPERVISOR", hypervisor), ("HYPERFUZZ_AGENT", agent), ("HYPERFUZZ_PLUGIN", plugin)]
    {
        let path = artifact.build(root)?;
        println!("cargo:rustc-env={variable}={}", path.display());
    }
    Ok(())
}

/// Something that the second cargo builds.
struct Artifact<'a> {
    package: &'a str,
    args: &'a [&'a str],
    file: &'a str,
    target: &'a str,
    flags: Vec<String>,
    /// Leave line tables out.
    strip: bool,
    /// Optimise across crates: for what is neither measured nor debugged.
    whole_program: bool,
}

impl Artifact<'_> {
    /// Builds it and returns where it lies.
    fn build(&self, root: &Path) -> Result<PathBuf, String> {
        let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?)
            .join(format!("images-{:016x}", wrapper::fingerprint()));
        let cargo = env::var_os("CARGO").ok_or("cargo sets CARGO")?;
        let mut command = Command::new(&cargo);
        command
            .current_dir(root)
            .args(["build", "--release", "--quiet", "--package", self.package])
            .args(self.args)
            .args(["--target", self.target, "--target-dir"])
            .arg(&out);
        environment::scrub(&mut command);
        environment::fix_profile(&mut command, self.whole_program);
        if self.strip {
            command.env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo");
        }
        command
            .env("CARGO_ENCODED_RUSTFLAGS", self.flags.join("\x1f"))
            .env("RUSTC_WRAPPER", env::current_exe().map_err(|e| format!("own path: {e}"))?)
            .env(wrapper::ACTIVE, "1");
        let output = command.output().map_err(|e| format!("running {}: {e}", cargo.display()))?;
        if !output.status.success() {
            eprintln!("{}", String::from_utf8_lossy(&output.stderr));
            return Err(format!(
                "building {} for {} failed (its messages are above); {}=host or =none forces the other way",
                self.package,
                self.target,
                target::CHOICE
            ));
        }
        Ok(out.join(self.target).join("release").join(self.file))
    }
}
