//! What guests see of the reference hypervisor, in the real machine: each test states what every call answers.

#[path = "../common/mod.rs"]
mod common;

mod agent;
mod corpora;
mod coverage;
mod events;
mod harness;
mod memory;
mod multicall;
mod planted;
mod reset;
mod sched;
mod vcpus;
mod version;
