//! What a program is.

use std::cell::Cell;

use coverage_hypercall::{channel::PLAYGROUND_GFN, program::MAX_CALLS};
use serde::{Deserialize, Deserializer, Serialize};

use super::walk;
use crate::interface::{Field, Kind, OpId, Operation, ResultSpec, Type, Versioned};

/// Most calls in a program.
pub const CALLS: usize = MAX_CALLS as usize;
/// Domains that can issue calls: the control domain 0, and 1 up to this one.
pub const LAST_DOMAIN: u16 = 2;
/// How deep values may lie in each other. Enough for a multicall in a multicall.
pub const MAX_DEPTH: u32 = 24;
/// How deep multicalls may lie in each other.
pub const MAX_NESTED_CALLS: u32 = 3;
/// First frame behind a domain's 4 MiB of memory: nothing is mapped there.
pub const FIRST_HOLE: u64 = (4 << 20) >> 12;
/// The caller's own domain, as an argument.
pub const DOMID_SELF: u64 = xen_abi::DOMID_SELF as u64;

/// A sequence of calls.
///
/// Programs are copied several times for each execution, mostly over one that differs little. So `clone_from`, here and for all that
/// programs are made of, uses the memory again that the target has.
#[derive(Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Program {
    /// In the order in which they are issued.
    pub calls: Vec<Call>,
}

impl Program {
    /// Names of the operations, call by call.
    pub fn operations(&self) -> Vec<&'static str> {
        self.calls.iter().map(|call| call.op.operation().name).collect()
    }

    /// Names of what is asked for, call by call, as [`walk::asked`] has them.
    pub fn asked(&self) -> Vec<&'static str> {
        self.calls.iter().map(walk::asked).collect()
    }
}

/// One call.
#[derive(Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Call {
    /// Domain that issues it: 0 to [`LAST_DOMAIN`].
    pub domain: u16,
    /// Virtual CPU that issues it.
    pub vcpu: u8,
    /// What it does.
    pub op: OpId,
    /// One for each argument of the operation.
    pub args: Vec<Value>,
}

impl Call {
    /// The entries of a multicall; none of any other call.
    pub fn entries(&self) -> &[Value] {
        match (self.op.operation().args, self.args.as_slice()) {
            (
                [Field { ty: Type::Ptr { to: Type::Array(Type::Entry), .. }, .. }, ..],
                [Value::Pointer(list), ..],
            ) => match list.to.as_deref() {
                Some(Value::Array(entries)) => entries,
                _ => &[],
            },
            _ => &[],
        }
    }

    /// What an entry of a multicall, or the call itself, does.
    pub fn operation(&self, entry: Option<u8>) -> Option<&'static Operation> {
        let Some(entry) = entry else { return Some(self.op.operation()) };
        match self.entries().get(usize::from(entry))? {
            Value::Entry(entry) => Some(entry.op.operation()),
            _ => None,
        }
    }

    /// All results of the call and of its entries: entry, number and description.
    pub fn results(&self) -> impl Iterator<Item = (Option<u8>, u8, &'static ResultSpec)> {
        let entries = (0..=u8::MAX).take(self.entries().len()).map(Some);
        [None].into_iter().chain(entries).flat_map(|entry| {
            let results = self.operation(entry).map_or(&[][..], |operation| operation.results);
            results.iter().zip(0..).map(move |(result, number)| (entry, number, result))
        })
    }
}

/// All results of calls, as references to them.
pub fn results(calls: &[Call]) -> impl Iterator<Item = (ResultRef, &'static ResultSpec)> {
    calls.iter().zip(0..).flat_map(|(call, index)| {
        call.results()
            .map(move |(entry, result, spec)| (ResultRef { call: index, entry, result, otherwise: 0 }, spec))
    })
}

/// A call inside a multicall. It is issued by whoever issues the multicall.
#[derive(Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Entry {
    /// What it does.
    pub op: OpId,
    /// One for each argument of the operation.
    #[serde(deserialize_with = "deeper")]
    pub args: Vec<Value>,
}

/// An argument, a field or an element.
#[derive(Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Value {
    /// A number that fits into the width of its type.
    Int(u64),
    /// What an earlier call gave.
    Result(ResultRef),
    /// An address.
    Pointer(Pointer),
    /// The fields of a structure, in order.
    Struct(#[serde(deserialize_with = "deeper")] Vec<Value>),
    /// Elements, or the entries of a multicall.
    Array(#[serde(deserialize_with = "deeper")] Vec<Value>),
    /// Bytes.
    Bytes(Vec<u8>),
    /// An entry of a multicall.
    Entry(Box<Entry>),
}

/// Names a result of an earlier call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ResultRef {
    /// Index of the call.
    pub call: u16,
    /// Which entry of it gave the result, if the call is a multicall.
    pub entry: Option<u8>,
    /// Which of the results of the operation of the call, or of the entry.
    pub result: u8,
    /// What to use if that call failed.
    pub otherwise: u64,
}

/// An address and what lies there.
#[derive(Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pointer {
    /// Where it points.
    pub shape: Shape,
    /// What lies there; nothing if the shape is an address of its own.
    #[serde(deserialize_with = "deeper")]
    pub to: Option<Box<Value>>,
}

/// Where a pointer points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Shape {
    /// To memory of its own, aligned to 16 bytes.
    Plain,
    /// To address zero; nothing lies there.
    Null,
    /// To this address; nothing lies there.
    Bad(u64),
    /// To memory of its own, so many bytes (1 to 15) behind an aligned address.
    Unaligned(u8),
    /// To memory of its own, so many bytes (at least 1) before the end of a page.
    Cross(u16),
    /// To the end of the arena: the last so many bytes lie beyond it and are not written.
    End(u16),
    /// Into another buffer.
    Over {
        /// Which one: 0 is the one that was placed just before.
        back: u8,
        /// Bytes from its beginning.
        delta: u16,
    },
}

impl Shape {
    /// True if data lie behind such a pointer.
    pub const fn has_data(self) -> bool {
        !matches!(self, Self::Null | Self::Bad(_))
    }
}

impl Clone for Program {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone() }
    }

    fn clone_from(&mut self, source: &Self) {
        self.calls.clone_from(&source.calls);
    }
}

impl Clone for Call {
    fn clone(&self) -> Self {
        Self { args: self.args.clone(), ..*self }
    }

    fn clone_from(&mut self, source: &Self) {
        let Self { domain, vcpu, op, args } = source;
        (self.domain, self.vcpu, self.op) = (*domain, *vcpu, *op);
        self.args.clone_from(args);
    }
}

impl Clone for Entry {
    fn clone(&self) -> Self {
        Self { op: self.op, args: self.args.clone() }
    }

    fn clone_from(&mut self, source: &Self) {
        self.op = source.op;
        self.args.clone_from(&source.args);
    }
}

impl Clone for Pointer {
    fn clone(&self) -> Self {
        Self { shape: self.shape, to: self.to.clone() }
    }

    fn clone_from(&mut self, source: &Self) {
        self.shape = source.shape;
        self.to.clone_from(&source.to);
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        match self {
            Self::Int(value) => Self::Int(*value),
            Self::Result(reference) => Self::Result(*reference),
            Self::Pointer(pointer) => Self::Pointer(pointer.clone()),
            Self::Struct(values) => Self::Struct(values.clone()),
            Self::Array(values) => Self::Array(values.clone()),
            Self::Bytes(bytes) => Self::Bytes(bytes.clone()),
            Self::Entry(entry) => Self::Entry(entry.clone()),
        }
    }

    fn clone_from(&mut self, source: &Self) {
        match (&mut *self, source) {
            (Self::Pointer(to), Self::Pointer(from)) => to.clone_from(from),
            (Self::Struct(to), Self::Struct(from)) | (Self::Array(to), Self::Array(from)) => {
                to.clone_from(from)
            }
            (Self::Bytes(to), Self::Bytes(from)) => to.clone_from(from),
            (Self::Entry(to), Self::Entry(from)) => to.clone_from(from),
            (to, from) => *to = from.clone(),
        }
    }
}

thread_local! {
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Deserialises one level of nesting, so that a hostile file cannot exhaust the stack.
fn deeper<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Level;
    impl Drop for Level {
        fn drop(&mut self) {
            DEPTH.with(|depth| depth.set(depth.get() - 1));
        }
    }
    DEPTH.with(|depth| depth.set(depth.get() + 1));
    let _level = Level;
    if DEPTH.with(Cell::get) > MAX_DEPTH {
        return Err(serde::de::Error::custom("values nested too deep"));
    }
    T::deserialize(deserializer)
}

/// The largest number of that many bytes.
pub const fn mask(width: u8) -> u64 {
    if width >= 8 { u64::MAX } else { (1 << (width as u32 * 8)) - 1 }
}

impl Value {
    /// The plainest value of a type: what minimisation aims at, and what text programs may leave out.
    pub fn plainest(ty: &Type) -> Self {
        match ty {
            Type::Int { width, kind } => Self::Int(
                mask(*width)
                    & match kind {
                        Kind::Const(value) | Kind::Range(value, _) => *value,
                        Kind::Enum(names) => names.first().map_or(0, |(_, value)| *value),
                        Kind::Frame | Kind::Table => PLAYGROUND_GFN,
                        Kind::TableEntry(below) => PLAYGROUND_GFN << 12 | below,
                        Kind::ThisFrame(frame) => *frame,
                        Kind::Pte(usual) => match usual.first() {
                            Some(whole) if kind.frame_in(*whole) != Some(0) => *whole,
                            flags => PLAYGROUND_GFN << 12 | flags.copied().unwrap_or_default(),
                        },
                        Kind::PageOf(_) => PLAYGROUND_GFN << 12,
                        Kind::GrantEntry => PLAYGROUND_GFN << 32,
                        Kind::Version(_) => u64::from(Versioned::USUAL),
                        Kind::Hole => FIRST_HOLE,
                        Kind::HolePage => FIRST_HOLE << 12,
                        Kind::UsualFlags(_, usual) => usual.first().copied().unwrap_or(0),
                        Kind::Domain | Kind::Peer => DOMID_SELF,
                        Kind::Target => u64::from(LAST_DOMAIN),
                        _ => 0,
                    },
            ),
            Type::Word => Self::Int(0),
            Type::Ptr { to, .. } => Self::plain_pointer(Self::plainest(to)),
            Type::Struct(layout) => Self::Struct(layout.fields.iter().map(Self::plainest_field).collect()),
            Type::Array(_) => Self::Array(Vec::new()),
            Type::Bytes(len) | Type::Blob(len) => Self::Bytes(vec![0; *len as usize]),
            Type::Entry => Self::Entry(Box::new(Entry { op: plainest_entry().id(), args: Vec::new() })),
        }
    }

    /// The plainest value of a field: zero where the hypervisor writes.
    pub fn plainest_field(field: &Field) -> Self {
        match &field.ty {
            Type::Int { .. } if field.out => Self::Int(0),
            ty => Self::plainest(ty),
        }
    }

    /// A pointer to memory of its own.
    pub fn plain_pointer(to: Self) -> Self {
        Self::Pointer(Pointer { shape: Shape::Plain, to: Some(Box::new(to)) })
    }

    /// Number of elements or bytes that a length field would give.
    pub fn len_of(&self) -> u64 {
        match self {
            Self::Array(items) => items.len() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Pointer(Pointer { to: Some(to), .. }) => to.len_of(),
            _ => 0,
        }
    }
}

/// An operation without arguments, for entries of which nothing else is known.
fn plainest_entry() -> &'static Operation {
    crate::interface::interface()
        .operations()
        .iter()
        .copied()
        .find(|op| op.args.is_empty() && op.number < coverage_hypercall::program::AGENT_OPS)
        .unwrap_or(crate::interface::interface().operations()[0])
}

impl Call {
    /// A call with the plainest arguments.
    pub fn plainest(op: OpId) -> Self {
        Self { domain: 1, vcpu: 0, op, args: op.operation().args.iter().map(Value::plainest_field).collect() }
    }
}
