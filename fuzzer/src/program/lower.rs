//! Compiles a program into what the agent executes ([`coverage_hypercall::program`]).
//!
//! Buffers are placed in the arena in the order in which their pointers are met, outer ones first; no buffer is used
//! twice unless a pointer's shape says so. What an earlier call gave is captured into a slot only if somebody uses it.

use std::collections::BTreeMap;

use coverage_hypercall::{
    channel::{ARENA_GPA, ARENA_LEN, SLOTS},
    program::{self as wire, Group, Header, Insn, MAX_LEN, MAX_REPORTED, Origin, Source},
};
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use thiserror::Error;

use super::{
    model::{CALLS, Call, Pointer, Program, ResultRef, Shape, Value, mask},
    walk::WORD_POINTEE,
};
use crate::interface::{Dir, Field, OpId, ResultFrom, Select, Type};

const PAGE: u32 = 4096;

/// Runs of one byte that are at least so long are filled instead of copied.
const RUN: usize = 24;

/// Buffers of one call whose changes are reported: an agent takes no more. In a long multicall the first ones count.
const MAX_WATCHES: usize = 16;

/// A program as the agent executes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// What goes into the request ring.
    pub bytes: Vec<u8>,
    /// Buffers whose changes the agent reports: what a transcript needs.
    pub regions: Vec<Region>,
    /// What the agent keeps for later calls, in the order of the calls.
    pub captures: Vec<Captured>,
}

/// A result that goes into a slot, if its call returns something that is not negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Index of the call.
    pub call: u16,
    /// Slot.
    pub slot: u8,
    /// Where the result is found.
    pub from: Origin,
}

/// A buffer that the hypervisor may write.
#[derive(Clone, Debug)]
pub struct Region {
    /// Index of the call.
    pub call: u16,
    /// Offset in the arena.
    pub at: u32,
    /// Name of the argument or field that points there.
    pub name: &'static str,
    /// What is there.
    pub ty: &'static Type,
    /// What it holds before the call, zero where that is a result of an earlier call.
    pub before: Vec<u8>,
    /// Where that is: offset in the region, width and value.
    pub stores: Vec<(u32, u8, Source)>,
}

impl PartialEq for Region {
    fn eq(&self, other: &Self) -> bool {
        (self.call, self.at, self.name, &self.before, &self.stores)
            == (other.call, other.at, other.name, &other.before, &other.stores)
    }
}

impl Eq for Region {}

/// Why a program cannot be lowered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LowerError {
    /// More calls than the agent takes.
    #[error("{0} calls; at most {CALLS} are allowed")]
    Calls(usize),
    /// The lowered form is too long for the request ring.
    #[error("the lowered program is {0} bytes long; at most {MAX_LEN} are allowed")]
    TooLong(usize),
    /// The buffers do not fit.
    #[error("call {call}: its buffers do not fit into the arena of {ARENA_LEN} bytes")]
    ArenaFull {
        /// Index of the call.
        call: usize,
    },
    /// A value does not fit its type; validation says which.
    #[error("call {call}: the value of {name} does not fit its type")]
    Type {
        /// Index of the call.
        call: usize,
        /// Argument or field.
        name: &'static str,
    },
}

/// Compiles a program that runs `repeat` times.
///
/// # Errors
/// [`LowerError`]; a program that validates can be lowered.
pub fn lower(program: &Program, repeat: u32) -> Result<Lowered, LowerError> {
    if program.calls.len() > CALLS {
        return Err(LowerError::Calls(program.calls.len()));
    }
    let mut bytes = Vec::with_capacity(1024);
    put(
        &mut bytes,
        &Header { magic: wire::MAGIC, version: wire::VERSION, calls: program.calls.len() as u16, repeat },
    );
    let mut state = Lowering {
        slots: slots(program),
        cursor: 0,
        placed: Vec::new(),
        regions: Vec::new(),
        captures: Vec::new(),
    };
    let mut insns = Vec::with_capacity(512);
    for (index, call) in program.calls.iter().enumerate() {
        insns.clear();
        state.call(index, call, &mut insns)?;
        if bytes.len() + insns.len() > MAX_LEN {
            return Err(LowerError::TooLong(bytes.len() + insns.len()));
        }
        put(&mut bytes, &Group { domain: call.domain, vcpu: call.vcpu, len: insns.len() as u16 });
        bytes.extend_from_slice(&insns);
    }
    if bytes.len() > MAX_LEN {
        return Err(LowerError::TooLong(bytes.len()));
    }
    Ok(Lowered { bytes, regions: state.regions, captures: state.captures })
}

/// Appends a value in postcard. Writing to memory cannot fail.
pub(super) fn put<T: Serialize>(bytes: &mut Vec<u8>, value: &T) {
    postcard::serialize_with_flavor(value, Append(bytes))
        .expect("postcard writes plain structures to memory");
}

/// Where postcard appends to.
struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Gives a slot to each result that somebody uses.
fn slots(program: &Program) -> BTreeMap<(u16, u8), u8> {
    fn scan(value: &Value, slots: &mut BTreeMap<(u16, u8), u8>) {
        match value {
            Value::Result(ResultRef { call, result, .. }) => {
                let next = slots.len();
                if next < SLOTS {
                    slots.entry((*call, *result)).or_insert(next as u8);
                }
            }
            Value::Pointer(Pointer { to: Some(to), .. }) => scan(to, slots),
            Value::Struct(values) | Value::Array(values) => {
                values.iter().for_each(|value| scan(value, slots))
            }
            Value::Entry(entry) => entry.args.iter().for_each(|value| scan(value, slots)),
            Value::Int(_) | Value::Bytes(_) | Value::Pointer(_) => {}
        }
    }
    let mut slots = BTreeMap::new();
    for call in &program.calls {
        call.args.iter().for_each(|value| scan(value, &mut slots));
    }
    slots
}

/// A buffer of the call that is being lowered.
struct Buffer {
    at: u32,
    bytes: Vec<u8>,
    stores: Vec<(u32, u8, Source)>,
    watched: Option<(&'static str, &'static Type)>,
}

struct Lowering {
    slots: BTreeMap<(u16, u8), u8>,
    /// First byte of the arena that nobody uses.
    cursor: u32,
    /// Offset of every buffer so far.
    placed: Vec<u32>,
    regions: Vec<Region>,
    captures: Vec<Captured>,
}

/// What is gathered while one call is lowered.
struct Frame {
    call: usize,
    buffers: Vec<Buffer>,
    /// Where each result of the operation is found.
    found: Vec<Option<Origin>>,
}

/// What a value looks like from outside: which field it belongs to.
#[derive(Clone, Copy)]
struct Place {
    name: &'static str,
    /// Results of the call's operation that this value would be.
    op: Option<OpId>,
    result: Option<usize>,
}

impl Place {
    fn field(self, field: &Field) -> Self {
        let result = self.op.and_then(|op| {
            op.operation()
                .results
                .iter()
                .position(|result| result.from == ResultFrom::Field && result.name == field.name)
        });
        Self { name: field.name, result: result.or(self.result), ..self }
    }
}

impl Lowering {
    fn call(&mut self, index: usize, call: &Call, insns: &mut Vec<u8>) -> Result<(), LowerError> {
        let op = call.op.operation();
        let mut frame = Frame { call: index, buffers: Vec::new(), found: vec![None; op.results.len()] };
        let (number, args) = self.registers(call.op, &call.args, true, &mut frame)?;
        for buffer in &frame.buffers {
            write(buffer.at, &buffer.bytes, insns);
            for (offset, width, value) in &buffer.stores {
                if *offset as usize + usize::from(*width) <= buffer.bytes.len() {
                    put(insns, &Insn::Store { at: buffer.at + offset, width: *width, value: *value });
                }
            }
        }
        let watched = frame.buffers.into_iter().filter(|buffer| !buffer.bytes.is_empty());
        for (buffer, (name, ty)) in
            watched.filter_map(|buffer| buffer.watched.map(|what| (buffer, what))).take(MAX_WATCHES)
        {
            let len = buffer.bytes.len().min(MAX_REPORTED);
            put(insns, &Insn::Watch { at: buffer.at, len: len as u32 });
            let mut before = buffer.bytes;
            before.truncate(len);
            let stores = buffer.stores;
            self.regions.push(Region { call: index as u16, at: buffer.at, name, ty, before, stores });
        }
        put(insns, &Insn::Call { number: number as u32, args });
        for (position, result) in op.results.iter().enumerate() {
            let Some(slot) = self.slots.get(&(index as u16, position as u8)) else { continue };
            let from = match result.from {
                ResultFrom::Return => Some(Origin::Return),
                ResultFrom::Field => frame.found[position],
            };
            if let Some(from) = from {
                put(insns, &Insn::Capture { slot: *slot, from });
                self.captures.push(Captured { call: index as u16, slot: *slot, from });
            }
        }
        Ok(())
    }

    /// Number and registers of a call or an entry.
    fn registers(
        &mut self,
        id: OpId,
        values: &[Value],
        outermost: bool,
        frame: &mut Frame,
    ) -> Result<(u64, [Source; 6]), LowerError> {
        let op = id.operation();
        let mut args = [Source::Const(0); 6];
        let mut number = u64::from(op.number);
        let fields = op.args.iter().zip(values);
        let (mut next, skip) = match op.select {
            Select::Whole => (0, 0),
            Select::First(value) => {
                args[0] = Source::Const(value);
                (1, 0)
            }
            Select::FirstWithStart { value, shift } => {
                let start = values.first().map_or(0, constant);
                args[0] = Source::Const(value | (start << shift));
                (1, 1)
            }
            Select::Raw => {
                number = values.first().map_or(0, constant);
                (0, 1)
            }
        };
        for (field, value) in fields.skip(skip) {
            let place = Place { name: field.name, op: outermost.then_some(id), result: None }.field(field);
            let Some(register) = args.get_mut(next) else {
                return Err(LowerError::Type { call: frame.call, name: field.name });
            };
            *register = self.word(&field.ty, value, place, frame)?;
            next += 1;
        }
        Ok((number, args))
    }

    /// A value that fits into a register.
    fn word(
        &mut self,
        ty: &'static Type,
        value: &Value,
        place: Place,
        frame: &mut Frame,
    ) -> Result<Source, LowerError> {
        match (ty, value) {
            (Type::Int { .. } | Type::Word, Value::Int(value)) => Ok(Source::Const(*value)),
            (Type::Int { width, .. }, Value::Result(reference)) => Ok(self.source(reference, *width)),
            (Type::Word, Value::Result(reference)) => Ok(self.source(reference, 8)),
            (Type::Ptr { dir, to }, Value::Pointer(pointer)) => {
                self.pointer(*dir, to, pointer, place, frame).map(Source::Const)
            }
            (Type::Word, Value::Pointer(pointer)) => {
                self.pointer(Dir::InOut, WORD_POINTEE, pointer, place, frame).map(Source::Const)
            }
            _ => Err(LowerError::Type { call: frame.call, name: place.name }),
        }
    }

    fn source(&self, reference: &ResultRef, width: u8) -> Source {
        let otherwise = reference.otherwise & mask(width);
        match self.slots.get(&(reference.call, reference.result)) {
            Some(slot) => Source::Slot { slot: *slot, otherwise },
            None => Source::Const(otherwise),
        }
    }

    /// Places what lies behind a pointer; returns the address.
    fn pointer(
        &mut self,
        dir: Dir,
        to: &'static Type,
        pointer: &Pointer,
        place: Place,
        frame: &mut Frame,
    ) -> Result<u64, LowerError> {
        let data = match (pointer.shape, &pointer.to) {
            (Shape::Null, _) => return Ok(0),
            (Shape::Bad(address), _) => return Ok(address),
            (_, None) => return Err(LowerError::Type { call: frame.call, name: place.name }),
            (_, Some(data)) => data,
        };
        let size = u32::try_from(size_of_value(to, data)).unwrap_or(u32::MAX);
        let at = self.place(pointer.shape, size).ok_or(LowerError::ArenaFull { call: frame.call })?;
        self.placed.push(at);
        let index = frame.buffers.len();
        frame.buffers.push(Buffer {
            at,
            bytes: Vec::new(),
            stores: Vec::new(),
            watched: dir.writes().then_some((place.name, to)),
        });
        let mut body = Body { at, bytes: Vec::with_capacity(size as usize), stores: Vec::new() };
        self.fill(to, data, place, &mut body, frame)?;
        // What lies beyond the end of the arena is not written.
        body.bytes.truncate((ARENA_LEN - at) as usize);
        let buffer = &mut frame.buffers[index];
        buffer.bytes = body.bytes;
        buffer.stores = body.stores;
        Ok(ARENA_GPA + u64::from(at))
    }

    /// Finds an offset in the arena for a buffer.
    fn place(&mut self, shape: Shape, size: u32) -> Option<u32> {
        let fresh = self.cursor.checked_next_multiple_of(16)?;
        let at = match shape {
            Shape::End(beyond) => {
                return Some(ARENA_LEN - size.saturating_sub(u32::from(beyond)).min(ARENA_LEN));
            }
            Shape::Over { back, delta } if !self.placed.is_empty() => {
                let other = self.placed[self.placed.len() - 1 - usize::from(back) % self.placed.len()];
                return Some((other + u32::from(delta)).min(ARENA_LEN));
            }
            Shape::Unaligned(by) => fresh + u32::from(by % 16),
            Shape::Cross(before) => {
                let before = u32::from(before) % PAGE;
                (fresh + before).checked_next_multiple_of(PAGE)? - before
            }
            _ => fresh,
        };
        let end = at.checked_add(size)?;
        if end > ARENA_LEN {
            return None;
        }
        self.cursor = end;
        Some(at)
    }

    /// Appends the bytes of a value.
    fn fill(
        &mut self,
        ty: &'static Type,
        value: &Value,
        place: Place,
        body: &mut Body,
        frame: &mut Frame,
    ) -> Result<(), LowerError> {
        match (ty, value) {
            (Type::Int { width, .. }, Value::Int(_) | Value::Result(_)) => {
                let source = self.word(ty, value, place, frame)?;
                let offset = body.bytes.len() as u32;
                if let Some(found) = place.result.and_then(|result| frame.found.get_mut(result)) {
                    let origin = Origin::Arena { at: body.at + offset, width: *width };
                    if found.is_none() && body.at + offset + u32::from(*width) <= ARENA_LEN {
                        *found = Some(origin);
                    }
                }
                body.word(source, *width);
            }
            (Type::Ptr { .. } | Type::Word, _) => {
                let source = self.word(ty, value, place, frame)?;
                body.word(source, 8);
            }
            (Type::Struct(layout), Value::Struct(values)) if values.len() == layout.fields.len() => {
                let start = body.bytes.len();
                for ((field, offset), value) in layout.fields.iter().zip(layout.offsets()).zip(values) {
                    body.bytes.resize(start + offset, 0);
                    self.fill(&field.ty, value, place.field(field), body, frame)?;
                }
                body.bytes.resize(start + layout.size(), 0);
            }
            (Type::Array(of), Value::Array(items)) => {
                for item in items {
                    self.fill(of, item, place, body, frame)?;
                }
            }
            (Type::Bytes(_), Value::Bytes(bytes)) => body.bytes.extend_from_slice(bytes),
            (Type::Blob(len), Value::Bytes(bytes)) if bytes.len() == *len as usize => {
                body.bytes.extend_from_slice(bytes);
            }
            (Type::Entry, Value::Entry(entry)) => {
                let (number, args) = self.registers(entry.op, &entry.args, false, frame)?;
                body.word(Source::Const(number), 8);
                body.word(Source::Const(0), 8);
                args.into_iter().for_each(|arg| body.word(arg, 8));
            }
            _ => return Err(LowerError::Type { call: frame.call, name: place.name }),
        }
        Ok(())
    }
}

/// The content of a buffer while it is put together.
struct Body {
    at: u32,
    bytes: Vec<u8>,
    stores: Vec<(u32, u8, Source)>,
}

impl Body {
    fn word(&mut self, source: Source, width: u8) {
        let now = match source {
            Source::Const(value) => value,
            Source::Slot { .. } => {
                self.stores.push((self.bytes.len() as u32, width, source));
                0
            }
        };
        self.bytes.extend_from_slice(&now.to_le_bytes()[..usize::from(width.min(8))]);
    }
}

/// A value where only a constant will do.
fn constant(value: &Value) -> u64 {
    match value {
        Value::Int(value) => *value,
        Value::Result(reference) => reference.otherwise,
        _ => 0,
    }
}

/// Bytes that a value takes in memory.
fn size_of_value(ty: &Type, value: &Value) -> usize {
    match (ty, value) {
        (Type::Array(of), Value::Array(items)) => of.size() * items.len(),
        (Type::Bytes(_), Value::Bytes(bytes)) => bytes.len(),
        _ => ty.size(),
    }
}

/// Emits the instructions that put bytes into the arena.
fn write(at: u32, bytes: &[u8], insns: &mut Vec<u8>) {
    let mut from = 0;
    let mut next = 0;
    while next < bytes.len() {
        let run = bytes[next..].iter().take_while(|byte| **byte == bytes[next]).count();
        if run >= RUN {
            if from < next {
                put(insns, &Insn::Write { at: at + from as u32, bytes: &bytes[from..next] });
            }
            put(insns, &Insn::Fill { at: at + next as u32, len: run as u32, byte: bytes[next] });
            from = next + run;
        }
        next += run;
    }
    if from < bytes.len() {
        put(insns, &Insn::Write { at: at + from as u32, bytes: &bytes[from..] });
    }
}
