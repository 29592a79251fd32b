//! `multicall` (`public/xen.h`, `HYPERVISOR_multicall`): pointer to an array of [`Entry`], number of entries.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One call of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Entry {
    /// In: number of the hypercall.
    pub op: u64,
    /// Out: what it returned.
    pub result: u64,
    /// In: its arguments.
    pub args: [u64; 6],
}

const _: () = assert!(size_of::<Entry>() == 64);
