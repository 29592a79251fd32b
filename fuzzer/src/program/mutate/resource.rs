//! Mutations of who gives what to whom.

use rand::Rng;

use super::{any_call, at_site};
use crate::{
    interface::{Resource, Type},
    program::{
        model::{LAST_DOMAIN, Program, ResultRef, Value, mask, results},
        walk,
    },
};

/// Lets a number be a result of an earlier call, a result another one, or a result a constant.
pub(super) fn rewire<R: Rng + ?Sized>(program: &mut Program, rng: &mut R) -> bool {
    let anywhere = rng.random_bool(0.1);
    let accept = move |site: walk::Site, value: &Value| {
        matches!(value, Value::Result(_))
            || (matches!(value, Value::Int(_)) && !site.out && (anywhere || takes(site.ty).is_some()))
    };
    at_site(program, rng, &accept, &mut |rng, earlier, _, site, value| {
        let (Type::Int { width: 1..=8, .. } | Type::Word) = site.ty else { return };
        let width = if let Type::Int { width, .. } = site.ty { *width } else { 8 };
        let otherwise = match value {
            Value::Int(number) => *number,
            Value::Result(reference) => reference.otherwise,
            _ => 0,
        };
        if matches!(value, Value::Result(_)) && rng.random_bool(0.2) {
            *value = Value::Int(otherwise & mask(width));
            return;
        }
        let kind = takes(site.ty);
        let mut found: Vec<_> =
            results(earlier).filter(|(_, spec)| kind.is_none_or(|kind| kind == spec.kind)).collect();
        if !found.is_empty() {
            let (reference, _) = found.swap_remove(rng.random_range(0..found.len()));
            *value = Value::Result(ResultRef { otherwise: otherwise & mask(width), ..reference });
        }
    })
}

/// The kind of resource that a type takes, if it takes one.
fn takes(ty: &Type) -> Option<Resource> {
    match ty {
        Type::Int { kind, .. } => kind.resource(),
        _ => None,
    }
}

/// Lets another domain issue a call.
pub(super) fn domain<R: Rng + ?Sized>(program: &mut Program, rng: &mut R) -> bool {
    let Some(at) = any_call(program, rng) else { return false };
    let call = &mut program.calls[at];
    call.domain = (call.domain + 1) % (LAST_DOMAIN + 1);
    true
}

/// Lets another virtual CPU issue a call.
pub(super) fn vcpu<R: Rng + ?Sized>(program: &mut Program, rng: &mut R) -> bool {
    let Some(at) = any_call(program, rng) else { return false };
    program.calls[at].vcpu ^= 1;
    true
}
