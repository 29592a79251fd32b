//! SanitizerCoverage run-time of the reference hypervisor; never instrumented itself.
//!
//! The counters are plain bytes that instrumented code increments: there is no callback, this crate only knows where
//! they lie. Comparisons call back, and while nobody wants them the callbacks are a load and a branch.
//! The calls and their arguments are those of Clang's SanitizerCoverage documentation.
//!
//! Meant for one processor: the log is not locked. A binary that uses this crate must define the two symbols
//! `__start___sancov_cntrs` and `__stop___sancov_cntrs` in its linker script.
#![no_std]

mod callbacks;
mod log;
mod sancov;

pub use log::{comparisons, counters, reset_comparisons, reset_counters};
pub use sancov::SanitizerCoverage;
