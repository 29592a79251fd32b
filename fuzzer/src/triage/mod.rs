//! From an execution that went wrong to a finding that somebody can act on.
//!
//! [`points`] are the places of edges, [`functions`] the code, [`symbols`] names addresses, [`disassembly`] shows what is there. [`bucket`] decides which
//! misbehaviours are the same, [`verify`] repeats a candidate on a clean boot and minimises it, [`bisect`] finds the build in which one came
//! or went, [`compare`] tells two executions apart that should be the same.

pub mod bisect;
pub mod bucket;
pub mod compare;
pub mod disassembly;
pub mod functions;
mod layout;
pub mod points;
pub mod symbols;
pub mod verify;
