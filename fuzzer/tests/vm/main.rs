//! What guests see of the reference hypervisor, in the real machine: each test states what every call answers.

#[path = "../common/mod.rs"]
mod common;

mod agent;
mod corpora;
mod coverage;
mod events;
mod grants;
mod harness;
mod memory;
mod multicall;
mod planted;
mod planted_grants;
mod reset;
mod sched;
mod version;
