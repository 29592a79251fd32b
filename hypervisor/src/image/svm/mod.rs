//! Running guests in hvm mode: what VM exits ask for.

mod exit;
mod permissions;
mod vcpu;
mod vmcb;
mod world;

use alloc::format;
use core::arch::x86_64::__cpuid_count;

use hypervisor::{
    Decoded, FaultAction, Hypervisor, InjectGp, Instruction, NestedFault, VcpuId, address::Gpa,
};
use x86_64::PhysAddr;

use super::{crash, runner::Next};
use exit::VmExit;
use vcpu::Refused;
pub(crate) use vcpu::Vcpu;

const MSR_EFER: u32 = 0xc000_0080;
const MSR_PAT: u32 = 0x277;

/// Hvm guests.
pub(crate) type Runner = super::runner::Runner<Vcpu>;

impl Runner {
    /// Switches SVM on.
    pub(crate) fn new(hypervisor: Hypervisor, beacon: PhysAddr, verbose: bool) -> Self {
        world::enable();
        permissions::install();
        Self::ready_for(hypervisor, beacon, verbose)
    }

    /// Runs a vCPU until it exits, and does what the exit asks for.
    fn exit(&mut self, id: VcpuId) -> Next {
        crash::set_context(id.domain.into(), None);
        let mappings = self.hypervisor.mapping_changes();
        match self.vcpu(id).run(mappings) {
            VmExit::Hypercall => return self.hypercall(id),
            VmExit::Cpuid => self.cpuid(id),
            VmExit::ReadMsr => self.read_msr(id),
            VmExit::WriteMsr => self.write_msr(id),
            VmExit::FlushCaches => {
                self.skip(id, Instruction::FlushCaches);
            }
            VmExit::WriteDebugRegister => {
                self.skip(id, Instruction::WriteDebugRegister);
            }
            VmExit::WriteControl4 => self.write_cr4(id),
            VmExit::NestedFault { gpa, error } => return self.nested_fault(id, gpa, error),
            VmExit::HostEvent => {}
            VmExit::Io => self.vcpu(id).inject_protection(),
            // A task gate: what is left of the processor's state is not worth an exception.
            VmExit::Forbidden { code } if self.vcpu(id).was_delivering() => {
                return self.kill(id, &format!("exit {code:#x} while an exception was delivered"));
            }
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

    /// Steps over the instruction that caused the exit. False where it is not what the exit said: then the guest gets an
    /// exception.
    fn skip(&mut self, id: VcpuId, what: Instruction) -> bool {
        let decoded = self.decode(id, what);
        match decoded {
            Ok(Decoded { length, .. }) => self.vcpu(id).skip(length),
            Err(InjectGp) => self.vcpu(id).inject_protection(),
        }
        decoded.is_ok()
    }

    fn decode(&mut self, id: VcpuId, what: Instruction) -> Result<Decoded, InjectGp> {
        let vcpu = self.vcpu(id);
        let (at, wide, context) = (vcpu.instruction(), vcpu.is_wide(), vcpu.context());
        self.hypervisor.instruction(id, &context, at, wide, what)
    }

    fn write_cr4(&mut self, id: VcpuId) {
        let decoded = self.decode(id, Instruction::WriteControlRegister);
        let vcpu = self.vcpu(id);
        let done = decoded.map_err(|InjectGp| Refused).and_then(|Decoded { length, register }| {
            vcpu.set_cr4(vcpu.register(register)).map(|()| vcpu.skip(length))
        });
        if let Err(Refused) = done {
            vcpu.inject_protection();
        }
    }

    /// As [`Self::skip`], without a look at a VMMCALL that was looked at before: guests have few, and reading each again would cost more
    /// than the rest of a short hypercall. A guest that puts another instruction there misleads only itself.
    fn skip_vmmcall(&mut self, id: VcpuId) -> bool {
        let vcpu = self.vcpu(id);
        if let Some(length) = vcpu.known_vmmcall() {
            vcpu.skip(length);
            return true;
        }
        let before = vcpu.place();
        let good = self.skip(id, Instruction::Vmmcall);
        if good {
            self.vcpu(id).learn_vmmcall(before);
        }
        good
    }

    fn hypercall(&mut self, id: VcpuId) -> Next {
        if !self.skip_vmmcall(id) {
            return Next::Same;
        }
        let vcpu = self.vcpu(id);
        let (number, args) = vcpu.hypercall();
        let context = vcpu.context();
        crash::set_context(id.domain.into(), Some(number));
        let disposition = self.hypervisor.hypercall(id, number, args, &context);
        self.answer(id, disposition)
    }

    fn cpuid(&mut self, id: VcpuId) {
        if !self.skip(id, Instruction::Cpuid) {
            return;
        }
        let (leaf, subleaf) = self.vcpu(id).cpuid_leaf();
        let native = __cpuid_count(leaf, subleaf);
        let answer =
            self.hypervisor.cpuid(id, leaf, subleaf, [native.eax, native.ebx, native.ecx, native.edx]);
        self.vcpu(id).set_cpuid(answer);
    }

    fn read_msr(&mut self, id: VcpuId) {
        let msr = self.vcpu(id).msr();
        let answer = match msr {
            MSR_EFER => Ok(self.vcpu(id).efer()),
            MSR_PAT => Ok(self.vcpu(id).pat()),
            _ => self.hypervisor.rdmsr(id, msr),
        };
        match answer {
            Ok(value) if self.skip(id, Instruction::ReadMsr) => self.vcpu(id).set_msr_value(value),
            Ok(_) => {}
            Err(InjectGp) => self.vcpu(id).inject_protection(),
        }
    }

    fn write_msr(&mut self, id: VcpuId) {
        let (msr, value) = (self.vcpu(id).msr(), self.vcpu(id).msr_value());
        let done = match msr {
            MSR_EFER => self.vcpu(id).set_efer(value),
            MSR_PAT => self.vcpu(id).set_pat(value),
            _ => self.hypervisor.wrmsr(id, msr, value).map_err(|InjectGp| Refused),
        };
        match done {
            Ok(()) => {
                self.skip(id, Instruction::WriteMsr);
            }
            Err(Refused) => self.vcpu(id).inject_protection(),
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
}
