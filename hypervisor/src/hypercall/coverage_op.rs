//! `coverage_op`: the coverage hypercall. Its rules are in `coverage-hypercall`; here is what they need of a vCPU.

use crate::{
    address::{Gfn, Gva},
    hypervisor::Hypervisor,
    mem::{
        Memory,
        guest::{self, Call},
        p2m::{GFN_LIMIT, Kind, Mapping, P2m},
    },
};
use coverage_hypercall::{
    coverage::{self, Caller, Errno as CoverageErrno, Fault, Mapped},
    crash::CrashKind,
};
use xen_abi::errno::Errno;

/// The calling vCPU.
struct CoverageCaller<'a> {
    call: Call,
    memory: &'a mut Memory,
    p2m: &'a mut P2m,
    may_cover: bool,
    /// The domain holds the right, whatever was looked up earlier.
    held: bool,
    oracles: bool,
}

impl CoverageCaller<'_> {
    /// The body of an operation runs: the right to it must be held now.
    fn assert_privilege(&mut self) {
        if self.oracles && !self.held {
            self.memory.machine.report(CrashKind::Privilege, "coverage_op ran without the right to it");
        }
    }
}

impl Caller for CoverageCaller<'_> {
    fn vcpu(&self) -> u32 {
        u32::from(self.call.caller.vcpu)
    }

    fn permitted(&self) -> bool {
        self.may_cover
    }

    fn copy_from_guest(&self, addr: u64, out: &mut [u8]) -> Result<(), Fault> {
        guest::read(self.memory, self.p2m, &self.call, Gva(addr), out).map_err(|_| Fault)
    }

    fn copy_to_guest(&mut self, addr: u64, data: &[u8]) -> Result<(), Fault> {
        self.assert_privilege();
        guest::write(self.memory, self.p2m, &self.call, Gva(addr), data).map_err(|_| Fault)
    }

    fn map(&mut self, what: Mapped, page: u32, gfn: u64) -> Result<(), CoverageErrno> {
        self.assert_privilege();
        let mfn = self.memory.machine.region_frame(what, page).ok_or(CoverageErrno::EINVAL)?;
        if gfn >= GFN_LIMIT {
            return Err(CoverageErrno::EINVAL);
        }
        if self.p2m.lookup(self.memory, Gfn(gfn)).is_some() {
            return Err(CoverageErrno::EBUSY);
        }
        let mapping = Mapping { mfn, kind: Kind::Instrumentation, writable: false };
        self.p2m.set(self.memory, Gfn(gfn), mapping).map(drop).map_err(|_| CoverageErrno::EAGAIN)
    }

    fn unmap(&mut self, what: Mapped, page: u32, gfn: u64) -> Result<(), CoverageErrno> {
        self.assert_privilege();
        let there = self.p2m.lookup(self.memory, Gfn(gfn));
        let wanted = self.memory.machine.region_frame(what, page);
        match there {
            Some(mapping) if mapping.kind == Kind::Instrumentation && Some(mapping.mfn) == wanted => {
                if let Some(old) = self.p2m.clear(self.memory, Gfn(gfn)) {
                    self.memory.put(old.mfn);
                }
                Ok(())
            }
            _ => Err(CoverageErrno::ENOENT),
        }
    }

    fn release(&mut self) {
        // What the domain gave up is kept in its `DomainCoverage`, and asked there.
    }
}

impl Hypervisor {
    pub(crate) fn coverage_op(&mut self, call: Call, args: [u64; 6]) -> Result<i64, Errno> {
        let Self { memory, instrumentation, domains, plants, batch, options, .. } = self;
        let domain = domains.get_mut(call.caller.domain).ok_or(Errno::Srch)?;
        let held = domain.may_cover && !domain.coverage.released();
        let batched = batch.is_some();
        let then = batch.as_ref().is_some_and(|batch| batch.held);
        let stale = plants.use_stale_right(batched, then, held);
        let state = match batch {
            Some(batch) if stale => &mut *batch.coverage,
            _ => &mut domain.coverage,
        };
        let mut caller = CoverageCaller {
            call,
            memory,
            p2m: &mut domain.p2m,
            may_cover: domain.may_cover,
            held,
            oracles: options.oracles,
        };
        let result = coverage::handle(state, &mut **instrumentation, &mut caller, args[0], args[1]);
        // Without the right there is one answer only.
        if result != CoverageErrno::EPERM.status() {
            caller.assert_privilege();
        }
        Ok(result)
    }
}
