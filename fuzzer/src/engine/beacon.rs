//! Reads and validates the beacon, by which the target says where everything is.

use coverage_hypercall::channel::{CHANNEL_LEN, CHANNEL_MAGIC, ChannelHeader};
use coverage_hypercall::crash::CrashRecord;
use coverage_hypercall::harness::{
    BEACON_MAGIC, BEACON_VERSION, Beacon, Canary, CmpEntry, CmpHeader, ConsoleHeader, Region,
};

use super::error::EngineError;
use super::memory::GuestMemory;

/// Most edge counters of a target.
const MAX_COUNTERS: usize = 1 << 20;
/// Most bytes of each other region.
const MAX_REGION: usize = 8 << 20;

/// A range that lies in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// First byte, as an offset in guest memory.
    pub(super) base: usize,
    /// Bytes.
    pub(super) len: usize,
}

/// The target, as the validated beacon and its headers describe it at the snapshot.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) channel: Range,
    pub(super) counters: Range,
    pub(super) comparisons: Option<Range>,
    /// Entries of the comparison log that the region has room for and the target will fill.
    pub(super) comparison_capacity: usize,
    pub(super) crash: Range,
    pub(super) console: Option<Range>,
    /// Bytes that had been written to the console.
    pub(super) console_written: u64,
    /// Bytes of the console's text area.
    pub(super) console_size: usize,
    pub(super) canaries: Option<Range>,
    pub(super) text: Range,
    pub(super) build_id: [u8; 32],
    pub(super) header: ChannelHeader,
}

/// Makes the error of a field.
pub(super) fn bad(field: &'static str, problem: impl Into<String>) -> EngineError {
    EngineError::Beacon { field, problem: problem.into() }
}

/// Checks a region: in memory, aligned, of a sane size. An empty one is `None`.
fn region(
    memory: &GuestMemory,
    field: &'static str,
    region: Region,
    least: usize,
    most: usize,
) -> Result<Option<Range>, EngineError> {
    if region.len == 0 {
        return Ok(None);
    }
    let Region { base, len } = region;
    let fits = base.checked_add(len).is_some_and(|end| end <= memory.len() as u64);
    let (Ok(base), Ok(len), true) = (usize::try_from(base), usize::try_from(len), fits) else {
        return Err(bad(
            field,
            format!("{len:#x} bytes at {base:#x} are not in {:#x} bytes of memory", memory.len()),
        ));
    };
    if len < least || len > most {
        return Err(bad(field, format!("{len:#x} bytes; {least:#x} to {most:#x} make sense")));
    }
    Ok(Some(Range { base, len }))
}

/// As [`region`], for one that must be there.
fn required(
    memory: &GuestMemory,
    field: &'static str,
    given: Region,
    least: usize,
    most: usize,
) -> Result<Range, EngineError> {
    region(memory, field, given, least, most)?.ok_or_else(|| bad(field, "is missing"))
}

impl Target {
    /// Reads the beacon at a physical address, and what it points to. A `foreign` hypervisor knows nothing of it: counters and crash record
    /// are not in its memory.
    ///
    /// # Errors
    /// [`EngineError::Beacon`] names the field that makes no sense.
    pub(super) fn read(memory: &GuestMemory, address: u64, foreign: bool) -> Result<Self, EngineError> {
        let beacon: Beacon = usize::try_from(address)
            .ok()
            .and_then(|at| memory.read_struct(at))
            .ok_or_else(|| bad("address", format!("{address:#x} is not in memory")))?;
        Self::of(memory, beacon, foreign)
    }

    /// As [`Self::read`], of a beacon that has been read.
    ///
    /// # Errors
    /// As [`Self::read`], but for its address.
    pub(super) fn of(memory: &GuestMemory, beacon: Beacon, foreign: bool) -> Result<Self, EngineError> {
        if beacon.magic != BEACON_MAGIC {
            return Err(bad("magic", format!("{:#018x} instead of {BEACON_MAGIC:#018x}", beacon.magic)));
        }
        if beacon.version != BEACON_VERSION {
            return Err(bad("version", format!("{} instead of {BEACON_VERSION}", beacon.version)));
        }
        if beacon.domains == 0 {
            return Err(bad("domains", "no domain is ready"));
        }
        let channel = required(memory, "channel", beacon.channel, CHANNEL_LEN, MAX_REGION)?;
        let header: ChannelHeader =
            memory.read_struct(channel.base).ok_or_else(|| bad("channel", "is not in memory"))?;
        if header.magic != CHANNEL_MAGIC {
            return Err(bad("channel", format!("its magic is {:#018x}", header.magic)));
        }
        let comparisons =
            region(memory, "comparisons", beacon.comparisons, size_of::<CmpHeader>(), MAX_REGION)?;
        let comparison_capacity = match comparisons {
            Some(range) => {
                let head: CmpHeader =
                    memory.read_struct(range.base).ok_or_else(|| bad("comparisons", "is not in memory"))?;
                let room = (range.len - size_of::<CmpHeader>()) / size_of::<CmpEntry>();
                if head.capacity as usize > room {
                    let problem = format!("{} entries, but there is room for {room}", head.capacity);
                    return Err(bad("comparisons", problem));
                }
                head.capacity as usize
            }
            None => 0,
        };
        let console = region(memory, "console", beacon.console, size_of::<ConsoleHeader>(), MAX_REGION)?;
        let (console_written, console_size) = match console {
            Some(range) => {
                let head: ConsoleHeader =
                    memory.read_struct(range.base).ok_or_else(|| bad("console", "is not in memory"))?;
                let room = range.len - size_of::<ConsoleHeader>();
                match usize::try_from(head.size) {
                    Ok(size) if size <= room => (head.written, size),
                    _ => {
                        return Err(bad(
                            "console",
                            format!("{} bytes, but there is room for {room}", head.size),
                        ));
                    }
                }
            }
            None => (0, 0),
        };
        let own = |field, given, least, most| match foreign {
            true => Ok(Range { base: 0, len: 0 }),
            false => required(memory, field, given, least, most),
        };
        Ok(Self {
            channel,
            counters: own("counters", beacon.counters, 1, MAX_COUNTERS)?,
            comparisons,
            comparison_capacity,
            crash: own("crash", beacon.crash, size_of::<CrashRecord>(), MAX_REGION)?,
            console,
            console_written,
            console_size,
            canaries: region(memory, "canaries", beacon.canaries, size_of::<Canary>(), MAX_REGION)?,
            text: required(memory, "text", beacon.text, 1, memory.len())?,
            build_id: beacon.build_id,
            header,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::{FromZeros, IntoBytes};

    const MEMORY: usize = 1 << 20;
    const BEACON: usize = 0x1000;
    const CHANNEL: usize = 0x4_0000;
    const COMPARISONS: usize = 0x2000;
    const CONSOLE: usize = 0x3000;

    /// Guest memory on an ordinary file that the test can write as well.
    struct Guest {
        memory: GuestMemory,
        file: std::fs::File,
        _directory: tempfile::TempDir,
    }

    impl Guest {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("ram");
            let memory = GuestMemory::create(&path, MEMORY).unwrap();
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            Self { memory, file, _directory: directory }
        }

        fn put(&self, at: usize, bytes: &[u8]) {
            std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, at as u64).unwrap();
        }

        /// A guest in which everything is in order, but for what `change` does to the beacon.
        fn with(change: impl FnOnce(&mut Beacon)) -> Self {
            let guest = Self::new();
            let mut beacon = Beacon::new_zeroed();
            beacon.magic = BEACON_MAGIC;
            beacon.version = BEACON_VERSION;
            beacon.domains = 2;
            beacon.channel = Region { base: CHANNEL as u64, len: CHANNEL_LEN as u64 };
            beacon.counters = Region { base: 0x5000, len: 100 };
            beacon.comparisons = Region { base: COMPARISONS as u64, len: 16 + 4 * 32 };
            beacon.crash = Region { base: 0x6000, len: size_of::<CrashRecord>() as u64 };
            beacon.console = Region { base: CONSOLE as u64, len: 16 + 64 };
            beacon.text = Region { base: 0x8000, len: 0x1000 };
            change(&mut beacon);
            guest.put(BEACON, beacon.as_bytes());
            guest.put(CHANNEL, &CHANNEL_MAGIC.to_le_bytes());
            let log = CmpHeader { enabled: 0, count: 0, capacity: 4, reserved: 0 };
            guest.put(COMPARISONS, log.as_bytes());
            guest.put(CONSOLE, ConsoleHeader { written: 7, size: 64 }.as_bytes());
            guest
        }

        /// The field that is complained about.
        fn complaint(&self) -> &'static str {
            match Target::read(&self.memory, BEACON as u64, false) {
                Err(EngineError::Beacon { field, .. }) => field,
                Err(_) => "another error",
                Ok(_) => "none",
            }
        }
    }

    #[test]
    fn accepts_what_is_in_order() {
        let target = Target::read(&Guest::with(|_| ()).memory, BEACON as u64, false).unwrap();
        assert_eq!(target.channel, Range { base: CHANNEL, len: CHANNEL_LEN });
        assert_eq!((target.comparison_capacity, target.console_written, target.console_size), (4, 7, 64));
        assert_eq!(target.canaries, None);
    }

    #[test]
    fn names_the_field_that_makes_no_sense() {
        assert_eq!(Guest::with(|b| b.magic = 1).complaint(), "magic");
        assert_eq!(Guest::with(|b| b.version = 9).complaint(), "version");
        assert_eq!(Guest::with(|b| b.domains = 0).complaint(), "domains");
        assert_eq!(Guest::with(|b| b.channel.len = 4096).complaint(), "channel");
        assert_eq!(Guest::with(|b| b.channel.base += 8).complaint(), "channel");
        assert_eq!(Guest::with(|b| b.counters.len = 0).complaint(), "counters");
        assert_eq!(Guest::with(|b| b.counters.base = u64::MAX).complaint(), "counters");
        assert_eq!(Guest::with(|b| b.comparisons.len -= 1).complaint(), "comparisons");
        assert_eq!(Guest::with(|b| b.crash.len -= 1).complaint(), "crash");
        assert_eq!(Guest::with(|b| b.console.len -= 1).complaint(), "console");
        assert_eq!(Guest::with(|b| b.text.base = MEMORY as u64).complaint(), "text");
        let guest = Guest::new();
        assert!(
            Target::read(&guest.memory, u64::MAX, false).is_err()
                && Target::read(&guest.memory, MEMORY as u64 - 8, false).is_err()
        );
    }

    proptest! {
        /// Whatever the guest writes, regions that are accepted lie in memory.
        #[test]
        fn accepted_regions_lie_in_memory(base in any::<u64>(), len in any::<u64>(), small in any::<bool>()) {
            let limit = if small { 2 * MEMORY as u64 } else { u64::MAX };
            let given = Region { base: base % limit, len: len % limit };
            let guest = Guest::new();
            if let Ok(Some(range)) = region(&guest.memory, "test", given, 1, MEMORY) {
                prop_assert!(range.len >= 1 && range.base + range.len <= MEMORY);
            }
        }
    }
}
