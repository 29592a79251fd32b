//! Collections of programs: which of them are worth keeping ([`distill`], by [`cover`]), and how they come together
//! ([`gather`]).

pub mod cover;
pub mod distill;
pub mod gather;
