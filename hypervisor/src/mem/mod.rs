//! Memory: machine frames, the physical map of each domain, and copies from and to guests.

pub(crate) mod frames;
pub(crate) mod guest;
pub(crate) mod p2m;

use crate::{
    address::{Gfn, Mfn},
    machine::Machine,
    oracle::work::Watch,
};
use alloc::{boxed::Box, vec::Vec};
use core::ops::Range;
use frames::Frames;
use xen_abi::DomId;

/// The machine and its frames.
pub(crate) struct Memory {
    /// The machine.
    pub machine: Box<dyn Machine>,
    /// The frame table.
    pub frames: Frames,
    /// Guest frames whose mapping changed in the current call, in whichever table.
    pub touched: Vec<(DomId, Gfn)>,
    /// Frames that the current call freed while somebody had them mapped.
    pub dangling: Vec<Mfn>,
    /// What oracles know of the current call.
    pub watch: Watch,
    /// Physical maps are page tables of pv guests.
    pub pv: bool,
    /// How often an entry of a physical map has changed.
    pub changes: u64,
}

impl Memory {
    /// Memory of which the frames of `ram` are free.
    pub(crate) fn new(machine: Box<dyn Machine>, ram: &[Range<Mfn>], watch: Watch) -> Self {
        Self {
            machine,
            frames: Frames::new(ram),
            touched: Vec::new(),
            dangling: Vec::new(),
            watch,
            pv: false,
            changes: 0,
        }
    }
}
