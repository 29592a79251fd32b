//! Xen itself as a target: the distribution's image, as it is, with our agent as its initial domain in pv mode.
//!
//! Xen knows nothing of us. So the plugin counts its edges, the agent executes the markers, and what went wrong is read off the
//! console. `docs/xen.md` has the facts that this rests on.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use coverage_hypercall::{
    channel::{CHANNEL_LEN, DOM0_CHANNEL},
    crash::{CRASH_MAGIC, CRASH_VERSION, CrashKind, CrashRecord, MAX_FRAMES, MAX_MESSAGE},
};
use object::{
    Endianness,
    elf::{FileHeader64, PT_LOAD},
    read::elf::{FileHeader, ProgramHeader},
};
use sha2::{Digest, Sha256};
use zerocopy::FromZeros;

use super::Outcome;

/// Privilege level of the agent in a pv domain of Xen.
pub(super) const AGENT_RING: u32 = 3;
/// Where Xen's code lies: it is linked 2 MiB above `XEN_VIRT_START` of its `asm-x86/config.h`, in a large page of its own.
const TEXT: Range<u64> = 0xffff_82d0_4020_0000..0xffff_82d0_4040_0000;
/// Bytes of RAM that Xen and the agent's domain share.
pub const RAM_SIZE: u64 = 128 << 20;
/// The command line. Scrubbing would go on behind the snapshot; far returns trip over SMAP under QEMU; failed calls are not
/// worth a line on the console each.
pub const COMMAND_LINE: &str = "console=com1 com1=115200,8n1 loglvl=all guest_loglvl=none/none dom0_mem=64M dom0_max_vcpus=1 bootscrub=0 smap=0";
/// Translated blocks of a whole execution, of Xen and the agent: a call takes a few hundred.
pub const BUDGET: u64 = 3_000_000;
/// Limit for the boot, which takes one or two seconds of processor time.
pub const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// Where distributions put their images.
const BOOT: &str = "/boot";

/// What has to be known of a hypervisor that knows nothing of us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// Virtual addresses of its code.
    pub text: Range<u64>,
    /// Identifies the build.
    pub build_id: [u8; 32],
}

impl Foreign {
    /// That of an image of Xen.
    #[must_use]
    pub fn xen(image: &[u8]) -> Self {
        Self { text: TEXT, build_id: Sha256::digest(image).into() }
    }
}

/// Finds the image of the newest Xen that the distribution has installed.
#[must_use]
pub fn installed() -> Option<PathBuf> {
    let entries = std::fs::read_dir(BOOT).ok()?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str());
            name.is_some_and(|name| name.starts_with("xen-") && name.ends_with(".gz"))
        })
        .collect();
    found.sort();
    found.pop()
}

/// Reads an image, compressed by gzip or not.
///
/// # Errors
/// What the system says.
pub fn read_image(path: &Path) -> io::Result<Vec<u8>> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    let bytes = std::fs::read(path)?;
    if !bytes.starts_with(&GZIP) {
        return Ok(bytes);
    }
    let output = Command::new("gzip").arg("-dc").arg(path).stdin(Stdio::null()).output()?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}

/// Makes the agent's image claim all memory up to the end of the channel: Xen gives the initial domain what its image claims in one
/// piece, and maps it. None if the image is not what it should be.
#[must_use]
pub fn agent(image: &[u8]) -> Option<Vec<u8>> {
    /// Offset of `p_memsz` in a program header of an ELF file of 64 bits.
    const MEMORY_SIZE: usize = 40;
    let header = FileHeader64::<Endianness>::parse(image).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, image).ok()?;
    let loaded = segments.iter().enumerate().filter(|(_, segment)| segment.p_type(endian) == PT_LOAD);
    let (last, segment) = loaded.max_by_key(|(_, segment)| segment.p_vaddr(endian))?;
    let end = DOM0_CHANNEL + CHANNEL_LEN as u64;
    let size = end.checked_sub(segment.p_vaddr(endian)).filter(|size| *size >= segment.p_memsz(endian))?;
    let first = usize::try_from(header.e_phoff(endian)).ok()?;
    let at = first + last * usize::from(header.e_phentsize(endian)) + MEMORY_SIZE;
    let mut image = image.to_vec();
    image.get_mut(at..at + 8)?.copy_from_slice(&size.to_le_bytes());
    Some(image)
}

/// What Xen says when it gives up, and what that is. The first that is found counts.
const LAST_WORDS: &[(&str, CrashKind)] = &[
    ("DOUBLE FAULT", CrashKind::DoubleFault),
    ("FATAL PAGE FAULT", CrashKind::Fault),
    ("FATAL TRAP", CrashKind::Fault),
    ("GENERAL PROTECTION FAULT", CrashKind::Fault),
    ("Assertion '", CrashKind::Assertion),
    ("Xen BUG at", CrashKind::Assertion),
    ("Panic on CPU", CrashKind::Panic),
];
/// How every end of Xen begins on the console.
const PANIC: &str = "Panic on CPU";
/// How the end of the initial domain begins there: its own doing, whatever the reason.
const DOMAIN_ENDED: [&str; 2] = ["Hardware Dom0 ", "Hardware domain 0 "];

/// Looks at the console for what a budget or a reset cannot tell: whether it was a crash, of Xen or of the agent's domain.
///
/// Xen waits for five seconds before it restarts the machine, and these never pass: so both look like a hang at first.
///
/// Nor does a run that is `over_budget` for another reason tell of a defect: Xen breaks off long calls when an interrupt has work for it,
/// and with a clock that stands still there is none.
pub(super) fn judge(
    outcome: Outcome,
    over_budget: bool,
    console: &[u8],
) -> (Outcome, Option<Box<CrashRecord>>) {
    if !matches!(outcome, Outcome::Hang | Outcome::TripleFault) {
        return (outcome, None);
    }
    let text = String::from_utf8_lossy(console);
    if text.contains(PANIC) {
        (Outcome::Crash, Some(Box::new(record(&text))))
    } else if DOMAIN_ENDED.iter().any(|words| text.contains(words)) {
        (Outcome::Idle, None)
    } else if over_budget {
        (Outcome::Runaway, None)
    } else {
        (outcome, None)
    }
}

/// A crash record of what stands on the console.
fn record(text: &str) -> CrashRecord {
    let mut record = CrashRecord::new_zeroed();
    let words = LAST_WORDS.iter().find(|(words, _)| text.contains(words));
    record.magic = CRASH_MAGIC;
    record.version = CRASH_VERSION;
    record.kind = words.map_or(CrashKind::Panic, |(_, kind)| *kind) as u32;
    record.domain = u32::MAX;
    record.hypercall = u64::MAX;
    // `RIP:    e008:[<ffff82d040227a3f>] name+0x1/0x2`, and below `Xen call trace:` one line of that form for each caller.
    let mut addresses = text.split("[<").skip(1).filter_map(|rest| {
        let (digits, _) = rest.split_once(">]")?;
        u64::from_str_radix(digits, 16).ok().filter(|address| TEXT.contains(address))
    });
    record.rip = addresses.next().unwrap_or_default();
    for (slot, address) in record.frames.iter_mut().zip(addresses.take(MAX_FRAMES)) {
        *slot = address;
        record.frame_count += 1;
    }
    let lines = text.lines().map(|line| line.trim_start_matches("(XEN) ").trim());
    let telling: Vec<&str> = lines
        .skip_while(|line| !line.contains(PANIC))
        .skip(1)
        .filter(|line| !line.is_empty())
        .take(4)
        .collect();
    let mut message = telling.join("; ");
    while message.len() > MAX_MESSAGE {
        message.pop();
    }
    record.message[..message.len()].copy_from_slice(message.as_bytes());
    record.message_len = u32::try_from(message.len()).unwrap_or_default();
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_tells_a_crash_from_a_hang() {
        let panic = b"(XEN) ----[ Xen-4.17 ]----\n(XEN) RIP:    e008:[<ffff82d040227a3f>] f+0x1/0x2\n(XEN) Xen call trace:\n\
            (XEN)    [<ffff82d040227a3f>] R f+0x1/0x2\n(XEN)    [<ffff82d0402011aa>] S g+0x3/0x4\n(XEN) \n\
            (XEN) Panic on CPU 0:\n(XEN) FATAL PAGE FAULT\n(XEN) [error_code=0002]\n(XEN) ****\n";
        let (outcome, record) = judge(Outcome::Hang, true, panic);
        let record = record.expect("Xen has said why");
        assert_eq!((outcome, CrashKind::from_u32(record.kind)), (Outcome::Crash, Some(CrashKind::Fault)));
        assert_eq!(record.rip, 0xffff_82d0_4022_7a3f);
        assert_eq!(
            record.frames[..record.frame_count as usize],
            [0xffff_82d0_4022_7a3f, 0xffff_82d0_4020_11aa]
        );
        let message = &record.message[..record.message_len as usize];
        assert!(message.starts_with(b"FATAL PAGE FAULT; [error_code=0002]"));

        let ended = b"(XEN) Hardware Dom0 crashed: rebooting machine in 5 seconds.\n";
        assert_eq!(judge(Outcome::Hang, true, ended).0, Outcome::Idle);
        let reset = b"(XEN) Hardware domain 0 did unsupported soft reset, rebooting.\n";
        assert_eq!(judge(Outcome::TripleFault, false, reset).0, Outcome::Idle);
        assert_eq!(judge(Outcome::Hang, false, b"(XEN) something else\n").0, Outcome::Hang);
        assert_eq!(judge(Outcome::Hang, true, b"(XEN) something else\n").0, Outcome::Runaway);
        assert_eq!(judge(Outcome::Done, false, panic).0, Outcome::Done, "a guest may write what it likes");
    }

    #[test]
    fn the_agent_claims_the_channel() {
        let image = agent(crate::images::AGENT).expect("the agent is an ELF file");
        assert_eq!(image.len(), crate::images::AGENT.len());
        let header = FileHeader64::<Endianness>::parse(image.as_slice()).unwrap();
        let endian = header.endian().unwrap();
        let segments = header.program_headers(endian, image.as_slice()).unwrap();
        let ends = segments.iter().map(|segment| segment.p_vaddr(endian) + segment.p_memsz(endian));
        assert_eq!(ends.max(), Some(DOM0_CHANNEL + CHANNEL_LEN as u64));
        assert_eq!(agent(b"no image"), None);
    }
}
