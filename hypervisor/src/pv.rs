//! Paravirtualised guests: exceptions, `iret`, privileged instructions.
//!
//! A pv guest runs in ring 3 on the tables of its physical map, so that virtual and physical addresses are the same and all of
//! the guest is its kernel: there is no user mode. What raises an exception there comes here. Instructions that Xen
//! carries out for its guests' kernels are decoded; everything else is delivered to the handler that the guest has named with
//! `set_trap_table`, by a frame on the guest's own stack (`public/arch-x86/xen.h`, `public/arch-x86/xen-x86_64.h`).

use crate::{
    address::Gva,
    build::start_flags,
    config::DomainConfig,
    hypervisor::{GuestContext, Hypervisor, PagingMode, VcpuId},
    mem::guest::Call,
    options::Mode,
    start::StartState,
};
use alloc::{vec, vec::Vec};
use xen_abi::{
    errno::Errno,
    pv::{
        CODE_SELECTOR, COMMAND_LINE, DATA_SELECTOR, GuestContext as GuestState, IN_SYSCALL, IretContext,
        SEGBASE_FS, SEGBASE_GS_KERNEL, SEGBASE_GS_USER, START_MAGIC, StartInfo, TrapInfo,
    },
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// A hypercall's view of a pv guest: always its kernel, translated by the physical map alone.
pub const CONTEXT: GuestContext = GuestContext { cr3: 0, cpl: 0, paging: PagingMode::Direct };

/// Vectors of exceptions; nothing else reaches a pv guest.
const VECTORS: usize = 32;
/// Exceptions that have an error code (AMD manual volume 2, table 8-1).
const WITH_ERROR: u32 = 0x6022_7d00;
const PAGE_FAULT: u8 = 14;
/// Error code of a page fault: the page is present.
const FAULT_PRESENT: u64 = 1 << 0;
/// Error code of a page fault: user mode.
const FAULT_USER: u64 = 1 << 2;
/// Most entries of a trap table: one per vector, and the last.
const MAX_TRAPS: u64 = 257;
/// Entries of a trap table that are read for one unit of credit.
const TRAPS_PER_CREDIT: u64 = 16;

/// RFLAGS bits.
mod flags {
    pub(super) const ALWAYS: u64 = 1 << 1;
    pub(super) const TF: u64 = 1 << 8;
    pub(super) const IF: u64 = 1 << 9;
    pub(super) const NT: u64 = 1 << 14;
    pub(super) const RF: u64 = 1 << 16;
    pub(super) const AC: u64 = 1 << 18;
    /// CF, PF, AF, ZF, SF, TF, DF, OF, NT, AC, ID: what a guest may have as it likes.
    pub(super) const OF_GUEST: u64 = 0x8d5 | TF | 1 << 10 | NT | AC | 1 << 21;
}

/// The registers that exceptions and `iret` change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Where the guest goes on.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// RAX.
    pub rax: u64,
    /// RCX.
    pub rcx: u64,
    /// R11.
    pub r11: u64,
}

/// An exception, as the processor reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Vector, below 32.
    pub vector: u8,
    /// Error code; 0 where the vector has none.
    pub error: u64,
    /// CR2, for page faults.
    pub address: u64,
}

/// Why a guest cannot go on.
pub type Fatal = &'static str;

/// An instruction that is carried out for the guest, with its length in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privileged {
    /// CPUID behind Xen's prefix for it (`XEN_CPUID`).
    Cpuid,
    /// RDMSR.
    ReadMsr,
    /// WRMSR.
    WriteMsr,
    /// INVD, WBINVD: there is nothing to flush.
    FlushCaches,
    /// MOV from CR2 to this general register, numbered as in machine code.
    ReadCr2(u8),
}

/// The segment whose base a guest sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    /// FS.
    Fs,
    /// GS.
    Gs,
    /// GS, as SWAPGS would bring it.
    GsUser,
}

/// What a vCPU has in pv mode only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pv {
    /// Address of each exception's handler, 0 where there is none; empty until the first is set.
    handlers: Vec<u64>,
    /// Address of the last page fault.
    cr2: u64,
    /// Bases of FS, GS and the GS behind SWAPGS at the beginning.
    pub bases: [u64; 3],
}

impl Pv {
    /// No handlers.
    pub(crate) const fn new() -> Self {
        Self { handlers: Vec::new(), cr2: 0, bases: [0; 3] }
    }
}

/// True for an address in the half that is the guest's.
const fn is_of_guest(at: u64) -> bool {
    at >> 47 == 0
}

/// True for an address that the processor can hold in RIP.
#[must_use]
pub const fn is_canonical(at: u64) -> bool {
    at >> 47 == 0 || at >> 47 == 0x1_ffff
}

/// Flags as a guest may run with them: interrupts stay off, I/O privilege stays with the hypervisor.
#[must_use]
pub const fn guest_flags(rflags: u64) -> u64 {
    rflags & flags::OF_GUEST | flags::ALWAYS
}

/// Recognises the instruction at the beginning of `code`.
fn decode(code: &[u8]) -> Option<(Privileged, u64)> {
    Some(match *code {
        [0x0f, 0x0b, b'x', b'e', b'n', 0x0f, 0xa2, ..] => (Privileged::Cpuid, 7),
        [0x0f, 0x08 | 0x09, ..] => (Privileged::FlushCaches, 2),
        [0x0f, 0x30, ..] => (Privileged::WriteMsr, 2),
        [0x0f, 0x32, ..] => (Privileged::ReadMsr, 2),
        [0x0f, 0x20, register @ 0xd0..=0xd7, ..] => (Privileged::ReadCr2(register & 7), 3),
        [0x41, 0x0f, 0x20, register @ 0xd0..=0xd7, ..] => (Privileged::ReadCr2(register & 7 | 8), 4),
        _ => return None,
    })
}

impl Hypervisor {
    /// The instruction at `rip`, if it is one that is carried out for the guest, and its length.
    #[must_use]
    pub fn privileged(&self, caller: VcpuId, rip: u64) -> Option<(Privileged, u64)> {
        let call = Call { caller, context: CONTEXT };
        let mut code = [0; 7];
        let mut len = 0;
        // The next page need not be there.
        for (n, byte) in code.iter_mut().enumerate() {
            let Some(at) = rip.checked_add(n as u64) else { break };
            if self.read_guest(&call, Gva(at), core::slice::from_mut(byte)).is_err() {
                break;
            }
            len += 1;
        }
        decode(&code[..len])
    }

    /// Address of the last page fault that was delivered.
    #[must_use]
    pub fn fault_address(&self, id: VcpuId) -> u64 {
        self.pv(id).map_or(0, |pv| pv.cr2)
    }

    fn pv(&self, id: VcpuId) -> Option<&Pv> {
        Some(&self.vcpu(id)?.pv)
    }

    /// Delivers an exception: a frame on the guest's stack, and its handler next.
    ///
    /// # Errors
    /// Why that cannot be done; the guest cannot go on then.
    pub fn raise(&mut self, id: VcpuId, r: &mut Registers, exception: Exception) -> Result<(), Fatal> {
        let handler = self
            .pv(id)
            .and_then(|pv| pv.handlers.get(usize::from(exception.vector)).copied())
            .filter(|address| *address != 0)
            .ok_or("an exception for which it has no handler")?;
        if !is_of_guest(handler) {
            return Err("the handler of an exception lies outside of its address space");
        }
        let mut error = exception.error;
        if exception.vector == PAGE_FAULT {
            // All of the guest is kernel, and what is mapped outside of its memory is not its business.
            error &= !FAULT_USER;
            let page = exception.address >> crate::address::PAGE_SHIFT;
            if !is_of_guest(exception.address) || page == 0 {
                error &= !FAULT_PRESENT;
            }
            if let Some(vcpu) = self.vcpu_mut(id) {
                vcpu.pv.cr2 = exception.address;
            }
        }
        let code = u64::from(CODE_SELECTOR & !3);
        let frame = [r.rcx, r.r11, error, r.rip, code, r.rflags | flags::IF, r.rsp, u64::from(DATA_SELECTOR)];
        let mut bytes = [0; size_of::<[u64; 8]>()];
        let mut len = 0;
        for (n, word) in frame.iter().enumerate() {
            if n == 2 && WITH_ERROR >> exception.vector & 1 == 0 {
                continue;
            }
            bytes[len..len + 8].copy_from_slice(word.as_bytes());
            len += 8;
        }
        let no_stack = "no stack for the frame of an exception";
        let at = (r.rsp & !15).checked_sub(len as u64).ok_or(no_stack)?;
        let call = Call { caller: id, context: CONTEXT };
        self.write_guest(&call, Gva(at), &bytes[..len]).map_err(|_| no_stack)?;
        r.rsp = at;
        r.rip = handler;
        r.rflags &= !(flags::TF | flags::NT | flags::RF | flags::AC);
        Ok(())
    }

    /// The `iret` hypercall: takes the registers from the guest's stack.
    ///
    /// # Errors
    /// What is wrong with them; the guest cannot go on then.
    pub fn iret(&mut self, id: VcpuId, r: &mut Registers) -> Result<(), Fatal> {
        let call = Call { caller: id, context: CONTEXT };
        let frame: IretContext = self.read_struct(&call, r.rsp).map_err(|_| "no stack at its iret")?;
        let selector = |value: u64, wanted: u16| value & 0xfffc == u64::from(wanted & !3);
        if frame.cs & 3 == 3 {
            return Err("iret to user mode, for which it has no page tables");
        }
        if !selector(frame.cs, CODE_SELECTOR)
            || !(selector(frame.ss, DATA_SELECTOR) || frame.ss & 0xfffc == 0)
        {
            return Err("iret to segments that do not exist");
        }
        r.rip = frame.rip;
        r.rsp = frame.rsp;
        r.rflags = guest_flags(frame.rflags);
        r.rax = frame.rax;
        if frame.flags & IN_SYSCALL == 0 {
            r.rcx = frame.rcx;
            r.r11 = frame.r11;
        }
        Ok(())
    }

    /// The `set_segment_base` hypercall: which base it is about, if it can be set.
    ///
    /// # Errors
    /// `EINVAL` for a segment that does not exist, or a base that is no address.
    pub fn segment_base(&self, which: u64, base: u64) -> Result<Segment, i64> {
        match which {
            _ if !is_canonical(base) => Err(Errno::Inval.code()),
            SEGBASE_FS => Ok(Segment::Fs),
            SEGBASE_GS_KERNEL => Ok(Segment::Gs),
            SEGBASE_GS_USER => Ok(Segment::GsUser),
            _ => Err(Errno::Inval.code()),
        }
    }

    /// `VCPUOP_initialise` of pv guests. Of the state are used: general registers but for R8 to R15, handlers, bases of segments.
    pub(crate) fn initialise_pv(&mut self, call: &Call, id: VcpuId, arg: u64) -> Result<i64, Errno> {
        // The whole of it must be there, and is too large for the stack.
        let mut context = vec![0u64; size_of::<GuestState>() / 8];
        self.read_guest(call, Gva(arg), context.as_mut_bytes())?;
        let context = GuestState::ref_from_bytes(context.as_bytes()).map_err(|_| Errno::Inval)?;
        let vcpu = self.vcpu_mut(id).ok_or(Errno::Noent)?;
        if vcpu.start.is_some() {
            return Err(Errno::Exist);
        }
        let bases = [context.fs_base, context.gs_base_kernel, context.gs_base_user];
        // Descriptors are the hypervisor's here.
        if !bases.into_iter().all(is_canonical) || context.gdt_ents != 0 || context.ldt_ents != 0 {
            return Err(Errno::Inval);
        }
        let r = &context.user_regs;
        let start = StartState {
            rax: r.rax,
            rcx: r.rcx,
            rdx: r.rdx,
            rbx: r.rbx,
            rbp: r.rbp,
            rdi: r.rdi,
            rflags: guest_flags(r.rflags),
            ..StartState::pv(r.rip, r.rsp, r.rsi)
        };
        vcpu.start = Some(start);
        vcpu.context = start.context();
        vcpu.pv.bases = bases;
        vcpu.pv.handlers = context.traps[..VECTORS].iter().map(|trap| trap.address).collect();
        Ok(0)
    }

    /// The `set_trap_table` hypercall. A null table removes all handlers.
    pub(crate) fn set_trap_table(&mut self, call: &Call, args: [u64; 6]) -> Result<i64, Errno> {
        if self.options.mode != Mode::Pv {
            return Err(Errno::Nosys);
        }
        let id = call.caller;
        if args[0] == 0 {
            self.vcpu_mut(id).ok_or(Errno::Srch)?.pv.handlers.clear();
            return Ok(0);
        }
        for n in 0..MAX_TRAPS {
            if n % TRAPS_PER_CREDIT == 0 {
                self.credit = self.credit.checked_sub(1).ok_or(Errno::TooBig)?;
            }
            let at = args[0].checked_add(n * size_of::<TrapInfo>() as u64).ok_or(Errno::Fault)?;
            let info: TrapInfo = self.read_struct(call, at)?;
            if info.address == 0 {
                return Ok(0);
            }
            let handlers = &mut self.vcpu_mut(id).ok_or(Errno::Srch)?.pv.handlers;
            handlers.resize(VECTORS, 0);
            // What software raises by INT n is a protection fault here, so other vectors are never delivered.
            if let Some(handler) = handlers.get_mut(usize::from(info.vector)) {
                *handler = info.address;
            }
        }
        Err(Errno::TooBig)
    }
}

/// The start info of a pv guest.
pub(crate) fn start_info_page(wanted: &DomainConfig) -> Vec<u8> {
    let mut start = StartInfo::new_zeroed();
    start.magic[..START_MAGIC.len()].copy_from_slice(START_MAGIC);
    start.nr_pages = wanted.pages();
    start.flags = start_flags(wanted);
    let text = wanted.cmdline.bytes().filter(u8::is_ascii).take(COMMAND_LINE - 1);
    start.cmd_line.iter_mut().zip(text).for_each(|(to, from)| *to = from);
    start.as_bytes().to_vec()
}
