//! The state in which a vCPU begins: that of PVH for the first one of a domain, for the others what a guest asks for.

use crate::{
    hypervisor::{GuestContext, PagingMode},
    pv,
};
use xen_abi::{
    errno::Errno,
    vcpu::{HVM_MODE_32B, HVM_MODE_64B, Hvm32, Hvm64, HvmContext},
};
use zerocopy::FromBytes;

const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
/// VME to OSXMMEXCPT: what guests may switch on (AMD manual volume 2, section 3.1.3).
const CR4_VALID: u64 = 0x7ff;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// SCE, LME, LMA, NXE (AMD manual volume 2, section 3.1.7).
const EFER_VALID: u64 = 1 | EFER_LME | EFER_LMA | 1 << 11;
/// Flags that exist (AMD manual volume 2, section 3.1.6), and the one that is always set.
const FLAGS: u64 = 0x3f_7fd5;
const FLAGS_SET: u64 = 2;

/// A segment register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Bits 40–47 and 52–55 of the descriptor, packed into 12 bits.
    pub attributes: u16,
    /// Limit as the descriptor has it.
    pub limit: u32,
    /// Base address.
    pub base: u64,
}

impl Segment {
    const fn flat(attributes: u16) -> Self {
        Self { attributes, limit: u32::MAX, base: 0 }
    }

    /// A code or data segment, not one of the system's.
    const fn is_user(self) -> bool {
        self.attributes & 1 << 4 != 0
    }

    const fn privilege(self) -> u16 {
        self.attributes >> 5 & 3
    }

    const fn is_present(self) -> bool {
        self.attributes & 1 << 7 != 0
    }

    const fn kind(self) -> u16 {
        self.attributes & 15
    }
}

/// What the checks of a segment depend on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Code,
    Stack,
    Data,
}

/// Everything that the guest's processor holds at the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "registers by their names")]
pub struct StartState {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rip: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
    pub cs: Segment,
    pub ds: Segment,
    pub es: Segment,
    pub ss: Segment,
    pub tr: Segment,
    /// A pv guest: of the rest only the general registers and the flags count.
    pub pv: bool,
}

impl StartState {
    /// The entry of a pv guest: ring 3, 64-bit code, paging on.
    pub const fn pv(rip: u64, rsp: u64, rsi: u64) -> Self {
        Self { rip, rsp, rsi, rbx: 0, pv: true, ..Self::pvh(0, 0) }
    }

    /// The PVH entry: 32-bit protected mode, flat segments, paging off, EBX the start info (Xen `docs/misc/pvh`).
    pub const fn pvh(eip: u32, start_info: u32) -> Self {
        let data = Segment::flat(0xc93);
        Self {
            rax: 0,
            rcx: 0,
            rdx: 0,
            rbx: start_info as u64,
            rsp: 0,
            rbp: 0,
            rsi: 0,
            rdi: 0,
            rip: eip as u64,
            rflags: FLAGS_SET,
            cr0: CR0_PE | CR0_ET,
            cr3: 0,
            cr4: 0,
            efer: 0,
            cs: Segment::flat(0xc9b),
            ds: data,
            es: data,
            ss: data,
            tr: Segment { attributes: 0x8b, limit: 0x67, base: 0 },
            pv: false,
        }
    }

    /// Current privilege level.
    pub const fn privilege(&self) -> u8 {
        self.ss.privilege() as u8
    }

    /// How the guest's addresses are translated when it begins.
    pub const fn context(&self) -> GuestContext {
        if self.pv {
            return pv::CONTEXT;
        }
        let paging = if self.cr0 & CR0_PG == 0 {
            PagingMode::Flat
        } else if self.efer & EFER_LMA != 0 && self.cr4 & CR4_PAE != 0 {
            PagingMode::Long
        } else {
            PagingMode::Other
        };
        GuestContext { cr3: self.cr3, cpl: self.privilege(), paging }
    }

    /// What `VCPUOP_initialise` asks for.
    ///
    /// # Errors
    /// `EINVAL` for a state that Xen refuses. Others end their domain when the processor does.
    pub(crate) fn from_context(context: &HvmContext) -> Result<Self, Errno> {
        if context.pad != 0 {
            return Err(Errno::Inval);
        }
        let mut state = match context.mode {
            HVM_MODE_32B => {
                let (regs, _) = Hvm32::read_from_prefix(&context.cpu_regs).map_err(|_| Errno::Inval)?;
                Self::from_protected(&regs)?
            }
            HVM_MODE_64B => {
                let (regs, _) = Hvm64::read_from_prefix(&context.cpu_regs).map_err(|_| Errno::Inval)?;
                Self::from_long(&regs)?
            }
            _ => return Err(Errno::Inval),
        };
        if state.efer & EFER_LME != 0 {
            state.efer |= EFER_LMA;
        }
        if state.cr4 & !CR4_VALID != 0 || state.efer & !EFER_VALID != 0 {
            return Err(Errno::Inval);
        }
        Ok(state)
    }

    fn from_protected(regs: &Hvm32) -> Result<Self, Errno> {
        if regs.pad1 != 0 || regs.pad2 != [0; 3] {
            return Err(Errno::Inval);
        }
        let cs = segment(regs.cs_ar, regs.cs_limit, regs.cs_base, Role::Code)?;
        let ds = segment(regs.ds_ar, regs.ds_limit, regs.ds_base, Role::Data)?;
        let es = segment(regs.es_ar, regs.es_limit, regs.es_base, Role::Data)?;
        let ss = segment(regs.ss_ar, regs.ss_limit, regs.ss_base, Role::Stack)?;
        let tr = task(regs.tr_ar, regs.tr_limit, regs.tr_base)?;
        // With the granularity bit the limit counts pages.
        let pages = cs.attributes & 1 << 11 != 0;
        let limit = if pages { cs.limit << 12 | 0xfff } else { cs.limit };
        let outranks = |data: Segment| data.is_present() && data.privilege() > cs.privilege();
        if regs.eip > limit || ss.privilege() != cs.privilege() || outranks(ds) || outranks(es) {
            return Err(Errno::Inval);
        }
        if regs.efer & EFER_LMA != 0 && regs.efer & EFER_LME == 0 {
            return Err(Errno::Inval);
        }
        Ok(Self {
            rax: regs.eax.into(),
            rcx: regs.ecx.into(),
            rdx: regs.edx.into(),
            rbx: regs.ebx.into(),
            rsp: regs.esp.into(),
            rbp: regs.ebp.into(),
            rsi: regs.esi.into(),
            rdi: regs.edi.into(),
            rip: regs.eip.into(),
            rflags: u64::from(regs.eflags) & FLAGS | FLAGS_SET,
            cr0: regs.cr0.into(),
            cr3: regs.cr3.into(),
            cr4: regs.cr4.into(),
            efer: regs.efer,
            cs,
            ds,
            es,
            ss,
            tr,
            pv: false,
        })
    }

    fn from_long(regs: &Hvm64) -> Result<Self, Errno> {
        let upper = regs.rip >> 47;
        let canonical = upper == 0 || upper == 0x1_ffff;
        let long = regs.cr0 & CR0_PG != 0 && regs.cr4 & CR4_PAE != 0 && regs.efer & EFER_LME != 0;
        if !canonical || !long {
            return Err(Errno::Inval);
        }
        let data = Segment::flat(0xc93);
        Ok(Self {
            rax: regs.rax,
            rcx: regs.rcx,
            rdx: regs.rdx,
            rbx: regs.rbx,
            rsp: regs.rsp,
            rbp: regs.rbp,
            rsi: regs.rsi,
            rdi: regs.rdi,
            rip: regs.rip,
            rflags: regs.rflags & FLAGS | FLAGS_SET,
            cr0: regs.cr0,
            cr3: regs.cr3,
            cr4: regs.cr4,
            efer: regs.efer,
            cs: Segment::flat(0xa9b),
            ds: data,
            es: data,
            ss: data,
            tr: Segment { attributes: 0x8b, limit: 0x67, base: 0 },
            pv: false,
        })
    }
}

/// A code or data segment, checked, with the accessed bit that a present one has.
fn segment(attributes: u16, limit: u32, base: u32, role: Role) -> Result<Segment, Errno> {
    let accessed = attributes >> 7 & 1;
    let segment = Segment { attributes: attributes | accessed, limit, base: base.into() };
    if attributes >> 12 != 0 {
        return Err(Errno::Inval);
    }
    if attributes == 0 && role == Role::Data {
        return Ok(segment);
    }
    let (code, writable_or_readable) = (segment.kind() & 8 != 0, segment.kind() & 2 != 0);
    let fits = match role {
        Role::Code => code,
        Role::Stack => !code && writable_or_readable,
        Role::Data => !code || writable_or_readable,
    };
    if segment.is_user() && segment.is_present() && fits { Ok(segment) } else { Err(Errno::Inval) }
}

/// The task state segment: a busy one, for 32 bits or more.
fn task(attributes: u16, limit: u32, base: u32) -> Result<Segment, Errno> {
    const BUSY: u16 = 2;
    const BUSY_TSS: u16 = 11;
    let segment = Segment { attributes: attributes | BUSY, limit, base: base.into() };
    let good =
        attributes >> 12 == 0 && !segment.is_user() && segment.is_present() && segment.kind() == BUSY_TSS;
    if good { Ok(segment) } else { Err(Errno::Inval) }
}
