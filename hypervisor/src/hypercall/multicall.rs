//! `multicall`: several calls in one, each with its own result.

use crate::{
    hypervisor::{Disposition, Hypervisor},
    mem::guest::Call,
};
use alloc::boxed::Box;
use coverage_hypercall::coverage::DomainCoverage;
use xen_abi::{errno::Errno, multicall::Entry};

/// Most entries that one call carries out.
const MAX_ENTRIES: u64 = 512;

/// What a multicall knows while it lasts.
pub(crate) struct Batch {
    /// The right to coverage as it was at the start.
    pub coverage: Box<DomainCoverage>,
    /// The right was held at the start.
    pub held: bool,
}

impl Hypervisor {
    pub(crate) fn multicall(&mut self, call: Call, args: [u64; 6]) -> Result<Disposition, Errno> {
        if self.batch.is_some() {
            return Err(Errno::Inval);
        }
        let (list, count) = (args[0], u64::from(args[1] as u32));
        if count > MAX_ENTRIES {
            return Err(Errno::TooBig);
        }
        let domain = self.domain(call.caller.domain).ok_or(Errno::Srch)?;
        let coverage = Box::new(domain.coverage.clone());
        let held = domain.may_cover && !coverage.released();
        self.batch = Some(Batch { coverage, held });
        let answer = self.entries(&call, list, count);
        self.batch = None;
        answer
    }

    fn entries(&mut self, call: &Call, list: u64, count: u64) -> Result<Disposition, Errno> {
        let mut outcome = Disposition::Return(0);
        for n in 0..count {
            let at = list.checked_add(n * size_of::<Entry>() as u64).ok_or(Errno::Fault)?;
            let entry: Entry = self.read_struct(call, at)?;
            let disposition = self
                .dispatch(*call, entry.op, entry.args)
                .unwrap_or_else(|error| Disposition::Return(error.code()));
            let result = match disposition {
                Disposition::Return(value) => value,
                // The call has happened; the vCPU gives the processor up behind it.
                other => {
                    outcome = other;
                    0
                }
            };
            self.write_struct(call, at + 8, &(result as u64))?;
            if outcome != Disposition::Return(0) {
                break;
            }
        }
        Ok(outcome)
    }
}
