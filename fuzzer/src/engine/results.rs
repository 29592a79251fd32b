//! Parses what an execution left in guest memory. The guest is hostile: bytes are copied once and then judged.

use coverage_hypercall::channel::{COMPLETION_DATA, COMPLETION_RING, ChannelHeader};
use coverage_hypercall::crash::{CRASH_MAGIC, CRASH_VERSION, CrashRecord, MAX_FRAMES, MAX_MESSAGE};
use coverage_hypercall::harness::{Canary, CmpEntry, CmpHeader, ConsoleHeader};
use coverage_hypercall::program::{Change, Completion, MAX_CALLS};
use zerocopy::{FromZeros, IntoBytes};

use super::beacon::{Range, Target};
use super::memory::GuestMemory;
use super::{CallResult, Execution};

/// Most completions of one execution: one for each call, and one for the program as a whole.
const MAX_COMPLETIONS: usize = MAX_CALLS as usize + 1;

/// Appends the completions in a private copy of the ring's data to `calls`. False where they are nonsense; those before
/// it are kept.
#[must_use]
pub(super) fn parse_completions(
    area: &[u8],
    produced: u32,
    mut consumed: u32,
    calls: &mut Vec<CallResult>,
) -> bool {
    let word = |at: usize| {
        let bytes = area.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u32::from_le_bytes)
    };
    loop {
        let record = match COMPLETION_RING.next(produced, consumed, word) {
            Ok(Some(record)) => record,
            Ok(None) => return true,
            Err(_) => return false,
        };
        consumed = record.consumed;
        let completion =
            area.get(record.payload).and_then(|bytes| postcard::from_bytes::<Completion>(bytes).ok());
        let Some(completion) = completion else { return false };
        if calls.len() == MAX_COMPLETIONS {
            return false;
        }
        let mut changes = Vec::new();
        let mut rest = completion.changes;
        while !rest.is_empty() {
            let Ok((change, more)) = postcard::take_from_bytes::<Change>(rest) else { return false };
            changes.push((change.at, change.bytes.to_vec()));
            rest = more;
        }
        calls.push(CallResult { call: completion.call, status: completion.status, changes });
    }
}

/// Reads the results of executions; holds buffers that are used again.
#[derive(Debug, Default)]
pub(super) struct Reader {
    ring: Vec<u8>,
}

impl Reader {
    /// Reads completions. Returns false where they are nonsense.
    fn completions(&mut self, memory: &GuestMemory, target: &Target, calls: &mut Vec<CallResult>) -> bool {
        calls.clear();
        let Some(header) = memory.read_struct::<ChannelHeader>(target.channel.base) else { return false };
        let size = COMPLETION_RING.size() as usize;
        // The host has consumed everything at the snapshot; the guest's word on that does not count.
        let consumed = target.header.completion_produced;
        let used = header.completion_produced.wrapping_sub(consumed) as usize;
        if used == 0 {
            return true;
        }
        let start = consumed as usize % size;
        // Only what was produced needs to be copied, unless it goes round the end.
        let copied = if used <= size - start { start..start + used } else { 0..size };
        self.ring.resize(size, 0);
        let base = target.channel.base + COMPLETION_DATA + copied.start;
        memory.read(base, &mut self.ring[copied])
            && parse_completions(&self.ring, header.completion_produced, consumed, calls)
    }

    /// Reads everything but the crash record into `execution`.
    pub(super) fn read(
        &mut self,
        memory: &GuestMemory,
        target: &Target,
        comparisons: bool,
        execution: &mut Execution,
    ) {
        execution.corrupt = !self.completions(memory, target, &mut execution.calls);
        execution.counters.resize(target.counters.len, 0);
        let _inside = memory.read(target.counters.base, &mut execution.counters);
        execution.comparisons.clear();
        if let (true, Some(range)) = (comparisons, target.comparisons) {
            read_comparisons(memory, range, target.comparison_capacity, &mut execution.comparisons);
        }
        execution.console.clear();
        if let Some(range) = target.console {
            read_console(memory, range, target, &mut execution.console);
        }
        execution.crash = None;
    }
}

/// Reads the comparison log, at most `capacity` entries of it.
fn read_comparisons(memory: &GuestMemory, range: Range, capacity: usize, to: &mut Vec<CmpEntry>) {
    let Some(head) = memory.read_struct::<CmpHeader>(range.base) else { return };
    to.resize((head.count as usize).min(capacity), CmpEntry::new_zeroed());
    if !memory.read(range.base + size_of::<CmpHeader>(), to.as_mut_slice().as_mut_bytes()) {
        to.clear();
    }
}

/// Reads what was written to the console since the snapshot, or as much of it as the ring still holds.
fn read_console(memory: &GuestMemory, range: Range, target: &Target, to: &mut Vec<u8>) {
    let Some(head) = memory.read_struct::<ConsoleHeader>(range.base) else { return };
    let size = target.console_size;
    let new =
        usize::try_from(head.written.wrapping_sub(target.console_written)).unwrap_or(usize::MAX).min(size);
    if new == 0 {
        return;
    }
    to.resize(new, 0);
    let text = range.base + size_of::<ConsoleHeader>();
    // Less than `size`, so it fits.
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is less than a usize")]
    let start = (head.written.wrapping_sub(new as u64) % size as u64) as usize;
    let first = new.min(size - start);
    let (head_part, tail_part) = to.split_at_mut(first);
    if !(memory.read(text + start, head_part) && memory.read(text, tail_part)) {
        to.clear();
    }
}

/// Reads the crash record, if there is a valid one.
pub(super) fn read_crash(memory: &GuestMemory, target: &Target) -> Option<Box<CrashRecord>> {
    let record: CrashRecord = memory.read_struct(target.crash.base)?;
    let valid = record.magic == CRASH_MAGIC
        && record.version == CRASH_VERSION
        && record.frame_count as usize <= MAX_FRAMES
        && record.message_len as usize <= MAX_MESSAGE;
    valid.then(|| Box::new(record))
}

/// Reads the canaries of the planted bugs.
pub(super) fn read_canaries(memory: &GuestMemory, target: &Target) -> Vec<Canary> {
    let Some(range) = target.canaries else { return Vec::new() };
    let mut canaries = vec![Canary::default(); range.len / size_of::<Canary>()];
    if !memory.read(range.base, canaries.as_mut_slice().as_mut_bytes()) {
        canaries.clear();
    }
    canaries
}
