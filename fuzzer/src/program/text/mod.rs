//! The text form: one call per line, for people, diffs and reviews. `corpora/README.md` describes it.
//!
//! [`print`] is canonical: parsing what it printed gives the same program, and printing that gives the same text.

mod parse;
mod print;

pub use parse::{ParseError, parse};
pub use print::{call, int, print};

/// Runs of one byte that are at least so long are printed as `fill(byte, length)`.
const FILL: usize = 8;
