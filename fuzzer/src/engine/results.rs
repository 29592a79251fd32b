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

#[cfg(test)]
mod tests {
    use super::*;
    use coverage_hypercall::program::Status;
    use proptest::prelude::*;

    /// Puts records into a ring, as an agent would.
    fn fill(area: &mut [u8], mut produced: u32, consumed: u32, records: &[Vec<u8>]) -> u32 {
        for record in records {
            let place = COMPLETION_RING.place(produced, consumed, record.len()).unwrap();
            if let Some(at) = place.skip_at {
                area[at..at + 4].copy_from_slice(&coverage_hypercall::ring::SKIP.to_le_bytes());
            }
            let len = u32::try_from(record.len()).unwrap();
            area[place.length_at..place.length_at + 4].copy_from_slice(&len.to_le_bytes());
            area[place.payload].copy_from_slice(record);
            produced = place.produced;
        }
        produced
    }

    proptest! {
        /// What an agent writes comes out, wherever in the ring it lies.
        #[test]
        fn completions_come_out(
            start in any::<u32>(),
            given in prop::collection::vec((any::<u16>(), any::<i64>(), prop::collection::vec((any::<u32>(), prop::collection::vec(any::<u8>(), 0..64)), 0..4)), 0..=MAX_COMPLETIONS),
        ) {
            let mut area = vec![0xa5; COMPLETION_RING.size() as usize];
            let start = start & !7;
            let mut records = Vec::new();
            let mut expected = Vec::new();
            for (call, value, changes) in given {
                let mut packed = Vec::new();
                for (at, bytes) in &changes {
                    packed.extend(postcard::to_stdvec(&Change { at: *at, bytes }).unwrap());
                }
                let status = Status::Returned(value);
                records.push(postcard::to_stdvec(&Completion { call, status, changes: &packed }).unwrap());
                expected.push(CallResult { call, status, changes });
            }
            let produced = fill(&mut area, start, start, &records);
            let mut calls = Vec::new();
            prop_assert!(parse_completions(&area, produced, start, &mut calls));
            prop_assert_eq!(calls, expected);
        }

        /// Nonsense ends in an answer, not in a panic, and never in more results than a program can have.
        #[test]
        fn nonsense_is_survived(
            bytes in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..4096),
            produced in any::<u32>(),
            consumed in any::<u32>(),
        ) {
            let mut area = vec![0; COMPLETION_RING.size() as usize];
            let offset = consumed as usize % area.len();
            for (index, byte) in bytes.iter().enumerate() {
                let at = (offset + index) % area.len();
                area[at] = *byte;
            }
            let mut calls = Vec::new();
            for produced in [produced, consumed.wrapping_add(produced & 0xfff8)] {
                calls.clear();
                let _ = parse_completions(&area, produced, consumed & !7, &mut calls);
                prop_assert!(calls.len() <= MAX_COMPLETIONS);
            }
        }
    }

    #[test]
    fn a_record_too_many_is_nonsense() {
        let mut area = vec![0; COMPLETION_RING.size() as usize];
        let record =
            postcard::to_stdvec(&Completion { call: 0, status: Status::Skipped, changes: &[] }).unwrap();
        let produced = fill(&mut area, 0, 0, &vec![record; MAX_COMPLETIONS + 1]);
        let mut calls = Vec::new();
        assert!(!parse_completions(&area, produced, 0, &mut calls));
        assert_eq!(calls.len(), MAX_COMPLETIONS);
    }
}
