//! Xen itself as a target: the distribution's image, as it is, with our agent as its initial domain in pv mode.
//!
//! Xen knows nothing of us. So the plugin counts its edges, the agent executes the markers, and what went wrong is read off the
//! console. `docs/xen.md` has the facts that this rests on.

mod console;
mod guest;
mod image;
mod locate;
pub mod table;

pub(super) use console::judge;
pub use guest::Guest;
pub use image::{agent, functions, installed, read_image, unpacked_directory};
pub(super) use locate::locate;

use std::{ops::Range, time::Duration};

use sha2::{Digest, Sha256};

use table::Symbol;

/// Where Xen maps itself: `XEN_VIRT_START` of its `asm-x86/config.h`.
const VIRT_START: u64 = 0xffff_82d0_4000_0000;
/// Where its code lies at most: 2 MiB above that, in large pages of its own.
const TEXT: Range<u64> = VIRT_START + (2 << 20)..VIRT_START + (6 << 20);
/// Bytes of RAM that Xen and the agent's domain share.
pub const RAM_SIZE: u64 = 128 << 20;
/// The command line. Scrubbing would go on behind the snapshot; far returns trip over SMAP under QEMU; failed calls are not
/// worth a line on the console each.
pub const COMMAND_LINE: &str = "console=com1 com1=115200,8n1 loglvl=all guest_loglvl=none/none dom0_mem=64M,max:66M dom0_max_vcpus=1 bootscrub=0 smap=0";
/// Translated blocks of a whole execution, of Xen and the agent: a call takes a few hundred, a new domain some ten thousand. What takes
/// more is a multicall with a count of millions, mostly, and soon broken off once the clock goes on.
pub const BUDGET: u64 = 600_000;
/// Limit for the boot, which takes one or two seconds of processor time.
pub const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// Functions of Xen that it comes to when it has given up.
const ENDS: [&str; 3] = ["machine_restart", "machine_halt", "kexec_crash"];
/// Functions of Xen by which it ends a domain, or the machine for the sake of the initial one or at its request (debug key `R`).
const DOMAIN_ENDS: [&str; 3] = ["__domain_crash", "hwdom_shutdown", "common/keyhandler.c#reboot_machine"];
/// The function by which it breaks a long call off, for the guest to repeat it.
const BREAKS_OFF: &str = "hypercall_create_continuation";

/// Where system calls of pv guests enter it.
const ENTERS: &str = "lstar_enter";

/// What has to be known of a hypervisor that knows nothing of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Virtual addresses of its code.
    pub text: Range<u64>,
    /// Virtual addresses at which it has given up.
    pub ends: Vec<u64>,
    /// Virtual addresses at which it ends a domain.
    pub domain_ends: Vec<u64>,
    /// Virtual address at which it breaks a long call off; zero if that is not known.
    pub breaks_off: u64,
    /// Virtual address at which system calls of pv guests enter it; zero if that is not known.
    pub enters: u64,
    /// Identifies the build.
    pub build_id: [u8; 32],
    /// Where the agent runs.
    pub guest: Guest,
}

impl Foreign {
    /// That of an image of Xen. Where the image has no symbol table, ends are noticed when the budget is used up.
    #[must_use]
    pub fn xen(image: &[u8], guest: Guest) -> Self {
        let symbols = table::read(image).unwrap_or_default();
        let address = |name: &str| address_of(&symbols, name);
        let text = match (address("_stext"), address("_etext")) {
            (Some(start), Some(end)) if start < end => start..end,
            _ => TEXT,
        };
        let all = |names: &[&str]| names.iter().filter_map(|name| address(name)).collect();
        Self {
            text,
            ends: all(&ENDS),
            domain_ends: all(&DOMAIN_ENDS),
            breaks_off: address(BREAKS_OFF).unwrap_or(0),
            enters: address(ENTERS).unwrap_or(0),
            build_id: Sha256::digest(image).into(),
            guest,
        }
    }
}

/// Virtual address of a symbol.
fn address_of(symbols: &[Symbol], name: &str) -> Option<u64> {
    symbols.iter().find(|symbol| symbol.name == name).map(|symbol| VIRT_START + u64::from(symbol.offset))
}
