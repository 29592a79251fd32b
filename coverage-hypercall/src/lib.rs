//! Everything that a hypervisor, the agent inside its guests and the fuzzer on the host must agree on.
//!
//! | module | between | what |
//! |---|---|---|
//! | [`coverage`] | guest ↔ hypervisor | the coverage hypercall: operations, structures, status codes, state machine |
//! | [`client`] | guest | typed calls of the coverage hypercall |
//! | [`harness`] | agent ↔ hypervisor ↔ host | ready/done/switch, the marker instruction, the beacon, comparison log |
//! | [`channel`] | agent ↔ host | where the rings lie in the shared channel |
//! | [`ring`] | agent ↔ host | index arithmetic of the request and completion rings |
//! | [`program`] | host → agent → host | the lowered program and its completions |
//! | [`crash`] | hypervisor → host | the crash record |
//!
//! The crate depends on nothing of ours, allocates nothing and contains no `unsafe`. Numbers on the wire are
//! little-endian; structures are `repr(C)` without unnamed padding.
#![no_std]
#![forbid(unsafe_code)]

pub mod channel;
pub mod client;
pub mod coverage;
pub mod crash;
pub mod harness;
pub mod program;
pub mod ring;
pub mod signature;
