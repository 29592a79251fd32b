//! The hypervisor as the image sees it.

use crate::{
    address::{Gpa, Maddr, Mfn},
    domain::Domain,
    domains::Domains,
    machine::Machine,
    mem::{Memory, p2m::P2m},
    options::{Mode, Options},
    oracle::{isolation::Checks, work::Watch},
    start::StartState,
    vcpu::State,
};
use alloc::{boxed::Box, string::String, vec::Vec};
use core::ops::Range;
use coverage_hypercall::{
    coverage::{self, Instrumentation},
    crash::CrashKind,
    harness::Canary,
};
use memory_scan::mix;
use planted_bugs::Plants;
use xen_abi::DomId;

/// A virtual processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId {
    /// Its domain.
    pub domain: DomId,
    /// Its number in the domain.
    pub vcpu: u8,
}

/// How a guest's addresses are translated before the nested tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagingMode {
    /// Not at all: 32-bit protected mode without paging.
    Flat,
    /// By four-level tables: long mode.
    Long,
    /// Only by the physical map, which is the page table of a pv guest.
    Direct,
    /// In a way in which hypercalls cannot be made with buffers.
    Other,
}

/// State of the calling vCPU that a hypercall depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestContext {
    /// CR3.
    pub cr3: u64,
    /// Current privilege level, as the guest sees it: 0 for its kernel.
    pub cpl: u8,
    /// How its addresses are translated.
    pub paging: PagingMode,
}

/// How a vCPU is entered for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What its processor holds.
    pub start: StartState,
    /// Bases of FS, GS and the GS behind SWAPGS; in pv mode only.
    pub bases: [u64; 3],
    /// Root of the nested page tables; in pv mode, of the page tables.
    pub nested_cr3: Maddr,
    /// Address-space identifier, never 0.
    pub asid: u32,
}

/// What becomes of the caller of a hypercall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// The caller goes on with this in rax.
    Return(i64),
    /// The caller does not go on now: run [`Hypervisor::vcpu_to_run`].
    Reschedule,
    /// All domains are ready: execute the READY marker, then run [`Hypervisor::vcpu_to_run`].
    Ready,
    /// The program has ended: execute the DONE marker; should it return, the caller goes on with 0 in rax.
    Done,
}

/// Why the hardware could not translate a guest-physical address: EXITINFO1 of a nested page fault
/// (AMD manual volume 2, section 15.25.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NestedFault(pub u64);

impl NestedFault {
    /// The access was a write.
    pub const fn is_write(self) -> bool {
        self.0 & 1 << 1 != 0
    }

    /// It happened while the guest's own page tables were walked.
    pub const fn in_walk(self) -> bool {
        self.0 & 1 << 33 != 0
    }
}

/// What to do about a nested page fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultAction {
    /// The mapping allows the access: run the instruction again.
    Retry,
    /// Raise a page fault in the guest, with CR2 the guest-physical address: guests run identity-mapped.
    InjectPageFault,
    /// The guest cannot go on: [`Hypervisor::guest_died`].
    Kill,
}

/// A static shared region between domains.
#[derive(Clone, Debug)]
pub(crate) struct Region {
    /// Its name.
    pub name: String,
    /// First of its frames.
    pub first: Mfn,
    /// Its size in bytes.
    pub len: u64,
    /// The domain that it belongs to; none where the hypervisor keeps it.
    pub owner: Option<DomId>,
    /// Pages, counted from the first, to which the owner has a reference.
    pub held: u64,
}

/// All state of the hypervisor.
pub struct Hypervisor {
    pub(crate) memory: Memory,
    pub(crate) instrumentation: Box<dyn Instrumentation>,
    pub(crate) options: Options,
    pub(crate) plants: Box<Plants>,
    pub(crate) domains: Domains,
    pub(crate) regions: Vec<Region>,
    pub(crate) current: Option<VcpuId>,
    /// Domains that were destroyed, until the image has asked.
    pub(crate) gone: Vec<DomId>,
    /// How the addresses of the current vCPU were translated at its last call.
    pub(crate) context: GuestContext,
    /// All domains have been ready once.
    pub(crate) started: bool,
    /// System time in nanoseconds. Virtual: it advances with calls only.
    pub(crate) time: u64,
    /// No timer is due before this time.
    pub(crate) next_timer: u64,
    /// No watchdog expires before this time.
    pub(crate) next_watchdog: u64,
    /// Calls that are being carried out, one in another.
    pub(crate) depth: u32,
    /// Pages that the current call may still move, map or fill.
    pub(crate) credit: u64,
    /// The current call is part of a multicall.
    pub(crate) batch: Option<crate::hypercall::multicall::Batch>,
    /// What oracles remember between calls.
    pub(crate) checks: Checks,
}

impl Hypervisor {
    /// A hypervisor without domains. `ram` are the machine frames that it may use.
    pub fn new(
        machine: Box<dyn Machine>,
        instrumentation: Box<dyn Instrumentation>,
        ram: &[Range<Mfn>],
        options: Options,
    ) -> Self {
        let plants = Box::new(options.plants.clone());
        // Guests cannot tell what secrets look like, though they are the same in each run of a build.
        let seed = instrumentation.build_id().iter().fold(0, |seed, byte| mix(seed, u64::from(*byte)));
        let watch = Watch::new(options.oracles, seed);
        let mut memory = Memory::new(machine, ram, watch);
        memory.pv = options.mode == Mode::Pv;
        Self {
            memory,
            instrumentation,
            options,
            plants,
            domains: Domains::new(),
            regions: Vec::new(),
            current: None,
            gone: Vec::new(),
            context: GuestContext { cr3: 0, cpl: 0, paging: PagingMode::Other },
            started: false,
            time: 0,
            next_timer: crate::timer::NEVER,
            next_watchdog: crate::timer::NEVER,
            depth: 0,
            credit: 0,
            batch: None,
            checks: Checks::default(),
        }
    }

    /// The canaries of the planted bugs. They stay where they are as long as the hypervisor lives.
    pub fn canaries(&self) -> &[Canary] {
        self.plants.canaries()
    }

    /// Where a static shared region lies in the machine: first byte and length.
    pub fn region(&self, name: &str) -> Option<(Maddr, u64)> {
        let region = self.regions.iter().find(|region| region.name == name)?;
        Some((region.first.address(), region.len))
    }

    /// Number of domains.
    pub fn domain_count(&self) -> usize {
        self.domains.len()
    }

    /// Why the first domain ended (`SHUTDOWN_*`), if it has.
    pub fn ending(&self) -> Option<u32> {
        self.domains.iter().next()?.shutdown
    }

    /// The vCPU that ran last, if any did.
    pub const fn current(&self) -> Option<VcpuId> {
        self.current
    }

    /// How a vCPU is entered for the first time.
    ///
    /// # Panics
    /// If there is no such vCPU, or nobody has initialised it: the image passes on what [`Self::vcpu_to_run`] said.
    pub fn entry(&self, id: VcpuId) -> Entry {
        let domain = self.domain(id.domain).expect("the vCPU exists");
        let start = self.vcpu(id).and_then(|vcpu| vcpu.start);
        Entry {
            start: start.expect("the vCPU was initialised before it was up"),
            bases: self.vcpu(id).map_or([0; 3], |vcpu| vcpu.pv.bases),
            nested_cr3: domain.p2m.root(),
            asid: u32::from(domain.id) + 1,
        }
    }

    /// Changes whenever a physical map does: whoever caches translations forgets them then.
    pub const fn mapping_changes(&self) -> u64 {
        self.memory.changes
    }

    /// Says what to do about an access that the nested tables refused.
    pub fn nested_fault(&mut self, caller: VcpuId, at: Gpa, fault: NestedFault) -> FaultAction {
        let Some(domain) = self.domain(caller.domain) else { return FaultAction::Kill };
        match domain.p2m.lookup(&self.memory, at.frame()) {
            Some(mapping) if mapping.writable || !fault.is_write() => FaultAction::Retry,
            _ if fault.in_walk() => FaultAction::Kill,
            _ => FaultAction::InjectPageFault,
        }
    }

    /// The domain with this identifier.
    pub(crate) fn domain(&self, id: DomId) -> Option<&Domain> {
        let domain = self.domains.get(id)?;
        self.checks.involve_if(self.depth, domain.id);
        Some(domain)
    }

    /// The domain with this identifier, to be changed.
    pub(crate) fn domain_mut(&mut self, id: DomId) -> Option<&mut Domain> {
        let domain = self.domains.get_mut(id)?;
        self.checks.involve_if(self.depth, domain.id);
        Some(domain)
    }

    /// Memory and the map of a domain, both to be changed.
    pub(crate) fn memory_and_p2m(&mut self, id: DomId) -> Option<(&mut Memory, &mut P2m)> {
        let domain = self.domains.get_mut(id)?;
        self.checks.involve_if(self.depth, domain.id);
        Some((&mut self.memory, &mut domain.p2m))
    }

    /// State of a vCPU.
    pub(crate) fn state(&self, id: VcpuId) -> Option<State> {
        Some(self.domain(id.domain)?.vcpus.get(usize::from(id.vcpu))?.state)
    }

    /// Leaves a crash record: an oracle was violated.
    pub(crate) fn violation(&mut self, kind: CrashKind, message: &str) -> ! {
        self.memory.machine.report(kind, message)
    }

    /// Makes `to` the running vCPU and takes the recording of coverage along.
    pub(crate) fn switch_to(&mut self, to: VcpuId) {
        self.checks.involve(to.domain);
        let recording = |hypervisor: &Self, id: Option<VcpuId>| {
            id.and_then(|id| hypervisor.domain(id.domain).map(|d| d.coverage.vcpu(u32::from(id.vcpu))))
                .unwrap_or_default()
        };
        let (from, next) = (recording(self, self.current), recording(self, Some(to)));
        coverage::switch(from, next, &mut *self.instrumentation);
        let (from, context) = (self.current.replace(to), self.context);
        if let Some(from) = from
            && let Some(vcpu) = self.vcpu_mut(from)
        {
            vcpu.context = context;
            self.note_runstate(from);
            self.publish(from);
        }
        self.note_runstate(to);
        self.publish(to);
        if let Some(vcpu) = self.vcpu(to) {
            let periodic = vcpu.timers.periodic;
            self.context = vcpu.context;
            if let Some(periodic) = periodic {
                self.next_timer = self.next_timer.min(periodic.next);
                self.run_timers();
            }
        }
    }
}
