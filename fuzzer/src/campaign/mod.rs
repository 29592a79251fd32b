//! Campaigns: a directory that lives as long as the fuzzing of one build does.
//!
//! [`store`] is the directory, [`ledger`] the one who writes it, [`findings`] what lies in it of findings, [`baseline`] a file of findings that
//! are known, [`statistics`] the counters, [`metrics`] and [`prometheus`] what is told of them while it runs. [`runner`] drives the loop of one
//! machine: [`examine`] turns its candidates into findings, [`check`] looks whether the machine can be trusted. [`team`] is many of them. [`regress`]
//! runs findings on another build.

pub mod baseline;
pub mod check;
pub mod examine;
pub mod findings;
pub mod json;
pub mod ledger;
pub mod metrics;
pub mod operations;
pub mod prometheus;
pub mod regress;
pub mod runner;
pub mod sample;
pub mod statistics;
pub mod store;
pub mod team;
#[cfg(test)]
mod weeks;
