//! Makes the arguments of one call.

use coverage_hypercall::{
    channel::{PLAYGROUND_FRAMES, PLAYGROUND_GFN},
    program::AGENT_OPS,
};
use rand::Rng;

use super::super::{
    choose::{self, Theme},
    environment::TABLES,
    hostile::{bad_address, hostile, odd_shape},
    model::{Call, DOMID_SELF, Entry, FIRST_HOLE, LAST_DOMAIN, Pointer, ResultRef, Value, mask, results},
    walk,
};
use crate::interface::{Field, Interface, Kind, Operation, Resource, TABLES_GFN, Type, Versioned};

/// Entries of a page table.
const ENTRIES: u64 = 512;

/// A call in the making.
pub(super) struct Maker<'a, R: ?Sized> {
    pub(super) rng: &'a mut R,
    pub(super) interface: &'a Interface,
    pub(super) earlier: &'a [Call],
    pub(super) domain: u16,
    pub(super) nested: u32,
}

impl<R: Rng + ?Sized> Maker<'_, R> {
    pub(super) fn fields(&mut self, fields: &'static [Field]) -> Vec<Value> {
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

    pub(super) fn value(&mut self, ty: &'static Type) -> Value {
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
