//! One virtual processor: its VMCB and what VMRUN does not switch.

use alloc::boxed::Box;

use hypervisor::{Entry, GuestContext, PagingMode, VcpuId};
use zerocopy::FromZeros;

use super::{
    exit::VmExit,
    permissions,
    vmcb::{self, Segment, Vmcb, intercept_1, intercept_2},
    world::{self, Registers},
};
use crate::image::{
    fpu::{self, FpuState},
    runner::{Guest, Next, Runner},
};

const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
/// Bits of CR4 that guests have: VME to OSXMMEXCPT (AMD APM volume 2, section 3.1.3).
const CR4_KNOWN: u64 = 0x7ff;
const EFER_SCE: u64 = 1 << 0;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;
/// Attribute bit of a code segment: 64-bit.
const ATTRIBUTE_LONG: u16 = 1 << 9;
/// Page attribute table after reset (AMD APM volume 2, section 7.8.2).
const PAT_RESET: u64 = 0x0007_0406_0007_0406;

const UD: u64 = 6;
const GP: u64 = 13;
const PF: u64 = 14;

/// A general-protection fault is due.
pub(super) struct Refused;

/// One virtual processor.
pub(crate) struct Vcpu {
    vmcb: Box<Vmcb>,
    registers: Registers,
    fpu: FpuState,
    /// Where the last VMMCALL was whose bytes were looked at, and its length.
    vmmcall: Option<(Place, u64)>,
    /// Changes of physical maps up to its last entry.
    mappings: Option<u64>,
}

/// Where an instruction lies: its address, and the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    rip: u64,
    base: u64,
    cr3: u64,
}

impl Guest for Vcpu {
    fn new(entry: &Entry) -> Self {
        let mut vmcb = Box::new(Vmcb::new_zeroed());
        let control = &mut vmcb.control;
        control.intercept_cr = vmcb::INTERCEPT_CR4_WRITES;
        control.intercept_dr = vmcb::INTERCEPT_DR_WRITES;
        control.intercept_exceptions = vmcb::INTERCEPT_MACHINE_CHECK;
        control.intercept_1 = {
            use intercept_1::{
                CPUID, FERR_FREEZE, HLT, INIT, INTR, INVD, INVLPGA, IO, MSR, NMI, RDPMC, RSM, SHUTDOWN, SMI,
                TASK_SWITCH,
            };
            INTR | NMI
                | SMI
                | INIT
                | RDPMC
                | CPUID
                | RSM
                | INVD
                | HLT
                | INVLPGA
                | IO
                | MSR
                | TASK_SWITCH
                | FERR_FREEZE
                | SHUTDOWN
        };
        control.intercept_2 = {
            use intercept_2::{MONITOR, MWAIT, MWAIT_ARMED, SVM_INSTRUCTIONS, WBINVD, XSETBV};
            SVM_INSTRUCTIONS | WBINVD | MONITOR | MWAIT | MWAIT_ARMED | XSETBV
        };
        control.iopm_base = permissions::io().as_u64();
        control.msrpm_base = permissions::msr().as_u64();
        control.asid = entry.asid;
        control.interrupt_control = vmcb::VIRTUAL_INTERRUPT_MASKING;
        control.nested_control = vmcb::NESTED_PAGING;
        control.nested_cr3 = entry.nested_cr3.0;

        let start = &entry.start;
        let segment = |from: hypervisor::Segment| Segment {
            selector: 0,
            attributes: from.attributes,
            limit: from.limit,
            base: from.base,
        };
        let save = &mut vmcb.save;
        save.cs = segment(start.cs);
        save.ds = segment(start.ds);
        save.es = segment(start.es);
        save.ss = segment(start.ss);
        save.tr = segment(start.tr);
        // No start state says anything of these.
        save.fs = save.ds;
        save.gs = save.ds;
        save.ldtr = Segment { selector: 0, attributes: 0x82, limit: 0, base: 0 };
        save.cpl = start.privilege();
        save.efer = start.efer | vmcb::EFER_SVME;
        save.cr0 = start.cr0 | CR0_ET;
        save.cr3 = start.cr3;
        save.cr4 = start.cr4;
        save.dr6 = 0xffff_0ff0;
        save.dr7 = 0x400;
        save.rflags = start.rflags;
        save.pat = PAT_RESET;
        save.rip = start.rip;
        save.rsp = start.rsp;
        save.rax = start.rax;
        Self {
            vmcb,
            registers: Registers {
                rbx: start.rbx,
                rcx: start.rcx,
                rdx: start.rdx,
                rsi: start.rsi,
                rdi: start.rdi,
                rbp: start.rbp,
                ..Registers::default()
            },
            fpu: FpuState::new(),
            vmmcall: None,
            mappings: None,
        }
    }

    fn leave_processor(&mut self) {
        if !fpu::HOST_USES_SSE {
            self.fpu.save();
        }
    }

    fn take_processor(&self, _tables: u64) {
        if !fpu::HOST_USES_SSE {
            self.fpu.restore();
        }
    }

    fn set_result(&mut self, value: i64) {
        self.vmcb.save.rax = value as u64;
    }

    fn resume(runner: &mut Runner<Self>, id: VcpuId) {
        if runner.hypervisor.take_nmi(id) {
            runner.vcpu(id).inject_nmi();
        }
    }

    fn step(runner: &mut Runner<Self>, id: VcpuId) -> Next {
        runner.exit(id)
    }
}

impl Vcpu {
    /// Runs the guest until it exits. Translations that the processor keeps are forgotten before if the number of changes of
    /// physical maps is another one than at the last time.
    pub(super) fn run(&mut self, mappings: u64) -> VmExit {
        let changed = self.mappings.replace(mappings) != Some(mappings);
        self.vmcb.control.tlb_control = if changed { vmcb::FLUSH_ALL } else { vmcb::FLUSH_NOTHING };
        world::enter(&mut self.vmcb, &mut self.registers, &mut self.fpu);
        self.vmcb.control.event_injection = 0;
        VmExit::decode(&self.vmcb.control)
    }

    /// Steps over the instruction that caused the exit, and over what it would have held back (AMD APM volume 2, section 15.21.5).
    pub(super) fn skip(&mut self, len: u64) {
        self.vmcb.save.rip = self.vmcb.save.rip.wrapping_add(len);
        if !self.is_wide() {
            self.vmcb.save.rip &= u64::from(u32::MAX);
        }
        self.vmcb.control.interrupt_shadow = 0;
    }

    /// The guest executes 64-bit code.
    pub(super) fn is_wide(&self) -> bool {
        self.vmcb.save.cs.attributes & ATTRIBUTE_LONG != 0 && self.vmcb.save.efer & EFER_LMA != 0
    }

    /// Linear address of the instruction that caused the exit.
    pub(super) fn instruction(&self) -> u64 {
        let save = &self.vmcb.save;
        if self.is_wide() { save.rip } else { save.cs.base.wrapping_add(save.rip) & u64::from(u32::MAX) }
    }

    /// Where that instruction lies.
    pub(super) fn place(&self) -> Place {
        let save = &self.vmcb.save;
        Place { rip: save.rip, base: save.cs.base, cr3: save.cr3 }
    }

    /// Length of the VMMCALL that caused the exit, if it was the last one as well.
    pub(super) fn known_vmmcall(&self) -> Option<u64> {
        self.vmmcall.filter(|(place, _)| *place == self.place()).map(|(_, length)| length)
    }

    /// Remembers the VMMCALL that was stepped over.
    pub(super) fn learn_vmmcall(&mut self, place: Place) {
        self.vmmcall = Some((place, self.vmcb.save.rip.wrapping_sub(place.rip)));
    }

    /// Number and arguments of a hypercall, in the registers of the mode that the guest is in: rax, rdi, rsi, rdx, r10, r8, r9 in
    /// 64-bit code, else eax, ebx, ecx, edx, esi, edi, ebp (Xen's `public/arch-x86/xen-x86_64.h` and `xen-x86_32.h`).
    pub(super) fn hypercall(&self) -> (u64, [u64; 6]) {
        let r = &self.registers;
        if self.is_wide() {
            (self.vmcb.save.rax, [r.rdi, r.rsi, r.rdx, r.r10, r.r8, r.r9])
        } else {
            let low = |register: u64| register & u64::from(u32::MAX);
            (low(self.vmcb.save.rax), [r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp].map(low))
        }
    }

    /// What a hypercall may have to know of the caller.
    pub(super) fn context(&self) -> GuestContext {
        let save = &self.vmcb.save;
        let paging = if save.cr0 & CR0_PG == 0 {
            PagingMode::Flat
        } else if save.efer & EFER_LMA != 0 && save.cr4 & CR4_PAE != 0 {
            PagingMode::Long
        } else {
            PagingMode::Other
        };
        GuestContext { cr3: save.cr3, cpl: save.cpl, paging }
    }

    /// EAX and ECX: leaf and subleaf of CPUID.
    pub(super) fn cpuid_leaf(&self) -> (u32, u32) {
        (self.vmcb.save.rax as u32, self.registers.rcx as u32)
    }

    /// Sets what CPUID answers: EAX, EBX, ECX, EDX.
    pub(super) fn set_cpuid(&mut self, [eax, ebx, ecx, edx]: [u32; 4]) {
        self.vmcb.save.rax = eax.into();
        self.registers.rbx = ebx.into();
        self.registers.rcx = ecx.into();
        self.registers.rdx = edx.into();
    }

    /// ECX: the register that RDMSR or WRMSR names.
    pub(super) fn msr(&self) -> u32 {
        self.registers.rcx as u32
    }

    /// EDX:EAX: what WRMSR writes.
    pub(super) fn msr_value(&self) -> u64 {
        self.registers.rdx << 32 | self.vmcb.save.rax & u64::from(u32::MAX)
    }

    /// Sets what RDMSR answers.
    pub(super) fn set_msr_value(&mut self, value: u64) {
        self.vmcb.save.rax = value & u64::from(u32::MAX);
        self.registers.rdx = value >> 32;
    }

    /// EFER as the guest sees it: SVM does not exist for it.
    pub(super) fn efer(&self) -> u64 {
        self.vmcb.save.efer & !vmcb::EFER_SVME
    }

    /// Writes EFER with the checks of the processor (AMD APM volume 2, section 3.1.7).
    pub(super) fn set_efer(&mut self, value: u64) -> Result<(), Refused> {
        let save = &mut self.vmcb.save;
        let changes_mode = (value ^ save.efer) & EFER_LME != 0 && save.cr0 & CR0_PG != 0;
        if value & !(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE) != 0 || changes_mode {
            return Err(Refused);
        }
        save.efer = value & !EFER_LMA | save.efer & EFER_LMA | vmcb::EFER_SVME;
        Ok(())
    }

    /// A general register by the number that instructions give it.
    pub(super) fn register(&self, number: u8) -> u64 {
        let r = &self.registers;
        let save = &self.vmcb.save;
        let all = [
            save.rax, r.rcx, r.rdx, r.rbx, save.rsp, r.rbp, r.rsi, r.rdi, r.r8, r.r9, r.r10, r.r11, r.r12,
            r.r13, r.r14, r.r15,
        ];
        let value = all[usize::from(number & 15)];
        if self.is_wide() { value } else { value & u64::from(u32::MAX) }
    }

    /// Writes CR4 with the checks of the processor (AMD APM volume 2, section 3.1.3).
    pub(super) fn set_cr4(&mut self, value: u64) -> Result<(), Refused> {
        let save = &mut self.vmcb.save;
        let ends_long_mode = value & CR4_PAE == 0 && save.efer & EFER_LMA != 0;
        if value & !CR4_KNOWN != 0 || ends_long_mode {
            return Err(Refused);
        }
        save.cr4 = value;
        Ok(())
    }

    /// The page attribute table.
    pub(super) fn pat(&self) -> u64 {
        self.vmcb.save.pat
    }

    /// Writes the page attribute table: types 2 and 3 and those above 7 do not exist.
    pub(super) fn set_pat(&mut self, value: u64) -> Result<(), Refused> {
        if value.to_le_bytes().iter().any(|memory_type| matches!(memory_type, 2 | 3 | 8..)) {
            return Err(Refused);
        }
        self.vmcb.save.pat = value;
        Ok(())
    }

    /// The exit came while an exception was being delivered to the guest.
    pub(super) fn was_delivering(&self) -> bool {
        self.vmcb.control.exit_interrupt_info & 1 << 31 != 0
    }

    /// Delivers again what the exit interrupted.
    pub(super) fn redeliver(&mut self) {
        if self.was_delivering() {
            self.vmcb.control.event_injection = self.vmcb.control.exit_interrupt_info;
        }
    }

    /// Raises an exception at the next entry (AMD APM volume 2, section 15.20).
    fn inject(&mut self, vector: u64, error: Option<u32>) {
        const EXCEPTION: u64 = 3 << 8;
        const ERROR_VALID: u64 = 1 << 11;
        const VALID: u64 = 1 << 31;
        let error = error.map_or(0, |code| ERROR_VALID | u64::from(code) << 32);
        self.vmcb.control.event_injection = vector | EXCEPTION | VALID | error;
    }

    /// Raises an NMI at the next entry.
    fn inject_nmi(&mut self) {
        const NMI: u64 = 2 << 8;
        const VALID: u64 = 1 << 31;
        self.vmcb.control.event_injection = 2 | NMI | VALID;
    }

    /// Raises #UD.
    pub(super) fn inject_undefined(&mut self) {
        self.inject(UD, None);
    }

    /// Raises #GP(0).
    pub(super) fn inject_protection(&mut self) {
        self.inject(GP, Some(0));
    }

    /// Raises #PF at an address that is not present.
    pub(super) fn inject_page_fault(&mut self, address: u64, write: bool) {
        let user = self.vmcb.save.cpl == 3;
        self.vmcb.save.cr2 = address;
        self.inject(PF, Some(u32::from(write) << 1 | u32::from(user) << 2));
    }
}
