//! Makes programs from nothing but the interface.
//!
//! Most calls are well-formed and use what earlier ones gave; some values are hostile. A call that needs a
//! resource often gets a producer put before it, in the domain that makes sense.

use coverage_hypercall::{
    channel::{PLAYGROUND_FRAMES, PLAYGROUND_GFN},
    program::AGENT_OPS,
};
use rand::Rng;

use super::{
    choose::{self, Theme},
    environment::TABLES,
    hostile::{bad_address, hostile, odd_shape},
    model::{
        CALLS, Call, DOMID_SELF, Entry, FIRST_HOLE, LAST_DOMAIN, Pointer, Program, ResultRef, Value, mask,
        results,
    },
    sequence, validate, walk,
};
use crate::interface::{
    CONTROL_FAMILIES, CONTROL_OPERATIONS, Field, Interface, Kind, Operation, Resource, TABLES_GFN, Type,
    Versioned,
};

/// Entries of a page table.
const ENTRIES: u64 = 512;

/// Calls that [`program`] makes at most when nothing else is asked for.
pub const DEFAULT_CALLS: usize = 10;

/// A program of 1 to `max_calls` calls (at most 64). It validates.
pub fn program<R: Rng + ?Sized>(rng: &mut R, interface: &Interface, max_calls: usize) -> Program {
    loop {
        let program = attempt(rng, interface, max_calls);
        // Now and then all calls of a short one would have been too long.
        if !program.calls.is_empty() || interface.operations().is_empty() {
            return program;
        }
    }
}

fn attempt<R: Rng + ?Sized>(rng: &mut R, interface: &Interface, max_calls: usize) -> Program {
    let wanted = rng.random_range(1..=max_calls.clamp(1, CALLS));
    let theme = Theme::random(rng, interface);
    let mut program = Program::default();
    for _ in 0..wanted * 4 {
        if program.calls.len() >= wanted {
            break;
        }
        if let Some(op) = choose::pick(rng, interface, theme, true) {
            append_op(rng, interface, &mut program, op, wanted);
        }
    }
    // Together they may be too long.
    while validate::validate(&program).is_err() {
        program.calls.pop();
    }
    program
}

/// Appends a call that goes with the others, and a producer before it if it needs one and there is room below `limit`. Leaves
/// the program as it was if a call would not be valid by itself.
pub fn append<R: Rng + ?Sized>(rng: &mut R, interface: &Interface, program: &mut Program, limit: usize) {
    if let Some(op) = choose::fitting(rng, interface, &program.calls) {
        append_op(rng, interface, program, op, limit);
    }
}

fn append_op<R: Rng + ?Sized>(
    rng: &mut R,
    interface: &Interface,
    program: &mut Program,
    op: &'static Operation,
    limit: usize,
) {
    let before = program.calls.len();
    provide(rng, interface, program, op, limit);
    sequence::lead(rng, interface, program, op, limit);
    let made = call_of(rng, interface, op, &program.calls);
    program.calls.push(made);
    if validate::calls(program, before).is_err() {
        program.calls.truncate(before);
    }
}

/// Appends what gives the resource that an operation is about, unless something does, and before that what this one
/// needs.
fn provide<R: Rng + ?Sized>(
    rng: &mut R,
    interface: &Interface,
    program: &mut Program,
    op: &Operation,
    limit: usize,
) {
    let Some(kind) = choose::about(op) else { return };
    if program.calls.len() + 1 >= limit
        || rng.random_bool(0.3)
        || program.calls.iter().any(|call| gives(call, kind))
    {
        return;
    }
    // What makes a thing of some kind from another of its kind is no beginning.
    let producers: Vec<_> = interface.producers(kind).filter(|op| choose::about(op) != Some(kind)).collect();
    if producers.is_empty() {
        return;
    }
    let producer = producers[rng.random_range(0..producers.len())];
    provide(rng, interface, program, producer, limit.saturating_sub(1));
    let made = call_of(rng, interface, producer, &program.calls);
    program.calls.push(made);
}

/// A call that fits behind `earlier` ones.
pub fn call<R: Rng + ?Sized>(rng: &mut R, interface: &Interface, earlier: &[Call]) -> Option<Call> {
    let op = choose::fitting(rng, interface, earlier)?;
    Some(call_of(rng, interface, op, earlier))
}

/// A call of a given operation that fits behind `earlier` ones.
pub fn call_of<R: Rng + ?Sized>(
    rng: &mut R,
    interface: &Interface,
    op: &'static Operation,
    earlier: &[Call],
) -> Call {
    let domain = interface.only_domain().unwrap_or_else(|| issuer(rng, op));
    let mut maker = Maker { rng, interface, earlier, domain, nested: 0 };
    let mut args = maker.fields(op.args);
    // A resource is of use in the domain that has it: usually issue the call there.
    if maker.rng.random_bool(0.8)
        && let Some(home) = home(op, &mut args, earlier)
    {
        maker.domain = home;
    }
    let domain = maker.domain;
    let mut call = Call { domain, vcpu: 0, op: op.id(), args };
    if interface.only_domain().is_none() {
        if rng.random_bool(0.8) {
            point_at_owners(&mut call, earlier);
        }
        if rng.random_bool(0.06) {
            call.vcpu = 1;
        }
    }
    sequence::follow(rng, &mut call, earlier);
    call
}

/// Who issues a call: the control domain what only it may, the leader most of the rest.
fn issuer<R: Rng + ?Sized>(rng: &mut R, op: &Operation) -> u16 {
    let control = match () {
        () if CONTROL_FAMILIES.contains(&op.family()) => 0.93,
        () if CONTROL_OPERATIONS.contains(&op.name) => 0.6,
        () => 0.06,
    };
    match rng.random_range(0..10) {
        _ if rng.random_bool(control) => 0,
        0..=6 => 1,
        _ => rng.random_range(1..=LAST_DOMAIN),
    }
}

/// A value for a field, alone.
pub fn value<R: Rng + ?Sized>(
    rng: &mut R,
    interface: &Interface,
    ty: &'static Type,
    earlier: &[Call],
    domain: u16,
) -> Value {
    Maker { rng, interface, earlier, domain, nested: 1 }.value(ty)
}

fn gives(call: &Call, kind: Resource) -> bool {
    call.results().any(|(_, _, result)| result.kind == kind)
}

/// The domain in which the things that a call names exist.
fn home(op: &'static Operation, args: &mut [Value], earlier: &[Call]) -> Option<u16> {
    let mut home = None;
    walk::values_mut(op.id(), args, &mut |site, value| {
        if let (Type::Int { kind, .. }, Value::Result(reference)) = (site.ty, value)
            && kind.owner().is_none()
            && !matches!(kind.resource(), None | Some(Resource::Frame))
        {
            home = home.or(earlier.get(usize::from(reference.call)).map(|call| call.domain));
        }
    });
    home
}

/// Lets fields that say whose a sibling is say the truth.
fn point_at_owners(call: &mut Call, earlier: &[Call]) {
    let domain = &mut call.domain;
    walk::groups_mut(call.op.operation().args, &mut call.args, &mut |fields, values| {
        for (position, field) in fields.iter().enumerate() {
            let Type::Int { kind, .. } = &field.ty else { continue };
            let Some(of) = kind.owner() else { continue };
            let Some(Value::Result(reference)) = values.get(position) else { continue };
            let Some(owner) = earlier.get(usize::from(reference.call)).map(|call| call.domain) else {
                continue;
            };
            let Some(sibling) = fields.iter().position(|field| field.name == of) else { continue };
            let peer = matches!(fields[sibling].ty, Type::Int { kind: Kind::Peer, .. });
            values[sibling] = Value::Int(u64::from(owner));
            if peer {
                let other = if owner == 1 { 2 } else { 1 };
                *domain = other;
                // Whoever was the other domain for the one that would have called.
                for (field, value) in fields.iter().zip(values.iter_mut()) {
                    if matches!(field.ty, Type::Int { kind: Kind::Peer, .. })
                        && *value == Value::Int(u64::from(other))
                    {
                        *value = Value::Int(u64::from(owner));
                    }
                }
            }
        }
    });
}

struct Maker<'a, R: ?Sized> {
    rng: &'a mut R,
    interface: &'a Interface,
    earlier: &'a [Call],
    domain: u16,
    nested: u32,
}

impl<R: Rng + ?Sized> Maker<'_, R> {
    fn fields(&mut self, fields: &'static [Field]) -> Vec<Value> {
        let mut values: Vec<Value> = fields.iter().map(|field| self.field(field)).collect();
        for (position, field) in fields.iter().enumerate() {
            let Type::Int { width, kind: Kind::Len(of) } = &field.ty else { continue };
            let Some(sibling) = fields.iter().position(|field| field.name == *of) else { continue };
            let len = match &values[sibling] {
                // Where nothing is said to lie there, nobody looks.
                Value::Pointer(Pointer { to: None, .. }) => self.rng.random_range(1..=4),
                value => value.len_of(),
            };
            values[position] = Value::Int(match self.rng.random_range(0..20) {
                0 => hostile(self.rng, *width),
                1 => (len + self.rng.random_range(1..4)) & mask(*width),
                2 => len.saturating_sub(1),
                _ => len & mask(*width),
            });
        }
        self.go_with(fields, &mut values);
        self.agree(fields, &mut values);
        self.same_mapping(fields, &mut values);
        self.see_frames(fields, &mut values);
        values
    }

    /// An address at which a frame is seen is mostly that of the frame.
    fn see_frames(&mut self, fields: &'static [Field], values: &mut [Value]) {
        for (position, field) in fields.iter().enumerate() {
            let Type::Int { kind: Kind::PageOf(of), .. } = &field.ty else { continue };
            let Some(sibling) = fields.iter().position(|field| field.name == *of) else { continue };
            let Type::Int { kind, .. } = &fields[sibling].ty else { continue };
            if let Value::Int(value) = values[sibling]
                && let Some(frame) = kind.frame_in(value)
                && frame < FIRST_HOLE
                && self.rng.random_bool(0.85)
            {
                values[position] = Value::Int(frame << 12);
            }
        }
    }

    /// What depends on the value of a sibling mostly goes with it.
    fn go_with(&mut self, fields: &'static [Field], values: &mut [Value]) {
        for (position, field) in fields.iter().enumerate() {
            let mut value = std::mem::replace(&mut values[position], Value::Int(0));
            let site = walk::Site { ty: &field.ty, name: field.name, out: field.out };
            walk::value_mut(site, &mut value, &mut |site, value| {
                let Type::Int { width, kind: Kind::By(of, kinds) } = site.ty else { return };
                let sibling = fields.iter().position(|field| field.name == *of).map(|at| &values[at]);
                let Some(Value::Int(sibling)) = sibling else { return };
                let kind = kinds.iter().find(|(value, _)| value == sibling);
                if let Some((_, kind)) = kind
                    && self.rng.random_bool(0.85)
                {
                    *value = self.int(*width, kind);
                }
            });
            values[position] = value;
        }
    }

    /// What a structure says of a mapping mostly comes from one call.
    fn same_mapping(&mut self, fields: &'static [Field], values: &mut [Value]) {
        let kind =
            |field: &Field| if let Type::Int { kind, .. } = &field.ty { kind.resource() } else { None };
        let handle = fields.iter().position(|field| kind(field) == Some(Resource::GrantHandle));
        let Some(Value::Result(made)) = handle.map(|at| values[at].clone()) else { return };
        let maker = self.earlier.get(usize::from(made.call)).and_then(|call| call.operation(made.entry));
        let Some(maker) = maker else { return };
        for (field, value) in fields.iter().zip(values) {
            let Value::Result(reference) = value else { continue };
            if let Some(result) = maker.results.iter().position(|result| Some(result.kind) == kind(field)) {
                let otherwise = reference.otherwise;
                *reference = ResultRef { result: result as u8, otherwise, ..made };
            }
        }
    }

    /// Two structures of one type side by side are mostly two views of one thing: what goes in and what comes out. Unless
    /// they agree, a call refuses them before it looks further.
    fn agree(&mut self, fields: &'static [Field], values: &mut [Value]) {
        for second in 1..fields.len() {
            let Type::Struct(layout) = &fields[second].ty else { continue };
            let same = |field: &Field| matches!(&field.ty, Type::Struct(of) if std::ptr::eq(*of, *layout));
            let Some(first) = fields[..second].iter().position(same) else { continue };
            if self.rng.random_bool(0.4) {
                continue;
            }
            let mut copy = values[first].clone();
            walk::value_mut(
                walk::Site { ty: &fields[second].ty, name: fields[second].name, out: fields[second].out },
                &mut copy,
                &mut |site, value| {
                    if let (Type::Ptr { to, .. }, Value::Pointer(pointer)) = (site.ty, value)
                        && self.rng.random_bool(0.25)
                    {
                        let size =
                            pointer.to.as_ref().map_or(8, |data| to.size().max(data.len_of() as usize * 8));
                        pointer.shape = odd_shape(self.rng, size);
                        if !pointer.shape.has_data() {
                            pointer.to = None;
                        } else if pointer.to.is_none() {
                            pointer.to = Some(Box::new(Value::plainest(to)));
                        }
                    }
                },
            );
            values[second] = copy;
        }
    }

    fn field(&mut self, field: &'static Field) -> Value {
        match &field.ty {
            Type::Int { width, .. } if field.out => {
                Value::Int(if self.rng.random_bool(0.05) { hostile(self.rng, *width) } else { 0 })
            }
            Type::Blob(_) if field.out => Value::plainest(&field.ty),
            ty => self.value(ty),
        }
    }

    fn value(&mut self, ty: &'static Type) -> Value {
        match ty {
            Type::Int { width, kind } => self.int(*width, kind),
            Type::Word => self.word(),
            Type::Ptr { to, .. } => self.pointer(to),
            Type::Struct(layout) => Value::Struct(self.fields(layout.fields)),
            Type::Array(of) => {
                let len = match self.rng.random_range(0..16) {
                    0 => 0,
                    1..=8 => 1,
                    9..=14 => self.rng.random_range(2..=4),
                    _ => self.rng.random_range(5..=20),
                };
                if matches!(of, Type::Entry) {
                    // Batches are mostly of one kind.
                    if self.rng.random_bool(0.12) {
                        let entry = self.value(of);
                        return Value::Array(vec![entry; self.rng.random_range(8..=64)]);
                    }
                    return Value::Array((0..len.min(4)).map(|_| self.value(of)).collect());
                }
                Value::Array((0..len).map(|_| self.value(of)).collect())
            }
            Type::Bytes(usual) => {
                let len = match self.rng.random_range(0..10) {
                    0 => self.rng.random_range(0..=64),
                    1 => self.rng.random_range(0..=512),
                    _ => *usual as usize,
                };
                Value::Bytes(self.bytes(len))
            }
            Type::Blob(len) => Value::Bytes(self.bytes(*len as usize)),
            Type::Entry => self.entry(),
        }
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        match self.rng.random_range(0..4) {
            0 => (0..len).map(|_| self.rng.random()).collect(),
            1 => (0..len).map(|_| self.rng.random_range(b' '..=b'~')).collect(),
            2 => vec![self.rng.random(); len],
            _ => vec![0; len],
        }
    }

    fn entry(&mut self) -> Value {
        // Calls inside a multicall: hypercalls only, and a multicall once at most.
        let plain = Value::plainest(&Type::Entry);
        self.nested += 1;
        let op = choose::fitting(self.rng, self.interface, self.earlier)
            .filter(|op| op.number < AGENT_OPS)
            .or_else(|| choose::pick(self.rng, self.interface, Theme::ALL, false));
        let made = match op {
            Some(op) if self.nested < 3 || !takes_entries(op) => {
                Value::Entry(Box::new(Entry { op: op.id(), args: self.fields(op.args) }))
            }
            _ => plain,
        };
        self.nested -= 1;
        made
    }

    fn word(&mut self) -> Value {
        match self.rng.random_range(0..5) {
            0 => Value::plain_pointer(Value::Bytes(self.bytes(64))),
            1 => self.result(Resource::Port, 8).unwrap_or(Value::Int(0)),
            2 => Value::Int(hostile(self.rng, 8)),
            _ => Value::Int(self.rng.random_range(0..16)),
        }
    }

    fn pointer(&mut self, to: &'static Type) -> Value {
        let data = self.value(to);
        if self.rng.random_bool(0.92) {
            return Value::plain_pointer(data);
        }
        let size = to.size().max(data.len_of() as usize * 8);
        let shape = odd_shape(self.rng, size);
        Value::Pointer(Pointer { shape, to: shape.has_data().then(|| Box::new(data)) })
    }

    fn result(&mut self, kind: Resource, width: u8) -> Option<Value> {
        let mut found: Vec<_> = results(self.earlier).filter(|(_, spec)| spec.kind == kind).collect();
        if found.is_empty() {
            return None;
        }
        let (reference, _) = found.swap_remove(self.rng.random_range(0..found.len()));
        let otherwise = if self.rng.random_bool(0.9) { 0 } else { hostile(self.rng, width) };
        Some(Value::Result(ResultRef { otherwise, ..reference }))
    }

    fn int(&mut self, width: u8, kind: &'static Kind) -> Value {
        if self.rng.random_bool(0.06) {
            return Value::Int(hostile(self.rng, width));
        }
        let value = match kind {
            Kind::Plain | Kind::Len(_) => match self.rng.random_range(0..3) {
                0 => hostile(self.rng, width),
                _ => self.rng.random_range(0..8),
            },
            Kind::Hex => match self.rng.random_range(0..3) {
                0 => bad_address(self.rng),
                1 => hostile(self.rng, width),
                _ => self.rng.random(),
            },
            Kind::Range(low, high) => self.rng.random_range(*low..=*high),
            Kind::Enum(names) => names[self.rng.random_range(0..names.len())].1,
            Kind::Flags(names) => {
                let mut flags = 0;
                if self.rng.random_bool(0.6) {
                    for _ in 0..self.rng.random_range(1..=2) {
                        flags |= names[self.rng.random_range(0..names.len())].1;
                    }
                }
                flags
            }
            Kind::UsualFlags(_, usual) if !usual.is_empty() && self.rng.random_bool(0.8) => {
                usual[self.rng.random_range(0..usual.len())]
            }
            Kind::UsualFlags(names, _) => {
                let mut flags = 0;
                for _ in 0..self.rng.random_range(0..=3) {
                    flags |= names[self.rng.random_range(0..names.len())].1;
                }
                flags
            }
            Kind::Const(value) => *value,
            Kind::Version(_) => u64::from(Versioned::USUAL),
            Kind::ThisFrame(frame) => *frame,
            Kind::Table => self.table(),
            Kind::TableEntry(below) => self.table_entry() | below,
            Kind::Pte(usual) => {
                let flags = match self.rng.random_range(0..10) {
                    0 => self.rng.random_range(0..0x1000),
                    1 => 0,
                    _ => usual.get(self.rng.random_range(0..usual.len().max(1))).copied().unwrap_or_default(),
                };
                if kind.frame_in(flags) != Some(0) {
                    return Value::Int(flags);
                }
                let frame = if self.rng.random_bool(0.15) { self.table() } else { self.plain_frame() };
                frame << 12 | flags
            }
            Kind::PageOf(_) => self.plain_frame() << 12,
            Kind::GrantEntry => {
                let domain = self.interface.only_domain().unwrap_or(self.domain);
                let flags = [1, 1, 1, 5, 0, 2, 0x19][self.rng.random_range(0..7)];
                self.plain_frame() << 32 | u64::from(domain) << 16 | flags
            }
            Kind::Progress if self.rng.random_bool(0.4) => self.rng.random_range(1..3),
            Kind::Progress => 0,
            Kind::Frame => return self.frame(width),
            Kind::Hole if self.rng.random_bool(0.4) => return self.frame(width),
            Kind::Hole => FIRST_HOLE + self.rng.random_range(0..4),
            Kind::By(_, kinds) => {
                let (_, kind) = &kinds[self.rng.random_range(0..kinds.len())];
                return self.int(width, kind);
            }
            Kind::HolePage => (FIRST_HOLE + self.rng.random_range(0..4)) << 12,
            Kind::MappedAt | Kind::BusAddress if self.rng.random_bool(0.3) => 0,
            Kind::Target => return self.target(width),
            Kind::Domain if self.domain == 0 && self.rng.random_bool(0.6) => return self.target(width),
            Kind::Domain => match self.rng.random_range(0..10) {
                0..=7 => DOMID_SELF,
                8 => u64::from(self.domain),
                _ => self.other(),
            },
            Kind::Peer => match self.rng.random_range(0..10) {
                0..=7 => self.other(),
                8 => DOMID_SELF,
                _ => [0, 0x7ff1, 0x7ff2, 0x7ff3, 0x7ff4, 0x7fff][self.rng.random_range(0..6)],
            },
            Kind::Vcpu => [0, 0, 0, 0, 0, 0, 1, 1, 1, 2][self.rng.random_range(0..10)],
            Kind::Port
            | Kind::PortOf(_)
            | Kind::GrantRef
            | Kind::GrantRefOf(_)
            | Kind::GrantHandle
            | Kind::MappedAt
            | Kind::BusAddress => {
                if self.rng.random_bool(0.85)
                    && let Some(resource) = kind.resource()
                    && let Some(result) = self.result(resource, width)
                {
                    return result;
                }
                match kind {
                    Kind::MappedAt => (FIRST_HOLE + self.rng.random_range(0..4)) << 12,
                    _ => self.rng.random_range(0..8),
                }
            }
        };
        Value::Int(value & mask(width))
    }

    fn frame(&mut self, width: u8) -> Value {
        if self.rng.random_bool(0.15)
            && let Some(result) = self.result(Resource::Frame, width)
        {
            return result;
        }
        Value::Int(self.plain_frame() & mask(width))
    }

    /// The number of a frame, mostly of one of the playground.
    fn plain_frame(&mut self) -> u64 {
        // Few frames, so that calls meet each other's.
        let offset = match self.rng.random_range(0..10) {
            0..=6 => self.rng.random_range(0..4),
            7 => self.rng.random_range(0..PLAYGROUND_FRAMES / 8) * 8,
            8 => self.rng.random_range(0..PLAYGROUND_FRAMES),
            // Just behind the domain's memory, where nothing is mapped.
            _ => FIRST_HOLE - PLAYGROUND_GFN + self.rng.random_range(0..4),
        };
        if self.rng.random_bool(0.05) { self.rng.random_range(0..4) } else { PLAYGROUND_GFN + offset }
    }

    /// A frame that is a page table, or that may have become one.
    fn table(&mut self) -> u64 {
        if self.rng.random() {
            TABLES_GFN + self.rng.random_range(0..TABLES as u64)
        } else {
            self.plain_frame()
        }
    }

    /// The address of an entry of a page table. The first 2 MiB of the playground's L1 table begin with the arena.
    fn table_entry(&mut self) -> u64 {
        let playground = PLAYGROUND_GFN % ENTRIES;
        let index = match self.rng.random_range(0..6) {
            0 | 1 => self.rng.random_range(0..4),
            2..=4 => playground + self.rng.random_range(0..8),
            // The ends of the table, and of what Xen keeps for itself in an L4 table.
            _ => [255, 256, 257, 271, 272, 510, 511][self.rng.random_range(0..7)],
        };
        self.table() << 12 | index << 3
    }

    /// A domain that was created, or one of those that issue calls.
    fn target(&mut self, width: u8) -> Value {
        if self.rng.random_bool(0.6)
            && let Some(result) = self.result(Resource::Domain, width)
        {
            return result;
        }
        Value::Int(match self.rng.random_range(0..8) {
            0 => u64::from(self.domain),
            1 => DOMID_SELF & mask(width),
            2 => self.rng.random_range(0..16),
            _ => match self.interface.only_domain() {
                Some(alone) => u64::from(alone),
                None => u64::from(self.rng.random_range(1..=LAST_DOMAIN)),
            },
        })
    }

    fn other(&self) -> u64 {
        match self.interface.only_domain() {
            Some(alone) => u64::from(alone),
            None if self.domain == 1 => 2,
            None => 1,
        }
    }
}

fn takes_entries(op: &Operation) -> bool {
    op.args.iter().any(|field| matches!(field.ty, Type::Ptr { to: Type::Array(Type::Entry), .. }))
}
