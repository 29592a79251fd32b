//! Where the agent runs under Xen, and what a machine needs for that.

use hyperfuzz_control::SVM_GUEST;

use super::{COMMAND_LINE, RAM_SIZE};

/// A kind of domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// The initial domain, in pv mode.
    PvDom0,
    /// A pv domain without privileges, which the initial one has made out of its own image.
    PvDomU,
    /// The initial domain, hardware-assisted (PVH).
    PvhDom0,
}

impl Guest {
    /// Xen's command line, with further words for it. What follows the two dashes is for the initial domain.
    #[must_use]
    pub fn command_line(self, words: &str) -> String {
        let own = match self {
            Self::PvDom0 => "",
            Self::PvDomU => "-- domu",
            Self::PvhDom0 => "dom0=pvh",
        };
        let (words, own) = if self == Self::PvhDom0 { (own, words) } else { (words, own) };
        [COMMAND_LINE, words.trim(), own.trim()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Bytes of RAM that Xen and all domains share.
    #[must_use]
    pub const fn ram_size(self) -> u64 {
        match self {
            Self::PvDom0 | Self::PvDomU => RAM_SIZE,
            Self::PvhDom0 => RAM_SIZE + (64 << 20),
        }
    }

    /// Where the agent executes its markers, for [`hyperfuzz_control::Control::marker_ring`].
    pub(in super::super) const fn marker_ring(self) -> u32 {
        match self {
            Self::PvDom0 | Self::PvDomU => 3,
            Self::PvhDom0 => SVM_GUEST,
        }
    }

    /// True where the agent sees addresses of its own, not the machine's.
    pub(in super::super) const fn is_translated(self) -> bool {
        matches!(self, Self::PvhDom0)
    }

    /// Processor for QEMU.
    pub(in super::super) const fn cpu(self) -> &'static str {
        match self {
            Self::PvDom0 | Self::PvDomU => "qemu64,+svm,+npt",
            Self::PvhDom0 => "max",
        }
    }

    /// Further arguments for QEMU. A hardware-assisted initial domain has to have an IOMMU below it.
    pub(in super::super) const fn devices(self) -> &'static [&'static str] {
        match self {
            Self::PvDom0 | Self::PvDomU => &[],
            Self::PvhDom0 => &["-device", "amd-iommu"],
        }
    }
}
