//! From an execution that went wrong to a finding that somebody can act on.
//!
//! [`points`] are the places of edges, [`functions`] the code, [`symbols`] names addresses, [`disassembly`] shows what is there. [`bucket`] decides which
//! misbehaviours are the same, [`verify`] repeats a candidate on a clean boot and minimises it, [`bisect`] finds the build in which one came
//! or went, [`compare`] tells two executions apart that should be the same, [`trace`] says what the hypervisor did in each call, [`gdb`] prepares a
//! debugger for a look at one.

pub mod bisect;
pub mod bucket;
pub mod compare;
pub mod disassembly;
pub mod functions;
pub mod gdb;
#[cfg(test)]
mod golden;
mod layout;
pub mod points;
pub mod symbols;
pub mod trace;
pub mod verify;
