//! Reference hypervisor of hyperfuzz: domain logic (library) and the image (binary).
//!
//! The library knows domains, memory and hypercalls, but no hardware: it asks a [`machine::Machine`] for memory and
//! tells the image through [`Hypervisor`] what to run. It builds and is tested on the host.
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod address;
mod arch;
mod areas;
mod argo;
mod build;
pub mod bundle;
pub mod config;
mod control;
mod domain;
mod domains;
mod event;
mod fifo;
mod grant;
mod hypercall;
mod hypervisor;
mod instruction;
pub mod machine;
mod mem;
pub mod options;
mod oracle;
mod platform;
pub mod pv;
mod runstate;
mod schedule;
mod start;
mod teardown;
#[cfg(test)]
mod tests;
mod timer;
mod vcpu;

pub use arch::InjectGp;
pub use build::BuildError;
pub use hypervisor::{
    Disposition, Entry, FaultAction, GuestContext, Hypervisor, NestedFault, PagingMode, VcpuId,
};
pub use instruction::{Decoded, Instruction};
pub use options::Options;
pub use start::{Segment, StartState};
