//! Changes a program. Every mutation keeps references between calls right and leaves a valid program.

mod i2s;
mod resource;
mod shape;
mod structure;
mod value;

use std::cell::RefCell;

use coverage_hypercall::harness::CmpEntry;
use rand::Rng;
use serde::{Deserialize, Serialize};

use super::{
    model::{Call, Program, Value},
    validate,
    walk::{self, Site},
};
use crate::interface::Interface;

pub use i2s::i2s;
pub(super) use value::change_length;

/// Two numbers that the hypervisor compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CmpHint {
    /// Left operand.
    pub left: u64,
    /// Right operand.
    pub right: u64,
    /// Bytes of the operands: 1, 2, 4, 8.
    pub width: u8,
}

impl From<&CmpEntry> for CmpHint {
    fn from(entry: &CmpEntry) -> Self {
        let width = match entry.width {
            1 | 2 | 4 => entry.width as u8,
            _ => 8,
        };
        Self { left: entry.left, right: entry.right, width }
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mutation {
    /// Nothing could be done.
    None,
    /// A new call was put in.
    Insert,
    /// A call was taken out.
    Remove,
    /// A call was replaced by a new one.
    Replace,
    /// Calls of the donor were put in.
    Splice,
    /// A call was repeated.
    Duplicate,
    /// Two calls changed places.
    Swap,
    /// A value was replaced.
    Argument,
    /// A number took the value of another one.
    Relate,
    /// A flag or an enumeration changed.
    Flags,
    /// Bytes in a buffer changed.
    Bytes,
    /// A buffer or an array got longer or shorter.
    Resize,
    /// A pointer points elsewhere.
    Shape,
    /// One operand of a comparison was replaced by the other.
    InputToState,
    /// A number became a result of an earlier call, or the other way round.
    Rewire,
    /// Another domain issues a call.
    Domain,
    /// Another virtual CPU issues a call.
    Vcpu,
}

impl Mutation {
    /// All that [`mutate`] chooses from, with their shares.
    pub const SHARES: [(Self, u32); 16] = [
        (Self::Insert, 16),
        (Self::Remove, 6),
        (Self::Replace, 6),
        (Self::Splice, 8),
        (Self::Duplicate, 6),
        (Self::Swap, 4),
        (Self::Argument, 20),
        (Self::Relate, 6),
        (Self::Flags, 8),
        (Self::Bytes, 3),
        (Self::Resize, 5),
        (Self::Shape, 6),
        (Self::InputToState, 14),
        (Self::Rewire, 8),
        (Self::Domain, 4),
        (Self::Vcpu, 1),
    ];

    /// Name for statistics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Insert => "insert",
            Self::Remove => "remove",
            Self::Replace => "replace",
            Self::Splice => "splice",
            Self::Duplicate => "duplicate",
            Self::Swap => "swap",
            Self::Argument => "argument",
            Self::Relate => "relate",
            Self::Flags => "flags",
            Self::Bytes => "bytes",
            Self::Resize => "resize",
            Self::Shape => "shape",
            Self::InputToState => "input-to-state",
            Self::Rewire => "rewire",
            Self::Domain => "domain",
            Self::Vcpu => "vcpu",
        }
    }
}

/// Changes a program in one way and says which. The program is valid afterwards if it was before.
pub fn mutate<R: Rng + ?Sized>(
    program: &mut Program,
    rng: &mut R,
    interface: &Interface,
    donor: Option<&Program>,
    hints: &[CmpHint],
) -> Mutation {
    let total: u32 = Mutation::SHARES.iter().map(|(_, share)| share).sum();
    for _ in 0..24 {
        let mut at = rng.random_range(0..total);
        let mut chosen = Mutation::Insert;
        for (mutation, share) in Mutation::SHARES {
            if at < share {
                chosen = mutation;
                break;
            }
            at -= share;
        }
        if apply(chosen, program, rng, interface, donor, hints) {
            return chosen;
        }
    }
    Mutation::None
}

/// Tries one mutation; false, and the program as it was, if it would change nothing or spoil the program.
pub fn apply<R: Rng + ?Sized>(
    mutation: Mutation,
    program: &mut Program,
    rng: &mut R,
    interface: &Interface,
    donor: Option<&Program>,
    hints: &[CmpHint],
) -> bool {
    let mut before = BEFORE.take();
    before.clone_from(program);
    let done = match mutation {
        Mutation::None => false,
        Mutation::Insert => structure::insert(program, rng, interface),
        Mutation::Remove => structure::remove(program, rng),
        Mutation::Replace => structure::replace(program, rng, interface),
        Mutation::Splice => donor.is_some_and(|donor| structure::splice(program, rng, donor)),
        Mutation::Duplicate => structure::duplicate(program, rng),
        Mutation::Swap => structure::swap(program, rng),
        Mutation::Argument => value::argument(program, rng, interface),
        Mutation::Relate => value::relate(program, rng),
        Mutation::Flags => value::flags(program, rng),
        Mutation::Bytes => value::bytes(program, rng),
        Mutation::Resize => value::resize(program, rng, interface),
        Mutation::Shape => shape::shape(program, rng),
        Mutation::InputToState => i2s(program, rng, hints),
        Mutation::Rewire => resource::rewire(program, rng),
        Mutation::Domain => resource::domain(program, rng),
        Mutation::Vcpu => resource::vcpu(program, rng),
    };
    let good = done && *program != before && validate::validate(program).is_ok();
    if !good {
        program.clone_from(&before);
    }
    BEFORE.set(before);
    good
}

thread_local! {
    /// Memory for programs as they were: there is an attempt or more for each execution.
    static BEFORE: RefCell<Program> = const { RefCell::new(Program { calls: Vec::new() }) };
}

/// Index of a call, if there is one.
fn any_call<R: Rng + ?Sized>(program: &Program, rng: &mut R) -> Option<usize> {
    (!program.calls.is_empty()).then(|| rng.random_range(0..program.calls.len()))
}

/// What [`at_site`] does to a value: it gets the earlier calls and the issuing domain.
type Change<'a, R> = dyn FnMut(&mut R, &[Call], u16, Site, &mut Value) + 'a;

/// Changes one value among those that `accept` says yes to.
fn at_site<R: Rng + ?Sized>(
    program: &mut Program,
    rng: &mut R,
    accept: &dyn Fn(Site, &Value) -> bool,
    change: &mut Change<'_, R>,
) -> bool {
    // Start at a random call, so that calls with many values are not preferred.
    let Some(start) = any_call(program, rng) else { return false };
    let len = program.calls.len();
    for index in (start..len).chain(0..start) {
        let (earlier, rest) = program.calls.split_at_mut(index);
        let call = &mut rest[0];
        let mut count = 0;
        walk::values_mut(call.op, &mut call.args, &mut |site, value| {
            count += usize::from(accept(site, value))
        });
        if count == 0 {
            continue;
        }
        let chosen = rng.random_range(0..count);
        let mut at = 0;
        let domain = call.domain;
        let mut done = false;
        walk::values_mut(call.op, &mut call.args, &mut |site, value| {
            if !done && accept(site, value) {
                if at == chosen {
                    change(rng, earlier, domain, site, value);
                    done = true;
                }
                at += 1;
            }
        });
        return true;
    }
    false
}

#[cfg(test)]
mod tests;
