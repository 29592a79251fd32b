//! Running guests in pv mode: the loop around ring 3.

mod vcpu;
mod world;

use alloc::format;
use core::arch::x86_64::__cpuid_count;

use coverage_hypercall::crash::CrashKind;
use hypervisor::{
    Disposition, Hypervisor, InjectGp, VcpuId,
    pv::{CONTEXT, Exception, Privileged},
};
use x86_64::{PhysAddr, registers::control::Cr2};
use xen_abi::hypercall;

use super::{arch, beacon, console, crash, per_vcpu::PerVcpu};
use vcpu::{Exit, Refused, Vcpu};
pub(crate) use world::guest_exception;

const NON_MASKABLE: u8 = 2;
const UNDEFINED: u8 = 6;
const DOUBLE_FAULT: u8 = 8;
const PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;
const MACHINE_CHECK: u8 = 18;

const MSR_EFER: u32 = 0xc000_0080;
const MSR_PAT: u32 = 0x277;

/// Who runs after an exit.
enum Next {
    /// The same vCPU.
    Same,
    /// Whoever the library names.
    Other,
}

/// The guests and the library that decides about them.
pub(crate) struct Runner {
    hypervisor: Hypervisor,
    vcpus: PerVcpu<Vcpu>,
    /// Whose page tables, segments and floating-point state are in the processor.
    running: Option<VcpuId>,
    /// [`Hypervisor::mapping_changes`] when the page tables were loaded.
    mappings: u64,
    /// The same when the host was told that all domains are ready.
    ready_mappings: u64,
    /// All domains are ready, and the host has not been told.
    all_ready: bool,
    beacon: PhysAddr,
    verbose: bool,
}

impl Runner {
    /// Makes the processor ready for pv guests.
    pub(crate) fn new(hypervisor: Hypervisor, beacon: PhysAddr, verbose: bool) -> Self {
        arch::require_supervisor_protection();
        world::enable();
        Self {
            hypervisor,
            vcpus: PerVcpu::new(),
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
            while let Next::Same = self.step(id) {}
        }
        beacon::idle(self.hypervisor.ending())
    }

    fn vcpu(&mut self, id: VcpuId) -> &mut Vcpu {
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
        let state = self.tables_state();
        self.vcpus.get_or_make(id, || Vcpu::new(&entry)).take_processor(state);
        self.running = Some(id);
    }

    /// What the marker of new tables says of the guests' tables: 0 until they have changed since the ready marker.
    fn tables_state(&self) -> u64 {
        self.mappings.wrapping_sub(self.ready_mappings)
    }

    /// Runs a vCPU until it comes back, and does what it came back for.
    fn step(&mut self, id: VcpuId) -> Next {
        crash::set_context(id.domain.into(), None);
        let changes = self.hypervisor.mapping_changes();
        if self.mappings != changes {
            self.mappings = changes;
            let state = self.tables_state();
            self.vcpu(id).reload_tables(state);
        }
        match self.vcpu(id).run() {
            Exit::Hypercall => self.hypercall(id),
            // Nobody sends any; it says nothing about the guest.
            Exit::Exception(NON_MASKABLE, _) => Next::Same,
            Exit::Exception(vector @ (DOUBLE_FAULT | MACHINE_CHECK), error) => crash::report(
                CrashKind::Fault,
                &format_args!("exception {vector}, error {error:#x}, in a guest: the processor's own"),
            ),
            Exit::Exception(vector, error) => {
                // Nothing has faulted since: that would have been a crash.
                let address = if vector == PAGE_FAULT { Cr2::read_raw() } else { 0 };
                self.exception(id, Exception { vector, error, address })
            }
        }
    }

    fn hypercall(&mut self, id: VcpuId) -> Next {
        let (number, args) = self.vcpu(id).hypercall();
        crash::set_context(id.domain.into(), Some(number));
        let hypervisor = &mut self.hypervisor;
        let vcpu = self.vcpus.get_mut(id).expect("it has just run");
        match number {
            hypercall::IRET => {
                return match vcpu.change(|registers| hypervisor.iret(id, registers)) {
                    Ok(()) => Next::Same,
                    Err(why) => self.kill(id, why),
                };
            }
            hypercall::SET_SEGMENT_BASE => {
                let answer = hypervisor.segment_base(args[0], args[1]);
                if let Ok(segment) = answer {
                    world::set_base(segment, args[1]);
                }
                vcpu.set_result(answer.err().unwrap_or(0));
                return Next::Same;
            }
            _ => {}
        }
        match hypervisor.hypercall(id, number, args, &CONTEXT) {
            Disposition::Return(value) => {
                vcpu.set_result(value);
                Next::Same
            }
            Disposition::Reschedule => Next::Other,
            Disposition::Ready => {
                self.all_ready = true;
                Next::Other
            }
            Disposition::Done => {
                beacon::done();
                vcpu.set_result(0);
                Next::Same
            }
        }
    }

    /// Starts the record of each program at zero, and lets the host take its snapshot.
    fn ready(&mut self) {
        console::go_quiet(self.verbose);
        coverage_rt::reset_comparisons();
        coverage_rt::reset_counters();
        self.ready_mappings = self.hypervisor.mapping_changes();
        beacon::ready(self.beacon);
    }

    /// Carries the instruction out that raised an exception, or delivers it.
    fn exception(&mut self, id: VcpuId, exception: Exception) -> Next {
        let (vector, rip) = (exception.vector, self.vcpu(id).rip());
        if matches!((vector, exception.error), (UNDEFINED | PROTECTION, 0))
            && let Some((instruction, len)) = self.hypervisor.privileged(id, rip)
            && (instruction == Privileged::Cpuid) == (vector == UNDEFINED)
            && self.carry_out(id, instruction).is_ok()
        {
            self.vcpu(id).skip(len);
            return Next::Same;
        }
        let hypervisor = &mut self.hypervisor;
        let vcpu = self.vcpus.get_mut(id).expect("it has just run");
        match vcpu.change(|registers| hypervisor.raise(id, registers, exception)) {
            Ok(()) => Next::Same,
            Err(why) => self.kill(id, &format!("exception {vector} at {rip:#x}: {why}")),
        }
    }

    fn carry_out(&mut self, id: VcpuId, instruction: Privileged) -> Result<(), Refused> {
        match instruction {
            Privileged::Cpuid => {
                let (leaf, subleaf) = self.vcpu(id).cpuid_leaf();
                let native = __cpuid_count(leaf, subleaf);
                let native = [native.eax, native.ebx, native.ecx, native.edx];
                let answer = self.hypervisor.cpuid(id, leaf, subleaf, native);
                self.vcpu(id).set_cpuid(answer);
            }
            Privileged::ReadMsr => {
                let msr = self.vcpu(id).msr();
                let value = match (msr, world::segment_of(msr)) {
                    (_, Some(segment)) => world::base(segment),
                    (MSR_EFER, _) => self.vcpu(id).efer(),
                    (MSR_PAT, _) => self.vcpu(id).pat(),
                    _ => self.hypervisor.rdmsr(id, msr).map_err(|InjectGp| Refused)?,
                };
                self.vcpu(id).set_msr_value(value);
            }
            Privileged::WriteMsr => {
                let (msr, value) = (self.vcpu(id).msr(), self.vcpu(id).msr_value());
                match (msr, world::segment_of(msr)) {
                    (_, Some(_)) if !hypervisor::pv::is_canonical(value) => return Err(Refused),
                    (_, Some(segment)) => world::set_base(segment, value),
                    (MSR_EFER, _) => self.vcpu(id).set_efer(value)?,
                    (MSR_PAT, _) => self.vcpu(id).set_pat(value)?,
                    _ => self.hypervisor.wrmsr(id, msr, value).map_err(|InjectGp| Refused)?,
                }
            }
            Privileged::FlushCaches => {}
            Privileged::ReadCr2(register) => {
                let address = self.hypervisor.fault_address(id);
                self.vcpu(id).set_register(register, address);
            }
        }
        Ok(())
    }

    fn kill(&mut self, id: VcpuId, why: &str) -> Next {
        self.hypervisor.guest_died(id, why);
        Next::Other
    }
}
