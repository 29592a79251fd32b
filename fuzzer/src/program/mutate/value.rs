//! Mutations of numbers, flags, bytes and lengths.

use rand::Rng;

use super::{any_call, at_site};
use crate::{
    interface::{Field, Interface, Kind, Type},
    program::{
        generate, hostile,
        model::{Pointer, Program, Value, mask},
        walk,
    },
};

/// Replaces or nudges a value.
pub(super) fn argument<R: Rng + ?Sized>(program: &mut Program, rng: &mut R, interface: &Interface) -> bool {
    let accept = |site: walk::Site, _: &Value| {
        !site.out && !matches!(site.ty, Type::Bytes(_) | Type::Blob(_) | Type::Array(_) | Type::Struct(_))
    };
    at_site(program, rng, &accept, &mut |rng, earlier, domain, site, value| {
        let width = if let Type::Int { width, .. } = site.ty { *width } else { 8 };
        *value = match value {
            Value::Int(old) if rng.random_bool(0.6) => {
                let new = match rng.random_range(0..5) {
                    0 => old.wrapping_add(rng.random_range(1..=16)),
                    1 => old.wrapping_sub(rng.random_range(1..=16)),
                    2 => *old ^ (1 << rng.random_range(0..u32::from(width) * 8)),
                    3 => old.wrapping_neg(),
                    _ => hostile::hostile(rng, width),
                };
                Value::Int(new & mask(width))
            }
            _ => generate::value(rng, interface, site.ty, earlier, domain),
        };
    })
}

/// Gives a number, or all numbers of its name, the value of another one in the same call: interfaces are full of pairs that
/// have to agree, and no single change keeps them in step.
pub(super) fn relate<R: Rng + ?Sized>(program: &mut Program, rng: &mut R) -> bool {
    let Some(start) = any_call(program, rng) else { return false };
    let len = program.calls.len();
    for index in (start..len).chain(0..start) {
        let call = &mut program.calls[index];
        let mut numbers = Vec::new();
        walk::values_mut(call.op, &mut call.args, &mut |site, value| {
            if let (Value::Int(number), Type::Int { .. }, false) = (value, site.ty, site.out) {
                numbers.push((site.name, *number));
            }
        });
        if numbers.len() < 2 {
            continue;
        }
        let (_, source) = numbers[rng.random_range(0..numbers.len())];
        let chosen = rng.random_range(0..numbers.len());
        let name = numbers[chosen].0;
        let all = rng.random_bool(0.5);
        let mut at = 0;
        walk::values_mut(call.op, &mut call.args, &mut |site, value| {
            if let (Value::Int(number), Type::Int { width, .. }, false) = (value, site.ty, site.out) {
                if at == chosen || (all && site.name == name) {
                    *number = source & mask(*width);
                }
                at += 1;
            }
        });
        return true;
    }
    false
}

/// Flips a flag that has a name, or takes another enumerated value.
pub(super) fn flags<R: Rng + ?Sized>(program: &mut Program, rng: &mut R) -> bool {
    let accept = |site: walk::Site, value: &Value| {
        matches!(site.ty, Type::Int { kind: Kind::Flags(_) | Kind::UsualFlags(..) | Kind::Enum(_), .. })
            && matches!(value, Value::Int(_))
    };
    at_site(program, rng, &accept, &mut |rng, _, _, site, value| {
        let Value::Int(value) = value else { return };
        match site.ty {
            Type::Int { width, kind: Kind::Flags(names) | Kind::UsualFlags(names, _) } => {
                let bit = if rng.random_bool(0.8) {
                    names[rng.random_range(0..names.len())].1
                } else {
                    1 << rng.random_range(0..u32::from(*width) * 8)
                };
                *value = (*value ^ bit) & mask(*width);
            }
            Type::Int { width, kind: Kind::Enum(names) } => {
                *value = names[rng.random_range(0..names.len())].1 & mask(*width);
            }
            _ => {}
        }
    })
}

/// Changes bytes in a buffer.
pub(super) fn bytes<R: Rng + ?Sized>(program: &mut Program, rng: &mut R) -> bool {
    let accept = |_: walk::Site, value: &Value| matches!(value, Value::Bytes(bytes) if !bytes.is_empty());
    at_site(program, rng, &accept, &mut |rng, _, _, _, value| {
        let Value::Bytes(bytes) = value else { return };
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..4) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => {
                let word = hostile::hostile(rng, 8).to_le_bytes();
                let len = bytes.len();
                let room = (len - at).min(1 << rng.random_range(0..4));
                bytes[at..at + room].copy_from_slice(&word[..room]);
            }
            _ => {
                let byte = rng.random();
                bytes[at..].fill(byte);
            }
        }
    })
}

/// Makes an array or a buffer longer or shorter. Length fields usually follow.
pub(super) fn resize<R: Rng + ?Sized>(program: &mut Program, rng: &mut R, interface: &Interface) -> bool {
    let Some(start) = any_call(program, rng) else { return false };
    let len = program.calls.len();
    for index in (start..len).chain(0..start) {
        let (earlier, rest) = program.calls.split_at_mut(index);
        let call = &mut rest[0];
        let fields = call.op.operation().args;
        let mut count = 0;
        walk::groups_mut(fields, &mut call.args, &mut |fields, values| {
            count += resizable(fields, values).count()
        });
        if count == 0 {
            continue;
        }
        let mut left = rng.random_range(0..count) as isize;
        let domain = call.domain;
        walk::groups_mut(fields, &mut call.args, &mut |fields, values| {
            let here: Vec<usize> = resizable(fields, values).collect();
            if left >= 0
                && let Some(position) = here.get(left as usize)
            {
                let follow = rng.random_bool(0.8);
                change_length(fields, values, *position, follow, &mut |of, items| {
                    if items.is_empty() || (items.len() < 256 && rng.random_bool(0.6)) {
                        let item = match items.last() {
                            Some(last) if rng.random() => last.clone(),
                            _ => generate::value(rng, interface, of, earlier, domain),
                        };
                        // Limits lie far away for who goes step by step.
                        let copies = match rng.random_range(0..8) {
                            0 => 16,
                            1 => items.len().clamp(1, 128),
                            _ => 1,
                        };
                        items.extend(std::iter::repeat_n(item, copies));
                    } else {
                        let gone = rng.random_range(0..items.len());
                        items.remove(gone);
                    }
                });
            }
            left -= here.len() as isize;
        });
        return true;
    }
    false
}

/// Fields that are pointers to something of variable length.
fn resizable<'a>(fields: &'static [Field], values: &'a [Value]) -> impl Iterator<Item = usize> + 'a {
    fields.iter().zip(values).enumerate().filter_map(|(position, (field, value))| {
        let variable = matches!(field.ty, Type::Ptr { to: Type::Array(_) | Type::Bytes(_), .. });
        (variable && matches!(value, Value::Pointer(Pointer { to: Some(_), .. }))).then_some(position)
    })
}

/// Changes the elements behind the pointer at `position`, and the fields that count them if they did and `follow` says so.
pub(in crate::program) fn change_length(
    fields: &'static [Field],
    values: &mut [Value],
    position: usize,
    follow: bool,
    change: &mut dyn FnMut(&'static Type, &mut Vec<Value>),
) {
    const BYTE: &Type = &Type::Int { width: 1, kind: Kind::Plain };
    let Type::Ptr { to, .. } = &fields[position].ty else { return };
    let Value::Pointer(Pointer { to: Some(data), .. }) = &mut values[position] else { return };
    let old = data.len_of();
    match (to, data.as_mut()) {
        (Type::Array(of), Value::Array(items)) => change(of, items),
        (Type::Bytes(_), Value::Bytes(bytes)) => {
            let mut items: Vec<Value> = bytes.iter().map(|byte| Value::Int(u64::from(*byte))).collect();
            change(BYTE, &mut items);
            *bytes =
                items.iter().map(|item| if let Value::Int(byte) = item { *byte as u8 } else { 0 }).collect();
        }
        _ => return,
    }
    let new = data.len_of();
    for (field, value) in fields.iter().zip(values) {
        if follow
            && matches!(field.ty, Type::Int { kind: Kind::Len(of), .. } if of == fields[position].name)
            && *value == Value::Int(old)
        {
            *value = Value::Int(new);
        }
    }
}
