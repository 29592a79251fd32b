//! Makes programs from nothing but the interface.
//!
//! Most calls are well-formed and use what earlier ones gave; some values are hostile. A call that needs a
//! resource often gets a producer put before it, in the domain that makes sense.

mod maker;

use rand::Rng;

use super::{
    choose::{self, Theme},
    model::{CALLS, Call, LAST_DOMAIN, Program, Value},
    sequence, validate, walk,
};
use crate::interface::{CONTROL_FAMILIES, CONTROL_OPERATIONS, Interface, Kind, Operation, Resource, Type};

use maker::Maker;

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
