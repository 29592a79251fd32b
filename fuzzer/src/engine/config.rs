//! What a machine is made of, and what an execution in it may cost.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyperfuzz_control::{Control, MAGIC, VERSION};

use super::version::{self, Reset, Version};
use super::xen::Foreign;

/// Steps of a path that are kept: a call takes some hundreds, a hang millions.
const MAX_PATH: u32 = 1 << 20;

/// What the engine needs to start a machine, as often as necessary.
#[derive(Clone)]
pub struct QemuConfig {
    /// QEMU: a path, or a name that is looked up in `PATH`.
    pub binary: PathBuf,
    /// How it is reset.
    pub reset: Reset,
    /// The hypervisor's ELF image, started by PVH.
    pub hypervisor: Vec<u8>,
    /// Its boot module; see [`super::bundle`].
    pub bundle: Vec<u8>,
    /// The plugin, a shared object.
    pub plugin: Vec<u8>,
    /// The hypervisor's command line: words separated by spaces.
    pub cmdline: String,
    /// What the plugin has to do for a hypervisor that knows nothing of us; `None` for one that does it itself.
    pub foreign: Option<Foreign>,
    /// Bytes of guest memory, a multiple of 1 MiB.
    pub ram_size: usize,
    /// Core for the calling thread and QEMU; `None` leaves both where they are.
    pub core: Option<usize>,
    /// Translated blocks that the hypervisor may execute in one exit, and before the first entry; more is a hang. On a
    /// machine without VMRUN this limits the whole execution. With the comparison log on it is
    /// three times as much.
    pub budget: u64,
    /// VM exits that an execution may have; more is a runaway.
    pub guest_exits: u64,
    /// Translated blocks that guests may execute in one execution; more is a runaway. A `xen_version` call takes
    /// about 1,300 blocks of guest and hypervisor together.
    pub guest_blocks: u64,
    /// Limit for one execution: wall-clock time in which QEMU had a processor. On a busy host it may take ten times as long.
    pub wall_limit: Duration,
    /// Limit for the boot.
    pub boot_limit: Duration,
    /// Note what each page holds at the snapshot, so that [`Engine::aftermath`] has an answer. Takes some milliseconds at each boot.
    pub note_pages: bool,
    /// Note the path that code at these guest-virtual addresses takes, for [`super::qemu::QemuEngine::path`]. Slower; the outcome is the
    /// same. A foreign hypervisor's edges are not counted then.
    pub path_of: Option<Range<u64>>,
    /// Where to put guest memory and other files; `/dev/shm`, or else the directory for temporary files.
    pub work_directory: Option<PathBuf>,
}

/// Nobody reads megabytes of images.
impl fmt::Debug for QemuConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QemuConfig")
            .field("binary", &self.binary)
            .field("reset", &self.reset)
            .field("cmdline", &self.cmdline)
            .field("core", &self.core)
            .finish_non_exhaustive()
    }
}

impl QemuConfig {
    /// A configuration with the usual limits.
    #[must_use]
    pub fn new(hypervisor: Vec<u8>, bundle: Vec<u8>, plugin: Vec<u8>) -> Self {
        Self {
            binary: version::default_binary(),
            reset: Reset::Auto,
            hypervisor,
            bundle,
            plugin,
            cmdline: String::new(),
            foreign: None,
            ram_size: 32 << 20,
            core: None,
            budget: 4_000_000,
            guest_exits: 20_000,
            guest_blocks: 500_000,
            wall_limit: Duration::from_secs(10),
            boot_limit: Duration::from_secs(30),
            note_pages: false,
            path_of: None,
            work_directory: None,
        }
    }

    /// Steps of a path that are kept.
    pub(super) fn path_room(&self) -> u32 {
        if self.path_of.is_some() { MAX_PATH } else { 0 }
    }

    /// Fills in what the plugin reads at its start.
    pub(super) fn prepare(&self, control: &Control, version: Version) {
        control.qemu.store(version.0 << 16 | (version.1 & 0xffff), Ordering::Relaxed);
        control.ram_size.store(self.ram_size as u64, Ordering::Relaxed);
        control.budget.store(self.budget, Ordering::Relaxed);
        control.guest_exits.store(self.guest_exits, Ordering::Relaxed);
        control.guest_blocks.store(self.guest_blocks, Ordering::Relaxed);
        if let Some(text) = self.path_of.as_ref().or(self.foreign.as_ref().map(|foreign| &foreign.text)) {
            control.edges_base.store(text.start, Ordering::Relaxed);
            control.edges_len.store(text.end - text.start, Ordering::Relaxed);
        }
        if let Some(foreign) = &self.foreign {
            for (words, places) in
                [(&control.ends, &foreign.ends), (&control.domain_ends, &foreign.domain_ends)]
            {
                for (word, place) in words.iter().zip(places) {
                    word.store(*place, Ordering::Relaxed);
                }
            }
            control.breaks_off.store(foreign.breaks_off, Ordering::Relaxed);
            control.enters.store(foreign.enters, Ordering::Relaxed);
            control.marker_ring.store(foreign.guest.marker_ring(), Ordering::Relaxed);
        }
        control.version.store(VERSION, Ordering::Relaxed);
        control.magic.store(MAGIC, Ordering::Release);
    }
}
