//! Pages that say where they are, for a host that cannot ask.
//!
//! A guest with nested paging knows no machine addresses, and a hypervisor that knows nothing of the host tells none. So the agent
//! puts a [`Signature`] at the end of each page that the host has to find, before the ready marker; nothing of its own lies there then.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Identifies a [`Signature`]: `HFZFRAME`.
pub const SIGNATURE_MAGIC: u64 = u64::from_le_bytes(*b"HFZFRAME");
/// Where it lies in its page.
pub const SIGNATURE_OFFSET: usize = 4096 - size_of::<Signature>();

/// The last bytes of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Signature {
    /// [`SIGNATURE_MAGIC`].
    pub magic: u64,
    /// The page's number, as the guest counts.
    pub frame: u64,
}

const _: () = assert!(size_of::<Signature>() == 16);
