//! Programs as flat strings of bytes: what a fuzzer without an interface description works on.
//!
//! The baselines of the benchmark mutate such strings. Decoding is total, so every string is a program, and everything that a
//! typed program can send to a hypercall, except results of earlier calls, has a string. In [`Form::Calls`] a string is a
//! sequence of records:
//!
//! | bytes | meaning |
//! |---|---|
//! | `0dnnnnnn` | a call: number `n`, issued by domain 1 or, with bit `d`, domain 2; then a byte of which bit *i* says that register *i* is an offset in the arena, then six registers of eight bytes |
//! | `1lllllll` | bytes for the arena: the offset in units of four in two bytes, then `l` bytes, written before the next call |
//!
//! All numbers are little-endian; what is missing at the end of a string reads as zero. [`Form::OneCall`] is a number and five
//! registers, eight bytes each, issued by domain 1, and nothing in the arena.

use std::{collections::BTreeMap, sync::LazyLock};

use coverage_hypercall::{
    channel::{ARENA_GPA, ARENA_LEN},
    harness::HARNESS_OP,
    program::{self as wire, AGENT_OPS, Group, Header, Insn, MAX_LEN, Source},
};

use super::{
    lower::{self, put},
    model::{CALLS, Program},
};
use crate::interface::{Select, interface};

/// How a string is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Calls and arena bytes.
    Calls,
    /// A single call with five registers.
    OneCall,
}

/// Bytes of a string of one call.
pub const ONE_CALL_LEN: usize = 48;
/// Longest string in [`Form::Calls`] that is of use.
pub const MAX_STRING: usize = 4096;

/// Marks a record with bytes for the arena.
const DATA: u8 = 0x80;
/// Marks a call of domain 2.
const PEER: u8 = 0x40;
/// Most arena bytes in one record that [`encode`] makes: a multiple of the unit of offsets.
const CHUNK: usize = 124;
/// Unit of offsets in the arena: with 16 bits, all of it can be named.
const UNIT: u32 = 4;
const _: () = assert!(ARENA_LEN == UNIT << 16);

/// A decoded string, ready for the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// What goes into the request ring.
    pub bytes: Vec<u8>,
    /// Names of the operations, call by call; `raw.call` where the numbers are none that the interface knows.
    pub operations: Vec<&'static str>,
}

struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let len = N.min(self.0.len());
        out[..len].copy_from_slice(&self.0[..len]);
        self.0 = &self.0[len..];
        out
    }
}

/// Decodes a string. What is beyond the agent's limits at its end is left out.
pub fn decode(string: &[u8], form: Form) -> Decoded {
    let mut groups = Vec::new();
    let mut operations = Vec::new();
    let mut input = Input(string);
    match form {
        Form::OneCall => {
            let number = call_number(input.take::<8>()[0]);
            let mut registers = [0; 6];
            for register in &mut registers[..5] {
                *register = u64::from_le_bytes(input.take());
            }
            let mut insns = Vec::new();
            put(&mut insns, &call_insn(number, registers));
            push_group(&mut groups, 1, &insns);
            operations.push(operation(number, registers[0]));
        }
        Form::Calls => {
            let mut insns = Vec::new();
            while !input.0.is_empty() && operations.len() < CALLS {
                let [head] = input.take();
                if head & DATA != 0 {
                    let at = u32::from(u16::from_le_bytes(input.take())) * UNIT;
                    let len = usize::from(head & !DATA).min(input.0.len()).min((ARENA_LEN - at) as usize);
                    let (bytes, rest) = input.0.split_at(len);
                    input.0 = rest;
                    put(&mut insns, &Insn::Write { at, bytes });
                } else {
                    let number = call_number(head);
                    let [pointers] = input.take();
                    let mut registers = [0; 6];
                    for (index, register) in registers.iter_mut().enumerate() {
                        let word = u64::from_le_bytes(input.take());
                        let pointer = pointers >> index & 1 != 0;
                        *register = if pointer { ARENA_GPA + word % u64::from(ARENA_LEN) } else { word };
                    }
                    put(&mut insns, &call_insn(number, registers));
                    // A header and one more group's head fit into what is left over.
                    if groups.len() + insns.len() + 32 > MAX_LEN {
                        break;
                    }
                    push_group(&mut groups, 1 + u16::from(head & PEER != 0), &insns);
                    operations.push(operation(number, registers[0]));
                    insns.clear();
                }
            }
        }
    }
    let mut bytes = Vec::with_capacity(groups.len() + 16);
    let calls = operations.len() as u16;
    put(&mut bytes, &Header { magic: wire::MAGIC, version: wire::VERSION, calls, repeat: 1 });
    bytes.extend_from_slice(&groups);
    Decoded { bytes, operations }
}

/// The number that a byte selects. The harness's own is none that a program may use.
fn call_number(byte: u8) -> u32 {
    let number = u32::from(byte & 0x3f);
    if u64::from(number) == HARNESS_OP { 0 } else { number }
}

fn call_insn(number: u32, registers: [u64; 6]) -> Insn<'static> {
    Insn::Call { number, args: registers.map(Source::Const) }
}

fn push_group(groups: &mut Vec<u8>, domain: u16, insns: &[u8]) {
    // Less than MAX_LEN.
    put(groups, &Group { domain, vcpu: 0, len: insns.len() as u16 });
    groups.extend_from_slice(insns);
}

/// The operation of the interface that a number and a first register select: for statistics.
fn operation(number: u32, first: u64) -> &'static str {
    /// Hypercall number, then sub-operation; the sub-operation counts below so many bits.
    struct Table {
        whole: BTreeMap<u32, &'static str>,
        first: BTreeMap<(u32, u64), &'static str>,
        masks: BTreeMap<u32, u64>,
    }
    static TABLE: LazyLock<Table> = LazyLock::new(|| {
        let mut table = Table { whole: BTreeMap::new(), first: BTreeMap::new(), masks: BTreeMap::new() };
        for op in interface().operations() {
            match op.select {
                Select::Whole => {
                    table.whole.insert(op.number, op.name);
                }
                Select::First(value) => {
                    table.first.insert((op.number, value), op.name);
                }
                Select::FirstWithStart { value, shift } => {
                    table.first.insert((op.number, value), op.name);
                    table.masks.insert(op.number, (1 << shift) - 1);
                }
                Select::Raw => {}
            }
        }
        table
    });
    let masked = first & TABLE.masks.get(&number).copied().unwrap_or(u64::MAX);
    let found = TABLE.whole.get(&number).or_else(|| TABLE.first.get(&(number, masked)));
    found.copied().unwrap_or("raw.call")
}

/// The string of a typed program: what a byte fuzzer starts from where typed ones start from that program. Results of earlier
/// calls become the constants that stand in for them; the agent's own operations have no string and are left out.
pub fn encode(program: &Program, form: Form) -> Vec<u8> {
    let Ok(lowered) = lower::lower(program, 1) else { return Vec::new() };
    let mut string = Vec::new();
    let constant = |source: &Source| match source {
        Source::Const(value) | Source::Slot { otherwise: value, .. } => *value,
    };
    let mut arena = BTreeMap::new();
    for_each_insn(&lowered.bytes, &mut |domain, insn| match insn {
        Insn::Write { at, bytes } => arena.extend((at..).zip(bytes.iter().copied())),
        Insn::Fill { at, len, byte } => arena.extend((at..at + len).map(|at| (at, byte))),
        Insn::Store { at, width, value } => {
            let bytes = constant(&value).to_le_bytes();
            arena.extend((at..).zip(bytes.into_iter().take(width.into())));
        }
        Insn::Watch { .. } | Insn::Capture { .. } => {}
        Insn::Call { number, args } => {
            let bytes = std::mem::take(&mut arena);
            if number >= AGENT_OPS {
                return;
            }
            let registers = args.map(|source| constant(&source));
            if form == Form::OneCall {
                // The first call is all that there is room for.
                if string.is_empty() {
                    string.extend_from_slice(&u64::from(number).to_le_bytes());
                    string.extend(registers[..5].iter().flat_map(|register| register.to_le_bytes()));
                }
                return;
            }
            encode_arena(&bytes, &mut string);
            string.push(number as u8 & 0x3f | if domain == 2 { PEER } else { 0 });
            let inside = |word: &u64| word.wrapping_sub(ARENA_GPA) < u64::from(ARENA_LEN);
            let pointers = (0..6).filter(|&i| inside(&registers[i])).fold(0, |bits, i| bits | 1 << i);
            string.push(pointers);
            for word in registers {
                let word = if inside(&word) { word - ARENA_GPA } else { word };
                string.extend_from_slice(&word.to_le_bytes());
            }
        }
    });
    string
}

/// Records for what a call expects in the arena.
fn encode_arena(bytes: &BTreeMap<u32, u8>, string: &mut Vec<u8>) {
    let mut rest = bytes.keys().map(|at| at / UNIT * UNIT).peekable();
    while let Some(start) = rest.next() {
        let mut end = start + UNIT;
        while let Some(&unit) = rest.peek() {
            if unit > end || (unit - start) as usize >= CHUNK {
                break;
            }
            end = end.max(unit + UNIT);
            rest.next();
        }
        string.push(DATA | (end - start) as u8);
        string.extend_from_slice(&((start / UNIT) as u16).to_le_bytes());
        string.extend((start..end).map(|at| bytes.get(&at).copied().unwrap_or(0)));
    }
}

/// Visits the instructions of a lowered program, each with the domain that carries it out.
fn for_each_insn(lowered: &[u8], visit: &mut dyn FnMut(u16, Insn<'_>)) {
    let Ok((header, mut rest)) = postcard::take_from_bytes::<Header>(lowered) else { return };
    for _ in 0..header.calls {
        let Ok((group, behind)) = postcard::take_from_bytes::<Group>(rest) else { return };
        let Some((mut insns, behind)) = behind.split_at_checked(group.len.into()) else { return };
        while let Ok((insn, more)) = postcard::take_from_bytes::<Insn<'_>>(insns) {
            visit(group.domain, insn);
            insns = more;
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::text;
    use proptest::prelude::*;

    /// A call: who issues it, what lies in the arena, its number and its arguments.
    type Effect = (u16, BTreeMap<u32, u8>, u32, [u64; 6]);

    /// What a lowered program puts where and calls, without what only the agent's reports need.
    fn effect(lowered: &[u8]) -> Vec<Effect> {
        let mut calls = Vec::new();
        let mut arena = BTreeMap::new();
        for_each_insn(lowered, &mut |domain, insn| match insn {
            Insn::Write { at, bytes } => arena.extend((at..).zip(bytes.iter().copied())),
            Insn::Fill { at, len, byte } => arena.extend((at..at + len).map(|at| (at, byte))),
            Insn::Store { at, width, value: Source::Const(value) } => {
                arena.extend((at..).zip(value.to_le_bytes().into_iter().take(width.into())));
            }
            Insn::Call { number, args } => {
                let words = args.map(|arg| match arg {
                    Source::Const(value) => value,
                    Source::Slot { .. } => panic!("a slot"),
                });
                calls.push((domain, std::mem::take(&mut arena), number, words));
            }
            _ => {}
        });
        calls
    }

    #[test]
    fn a_typed_program_survives_the_string() {
        let program = text::parse(
            "d1 memory_op.decrease_reservation(0, &{extent_start: &[0x290, 0x291], nr_extents: 2, extent_order: 0, mem_flags: 0, domid: self})\n\
             d2 console_io.write(5, &\"hello\")\n\
             d1 xen_version.version()\n",
        )
        .unwrap();
        let string = encode(&program, Form::Calls);
        let decoded = decode(&string, Form::Calls);
        assert_eq!(decoded.operations, program.operations());
        let (original, again) = (effect(&lower::lower(&program, 1).unwrap().bytes), effect(&decoded.bytes));
        for (left, right) in original.iter().zip(&again) {
            assert_eq!((left.0, left.2, left.3), (right.0, right.2, right.3));
            // Units of four may add zeros.
            assert!(left.1.iter().all(|(at, byte)| right.1.get(at) == Some(byte)), "{left:?} {right:?}");
        }
        assert_eq!(original.len(), again.len());
    }

    #[test]
    fn one_call_is_a_number_and_five_registers() {
        let mut string = vec![17, 0, 0, 0, 0, 0, 0, 0, 6];
        let decoded = decode(&string, Form::OneCall);
        assert_eq!(effect(&decoded.bytes), [(1, BTreeMap::new(), 17, [6, 0, 0, 0, 0, 0])]);
        string[0] = HARNESS_OP as u8;
        assert_eq!(effect(&decode(&string, Form::OneCall).bytes)[0].2, 0);
    }

    proptest! {
        /// Whatever the bytes are, the agent gets something that it understands, within its limits.
        #[test]
        fn every_string_is_a_program(string in prop::collection::vec(any::<u8>(), 0..6000)) {
            for form in [Form::Calls, Form::OneCall] {
                let decoded = decode(&string, form);
                prop_assert!(decoded.bytes.len() <= MAX_LEN);
                let calls = effect(&decoded.bytes);
                prop_assert_eq!(calls.len(), decoded.operations.len());
                prop_assert!(calls.iter().all(|call| u64::from(call.2) != HARNESS_OP));
            }
        }
    }
}
