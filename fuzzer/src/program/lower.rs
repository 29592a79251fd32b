//! Compiles a program into what the agent executes ([`coverage_hypercall::program`]).
//!
//! Buffers are placed in the arena in the order in which their pointers are met, outer ones first; no buffer is used
//! twice unless a pointer's shape says so. What an earlier call gave is captured into a slot only if somebody uses it.

use std::collections::BTreeMap;

use coverage_hypercall::{
    channel::{ARENA_GPA, ARENA_LEN, SLOTS},
    program::{self as wire, Group, Header, Insn, MAX_CAPTURES, MAX_LEN, MAX_REPORTED, Origin, Source},
};
use postcard::ser_flavors::Flavor;
use serde::Serialize;
use thiserror::Error;

use super::{
    environment::Environment,
    model::{CALLS, Call, Pointer, Program, ResultRef, Shape, Value, mask},
    walk::WORD_POINTEE,
};
use crate::interface::{Dir, Field, OpId, ResultFrom, Select, Type};

const PAGE: u32 = 4096;

/// Runs of one byte that are at least so long are filled instead of copied.
const RUN: usize = 24;

/// Buffers of one call whose changes are reported: an agent takes no more. In a long multicall the first ones count.
const MAX_WATCHES: usize = 16;

/// What the result of a multicall's entry holds before the call: none of Xen's error numbers.
const NOT_YET: u64 = i64::MIN.cast_unsigned();

/// A program as the agent executes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lowered {
    /// What goes into the request ring.
    pub bytes: Vec<u8>,
    /// Buffers whose changes the agent reports: what a transcript needs.
    pub regions: Vec<Region>,
    /// What the agent keeps for later calls, in the order of the calls.
    pub captures: Vec<Captured>,
    /// What numbers of the program stand for.
    pub environment: Environment,
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
    /// Where the result of the entry of a multicall is found that gives it: that must not be negative either.
    pub guard: Option<u32>,
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

/// Compiles a program that runs `repeat` times, for a hypervisor that takes its numbers as they are.
///
/// # Errors
/// [`LowerError`]; a program that validates can be lowered.
pub fn lower(program: &Program, repeat: u32) -> Result<Lowered, LowerError> {
    lower_in(program, repeat, &Environment::default())
}

/// Compiles a program that runs `repeat` times, for a machine.
///
/// # Errors
/// [`LowerError`]; a program that validates can be lowered.
pub fn lower_in(program: &Program, repeat: u32, environment: &Environment) -> Result<Lowered, LowerError> {
    if program.calls.len() > CALLS {
        return Err(LowerError::Calls(program.calls.len()));
    }
    let mut bytes = Vec::with_capacity(1024);
    put(
        &mut bytes,
        &Header { magic: wire::MAGIC, version: wire::VERSION, calls: program.calls.len() as u16, repeat },
    );
    let mut state = Lowering {
        environment,
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
    let Lowering { regions, captures, .. } = state;
    Ok(Lowered { bytes, regions, captures, environment: *environment })
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

/// Call, entry and number of a result.
type Name = (u16, Option<u8>, u8);

/// Gives a slot to each result that somebody uses.
fn slots(program: &Program) -> BTreeMap<Name, u8> {
    fn scan(value: &Value, slots: &mut BTreeMap<Name, u8>) {
        match value {
            Value::Result(ResultRef { call, entry, result, .. }) => {
                let next = slots.len();
                if next < SLOTS {
                    slots.entry((*call, *entry, *result)).or_insert(next as u8);
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

struct Lowering<'a> {
    environment: &'a Environment,
    slots: BTreeMap<Name, u8>,
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
    /// Where fields are found that are results of the call or of an entry: of each the first one of its name.
    fields: BTreeMap<(Option<u8>, u8), Origin>,
    /// Where the results of entries are found.
    entries: BTreeMap<u8, u32>,
}

/// Whose arguments are lowered.
#[derive(Clone, Copy)]
enum Giver {
    /// The call's own.
    Call(OpId),
    /// Those of an entry of the call. Numbers beyond a byte do not fit into references.
    Entry(u8, OpId),
    /// Those of an entry inside an entry: nobody can use what it gives.
    Inner,
}

/// What a value looks like from outside: which field it belongs to.
#[derive(Clone, Copy)]
struct Place {
    name: &'static str,
    giver: Giver,
    /// Position among the entries of a multicall.
    index: usize,
    /// Entry and number of the result that this value would be.
    result: Option<(Option<u8>, u8)>,
}

impl Place {
    fn field(self, field: &Field) -> Self {
        let (entry, op) = match self.giver {
            Giver::Call(op) => (None, Some(op)),
            Giver::Entry(entry, op) => (Some(entry), Some(op)),
            Giver::Inner => (None, None),
        };
        let result = op.and_then(|op| {
            let mut results = op.operation().results.iter().zip(0..);
            let (_, number) =
                results.find(|(result, _)| result.from == ResultFrom::Field && result.name == field.name)?;
            Some((entry, number))
        });
        Self { name: field.name, result: result.or(self.result), ..self }
    }

    /// Whose arguments those of an entry at this place are.
    fn entry(self, op: OpId) -> Giver {
        match (self.giver, u8::try_from(self.index)) {
            (Giver::Call(_), Ok(entry)) => Giver::Entry(entry, op),
            _ => Giver::Inner,
        }
    }
}

impl Lowering<'_> {
    fn call(&mut self, index: usize, call: &Call, insns: &mut Vec<u8>) -> Result<(), LowerError> {
        let mut frame =
            Frame { call: index, buffers: Vec::new(), fields: BTreeMap::new(), entries: BTreeMap::new() };
        let (number, args) = self.registers(call.op, &call.args, Giver::Call(call.op), &mut frame)?;
        let Frame { buffers, fields, entries, .. } = frame;
        for buffer in &buffers {
            write(buffer.at, &buffer.bytes, insns);
            for (offset, width, value) in &buffer.stores {
                if *offset as usize + usize::from(*width) <= buffer.bytes.len() {
                    put(insns, &Insn::Store { at: buffer.at + offset, width: *width, value: *value });
                }
            }
        }
        let watched = buffers.into_iter().filter(|buffer| !buffer.bytes.is_empty());
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
        let mut room = MAX_CAPTURES;
        for (entry, number, result) in call.results() {
            let Some(&slot) = self.slots.get(&(index as u16, entry, number)) else { continue };
            let guard = entry.and_then(|entry| entries.get(&entry)).copied();
            // An entry that lies beyond the arena gives nothing.
            if room == 0 || (entry.is_some() && guard.is_none()) {
                continue;
            }
            let from = match (result.from, guard) {
                (ResultFrom::Return, None) => Some(Origin::Return),
                (ResultFrom::Return, Some(at)) => Some(Origin::Arena { at, width: 8 }),
                (ResultFrom::Field, _) => fields.get(&(entry, number)).copied(),
            };
            if let Some(from) = from {
                put(insns, &Insn::Capture { slot, from, guard });
                self.captures.push(Captured { call: index as u16, slot, from, guard });
                room -= 1;
            }
        }
        Ok(())
    }

    /// Number and registers of a call or an entry.
    fn registers(
        &mut self,
        id: OpId,
        values: &[Value],
        giver: Giver,
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
            let place = Place { name: field.name, giver, index: 0, result: None }.field(field);
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
            (Type::Int { width, kind }, Value::Int(value)) => {
                Ok(Source::Const(self.environment.lowered(kind, *value) & mask(*width)))
            }
            (Type::Word, Value::Int(value)) => Ok(Source::Const(*value)),
            (Type::Int { width, kind }, Value::Result(reference)) => {
                let otherwise = self.environment.lowered(kind, reference.otherwise);
                Ok(self.source(&ResultRef { otherwise, ..*reference }, *width))
            }
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
        match self.slots.get(&(reference.call, reference.entry, reference.result)) {
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
                let at = body.at + offset;
                if let Some(result) = place.result
                    && at + u32::from(*width) <= ARENA_LEN
                {
                    frame.fields.entry(result).or_insert(Origin::Arena { at, width: *width });
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
                for (index, item) in items.iter().enumerate() {
                    self.fill(of, item, Place { index, ..place }, body, frame)?;
                }
            }
            (Type::Bytes(_), Value::Bytes(bytes)) => body.bytes.extend_from_slice(bytes),
            (Type::Blob(len), Value::Bytes(bytes)) if bytes.len() == *len as usize => {
                body.bytes.extend_from_slice(bytes);
            }
            (Type::Entry, Value::Entry(entry)) => {
                let giver = place.entry(entry.op);
                let (number, args) = self.registers(entry.op, &entry.args, giver, frame)?;
                body.word(Source::Const(number), 8);
                let at = body.at + body.bytes.len() as u32;
                if let Giver::Entry(index, _) = giver
                    && at + 8 <= ARENA_LEN
                {
                    frame.entries.insert(index, at);
                }
                // Negative until the hypervisor has written the result: an entry that is never reached gives nothing.
                body.word(Source::Const(NOT_YET), 8);
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
