//! Makes calls follow those that they are no use without.

use rand::Rng;

use super::{
    model::{Call, Program, Value},
    walk,
};
use crate::interface::{Interface, Operation, Type, sequence};

/// The last call of the operation that makes this one possible.
fn leader<'c>(op: &Operation, earlier: &'c [Call]) -> Option<&'c Call> {
    let wanted = sequence::before(op.name)?;
    earlier.iter().rev().find(|call| call.op.operation().name == wanted)
}

/// Often appends a call that makes one of `op` possible, if there is room below `limit` and none is there.
pub(super) fn lead<R: Rng + ?Sized>(
    rng: &mut R,
    interface: &Interface,
    program: &mut Program,
    op: &Operation,
    limit: usize,
) {
    let Some(before) = sequence::before(op.name).and_then(|name| interface.by_name(name)) else { return };
    if program.calls.len() + 1 >= limit || leader(op, &program.calls).is_some() || rng.random_bool(0.2) {
        return;
    }
    lead(rng, interface, program, before, limit - 1);
    let made = super::generate::call_of(rng, interface, before, &program.calls);
    program.calls.push(made);
}

/// Usually makes a call about the same thing as the one that makes it possible.
pub(super) fn follow<R: Rng + ?Sized>(rng: &mut R, call: &mut Call, earlier: &[Call]) {
    let Some(leader) = leader(call.op.operation(), earlier) else { return };
    if rng.random_bool(0.2) {
        return;
    }
    (call.domain, call.vcpu) = (leader.domain, leader.vcpu);
    let mut said = Vec::new();
    let mut args = leader.args.clone();
    walk::values_mut(leader.op, &mut args, &mut |site, value| {
        if let (Type::Int { width, kind }, false, Value::Int(_) | Value::Result(_)) =
            (site.ty, site.out, &value)
        {
            said.push((site.name, *width, kind, value.clone()));
        }
    });
    walk::values_mut(call.op, &mut call.args, &mut |site, value| {
        if let (Type::Int { width, kind }, false) = (site.ty, site.out)
            && let Some((.., of, same)) =
                said.iter().find(|(name, size, ..)| *name == site.name && size == width)
        {
            // A frame, its address and an entry that names it mean the same thing, too.
            *value = match (same, &*value) {
                (Value::Int(same), Value::Int(own)) => match of.frame_in(*same) {
                    Some(frame) if kind.frame_in(*own).is_some() => Value::Int(kind.with_frame(*own, frame)),
                    _ => Value::Int(*same),
                },
                _ => same.clone(),
            };
        }
    });
}
