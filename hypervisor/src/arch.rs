//! CPUID and model-specific registers, as guests see them.

use crate::{
    address::Gpa,
    hypervisor::{Hypervisor, VcpuId},
    options::Mode,
};
use xen_abi::{cpuid, hypercall};

/// Version that the hypervisor reports: 4.17.
pub(crate) const VERSION: u32 = 4 << 16 | 17;

/// Rate of the time-stamp counter: one tick is one nanosecond of system time.
pub(crate) const TSC_KHZ: u32 = 1_000_000;

/// The access raises a general-protection fault in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InjectGp;

/// IA32_TIME_STAMP_COUNTER, Intel manual volume 4.
const MSR_TSC: u32 = 0x10;
/// Leaf 1 ECX: MONITOR/MWAIT.
const MONITOR: u32 = 1 << 3;
/// Leaf 1 ECX: x2APIC and the timer of the local APIC that counts time-stamps.
const APIC_MODES: u32 = 1 << 21 | 1 << 24;
/// Leaf 1 EDX, and of AMD's leaf 8000_0001: a local APIC.
const APIC: u32 = 1 << 9;
/// Leaf 1 ECX: there is a hypervisor.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 8000_0001 ECX: SVM, AMD manual volume 3, appendix E.
const SVM: u32 = 1 << 2;

impl Hypervisor {
    /// What CPUID answers; `native` is EAX, EBX, ECX, EDX of the machine.
    pub fn cpuid(&self, caller: VcpuId, leaf: u32, subleaf: u32, native: [u32; 4]) -> [u32; 4] {
        let [eax, ebx, ecx, edx] = native;
        match leaf {
            1 => [eax, ebx, (ecx & !(MONITOR | APIC_MODES)) | HYPERVISOR, edx & !APIC],
            0x8000_0001 => [eax, ebx, ecx & !SVM, edx & !APIC],
            0x8000_000a => [0; 4],
            cpuid::BASE => [cpuid::LAST, cpuid::SIGNATURE_EBX, cpuid::SIGNATURE_ECX, cpuid::SIGNATURE_EDX],
            cpuid::VERSION => [VERSION, 0, 0, 0],
            cpuid::HYPERCALL => [1, cpuid::MSR_HYPERCALL, 0, 0],
            cpuid::TIME => match subleaf {
                0 => [0, 1, TSC_KHZ, 0],
                2 => [TSC_KHZ, 0, 0, 0],
                _ => [0; 4],
            },
            // Xen tells these to hvm guests only.
            cpuid::HVM if self.options.mode == Mode::Hvm => {
                let features = cpuid::HVM_VCPU_ID_PRESENT | cpuid::HVM_DOMID_PRESENT;
                [features, u32::from(caller.vcpu), u32::from(caller.domain), 0]
            }
            0x4000_0004..=0x4fff_ffff => [0; 4],
            _ => native,
        }
    }

    /// What RDMSR answers.
    ///
    /// # Errors
    /// [`InjectGp`] for a register that guests do not have.
    pub fn rdmsr(&mut self, _caller: VcpuId, msr: u32) -> Result<u64, InjectGp> {
        match msr {
            MSR_TSC => Ok(self.time),
            cpuid::MSR_HYPERCALL => Ok(0),
            _ => Err(InjectGp),
        }
    }

    /// Carries out WRMSR.
    ///
    /// # Errors
    /// [`InjectGp`] for a register that guests do not have, or a value that it cannot take.
    pub fn wrmsr(&mut self, caller: VcpuId, msr: u32, value: u64) -> Result<(), InjectGp> {
        match msr {
            cpuid::MSR_HYPERCALL => self.write_hypercall_page(caller, Gpa(value)),
            _ => Err(InjectGp),
        }
    }

    pub(crate) fn write_hypercall_page(&mut self, caller: VcpuId, at: Gpa) -> Result<(), InjectGp> {
        // The offset in the page numbers the hypercall page; there is one.
        if at.offset() != 0 {
            return Err(InjectGp);
        }
        let domain = self.domain(caller.domain).ok_or(InjectGp)?;
        let mapping = domain.p2m.lookup(&self.memory, at.frame()).ok_or(InjectGp)?;
        if !mapping.writable {
            return Err(InjectGp);
        }
        for number in 0..hypercall::COUNT {
            let [a, b, c, d] = (number as u32).to_le_bytes();
            let mut stub = [0xcc; 32];
            match self.options.mode {
                // mov eax, number; vmmcall; ret
                Mode::Hvm => stub[..9].copy_from_slice(&[0xb8, a, b, c, d, 0x0f, 0x01, 0xd9, 0xc3]),
                // push rcx; push r11; mov eax, number; syscall; pop r11; pop rcx; ret
                Mode::Pv => stub[..14].copy_from_slice(&[
                    0x51, 0x41, 0x53, 0xb8, a, b, c, d, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3,
                ]),
            }
            let to = crate::address::Maddr(mapping.mfn.address().0 + number * 32);
            self.memory.machine.write(to, &stub);
        }
        Ok(())
    }
}
