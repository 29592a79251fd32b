//! The coverage-guided loop: everything that knows LibAFL.
//!
//! LibAFL owns the corpus in memory ([`packed`] keeps it small), the map of edges seen so far ([`edges`] compares with it) and the loop. We give it the things that are ours: an
//! input type ([`input`]: typed programs), an executor ([`executor`]: any
//! [`crate::engine::Engine`]), a mutator ([`mutator`]) that passes over what is known to crash
//! ([`trouble`]), a scheduler ([`favour`]) and a stage that collects comparison operands ([`comparisons`]). [`session`] puts them together and reports to a [`Driver`], so that the rest of the fuzzer
//! sees programs and executions, never LibAFL's types.
//!
//! A [`Strategy`] takes parts of it away, for the benchmark: strings of bytes instead of programs ([`subject`], [`havoc`]), a
//! coin instead of edges ([`coin`]), no comparisons, no results of earlier calls, no reset.

mod coin;
mod comparisons;
mod edges;
pub mod exchange;
mod executor;
mod favour;
mod havoc;
mod input;
mod limits;
mod mutants;
mod mutator;
mod packed;
mod session;
mod strategy;
mod subject;
mod trouble;
mod verdict;

pub use edges::covered;
pub use executor::Candidate;
pub use limits::{Ended, Limits};
pub use session::{Driver, News, Plan, SessionError, run};
pub use strategy::{Form, Inputs, Signal, Strategy};
