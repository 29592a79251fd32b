//! One virtual processor of a pv guest.

use alloc::boxed::Box;

use hypervisor::{Entry, VcpuId, pv};
use x86_64::PhysAddr;

use super::world::{self, Segments};
use crate::image::{
    arch::ExceptionFrame,
    fpu::{self, FpuState},
    runner::{Guest, Next, Runner},
};

/// Page attribute table after reset (AMD APM volume 2, section 7.8.2).
const PAT_RESET: u64 = 0x0007_0406_0007_0406;
/// EFER as a pv guest sees it: SCE, LME, LMA.
const EFER: u64 = 0x501;

/// Places in [`ExceptionFrame::gpr`].
mod register {
    pub(super) const RAX: usize = 0;
    pub(super) const RBX: usize = 1;
    pub(super) const RCX: usize = 2;
    pub(super) const RDX: usize = 3;
    pub(super) const RSI: usize = 4;
    pub(super) const RDI: usize = 5;
    pub(super) const RBP: usize = 6;
    pub(super) const R8: usize = 8;
    pub(super) const R9: usize = 9;
    pub(super) const R10: usize = 10;
    pub(super) const R11: usize = 11;
    /// From the numbers of machine code, where RSP is 4, to these.
    pub(super) const OF_CODE: [usize; 16] = [0, 2, 3, 1, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15];
    /// Place that would be RSP's.
    pub(super) const RSP: usize = 7;
}

/// Why a guest came back.
pub(super) enum Exit {
    /// SYSCALL.
    Hypercall,
    /// An exception: vector and error code.
    Exception(u8, u64),
}

/// A general-protection fault is due.
pub(super) struct Refused;

/// One virtual processor.
pub(crate) struct Vcpu {
    frame: Box<ExceptionFrame>,
    fpu: FpuState,
    segments: Segments,
    pat: u64,
    /// Root of its page tables.
    root: PhysAddr,
}

impl Guest for Vcpu {
    fn new(entry: &Entry) -> Self {
        use register::{RAX, RBP, RBX, RCX, RDI, RDX, RSI};
        let start = &entry.start;
        let mut frame = Box::new(ExceptionFrame {
            rip: start.rip,
            rsp: start.rsp,
            rflags: start.rflags,
            ..ExceptionFrame::default()
        });
        for (register, value) in [
            (RAX, start.rax),
            (RBX, start.rbx),
            (RCX, start.rcx),
            (RDX, start.rdx),
            (RSI, start.rsi),
            (RDI, start.rdi),
            (RBP, start.rbp),
        ] {
            frame.gpr[register] = value;
        }
        Self {
            frame,
            fpu: FpuState::new(),
            segments: Segments::with_bases(entry.bases),
            pat: PAT_RESET,
            root: PhysAddr::new(entry.nested_cr3.0),
        }
    }

    fn leave_processor(&mut self) {
        self.segments.save();
        if !fpu::HOST_USES_SSE {
            self.fpu.save();
        }
    }

    fn take_processor(&self, tables: u64) {
        self.load_tables(tables);
        self.segments.restore();
        if !fpu::HOST_USES_SSE {
            self.fpu.restore();
        }
    }

    fn set_result(&mut self, value: i64) {
        self.frame.gpr[register::RAX] = value as u64;
    }

    fn step(runner: &mut Runner<Self>, id: VcpuId) -> Next {
        runner.exit(id)
    }
}

impl Vcpu {
    /// Runs the guest until it comes back. At an address that cannot be, it gets no further than a fault.
    pub(super) fn run(&mut self) -> Exit {
        const PROTECTION: u8 = 13;
        if !pv::is_canonical(self.frame.rip) {
            return Exit::Exception(PROTECTION, 0);
        }
        world::enter(&mut self.frame, &mut self.fpu);
        match self.frame.vector {
            world::SYSCALL => Exit::Hypercall,
            vector => Exit::Exception(vector as u8, self.frame.error),
        }
    }

    /// Loads its page tables. `tables` is what [`Marker::Tables`](coverage_hypercall::harness::Marker) says of all guests'.
    pub(super) fn load_tables(&self, tables: u64) {
        world::load_tables(self.root, tables);
    }

    /// Number and arguments of a hypercall (Xen's `public/arch-x86/xen-x86_64.h`).
    pub(super) fn hypercall(&self) -> (u64, [u64; 6]) {
        use register::{R8, R9, R10, RAX, RDI, RDX, RSI};
        let r = &self.frame.gpr;
        (r[RAX], [r[RDI], r[RSI], r[RDX], r[R10], r[R8], r[R9]])
    }

    /// Address of the next instruction.
    pub(super) fn rip(&self) -> u64 {
        self.frame.rip
    }

    /// Steps over an instruction.
    pub(super) fn skip(&mut self, len: u64) {
        self.frame.rip = self.frame.rip.wrapping_add(len);
    }

    /// Lets the library change the registers that exceptions and `iret` are about. It leaves what is no SYSCALL any more.
    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut pv::Registers) -> T) -> T {
        use register::{R11, RAX, RCX};
        let frame = &mut *self.frame;
        let mut registers = pv::Registers {
            rip: frame.rip,
            rflags: frame.rflags,
            rsp: frame.rsp,
            rax: frame.gpr[RAX],
            rcx: frame.gpr[RCX],
            r11: frame.gpr[R11],
        };
        let result = change(&mut registers);
        (frame.rip, frame.rflags, frame.rsp) = (registers.rip, registers.rflags, registers.rsp);
        frame.gpr[RAX] = registers.rax;
        frame.gpr[RCX] = registers.rcx;
        frame.gpr[R11] = registers.r11;
        frame.vector = 0;
        result
    }

    /// EAX and ECX: leaf and subleaf of CPUID.
    pub(super) fn cpuid_leaf(&self) -> (u32, u32) {
        (self.frame.gpr[register::RAX] as u32, self.frame.gpr[register::RCX] as u32)
    }

    /// Sets what CPUID answers: EAX, EBX, ECX, EDX.
    pub(super) fn set_cpuid(&mut self, [eax, ebx, ecx, edx]: [u32; 4]) {
        use register::{RAX, RBX, RCX, RDX};
        for (register, value) in [(RAX, eax), (RBX, ebx), (RCX, ecx), (RDX, edx)] {
            self.frame.gpr[register] = value.into();
        }
    }

    /// ECX: the register that RDMSR or WRMSR names.
    pub(super) fn msr(&self) -> u32 {
        self.frame.gpr[register::RCX] as u32
    }

    /// EDX:EAX: what WRMSR writes.
    pub(super) fn msr_value(&self) -> u64 {
        self.frame.gpr[register::RDX] << 32 | self.frame.gpr[register::RAX] & u64::from(u32::MAX)
    }

    /// Sets what RDMSR answers.
    pub(super) fn set_msr_value(&mut self, value: u64) {
        self.frame.gpr[register::RAX] = value & u64::from(u32::MAX);
        self.frame.gpr[register::RDX] = value >> 32;
    }

    /// Sets a general register by its number in machine code.
    pub(super) fn set_register(&mut self, number: u8, value: u64) {
        match register::OF_CODE[usize::from(number & 15)] {
            register::RSP => self.frame.rsp = value,
            place => self.frame.gpr[place] = value,
        }
    }

    /// EFER as the guest sees it.
    pub(super) fn efer(&self) -> u64 {
        EFER
    }

    /// EFER is the hypervisor's: the guest may write what is there.
    pub(super) fn set_efer(&mut self, value: u64) -> Result<(), Refused> {
        if value == EFER { Ok(()) } else { Err(Refused) }
    }

    /// The page attribute table. Guests have no cache attributes, so it has no effect.
    pub(super) fn pat(&self) -> u64 {
        self.pat
    }

    /// Writes the page attribute table: types 2 and 3 and those above 7 do not exist.
    pub(super) fn set_pat(&mut self, value: u64) -> Result<(), Refused> {
        if value.to_le_bytes().iter().any(|memory_type| matches!(memory_type, 2 | 3 | 8..)) {
            return Err(Refused);
        }
        self.pat = value;
        Ok(())
    }
}
