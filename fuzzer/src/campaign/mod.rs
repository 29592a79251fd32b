//! Campaigns: a directory that lives as long as the fuzzing of one build does.
//!
//! [`store`] is the directory, [`ledger`] the one who writes it, [`statistics`] the counters. [`runner`] drives the loop of one
//! machine: [`examine`] turns its candidates into findings, [`check`] looks whether the machine can be trusted. [`team`] is many of them. [`stored`] reads findings again,
//! [`regress`] runs them on another build.

pub mod check;
pub mod examine;
pub mod ledger;
pub mod operations;
pub mod regress;
pub mod runner;
pub mod sample;
pub mod statistics;
pub mod store;
pub mod stored;
pub mod team;
