//! Targets: what is fuzzed, with which images and switches.

use std::{
    fmt,
    io::Write,
    path::{Path, PathBuf},
    sync::Once,
};

use anyhow::bail;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        EngineError, boot, bundle, qemu,
        version::{Reset, Way},
    },
    images,
    triage::symbols::Symbols,
};

/// Configuration of the reference hypervisor's domains.
const DOMAINS: &str = include_str!("../../hypervisor/domains.conf");

/// Guest memory of one worker, in bytes.
pub const RAM_SIZE: u64 = 32 << 20;

/// What can be fuzzed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Target {
    /// The reference hypervisor with hardware-assisted guests (SVM, nested paging).
    ReferenceHvm,
    /// The reference hypervisor with guests in ring 3: the same agent and hypercalls, about twice as fast.
    ReferencePv,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReferenceHvm => "reference-hvm",
            Self::ReferencePv => "reference-pv",
        })
    }
}

impl Target {
    /// The same hypervisor with guests of the other mode.
    #[must_use]
    pub const fn other_mode(self) -> Self {
        match self {
            Self::ReferenceHvm => Self::ReferencePv,
            Self::ReferencePv => Self::ReferenceHvm,
        }
    }
}

/// A target with the switches of one campaign.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    target: Target,
    plants: Vec<String>,
    qemu: PathBuf,
    reset: Reset,
    core: Option<usize>,
    oracles: Oracles,
    checked: bool,
}

/// What the hypervisor looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Oracles {
    /// What each call touched.
    #[default]
    On,
    /// What each call touched, and at the end of a program every frame of the machine. Slow.
    Audit,
    /// Nothing: only crashes and hangs are found.
    Off,
}

impl Settings {
    /// Checks the switches.
    ///
    /// # Errors
    /// The planted bug that does not exist, with those that do.
    pub fn new(target: Target, plants: &[String], qemu: &Path, core: Option<usize>) -> anyhow::Result<Self> {
        let known = planted_bugs::Bug::ALL.map(planted_bugs::Bug::name);
        for plant in plants {
            if !known.contains(&plant.as_str()) {
                bail!("--plant {plant}: no such planted bug; there are {}", known.join(", "));
            }
        }
        let mut plants = plants.to_vec();
        plants.sort();
        plants.dedup();
        let reset = Reset::from_environment().map_err(anyhow::Error::msg)?;
        let qemu = qemu.to_owned();
        Ok(Self { target, plants, qemu, reset, core, oracles: Oracles::On, checked: false })
    }

    /// The same with other oracles.
    #[must_use]
    pub fn with_oracles(self, oracles: Oracles) -> Self {
        Self { oracles, ..self }
    }

    /// The same with another way to reset the machine.
    #[must_use]
    pub fn with_reset(self, reset: Reset) -> Self {
        Self { reset, ..self }
    }

    /// The same with machines that can be compared with each other, down to guest memory.
    #[must_use]
    pub fn checked(self) -> Self {
        Self { checked: true, ..self }
    }

    /// What the hypervisor looks at.
    pub fn oracles(&self) -> Oracles {
        self.oracles
    }

    /// What is fuzzed.
    pub fn target(&self) -> Target {
        self.target
    }

    /// The same switches for another target.
    #[must_use]
    pub fn on(&self, target: Target) -> Self {
        Self { target, ..self.clone() }
    }

    /// The same on another processor.
    #[must_use]
    pub fn on_core(&self, core: usize) -> Self {
        Self { core: Some(core), ..self.clone() }
    }

    /// Planted bugs that are switched on, sorted.
    pub fn plants(&self) -> &[String] {
        &self.plants
    }

    /// Boots a machine. Says once, on standard error, if it cannot be reset as fast as it should.
    ///
    /// # Errors
    /// Why there is none, and what to do.
    pub fn start(&self) -> Result<qemu::QemuEngine, EngineError> {
        let modules = bundle::build(DOMAINS, images::AGENT);
        let core = self.core.or_else(|| crate::doctor::usable_cores().first().copied());
        let engine = qemu::QemuEngine::start(qemu::QemuConfig {
            binary: self.qemu.clone(),
            reset: self.reset,
            cmdline: self.words().join(" "),
            core,
            ram_size: RAM_SIZE as usize,
            note_pages: self.checked,
            ..qemu::QemuConfig::new(images::HYPERVISOR.to_vec(), modules, images::PLUGIN.to_vec())
        })?;
        if let (Way::Loadvm, Some(why)) = engine.way() {
            static SAID: Once = Once::new();
            SAID.call_once(|| {
                let qemu = self.qemu.display();
                // Whoever closed standard error does not want to know.
                let _ = writeln!(
                    std::io::stderr(),
                    "note: {qemu} is reset by loadvm, many milliseconds each time instead of microseconds: {why} (`hyperfuzz doctor` says \
                     more)"
                );
            });
        }
        Ok(engine)
    }

    /// The machine that runs a guest for its own sake.
    pub fn standalone(&self) -> boot::Machine<'static> {
        boot::Machine { binary: self.qemu.clone(), hypervisor: images::HYPERVISOR, words: self.words() }
    }

    /// Words of the hypervisor's command line.
    fn words(&self) -> Vec<String> {
        let mode = match self.target {
            Target::ReferenceHvm => "mode=hvm",
            Target::ReferencePv => "mode=pv",
        };
        let mut words = vec![mode.to_owned()];
        if !self.plants.is_empty() {
            words.push(format!("plant={}", self.plants.join(",")));
        }
        match self.oracles {
            Oracles::On => {}
            Oracles::Audit => words.push("oracles=audit".to_owned()),
            Oracles::Off => words.push("oracles=off".to_owned()),
        }
        words
    }

    /// Symbols of the hypervisor.
    ///
    /// # Errors
    /// What is wrong with the image.
    pub fn symbols(&self) -> anyhow::Result<Symbols> {
        Symbols::from_elf(images::HYPERVISOR)
    }
}
