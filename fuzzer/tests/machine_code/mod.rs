//! Guests made of machine code that is assembled into the test: PVH images of them, for `hyperfuzz boot` and for the agents' EXEC.
#![expect(unsafe_code, reason = "the code is assembled into the test and copied from there")]
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod checks;
pub(crate) mod hostile;
mod start;

#[allow(unused_imports, reason = "each test uses its part")]
pub(crate) use start::{image_32, image_64};

/// The bytes between two labels of one section.
///
/// # Safety
/// Both lie in one section of the test's own image, the first before the second.
unsafe fn between(start: *const u8, end: *const u8) -> &'static [u8] {
    // SAFETY: as for this function.
    unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
}
