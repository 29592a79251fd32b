//! The loop around guests, whatever way they are entered: who runs, and what became of its hypercall.

use hypervisor::{Disposition, Entry, Hypervisor, VcpuId};
use x86_64::PhysAddr;

use super::{beacon, console, per_vcpu::PerVcpu};

/// Who runs after an exit.
pub(super) enum Next {
    /// The same vCPU.
    Same,
    /// Whoever the library names.
    Other,
}

/// A vCPU as one of the modes runs it.
pub(super) trait Guest: Sized {
    /// One that has not run yet.
    fn new(entry: &Entry) -> Self;

    /// Puts what the hypervisor does not use itself aside because another vCPU will run.
    fn leave_processor(&mut self);

    /// The opposite. `tables` is what [`Marker::Tables`](coverage_hypercall::harness::Marker) says of all guests' tables.
    fn take_processor(&self, tables: u64);

    /// Sets the result of a hypercall.
    fn set_result(&mut self, value: i64);

    /// Gives a vCPU, which has the processor, what the library has for it before it goes on.
    fn resume(_runner: &mut Runner<Self>, _id: VcpuId) {}

    /// Runs the vCPU, which has the processor, until it comes back, and does what it came back for.
    fn step(runner: &mut Runner<Self>, id: VcpuId) -> Next;
}

/// The guests and the library that decides about them.
pub(crate) struct Runner<G> {
    pub(super) hypervisor: Hypervisor,
    pub(super) vcpus: PerVcpu<G>,
    /// Whose state is in the processor, as far as the hypervisor does not use it.
    running: Option<VcpuId>,
    /// [`Hypervisor::mapping_changes`] when its tables were loaded.
    mappings: u64,
    /// The same when the host was told that all domains are ready.
    ready_mappings: u64,
    /// All domains are ready, and the host has not been told.
    all_ready: bool,
    beacon: PhysAddr,
    verbose: bool,
}

impl<G: Guest> Runner<G> {
    /// A loop that has not begun. The processor must be ready for guests of this mode.
    pub(super) fn ready_for(hypervisor: Hypervisor, beacon: PhysAddr, verbose: bool) -> Self {
        let vcpus = PerVcpu::new();
        Self {
            hypervisor,
            vcpus,
            running: None,
            mappings: 0,
            ready_mappings: 0,
            all_ready: false,
            beacon,
            verbose,
        }
    }

    /// Runs whoever can run, until nobody can.
    pub(crate) fn run(mut self) -> ! {
        while let Some(id) = self.hypervisor.vcpu_to_run() {
            self.forget();
            self.load(id);
            // Whatever is the same before each program is done before the snapshot.
            if core::mem::take(&mut self.all_ready) {
                self.ready();
            }
            if let Some(value) = self.hypervisor.resume_value(id) {
                self.vcpu(id).set_result(value);
            }
            G::resume(&mut self, id);
            while let Next::Same = G::step(&mut self, id) {}
        }
        beacon::idle(self.hypervisor.ending())
    }

    /// A vCPU that was loaded.
    pub(super) fn vcpu(&mut self, id: VcpuId) -> &mut G {
        self.vcpus.get_mut(id).expect("the vCPU was loaded before it ran")
    }

    /// Drops the vCPUs of domains that were destroyed: their numbers may be used again.
    fn forget(&mut self) {
        while let Some(domain) = self.hypervisor.gone() {
            self.vcpus.forget(domain);
            self.running = self.running.filter(|id| id.domain != domain);
        }
    }

    /// Gives the processor to a vCPU, which is made if it has never run.
    fn load(&mut self, id: VcpuId) {
        if self.running == Some(id) {
            return;
        }
        if let Some(before) = self.running.take() {
            self.vcpu(before).leave_processor();
        }
        let entry = self.hypervisor.entry(id);
        self.mappings = self.hypervisor.mapping_changes();
        let tables = self.tables();
        self.vcpus.get_or_make(id, || G::new(&entry)).take_processor(tables);
        self.running = Some(id);
    }

    /// What [`Marker::Tables`](coverage_hypercall::harness::Marker) says of the guests' tables: 0 until they have changed since the ready marker.
    fn tables(&self) -> u64 {
        self.mappings.wrapping_sub(self.ready_mappings)
    }

    /// The same where physical maps have changed since the tables in use were loaded, which has to be done again then.
    pub(super) fn new_tables(&mut self) -> Option<u64> {
        let changes = self.hypervisor.mapping_changes();
        (core::mem::replace(&mut self.mappings, changes) != changes).then(|| self.tables())
    }

    /// Starts the record of each program at zero, and lets the host take its snapshot.
    fn ready(&mut self) {
        console::go_quiet(self.verbose);
        coverage_rt::reset_comparisons();
        coverage_rt::reset_counters();
        self.ready_mappings = self.hypervisor.mapping_changes();
        beacon::ready(self.beacon);
    }

    /// Does what became of a hypercall.
    pub(super) fn answer(&mut self, id: VcpuId, disposition: Disposition) -> Next {
        match disposition {
            Disposition::Return(value) => {
                self.vcpu(id).set_result(value);
                Next::Same
            }
            Disposition::Reschedule => Next::Other,
            Disposition::Ready => {
                self.all_ready = true;
                Next::Other
            }
            Disposition::Done => {
                beacon::done();
                self.vcpu(id).set_result(0);
                Next::Same
            }
        }
    }

    /// Ends the domain of a guest that cannot go on.
    pub(super) fn kill(&mut self, id: VcpuId, why: &str) -> Next {
        self.hypervisor.guest_died(id, why);
        Next::Other
    }
}
