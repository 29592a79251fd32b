//! Lets a pointer point elsewhere.

use rand::Rng;

use super::at_site;
use crate::{
    interface::Type,
    program::{
        hostile,
        model::{Pointer, Program, Shape, Value},
        walk,
    },
};

/// Gives a pointer another shape: null, bad, unaligned, across pages, at the end, into another buffer, or plain.
pub(super) fn shape<R: Rng + ?Sized>(program: &mut Program, rng: &mut R) -> bool {
    let accept = |_: walk::Site, value: &Value| matches!(value, Value::Pointer(_));
    at_site(program, rng, &accept, &mut |rng, _, _, site, value| {
        let Value::Pointer(pointer) = value else { return };
        let pointee = if let Type::Ptr { to, .. } = site.ty { *to } else { walk::WORD_POINTEE };
        let size = pointer.to.as_ref().map_or(8, |data| pointee.size().max(data.len_of() as usize * 8));
        let shape = match pointer.shape {
            Shape::Plain => hostile::odd_shape(rng, size),
            Shape::Bad(address) if rng.random_bool(0.5) => {
                Shape::Bad(address.wrapping_add([8, 0x1000, 1 << 30][rng.random_range(0..3)]))
            }
            _ if rng.random_bool(0.5) => Shape::Plain,
            _ => hostile::odd_shape(rng, size),
        };
        let to = match (&mut pointer.to, shape.has_data()) {
            (_, false) => None,
            (Some(data), true) => Some(std::mem::replace(data, Box::new(Value::Int(0)))),
            (None, true) => Some(Box::new(Value::plainest(pointee))),
        };
        *pointer = Pointer { shape, to };
    })
}
