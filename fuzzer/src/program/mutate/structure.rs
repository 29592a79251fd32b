//! Mutations of the list of calls.

use rand::Rng;

use super::any_call;
use crate::{
    interface::Interface,
    program::{
        generate,
        model::{CALLS, Program},
        walk,
    },
};

/// Puts a new call in, anywhere.
pub(super) fn insert<R: Rng + ?Sized>(program: &mut Program, rng: &mut R, interface: &Interface) -> bool {
    if program.calls.len() >= CALLS {
        return false;
    }
    // Behind the others it can use what they gave.
    let len = program.calls.len();
    let at = if rng.random() { len } else { rng.random_range(0..=len) };
    if at == len {
        generate::append(rng, interface, program, CALLS);
        return program.calls.len() > len;
    }
    let Some(call) = generate::call(rng, interface, &program.calls[..at]) else { return false };
    walk::insert(program, at, call);
    true
}

/// Takes a call out.
pub(super) fn remove<R: Rng + ?Sized>(program: &mut Program, rng: &mut R) -> bool {
    if program.calls.len() < 2 {
        return false;
    }
    let Some(at) = any_call(program, rng) else { return false };
    walk::remove(program, at);
    true
}

/// Replaces a call by a new one.
pub(super) fn replace<R: Rng + ?Sized>(program: &mut Program, rng: &mut R, interface: &Interface) -> bool {
    let Some(at) = any_call(program, rng) else { return false };
    let Some(call) = generate::call(rng, interface, &program.calls[..at]) else { return false };
    walk::remove(program, at);
    walk::insert(program, at, call);
    true
}

/// Puts a run of calls of another program in. What they use of each other, they go on using.
pub(super) fn splice<R: Rng + ?Sized>(program: &mut Program, rng: &mut R, donor: &Program) -> bool {
    let Some(first) = any_call(donor, rng) else { return false };
    let room = CALLS.saturating_sub(program.calls.len());
    let most = (donor.calls.len() - first).min(room);
    if most == 0 {
        return false;
    }
    let count = rng.random_range(1..=most);
    let at = rng.random_range(0..=program.calls.len());
    for (offset, call) in donor.calls[first..first + count].iter().enumerate() {
        let mut call = call.clone();
        walk::renumber(&mut call, &|index| {
            usize::from(index).checked_sub(first).map(|offset| (at + offset) as u16)
        });
        walk::insert(program, at + offset, call);
    }
    true
}

/// Repeats a call, at once or later.
pub(super) fn duplicate<R: Rng + ?Sized>(program: &mut Program, rng: &mut R) -> bool {
    let Some(from) = any_call(program, rng) else { return false };
    if program.calls.len() >= CALLS {
        return false;
    }
    let call = program.calls[from].clone();
    let at = rng.random_range(from + 1..=program.calls.len());
    walk::insert(program, at, call);
    true
}

/// Moves a call to another place. Where it would use what comes later, it uses a constant.
pub(super) fn swap<R: Rng + ?Sized>(program: &mut Program, rng: &mut R) -> bool {
    let (Some(one), Some(other)) = (any_call(program, rng), any_call(program, rng)) else { return false };
    if one == other {
        return false;
    }
    let (first, second) = (one.min(other) as u16, one.max(other) as u16);
    program.calls.swap(usize::from(first), usize::from(second));
    for (index, call) in program.calls.iter_mut().enumerate() {
        walk::renumber(call, &|to| {
            let to = match to {
                to if to == first => second,
                to if to == second => first,
                to => to,
            };
            (usize::from(to) < index).then_some(to)
        });
    }
    true
}
