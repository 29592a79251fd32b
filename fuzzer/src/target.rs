//! Targets: what is fuzzed, with which images and switches.

use std::{
    fmt,
    io::Write,
    path::{Path, PathBuf},
    sync::Once,
};

use anyhow::{Context, bail};
use clap::ValueEnum;
use planted_bugs::Bug;
use serde::{Deserialize, Serialize};

use crate::{
    engine::{
        EngineError, boot, bundle,
        debug::Debugged,
        qemu,
        version::{Reset, Way},
        xen,
    },
    images::{self, Image},
    interface::{Interface, interface, targets},
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
    /// The reference hypervisor with guests in ring 3: the same agent and hypercalls, more than twice as fast.
    ReferencePv,
    /// Xen itself, as the distribution builds it, with the agent as its initial domain, in pv mode.
    XenPv,
    /// The same with the agent in a pv domain without privileges.
    XenDomu,
    /// The same with the agent as the initial domain, hardware-assisted.
    XenPvh,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReferenceHvm => "reference-hvm",
            Self::ReferencePv => "reference-pv",
            Self::XenPv => "xen-pv",
            Self::XenDomu => "xen-domu",
            Self::XenPvh => "xen-pvh",
        })
    }
}

impl Target {
    /// The same hypervisor with guests of the other mode that make the same hypercalls, if there is one.
    #[must_use]
    pub const fn other_mode(self) -> Option<Self> {
        match self {
            Self::ReferenceHvm => Some(Self::ReferencePv),
            Self::ReferencePv => Some(Self::ReferenceHvm),
            Self::XenPv | Self::XenDomu | Self::XenPvh => None,
        }
    }

    /// The hypercalls that it knows.
    pub fn interface(self) -> &'static Interface {
        match self {
            Self::ReferenceHvm | Self::ReferencePv => interface(),
            Self::XenPv => targets::xen_pv(),
            Self::XenDomu => targets::xen_domu(),
            Self::XenPvh => targets::xen_pvh(),
        }
    }

    /// True where the hypervisor is our own: bugs can be planted in it.
    pub const fn is_reference(self) -> bool {
        matches!(self, Self::ReferenceHvm | Self::ReferencePv)
    }

    /// Where the agent runs, if the hypervisor is Xen.
    pub const fn xen_guest(self) -> Option<xen::Guest> {
        match self {
            Self::ReferenceHvm | Self::ReferencePv => None,
            Self::XenPv => Some(xen::Guest::PvDom0),
            Self::XenDomu => Some(xen::Guest::PvDomU),
            Self::XenPvh => Some(xen::Guest::PvhDom0),
        }
    }
}

/// The hypercalls that the target of this name knows; those of the reference hypervisor where there is no such target any more.
pub fn interface_of(target: &str) -> &'static Interface {
    Target::from_str(target, false).map_or_else(|_| interface(), Target::interface)
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
    /// The reference hypervisor, if it is not the one that this executable carries.
    image: Option<Image>,
    /// Xen's image, uncompressed, and the agent's for it.
    xen: Option<(Vec<u8>, Vec<u8>)>,
    /// Further words for Xen's command line.
    xen_words: String,
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
        let known = Bug::ALL.map(Bug::name);
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
        Ok(Self {
            target,
            plants,
            qemu,
            reset,
            core,
            oracles: Oracles::On,
            checked: false,
            image: None,
            xen: None,
            xen_words: String::new(),
        })
    }

    /// The same with another build of the reference hypervisor.
    ///
    /// # Errors
    /// When the target is another hypervisor.
    pub fn with_image(self, image: Image) -> anyhow::Result<Self> {
        if self.target.xen_guest().is_some() {
            bail!("--image is a build of the reference hypervisor, and the target {} has none", self.target);
        }
        Ok(Self { image: Some(image), ..self })
    }

    /// The reference hypervisor's image.
    pub fn hypervisor(&self) -> &[u8] {
        self.image.as_ref().map_or(images::HYPERVISOR, Image::bytes)
    }

    /// The same with an image of Xen, compressed or not; with the one that the distribution has installed if none is given. Of no effect on
    /// targets without Xen.
    ///
    /// # Errors
    /// That there is none, or why it cannot be read.
    pub fn with_xen(self, path: Option<&Path>) -> anyhow::Result<Self> {
        if self.target.xen_guest().is_none() {
            return Ok(self);
        }
        let path = path.map(Path::to_owned).or_else(xen::installed).context(
            "no image of Xen: --install unpacks the distribution's (package xen-hypervisor-*-amd64), --xen names another",
        )?;
        let image =
            xen::read_image(&path).with_context(|| format!("cannot read Xen's image {}", path.display()))?;
        let agent = xen::agent(images::AGENT).context("the agent's image has an unknown form")?;
        Ok(Self { xen: Some((image, agent)), ..self })
    }

    /// The same with further words for Xen's command line. Of no effect on targets without Xen.
    #[must_use]
    pub fn with_xen_words(self, words: &str) -> Self {
        Self { xen_words: words.to_owned(), ..self }
    }

    /// The hypercalls that this target knows.
    pub fn interface(&self) -> &'static Interface {
        self.target.interface()
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

    /// The same with these planted bugs, and no others.
    #[must_use]
    pub fn planted(&self, bugs: &[Bug]) -> Self {
        let mut plants: Vec<String> = bugs.iter().map(|bug| bug.name().to_owned()).collect();
        plants.sort();
        Self { plants, ..self.clone() }
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
        self.start_as(self.machine()?)
    }

    /// As [`Self::start`]; the machine notes the hypervisor's path through each execution.
    ///
    /// # Errors
    /// As [`Self::start`], or that this target's code is not known.
    pub fn start_noting_paths(&self) -> Result<qemu::QemuEngine, EngineError> {
        let code = match (&self.xen, self.target.xen_guest()) {
            (Some((image, _)), Some(guest)) => Some(xen::Foreign::xen(image, guest).text),
            _ => images::code_of(self.hypervisor()),
        };
        let code = code.ok_or(EngineError::NoImage("a hypervisor whose code is known"))?;
        self.start_as(qemu::QemuConfig { path_of: Some(code), ..self.machine()? })
    }

    /// Boots a machine for a debugger, which stands before the first call of a lowered program.
    ///
    /// # Errors
    /// Why there is none, and what to do.
    pub fn debug(&self, ready: u64, program: &[u8]) -> Result<Debugged, EngineError> {
        Debugged::boot(&self.machine()?, ready, program)
    }

    /// What machines of this target are made of.
    ///
    /// # Errors
    /// That there is no image.
    fn machine(&self) -> Result<qemu::QemuConfig, EngineError> {
        let core = self.core.or_else(|| crate::doctor::usable_cores().first().copied());
        if let Some(guest) = self.target.xen_guest() {
            let (image, agent) = self.xen.as_ref().ok_or(EngineError::NoImage("Xen"))?;
            return Ok(qemu::QemuConfig {
                binary: self.qemu.clone(),
                reset: self.reset,
                note_pages: self.checked,
                cmdline: guest.command_line(&self.xen_words),
                core,
                ram_size: guest.ram_size() as usize,
                foreign: Some(xen::Foreign::xen(image, guest)),
                budget: xen::BUDGET,
                boot_limit: xen::BOOT_LIMIT,
                ..qemu::QemuConfig::new(image.clone(), agent.clone(), images::PLUGIN.to_vec())
            });
        }
        let modules = bundle::build(DOMAINS, images::AGENT);
        Ok(qemu::QemuConfig {
            binary: self.qemu.clone(),
            reset: self.reset,
            cmdline: self.words().join(" "),
            core,
            ram_size: RAM_SIZE as usize,
            note_pages: self.checked,
            ..qemu::QemuConfig::new(self.hypervisor().to_vec(), modules, images::PLUGIN.to_vec())
        })
    }

    fn start_as(&self, config: qemu::QemuConfig) -> Result<qemu::QemuEngine, EngineError> {
        let engine = qemu::QemuEngine::start(config)?;
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
    pub fn standalone(&self) -> boot::Machine<'_> {
        boot::Machine { binary: self.qemu.clone(), hypervisor: self.hypervisor(), words: self.words() }
    }

    /// Words of the hypervisor's command line.
    fn words(&self) -> Vec<String> {
        let mode = match self.target {
            Target::ReferenceHvm => "mode=hvm",
            // No word of Xen's is said here.
            Target::ReferencePv | Target::XenPv | Target::XenDomu | Target::XenPvh => "mode=pv",
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
        match &self.xen {
            Some((image, _)) => Ok(Symbols::from_functions(xen::functions(image))),
            None => Symbols::from_elf(self.hypervisor()),
        }
    }
}
