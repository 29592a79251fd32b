//! Campaigns: a directory that lives as long as the fuzzing of one build does.
//!
//! [`store`] is the directory, [`statistics`] the counters, [`runner`] drives a session over both.

pub mod operations;
pub mod runner;
pub mod statistics;
pub mod store;
