//! Typed programs: what they are and everything that is done to them, one file for each verb.
//!
//! | module | verb |
//! |---|---|
//! | [`model`] | what a program is |
//! | [`walk`] | visit every value together with its type |
//! | [`generate`] | make one from nothing |
//! | `choose` | say which operation comes next |
//! | `hostile` | choose values that are likely to be handled wrongly |
//! | `sequence` | let calls follow what makes them possible |
//! | [`mutate`] | change one |
//! | [`minimize`] | make one smaller while it still does something |
//! | [`validate`] | say what is wrong with one |
//! | [`text`] | print and parse, for people |
//! | [`wire`] | encode and decode, for files |
//! | [`environment`] | say what its numbers stand for on a machine |
//! | [`lower`] | compile into what the agent executes |
//! | [`flat`] | encode as bytes without structure, and decode any bytes |
//! | [`c`] | write as a guest in C |
//! | [`transcript`] | say in words what an execution returned |
//!
//! Everything follows the tables of [`crate::interface`]; nothing here knows a hypercall by name. All of it is
//! deterministic: what is random takes its random number generator as an argument.

pub mod c;
mod choose;
pub mod environment;
pub mod flat;
pub mod generate;
mod hostile;
pub mod lower;
pub mod minimize;
pub mod model;
pub mod mutate;
mod sequence;
pub mod text;
pub mod transcript;
pub mod validate;
pub mod walk;
pub mod wire;

pub use environment::Environment;
pub use model::{Call, Entry, Pointer, Program, ResultRef, Shape, Value};

#[cfg(test)]
mod properties;
