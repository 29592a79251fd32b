//! Typed access to the channel's header and rings.

use core::{mem::offset_of, ops::Range};

use coverage_hypercall::{
    channel::{
        CHANNEL_MAGIC, COMPLETION_DATA, COMPLETION_RING, ChannelHeader, REQUEST_DATA, REQUEST_RING, SLOTS,
    },
    ring::{RingError, SKIP},
};
use zerocopy::{FromZeros, IntoBytes};

use crate::Platform;

fn get<P: Platform>(p: &P, at: usize) -> u32 {
    let mut bytes = [0; 4];
    p.channel_read(at, &mut bytes);
    u32::from_le_bytes(bytes)
}

fn put<P: Platform>(p: &mut P, at: usize, value: u32) {
    p.channel_write(at, &value.to_le_bytes());
}

/// Says that there is an agent.
pub fn claim<P: Platform>(p: &mut P) {
    p.channel_write(offset_of!(ChannelHeader, magic), &CHANNEL_MAGIC.to_le_bytes());
}

/// Where in the program the agents are. Later positions compare as greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Turns that are left after this one.
    pub turns_left: u32,
    /// Next call that nobody has begun.
    pub call: u32,
    /// Its offset in the program.
    pub offset: u32,
}

impl Position {
    /// What the channel says. Anybody may have written it.
    pub fn read<P: Platform>(p: &P) -> Self {
        // Three words that lie side by side: one copy.
        const FIRST: usize = offset_of!(ChannelHeader, next_call);
        const _: () = assert!(offset_of!(ChannelHeader, next_offset) == FIRST + 4);
        const _: () = assert!(offset_of!(ChannelHeader, turns_left) == FIRST + 8);
        let mut words = [0u32; 3];
        p.channel_read(FIRST, words.as_mut_bytes());
        Self { call: words[0], offset: words[1], turns_left: words[2] }
    }

    /// Publishes it.
    pub fn write<P: Platform>(self, p: &mut P) {
        let words = [self.call, self.offset, self.turns_left];
        p.channel_write(offset_of!(ChannelHeader, next_call), words.as_bytes());
    }

    /// True if the program is further here than at `other`: in a later turn, or at a later call.
    pub fn is_after(self, other: Self) -> bool {
        self.turns_left < other.turns_left
            || self.turns_left == other.turns_left && self.call > other.call && self.offset > other.offset
    }
}

/// Counter up to which requests have been taken.
pub fn request_consumed<P: Platform>(p: &P) -> u32 {
    get(p, offset_of!(ChannelHeader, request_consumed))
}

/// True if a request is waiting, or the counters are nonsense.
pub fn request_waiting<P: Platform>(p: &P) -> bool {
    request_consumed(p) != get(p, offset_of!(ChannelHeader, request_produced))
}

/// A request: where it lies in the channel, and the counter before and after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its bytes.
    pub payload: Range<usize>,
    /// `request_consumed` as long as it is being worked on.
    pub before: u32,
    /// `request_consumed` afterwards.
    pub after: u32,
}

/// Finds the request that is to be worked on.
///
/// # Errors
/// [`RingError`] if the ring holds nonsense.
pub fn request<P: Platform>(p: &P) -> Result<Option<Request>, RingError> {
    let before = request_consumed(p);
    let produced = get(p, offset_of!(ChannelHeader, request_produced));
    let record = REQUEST_RING.next(produced, before, |at| get(p, REQUEST_DATA + at))?;
    Ok(record.map(|r| Request {
        payload: REQUEST_DATA + r.payload.start..REQUEST_DATA + r.payload.end,
        before,
        after: r.consumed,
    }))
}

/// Ends the current program: the next one starts with its first call and empty slots. `consumed` is the request ring's
/// counter behind it; none drops all requests that are there.
pub fn end<P: Platform>(p: &mut P, consumed: Option<u32>) {
    let consumed = consumed.unwrap_or_else(|| get(p, offset_of!(ChannelHeader, request_produced)));
    put(p, offset_of!(ChannelHeader, request_consumed), consumed);
    Position { turns_left: 0, call: 0, offset: 0 }.write(p);
    clear_slots(p);
}

/// Empties all slots.
pub fn clear_slots<P: Platform>(p: &mut P) {
    p.channel_write(offset_of!(ChannelHeader, slots_filled), &0u64.to_le_bytes());
}

/// Content of a slot below [`SLOTS`], if it was filled.
pub fn slot<P: Platform>(p: &P, slot: u8) -> Option<u64> {
    debug_assert!(usize::from(slot) < SLOTS);
    let mut word = 0u64;
    p.channel_read(offset_of!(ChannelHeader, slots_filled), word.as_mut_bytes());
    if word >> slot & 1 == 0 {
        return None;
    }
    p.channel_read(offset_of!(ChannelHeader, slots) + usize::from(slot) * 8, word.as_mut_bytes());
    Some(word)
}

/// Fills a slot below [`SLOTS`].
pub fn set_slot<P: Platform>(p: &mut P, slot: u8, value: u64) {
    debug_assert!(usize::from(slot) < SLOTS);
    let mut filled = u64::new_zeroed();
    p.channel_read(offset_of!(ChannelHeader, slots_filled), filled.as_mut_bytes());
    p.channel_write(offset_of!(ChannelHeader, slots) + usize::from(slot) * 8, value.as_bytes());
    p.channel_write(offset_of!(ChannelHeader, slots_filled), (filled | 1 << slot).as_bytes());
}

/// Puts a record into the completion ring; drops it where there is no room or the counters are nonsense.
pub fn complete<P: Platform>(p: &mut P, record: &[u8]) {
    let produced = get(p, offset_of!(ChannelHeader, completion_produced));
    let consumed = get(p, offset_of!(ChannelHeader, completion_consumed));
    let Ok(place) = COMPLETION_RING.place(produced, consumed, record.len()) else { return };
    if let Some(at) = place.skip_at {
        put(p, COMPLETION_DATA + at, SKIP);
    }
    put(p, COMPLETION_DATA + place.length_at, record.len() as u32);
    p.channel_write(COMPLETION_DATA + place.payload.start, record);
    put(p, offset_of!(ChannelHeader, completion_produced), place.produced);
}
