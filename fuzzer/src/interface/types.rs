//! The vocabulary in which families are described.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name for a value, in text programs.
pub type Named = (&'static str, u64);

/// What calls give each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// An event-channel port.
    Port,
    /// A frame number of a guest or of the machine.
    Frame,
    /// A domain.
    Domain,
    /// A number without further meaning.
    Number,
    /// A grant reference.
    GrantRef,
    /// A handle of a mapping of a grant.
    GrantHandle,
    /// The address at which a grant was mapped.
    MappedAt,
    /// The address at which devices find a grant that was mapped for them.
    BusAddress,
}

/// What an integer means: decides how it is generated and printed.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Nothing in particular.
    Plain,
    /// Bits without particular meaning that are best read in hexadecimal: addresses, masks.
    Hex,
    /// Usually in this range, both ends included.
    Range(u64, u64),
    /// Usually one of these.
    Enum(&'static [Named]),
    /// Usually a combination of these, of which none overlaps another.
    Flags(&'static [Named]),
    /// A combination of the named ones, usually one of the others.
    UsualFlags(&'static [Named], &'static [u64]),
    /// Usually this one.
    Const(u64),
    /// Number of elements, or bytes, behind the sibling of this name.
    Len(&'static str),
    /// How far an earlier, interrupted attempt got: usually nowhere, now and then a few elements.
    Progress,
    /// A frame: one of the playground, or a result.
    Frame,
    /// A frame where something is to appear: usually one where nothing is.
    Hole,
    /// What goes with the value of the sibling of this name: the kind that is listed for it. Beside other values, any of them.
    By(&'static str, &'static [(u64, Kind)]),
    /// A domain, usually the caller.
    Domain,
    /// A domain, usually the other one.
    Peer,
    /// A domain that the control domain acts on: a created one, or one of those that issue calls.
    Target,
    /// A virtual CPU, usually one that runs an agent.
    Vcpu,
    /// A port of the caller.
    Port,
    /// A port of the domain that the sibling of this name says.
    PortOf(&'static str),
    /// The address of a frame where something is to appear: usually one where nothing is.
    HolePage,
    /// A grant reference of the caller.
    GrantRef,
    /// A grant reference of the domain that the sibling of this name says.
    GrantRefOf(&'static str),
    /// A handle of a mapping of the caller.
    GrantHandle,
    /// Where such a mapping is, or zero: not that part of it.
    MappedAt,
    /// Where devices find such a mapping, or zero: not that part of it.
    BusAddress,
    /// The version of an interface that changes with the hypervisor: usually the one that this hypervisor speaks, for which
    /// [`Versioned::USUAL`] stands.
    Version(Versioned),
    /// The frame of this number.
    ThisFrame(u64),
    /// The frame of a page table: one of the caller's own, or one of the playground.
    Table,
    /// Machine address of an entry of such a table, and these bits below it.
    TableEntry(u64),
    /// An entry of a page table: the machine address of a frame, usually with one of these sets of flags. Sets that name a frame are
    /// the whole entry.
    Pte(&'static [u64]),
    /// Virtual address at which the caller sees the frame of the sibling of this name, which is one of the kinds above; where it names
    /// none, of any frame.
    PageOf(&'static str),
    /// An entry of a grant table of version 1: flags, a domain in bits 16 to 31, a frame above.
    GrantEntry,
}

/// Interfaces whose version the caller has to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versioned {
    /// `domctl`.
    Domctl,
    /// `sysctl`.
    Sysctl,
}

impl Versioned {
    /// The version of both in Xen 4.17, for which the tables are written.
    pub const USUAL: u32 = xen_abi::domctl::INTERFACE_VERSION;
}

const _: () = assert!(Versioned::USUAL == xen_abi::sysctl::INTERFACE_VERSION);

impl Kind {
    /// What the values of this kind are given by, if calls give them.
    pub const fn resource(&self) -> Option<Resource> {
        match self {
            Self::Port | Self::PortOf(_) => Some(Resource::Port),
            Self::Frame | Self::Hole => Some(Resource::Frame),
            Self::GrantRef | Self::GrantRefOf(_) => Some(Resource::GrantRef),
            Self::GrantHandle => Some(Resource::GrantHandle),
            Self::Domain | Self::Peer | Self::Target => Some(Resource::Domain),
            Self::MappedAt => Some(Resource::MappedAt),
            Self::BusAddress => Some(Resource::BusAddress),
            _ => None,
        }
    }

    /// The sibling that says whose it is.
    pub const fn owner(&self) -> Option<&'static str> {
        match self {
            Self::PortOf(of) | Self::GrantRefOf(of) => Some(of),
            _ => None,
        }
    }

    /// The frame that a value of this kind names, if it names one.
    pub const fn frame_in(&self, value: u64) -> Option<u64> {
        match self {
            Self::Frame | Self::Table | Self::ThisFrame(_) => Some(value),
            Self::TableEntry(_) | Self::Pte(_) | Self::PageOf(_) => Some((value & FRAME_BITS) >> 12),
            Self::GrantEntry => Some(value >> 32),
            _ => None,
        }
    }

    /// The same value with another frame, if it names one.
    pub const fn with_frame(&self, value: u64, frame: u64) -> u64 {
        match self {
            Self::Frame | Self::Table | Self::ThisFrame(_) => frame,
            Self::TableEntry(_) | Self::Pte(_) | Self::PageOf(_) => {
                value & !FRAME_BITS | frame << 12 & FRAME_BITS
            }
            Self::GrantEntry => value & 0xffff_ffff | frame << 32,
            _ => value,
        }
    }
}

/// Bits of an address, or of an entry of a page table, that name a frame.
const FRAME_BITS: u64 = 0x000f_ffff_ffff_f000;

/// Which way data behind a pointer goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dir {
    /// Into the hypervisor.
    In,
    /// Out of it.
    Out,
    /// Both ways.
    InOut,
}

impl Dir {
    /// Whether the hypervisor may write there.
    pub const fn writes(self) -> bool {
        matches!(self, Self::Out | Self::InOut)
    }
}

/// The type of an argument, a field or an element.
#[derive(Clone, Copy, Debug)]
pub enum Type {
    /// An integer of 1, 2, 4 or 8 bytes.
    Int {
        /// Bytes.
        width: u8,
        /// Meaning.
        kind: Kind,
    },
    /// A guest-virtual address, eight bytes.
    Ptr {
        /// Which way the data go.
        dir: Dir,
        /// What is there.
        to: &'static Type,
    },
    /// A structure by value.
    Struct(&'static StructType),
    /// Any number of elements; behind a pointer only.
    Array(&'static Type),
    /// Any number of bytes, usually this many; behind a pointer only.
    Bytes(u32),
    /// Exactly so many bytes.
    Blob(u32),
    /// A nested call: one entry of a multicall.
    Entry,
    /// Any word: a number, or a pointer to bytes.
    Word,
}

/// Bytes of one multicall entry: operation, result and six arguments.
const ENTRY_SIZE: usize = size_of::<xen_abi::multicall::Entry>();

impl Type {
    /// Bytes of a value of this type; zero where that depends on the value.
    pub const fn size(&self) -> usize {
        match self {
            Self::Int { width, .. } => *width as usize,
            Self::Ptr { .. } | Self::Word => 8,
            Self::Struct(layout) => layout.size(),
            Self::Blob(len) => *len as usize,
            Self::Entry => ENTRY_SIZE,
            Self::Array(_) | Self::Bytes(_) => 0,
        }
    }

    /// Alignment that the C ABI gives it.
    pub const fn align(&self) -> usize {
        match self {
            Self::Int { width, .. } => *width as usize,
            Self::Ptr { .. } | Self::Word | Self::Entry => 8,
            Self::Struct(layout) => strictest(layout.fields),
            Self::Array(of) => of.align(),
            Self::Blob(_) | Self::Bytes(_) => 1,
        }
    }
}

/// The strictest alignment of fields.
const fn strictest(fields: &[Field]) -> usize {
    let mut strictest = 1;
    let mut at = 0;
    while at < fields.len() {
        let align = fields[at].ty.align();
        if align > strictest {
            strictest = align;
        }
        at += 1;
    }
    strictest
}

/// Where the last of some fields of a structure ends.
pub(super) const fn end_of(fields: &[Field]) -> usize {
    let mut end = 0;
    let mut at = 0;
    while at < fields.len() {
        end = aligned(end, fields[at].ty.align()) + fields[at].ty.size();
        at += 1;
    }
    end
}

/// An argument, or a field of a structure.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Name, as Xen's headers have it where they do.
    pub name: &'static str,
    /// Type.
    pub ty: Type,
    /// Written by the hypervisor and not read.
    pub out: bool,
}

/// A structure with the layout of C.
#[derive(Debug)]
pub struct StructType {
    /// Name in Xen's headers.
    pub name: &'static str,
    /// Fields in order; padding follows from alignment.
    pub fields: &'static [Field],
}

impl StructType {
    /// Offset of each field.
    pub fn offsets(&self) -> impl Iterator<Item = usize> + '_ {
        let mut end = 0;
        self.fields.iter().map(move |field| {
            let at = aligned(end, field.ty.align());
            end = at + field.ty.size();
            at
        })
    }

    /// Bytes, with the padding at the end.
    pub const fn size(&self) -> usize {
        aligned(end_of(self.fields), strictest(self.fields))
    }
}

/// The next offset of this alignment, a power of two.
const fn aligned(at: usize, align: usize) -> usize {
    (at + align - 1) & !(align - 1)
}

/// Where a result comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResultFrom {
    /// The return value.
    Return,
    /// The first integer in the argument or field of the result's name.
    Field,
}

/// Something that later calls can use.
#[derive(Clone, Copy, Debug)]
pub struct ResultSpec {
    /// Name, unique in its operation.
    pub name: &'static str,
    /// What it is good for.
    pub kind: Resource,
    /// Where it comes from.
    pub from: ResultFrom,
}

/// How a hypercall's number and registers are made.
#[derive(Clone, Copy, Debug)]
pub enum Select {
    /// The number says it all; the arguments begin in the first register.
    Whole,
    /// The first register holds this sub-operation.
    First(u64),
    /// The first register holds the sub-operation and, above `shift` bits, the first argument: where a preempted
    /// operation goes on (`MEMOP_EXTENT_SHIFT` of Xen's `public/memory.h`).
    FirstWithStart {
        /// The sub-operation.
        value: u64,
        /// Bits of the sub-operation.
        shift: u32,
    },
    /// The first argument is the hypercall's number, the others are the registers.
    Raw,
}

/// What an operation may return. Errors are negative errno values in each case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// Zero on success.
    Zero,
    /// Zero or more: a count or a value.
    Value,
    /// It does not return on success.
    Never,
    /// Anything at all.
    Anything,
}

/// One operation of one hypercall.
#[derive(Debug)]
pub struct Operation {
    /// `family.operation`; stable, also in files.
    pub name: &'static str,
    /// Hypercall number, or one of `coverage_hypercall::program::agent_op`.
    pub number: u32,
    /// How it is told from its siblings.
    pub select: Select,
    /// Arguments.
    pub args: &'static [Field],
    /// What it produces.
    pub results: &'static [ResultSpec],
    /// What it returns.
    pub returns: Returns,
}

impl Operation {
    /// A sub-operation of a hypercall, told by the number in its first register. It gives nothing, and returns zero where all went well.
    pub const fn sub(hypercall: u32, number: u64, name: &'static str, args: &'static [Field]) -> Self {
        Self {
            name,
            number: hypercall,
            select: Select::First(number),
            args,
            results: &[],
            returns: Returns::Zero,
        }
    }

    /// The same, with what it produces.
    #[must_use]
    pub const fn giving(self, results: &'static [ResultSpec]) -> Self {
        Self { results, ..self }
    }

    /// The same, with what it returns.
    #[must_use]
    pub const fn returning(self, returns: Returns) -> Self {
        Self { returns, ..self }
    }

    /// Its identity, to be kept in programs.
    pub const fn id(&'static self) -> OpId {
        OpId(self)
    }

    /// The family.
    pub fn family(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(family, _)| family)
    }
}

/// Identifies an operation. Serialised as its name, so that files outlive changes of the tables.
#[derive(Clone, Copy)]
pub struct OpId(&'static Operation);

impl OpId {
    /// The operation of that name.
    pub fn by_name(name: &str) -> Option<Self> {
        super::known().by_name(name).map(OpId)
    }

    /// What it identifies.
    pub const fn operation(self) -> &'static Operation {
        self.0
    }
}

impl fmt::Debug for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl PartialEq for OpId {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for OpId {}

impl Hash for OpId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.name.hash(state);
    }
}

impl Serialize for OpId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

impl<'de> Deserialize<'de> for OpId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        Self::by_name(&name).ok_or_else(|| serde::de::Error::custom(format_args!("no operation {name:?}")))
    }
}

/// An integer.
pub(super) const fn int(width: u8, kind: Kind) -> Type {
    Type::Int { width, kind }
}

/// An input field.
pub(super) const fn field(name: &'static str, ty: Type) -> Field {
    Field { name, ty, out: false }
}

/// An output field.
pub(super) const fn out(name: &'static str, ty: Type) -> Field {
    Field { name, ty, out: true }
}

/// A pointer to something that is read.
pub(super) const fn ptr_in(to: &'static Type) -> Type {
    Type::Ptr { dir: Dir::In, to }
}

/// A pointer to something that is written.
pub(super) const fn ptr_out(to: &'static Type) -> Type {
    Type::Ptr { dir: Dir::Out, to }
}

/// A pointer to something that is read and written.
pub(super) const fn ptr_inout(to: &'static Type) -> Type {
    Type::Ptr { dir: Dir::InOut, to }
}

/// A result in a field.
pub(super) const fn gives(name: &'static str, kind: Resource) -> ResultSpec {
    ResultSpec { name, kind, from: ResultFrom::Field }
}

/// The return value as a result.
pub(super) const fn returns(kind: Resource) -> ResultSpec {
    ResultSpec { name: "ret", kind, from: ResultFrom::Return }
}

/// A plain 32-bit number.
pub(super) const U32: Type = int(4, Kind::Plain);
/// A plain 64-bit number.
pub(super) const U64: Type = int(8, Kind::Plain);
/// A domain id, usually of the caller.
pub(super) const DOMAIN: Type = int(2, Kind::Domain);
/// A domain id, usually of the other domain.
pub(super) const PEER: Type = int(2, Kind::Peer);
/// A domain that the control domain acts on.
pub(super) const TARGET: Type = int(2, Kind::Target);
/// A port of the caller.
pub(super) const PORT: Type = int(4, Kind::Port);
/// A virtual CPU.
pub(super) const VCPU: Type = int(4, Kind::Vcpu);
/// A frame number where something is to appear.
pub(super) const HOLE: Type = int(8, Kind::Hole);
/// A frame number.
pub(super) const FRAME: Type = int(8, Kind::Frame);
/// Something that has to be zero.
pub(super) const ZERO32: Type = int(4, Kind::Const(0));
/// A byte without meaning.
pub(super) const U8: Type = int(1, Kind::Plain);
/// 64 bits without meaning, in hexadecimal.
pub(super) const HEX64: Type = int(8, Kind::Hex);
/// 32 bits without meaning, in hexadecimal.
pub(super) const HEX32: Type = int(4, Kind::Hex);
/// Yes or no, in a byte.
pub(super) const YES8: Type = int(1, Kind::Range(0, 1));
/// Yes or no, in 32 bits.
pub(super) const YES32: Type = int(4, Kind::Range(0, 1));

/// Domain ids with names in text programs (Xen `public/xen.h`, `DOMID_*`); `d1` and so on are always known.
pub const DOMAINS: &[Named] = &[
    ("d0", 0),
    ("d1", 1),
    ("d2", 2),
    ("self", xen_abi::DOMID_SELF as u64),
    ("io", 0x7ff1),
    ("xen", 0x7ff2),
    ("cow", 0x7ff3),
    ("invalid", xen_abi::DOMID_INVALID as u64),
    ("idle", 0x7fff),
];
