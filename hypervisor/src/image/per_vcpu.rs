//! What the image keeps for each vCPU.

use alloc::{boxed::Box, vec::Vec};
use hypervisor::VcpuId;
use xen_abi::DomId;

/// Values by vCPU. They are asked for several times in each exit, mostly for the one that was asked for last.
pub(crate) struct PerVcpu<T> {
    values: Vec<(VcpuId, Box<T>)>,
    /// Where the last one is.
    last: usize,
}

impl<T> PerVcpu<T> {
    /// There is none.
    pub(crate) const fn new() -> Self {
        Self { values: Vec::new(), last: 0 }
    }

    fn find(&mut self, id: VcpuId) -> Option<usize> {
        if self.values.get(self.last).is_none_or(|(of, _)| *of != id) {
            self.last = self.values.iter().position(|(of, _)| *of == id)?;
        }
        Some(self.last)
    }

    /// That of a vCPU, if there is one.
    pub(crate) fn get_mut(&mut self, id: VcpuId) -> Option<&mut T> {
        let at = self.find(id)?;
        Some(&mut *self.values[at].1)
    }

    /// That of a vCPU, which is made if there is none.
    pub(crate) fn get_or_make(&mut self, id: VcpuId, make: impl FnOnce() -> T) -> &mut T {
        let at = self.find(id).unwrap_or_else(|| {
            self.values.push((id, Box::new(make())));
            self.values.len() - 1
        });
        &mut self.values[at].1
    }

    /// Drops those of a domain.
    pub(crate) fn forget(&mut self, domain: DomId) {
        self.values.retain(|(id, _)| id.domain != domain);
    }
}
