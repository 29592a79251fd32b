//! What guests see of the reference hypervisor, in the real machine: each test states what every call answers.
//!
//! The tests run for hvm guests (`--test vm`) and, by way of `pv.rs`, which includes this file, for pv guests (`--test vm_pv`): a
//! new module needs no more than its line below. Modules name each other by `super`, the machine by `crate::common`. Where the answers differ, `common::TARGET` says which they are.

#[path = "../common/mod.rs"]
pub(crate) mod common;
#[path = "../machine_code/mod.rs"]
pub(crate) mod machine_code;

mod agent;
mod alike;
mod answers;
mod argo;
mod corpora;
mod coverage;
mod domctl;
mod escape;
mod event_fifo;
mod events;
mod grants;
mod harness;
mod hostile;
mod memory;
mod modes;
mod multicall;
mod planted;
mod planted_domains;
mod planted_events;
mod planted_grants;
mod planted_memory;
mod planted_vcpus;
mod reset;
mod sched;
mod timers;
mod vcpus;
mod version;
