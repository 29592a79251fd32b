//! A domain.

use crate::{
    address::Mfn, control::Control, event::EventChannels, grant::Grants, mem::p2m::P2m, platform::Platform,
    vcpu::Vcpu,
};
use alloc::{string::String, vec::Vec};
use coverage_hypercall::coverage::DomainCoverage;
use xen_abi::{DomId, memory::E820Entry};

/// Watchdog timers of a domain (`NR_DOMAIN_WATCHDOG_TIMERS` of Xen).
pub(crate) const WATCHDOGS: usize = 2;

/// A domain and what belongs to it.
pub(crate) struct Domain {
    /// Its identifier; the control domain is 0.
    pub id: DomId,
    /// Its name in the configuration.
    pub name: String,
    /// Its physical map.
    pub p2m: P2m,
    /// Pages that it owns.
    pub pages: u64,
    /// Pages that are set aside for it beside those.
    pub claim: u64,
    /// Most pages that it may own.
    pub max_pages: u64,
    /// Its virtual processors.
    pub vcpus: Vec<Vcpu>,
    /// What the control domain knows of it and did to it.
    pub control: Control,
    /// Its virtual hardware.
    pub platform: Platform,
    /// Its event channels.
    pub events: EventChannels,
    /// Its grant table, and what it has mapped of others.
    pub grants: Grants,
    /// Its Argo rings.
    pub argo: crate::argo::Argo,
    /// Its shared-info page.
    pub shared_info: Mfn,
    /// It may use the coverage hypercall.
    pub may_cover: bool,
    /// Its side of the coverage hypercall.
    pub coverage: DomainCoverage,
    /// The frame that holds its secret.
    pub secret: Mfn,
    /// Why it ended.
    pub shutdown: Option<u32>,
    /// What it wants to be reported when it ends.
    pub shutdown_code: Option<u32>,
    /// Deadlines of its watchdogs, as system time; 0: not set.
    pub watchdogs: [u64; WATCHDOGS],
    /// Types of assistance that it switched on, one bit each.
    pub assists: u64,
    /// Its memory map at the start.
    pub memory_map: Vec<E820Entry>,
    /// Console text since the last end of line.
    pub console: Vec<u8>,
}
