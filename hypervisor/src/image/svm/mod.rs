//! Running guests: the loop around VMRUN.

mod exit;
mod permissions;
mod vcpu;
mod vmcb;
mod world;

use alloc::{collections::BTreeMap, format};
use core::arch::x86_64::__cpuid_count;

use hypervisor::{Disposition, FaultAction, Hypervisor, InjectGp, NestedFault, VcpuId, address::Gpa};
use x86_64::PhysAddr;

use super::{beacon, console, crash};
use exit::VmExit;
use vcpu::{Refused, Vcpu};

/// Bytes of the instructions that exit (AMD APM volume 3). QEMU does not save the next RIP.
mod length {
    pub(super) const CPUID: u64 = 2;
    pub(super) const MSR: u64 = 2;
    pub(super) const VMMCALL: u64 = 3;
    pub(super) const FLUSH_CACHES: u64 = 2;
    pub(super) const MOVE_TO_DEBUG_REGISTER: u64 = 3;
}

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
    vcpus: BTreeMap<VcpuId, Vcpu>,
    /// Whose floating-point state is in the processor.
    running: Option<VcpuId>,
    beacon: PhysAddr,
    verbose: bool,
}

impl Runner {
    /// Switches SVM on.
    pub(crate) fn new(hypervisor: Hypervisor, beacon: PhysAddr, verbose: bool) -> Self {
        world::enable();
        permissions::install();
        Self { hypervisor, vcpus: BTreeMap::new(), running: None, beacon, verbose }
    }

    /// Runs whoever can run, until nobody can.
    pub(crate) fn run(mut self) -> ! {
        while let Some(id) = self.hypervisor.vcpu_to_run() {
            self.load(id);
            if let Some(value) = self.hypervisor.resume_value(id) {
                self.vcpu(id).set_result(value);
            }
            if self.hypervisor.take_nmi(id) {
                self.vcpu(id).inject_nmi();
            }
            while let Next::Same = self.step(id) {}
        }
        beacon::idle()
    }

    fn vcpu(&mut self, id: VcpuId) -> &mut Vcpu {
        self.vcpus.get_mut(&id).expect("the vCPU was loaded before it ran")
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
        self.vcpus.entry(id).or_insert_with(|| Vcpu::new(&entry)).take_processor();
        self.running = Some(id);
    }

    /// Runs a vCPU until it exits, and does what the exit asks for.
    fn step(&mut self, id: VcpuId) -> Next {
        crash::set_context(id.domain.into(), None);
        match self.vcpu(id).run() {
            VmExit::Hypercall => return self.hypercall(id),
            VmExit::Cpuid => self.cpuid(id),
            VmExit::ReadMsr => self.read_msr(id),
            VmExit::WriteMsr => self.write_msr(id),
            VmExit::FlushCaches => self.vcpu(id).skip(length::FLUSH_CACHES),
            VmExit::WriteDebugRegister => self.vcpu(id).skip(length::MOVE_TO_DEBUG_REGISTER),
            VmExit::NestedFault { gpa, error } => return self.nested_fault(id, gpa, error),
            VmExit::HostEvent => {}
            VmExit::Io => self.vcpu(id).inject_protection(),
            VmExit::Forbidden { .. } => self.vcpu(id).inject_undefined(),
            VmExit::Halt => return self.kill(id, "halted, and nothing will wake it"),
            VmExit::Shutdown => return self.kill(id, "triple fault"),
            VmExit::InvalidState => return self.kill(id, "the processor refused its state"),
            VmExit::Unknown { code } => {
                return self.kill(id, &format!("exit {code:#x}, which nobody asked for"));
            }
        }
        Next::Same
    }

    fn hypercall(&mut self, id: VcpuId) -> Next {
        let vcpu = self.vcpu(id);
        vcpu.skip(length::VMMCALL);
        let (number, args) = vcpu.hypercall();
        let context = vcpu.context();
        crash::set_context(id.domain.into(), Some(number));
        match self.hypervisor.hypercall(id, number, args, &context) {
            Disposition::Return(value) => {
                self.vcpu(id).set_result(value);
                Next::Same
            }
            Disposition::Reschedule => Next::Other,
            Disposition::Ready => {
                self.ready();
                Next::Other
            }
            Disposition::Done => {
                beacon::done();
                self.vcpu(id).set_result(0);
                Next::Same
            }
        }
    }

    /// Starts the record of each program at zero, and lets the host take its snapshot.
    fn ready(&mut self) {
        console::go_quiet(self.verbose);
        coverage_rt::reset_comparisons();
        coverage_rt::reset_counters();
        beacon::ready(self.beacon);
    }

    fn cpuid(&mut self, id: VcpuId) {
        let (leaf, subleaf) = self.vcpu(id).cpuid_leaf();
        let native = __cpuid_count(leaf, subleaf);
        let answer =
            self.hypervisor.cpuid(id, leaf, subleaf, [native.eax, native.ebx, native.ecx, native.edx]);
        let vcpu = self.vcpu(id);
        vcpu.set_cpuid(answer);
        vcpu.skip(length::CPUID);
    }

    fn read_msr(&mut self, id: VcpuId) {
        let msr = self.vcpu(id).msr();
        let answer = match msr {
            MSR_EFER => Ok(self.vcpu(id).efer()),
            MSR_PAT => Ok(self.vcpu(id).pat()),
            _ => self.hypervisor.rdmsr(id, msr),
        };
        let vcpu = self.vcpu(id);
        match answer {
            Ok(value) => {
                vcpu.set_msr_value(value);
                vcpu.skip(length::MSR);
            }
            Err(InjectGp) => vcpu.inject_protection(),
        }
    }

    fn write_msr(&mut self, id: VcpuId) {
        let (msr, value) = (self.vcpu(id).msr(), self.vcpu(id).msr_value());
        let done = match msr {
            MSR_EFER => self.vcpu(id).set_efer(value),
            MSR_PAT => self.vcpu(id).set_pat(value),
            _ => self.hypervisor.wrmsr(id, msr, value).map_err(|InjectGp| Refused),
        };
        let vcpu = self.vcpu(id);
        match done {
            Ok(()) => vcpu.skip(length::MSR),
            Err(Refused) => vcpu.inject_protection(),
        }
    }

    fn nested_fault(&mut self, id: VcpuId, gpa: u64, error: u64) -> Next {
        let fault = NestedFault(error);
        match self.hypervisor.nested_fault(id, Gpa(gpa), fault) {
            FaultAction::Retry => self.vcpu(id).redeliver(),
            FaultAction::InjectPageFault if self.vcpu(id).was_delivering() => {
                return self.kill(id, "a fault while an exception was delivered");
            }
            FaultAction::InjectPageFault => self.vcpu(id).inject_page_fault(gpa, fault.is_write()),
            FaultAction::Kill => return self.kill(id, &format!("access to {gpa:#x}, error {error:#x}")),
        }
        Next::Same
    }

    fn kill(&mut self, id: VcpuId, why: &str) -> Next {
        self.hypervisor.guest_died(id, why);
        Next::Other
    }
}
