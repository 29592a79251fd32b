//! What guests see of the reference hypervisor, in the real machine: each test states what every call answers.

#[path = "../common/mod.rs"]
mod common;
#[path = "../machine_code/mod.rs"]
mod machine_code;

mod agent;
mod corpora;
mod coverage;
mod events;
mod harness;
mod hostile;
mod memory;
mod multicall;
mod planted;
mod reset;
mod sched;
mod version;
