//! Carries out one group: writes to the arena, makes the call, keeps its results.
//!
//! A group has this shape, and is refused otherwise: any number of `Write`, `Fill`, `Store`; at most [`MAX_WATCHES`]
//! `Watch`; one `Call`; at most [`MAX_CAPTURES`] `Capture`. It is decoded once. The call is made only after
//! the last instruction has been found good; what was written to the arena until a bad one stays.

use core::ops::Range;

use coverage_hypercall::{
    channel::{ARENA_LEN, SLOTS},
    program::{
        AGENT_OPS, Change, Insn, MAX_CAPTURES, MAX_REPORTED, MAX_WATCHES, Origin, Reject, Source, Status,
    },
};

use crate::{Operation, Platform, channel, grant};

/// Bytes that the changes of one group can take: per region at most 5 + 2 for offset and length.
pub const MAX_CHANGES: usize = MAX_WATCHES * (MAX_REPORTED + 7);

/// Private memory for the watched regions. Reused, because it is large.
#[derive(Debug)]
pub struct Scratch {
    before: [[u8; MAX_REPORTED]; MAX_WATCHES],
    watches: [(u32, u32); MAX_WATCHES],
    changes: [u8; MAX_CHANGES],
    changes_len: usize,
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl Scratch {
    /// Empty memory.
    pub const fn new() -> Self {
        Self {
            before: [[0; MAX_REPORTED]; MAX_WATCHES],
            watches: [(0, 0); MAX_WATCHES],
            changes: [0; MAX_CHANGES],
            changes_len: 0,
        }
    }

    /// The [`Change`]s of the last group.
    pub fn changes(&self) -> &[u8] {
        &self.changes[..self.changes_len]
    }
}

/// A call with its arguments resolved.
enum Call {
    Hypercall(u64),
    Operation(Operation),
    Grant(grant::Operation),
}

/// A `Capture` that was checked.
#[derive(Clone, Copy)]
struct Capture {
    slot: u8,
    from: Origin,
    guard: Option<u32>,
}

/// Carries out the instructions in `code`, and leaves the changes in `scratch`.
pub fn execute<P: Platform>(p: &mut P, code: &[u8], scratch: &mut Scratch) -> Status {
    scratch.changes_len = 0;
    match run(p, code, scratch) {
        Ok(status) => status,
        Err(reject) => Status::Rejected(reject),
    }
}

fn run<P: Platform>(p: &mut P, code: &[u8], scratch: &mut Scratch) -> Result<Status, Reject> {
    let mut watches = 0;
    let mut captures = [Capture { slot: 0, from: Origin::Return, guard: None }; MAX_CAPTURES];
    let mut kept = 0;
    let mut call = None;
    let mut rest = code;
    while !rest.is_empty() {
        let (insn, after) = postcard::take_from_bytes::<Insn<'_>>(rest).map_err(|_| Reject::Malformed)?;
        rest = after;
        // The call is the last instruction but for the captures.
        if call.is_some() != matches!(insn, Insn::Capture { .. }) {
            return Err(Reject::Shape);
        }
        match insn {
            Insn::Write { at, bytes } => {
                arena(at, bytes.len())?;
                p.arena_write(at, bytes);
            }
            Insn::Fill { at, len, byte } => {
                arena(at, len as usize)?;
                p.arena_fill(at, len, byte);
            }
            Insn::Store { at, width, value } => {
                let range = arena(at, usize::from(check_width(width)?))?;
                let value = resolve(p, value)?;
                p.arena_write(at, &value.to_le_bytes()[..range.len()]);
            }
            Insn::Watch { at, len } => {
                let range = arena(at, len as usize)?;
                if range.len() > MAX_REPORTED {
                    return Err(Reject::Bounds);
                }
                let watch = scratch.watches.get_mut(watches).ok_or(Reject::Shape)?;
                *watch = (at, len);
                watches += 1;
            }
            Insn::Call { number, args } => {
                let target = if number < AGENT_OPS {
                    Call::Hypercall(u64::from(number))
                } else if let Some(operation) = grant::Operation::from_number(number) {
                    Call::Grant(operation)
                } else {
                    Call::Operation(Operation::from_number(number).ok_or(Reject::Operation)?)
                };
                let mut values = [0; 6];
                for (value, source) in values.iter_mut().zip(args) {
                    *value = resolve(p, source)?;
                }
                call = Some((target, values));
            }
            Insn::Capture { slot, from, guard } => {
                check_slot(slot)?;
                if let Some(at) = guard {
                    arena(at, size_of::<i64>())?;
                }
                if let Origin::Arena { at, width } = from {
                    arena(at, usize::from(check_width(width)?))?;
                }
                *captures.get_mut(kept).ok_or(Reject::Shape)? = Capture { slot, from, guard };
                kept += 1;
            }
        }
    }
    let (target, args) = call.ok_or(Reject::Shape)?;

    for (&(at, len), before) in scratch.watches[..watches].iter().zip(&mut scratch.before) {
        p.arena_read(at, &mut before[..len as usize]);
    }
    let result = match target {
        Call::Hypercall(number) => p.hypercall(number, &args),
        Call::Operation(operation) => p.operate(operation, &args),
        Call::Grant(operation) => grant::run(p, operation, &args),
    };
    for n in 0..watches {
        compare(p, scratch, n);
    }
    Ok(match result {
        Ok(value) => {
            if let Ok(positive) = u64::try_from(value) {
                for capture in &captures[..kept] {
                    keep(p, *capture, positive);
                }
            }
            Status::Returned(value)
        }
        Err(e) => Status::Faulted { vector: e.vector, error: e.error, rip: e.rip, address: e.address },
    })
}

/// Appends a watched region to the changes if it is no longer what it was.
fn compare<P: Platform>(p: &P, scratch: &mut Scratch, watch: usize) {
    let (at, len) = scratch.watches[watch];
    let mut now = [0; MAX_REPORTED];
    let now = &mut now[..len as usize];
    p.arena_read(at, now);
    if *now == scratch.before[watch][..len as usize] {
        return;
    }
    // There is room for all watches (MAX_CHANGES); a change that did not fit would be left out.
    let room = &mut scratch.changes[scratch.changes_len..];
    if let Ok(coded) = postcard::to_slice(&Change { at, bytes: now }, room) {
        scratch.changes_len += coded.len();
    }
}

/// Fills a slot, if the guard allows it.
fn keep<P: Platform>(p: &mut P, capture: Capture, result: u64) {
    if let Some(at) = capture.guard {
        let mut bytes = [0; size_of::<i64>()];
        p.arena_read(at, &mut bytes);
        if i64::from_le_bytes(bytes) < 0 {
            return;
        }
    }
    let value = match capture.from {
        Origin::Return => result,
        Origin::Arena { at, width } => {
            let mut bytes = [0; 8];
            p.arena_read(at, &mut bytes[..usize::from(width)]);
            u64::from_le_bytes(bytes)
        }
    };
    channel::set_slot(p, capture.slot, value);
}

/// A range of the arena.
fn arena(at: u32, len: usize) -> Result<Range<usize>, Reject> {
    let start = at as usize;
    match start.checked_add(len) {
        Some(end) if end <= ARENA_LEN as usize => Ok(start..end),
        _ => Err(Reject::Bounds),
    }
}

fn check_width(width: u8) -> Result<u8, Reject> {
    if matches!(width, 1 | 2 | 4 | 8) { Ok(width) } else { Err(Reject::Width) }
}

fn check_slot(slot: u8) -> Result<u8, Reject> {
    if usize::from(slot) < SLOTS { Ok(slot) } else { Err(Reject::Slot) }
}

fn resolve<P: Platform>(p: &P, source: Source) -> Result<u64, Reject> {
    match source {
        Source::Const(value) => Ok(value),
        Source::Slot { slot, otherwise } => {
            check_slot(slot)?;
            Ok(channel::slot(p, slot).unwrap_or(otherwise))
        }
    }
}
