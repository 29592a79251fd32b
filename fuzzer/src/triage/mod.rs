//! From an execution that went wrong to a finding that somebody can act on.
//!
//! [`symbols`] names addresses, [`bucket`] decides which misbehaviours are the same, [`verify`] repeats a candidate on a
//! clean boot and minimises it.

pub mod bucket;
pub mod symbols;
pub mod verify;
