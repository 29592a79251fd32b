//! What the control domain knows of a domain, and did to it.

use xen_abi::domctl::{ArchConfig, CDF_HAP, CDF_HVM};

/// A domain as its control domain sees it.
#[derive(Debug)]
pub(crate) struct Control {
    /// It is the control domain.
    pub privileged: bool,
    /// How often it was paused.
    pub pauses: u32,
    /// It is being destroyed: its vCPUs never run again, and nobody gives it anything.
    pub dying: bool,
    /// Its UUID.
    pub handle: [u8; 16],
    /// Its security label.
    pub ssidref: u32,
    /// `CDF_*`, as it was created.
    pub flags: u32,
    /// As it was created.
    pub arch: ArchConfig,
    /// vCPUs that it can have.
    pub max_vcpus: u32,
    /// A debugger is attached.
    pub debugged: bool,
    /// Seconds between its clock and the machine's.
    pub time_offset: i64,
}

impl Control {
    /// Of a domain that the configuration names.
    pub(crate) fn new(privileged: bool, vcpus: u8) -> Self {
        Self {
            privileged,
            pauses: 0,
            dying: false,
            handle: [0; 16],
            ssidref: 0,
            flags: CDF_HVM | CDF_HAP,
            arch: ArchConfig::default(),
            max_vcpus: vcpus.into(),
            debugged: false,
            time_offset: 0,
        }
    }
}
