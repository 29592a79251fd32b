//! Input to state: what the hypervisor compared tells what it wants to see.

use rand::Rng;

use super::{CmpHint, at_site};
use crate::{
    interface::Type,
    program::{
        model::{Program, Shape, Value, mask},
        walk,
    },
};

/// Hints that are tried before giving up.
const TRIES: usize = 24;

/// Looks for a number that equals one operand of a comparison and replaces it by the other one. The number may lie in a
/// buffer, be wider than the comparison, be byte-swapped, or be off by one. False if there is none.
pub fn i2s<R: Rng + ?Sized>(program: &mut Program, rng: &mut R, hints: &[CmpHint]) -> bool {
    if hints.is_empty() {
        return false;
    }
    let start = rng.random_range(0..hints.len());
    for hint in hints.iter().cycle().skip(start).take(hints.len().min(TRIES)) {
        let mut pairs = [(hint.left, hint.right), (hint.right, hint.left)];
        if rng.random() {
            pairs.swap(0, 1);
        }
        for (from, to) in pairs {
            if from & mask(hint.width) == to & mask(hint.width) {
                continue;
            }
            let accept = |site: walk::Site, value: &Value| !places(site, value, from, hint.width).is_empty();
            // Off by one: what was compared with `<` is of interest on both sides.
            let to = if rng.random_bool(0.2) {
                to.wrapping_add([1, u64::MAX][rng.random_range(0..2)])
            } else {
                to
            };
            if at_site(program, rng, &accept, &mut |rng, _, _, site, value| {
                let found = places(site, value, from, hint.width);
                let place = found[rng.random_range(0..found.len())];
                put(site, value, place, to, hint.width);
            }) {
                return true;
            }
        }
    }
    false
}

/// Where and how a number was found.
#[derive(Clone, Copy)]
struct Place {
    offset: usize,
    swapped: bool,
    /// What has to be added to the number to get the operand.
    delta: u64,
}

fn swap(value: u64, width: u8) -> u64 {
    value.swap_bytes() >> (64 - u32::from(width.min(8)) * 8)
}

/// Bytes that are compared: no more than the value has.
fn width_at(site: walk::Site, width: u8) -> u8 {
    match site.ty {
        Type::Int { width: own, .. } => width.min(*own),
        _ => width,
    }
}

fn places(site: walk::Site, value: &Value, from: u64, width: u8) -> Vec<Place> {
    let mut found = Vec::new();
    let mut compare = |offset: usize, number: u64, width: u8, deltas: &[u64]| {
        let number = number & mask(width);
        for delta in deltas {
            if number.wrapping_add(*delta) & mask(width) == from & mask(width) {
                found.push(Place { offset, swapped: false, delta: *delta });
            }
        }
        if width > 1 && number != 0 && swap(number, width) == from & mask(width) {
            found.push(Place { offset, swapped: true, delta: 0 });
        }
    };
    match value {
        // An operand that does not fit was not made of this number.
        Value::Int(number) => {
            let narrow = width_at(site, width);
            if from & mask(width) <= mask(narrow) || narrow == width {
                compare(0, *number, narrow, &[0, 1, u64::MAX]);
            }
        }
        Value::Pointer(pointer) => {
            if let Shape::Bad(address) = pointer.shape {
                compare(0, address, width, &[0]);
            }
        }
        Value::Bytes(bytes) => {
            for (offset, window) in bytes.windows(usize::from(width)).enumerate() {
                let mut word = [0; 8];
                word[..window.len()].copy_from_slice(window);
                compare(offset, u64::from_le_bytes(word), width, &[0]);
            }
        }
        _ => {}
    }
    found
}

fn put(site: walk::Site, value: &mut Value, place: Place, to: u64, width: u8) {
    let encode = |width: u8| {
        let to = to.wrapping_sub(place.delta) & mask(width);
        if place.swapped { swap(to, width) } else { to }
    };
    match value {
        Value::Int(number) => {
            let narrow = width_at(site, width);
            // Bits above the comparison stay as they are.
            *number = (*number & !mask(narrow)) | encode(narrow);
        }
        Value::Pointer(pointer) => {
            if let Shape::Bad(address) = &mut pointer.shape {
                *address = (*address & !mask(width)) | encode(width);
            }
        }
        Value::Bytes(bytes) => {
            let word = encode(width).to_le_bytes();
            if let Some(target) = bytes.get_mut(place.offset..place.offset + usize::from(width)) {
                target.copy_from_slice(&word[..usize::from(width)]);
            }
        }
        _ => {}
    }
}
