//! The program as its users meet it: arguments, files, exit codes, output, and what happens when things break.
//!
//! [`bad_input`] needs no machine. [`campaigns`] runs whole campaigns, [`accidents`] kills, stops and starves them.
//! Tests that boot a machine take turns through [`support::machine`]: two at a time would measure each other.

#[path = "../machine_code/mod.rs"]
mod machine_code;

mod accidents;
mod bad_input;
mod boot;
mod campaigns;
mod ci;
mod corpus_tools;
mod effectiveness;
mod export;
mod kills;
mod regress;
mod replay;
mod report;
mod support;
mod tools;
mod triage;
mod triage_bench;
mod trust;
mod workers;
