//! Running guests in pv mode: what ring 3 comes back for.

mod vcpu;
mod world;

use alloc::format;
use core::arch::x86_64::__cpuid_count;

use coverage_hypercall::crash::CrashKind;
use hypervisor::{
    Hypervisor, InjectGp, VcpuId,
    pv::{CONTEXT, Exception, Privileged},
};
use x86_64::{PhysAddr, registers::control::Cr2};
use xen_abi::hypercall;

use super::{
    arch, crash,
    runner::{Guest, Next},
};
pub(crate) use vcpu::Vcpu;
use vcpu::{Exit, Refused};
pub(crate) use world::guest_exception;

const NON_MASKABLE: u8 = 2;
const UNDEFINED: u8 = 6;
const DOUBLE_FAULT: u8 = 8;
const PROTECTION: u8 = 13;
const PAGE_FAULT: u8 = 14;
const MACHINE_CHECK: u8 = 18;

const MSR_EFER: u32 = 0xc000_0080;
const MSR_PAT: u32 = 0x277;

/// Pv guests.
pub(crate) type Runner = super::runner::Runner<Vcpu>;

impl Runner {
    /// Makes the processor ready for pv guests.
    pub(crate) fn new(hypervisor: Hypervisor, beacon: PhysAddr, verbose: bool) -> Self {
        arch::require_supervisor_protection();
        world::enable();
        Self::ready_for(hypervisor, beacon, verbose)
    }

    /// Runs a vCPU until it comes back, and does what it came back for.
    fn exit(&mut self, id: VcpuId) -> Next {
        crash::set_context(id.domain.into(), None);
        if let Some(tables) = self.new_tables() {
            self.vcpu(id).load_tables(tables);
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
        let disposition = hypervisor.hypercall(id, number, args, &CONTEXT);
        self.answer(id, disposition)
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
}
