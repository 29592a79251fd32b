//! Entries, long mode, page tables, descriptor tables.
//!
//! The entry is called in 32-bit mode without paging, with flat segments (`docs/misc/pvh` of Xen). The first GiB is
//! mapped to itself in 2 MiB pages and nothing else is, so that a bad pointer faults in the guest. The lowest 2 MiB
//! are then mapped anew in 4 KiB pages: page 0 not at all, code, constants and the tables of this module read-only. A program
//! whose pointers hit them by chance gets a fault instead of a broken agent.
//!
//! Other vCPUs begin in long mode, on page tables and descriptors that the first one has made. Each vCPU has its own stacks,
//! task state and interrupt descriptors.
//!
//! As a pv guest the image is entered in 64-bit code of ring 3, on page tables of the hypervisor's, and has neither tables nor
//! descriptors of its own.
#![expect(unsafe_code, reason = "descriptor and page tables are hardware interfaces")]

use core::arch::{asm, global_asm};

use xen_abi::{
    pv::{GuestContext, UserRegisters},
    vcpu::{Hvm64, HvmContext},
};

use crate::{
    Global,
    guard::{self, VCPUS},
};

const CODE_SELECTOR: u16 = 0x08;
/// Selector of the first vCPU's task state; the others follow.
const TSS_SELECTOR: u16 = 0x18;
/// Bytes of a descriptor of the system's in long mode.
const SYSTEM_DESCRIPTOR: u16 = 16;
/// Entries of the descriptor table: null, code, data, and two for each task state.
const DESCRIPTORS: usize = 3 + 2 * VCPUS;
/// Bytes of the stack that Rust runs on.
const STACK: u64 = 0x8000;
/// Bytes of the stack that exceptions run on.
const EXCEPTION_STACK: usize = 4096;

global_asm!(
    // XEN_ELFNOTE_PHYS32_ENTRY (18) of `public/elfnote.h`: where to enter.
    ".pushsection .note.Xen, \"a\", @note",
    ".balign 4",
    ".long 4, 4, 18",
    ".asciz \"Xen\"",
    ".long pvh_entry",
    // XEN_ELFNOTE_ENTRY (1): where to enter a pv guest.
    ".balign 4",
    ".long 4, 8, 1",
    ".asciz \"Xen\"",
    ".quad pv_entry",
    // What Xen's own builder of pv domains asks for beside it. XEN_ELFNOTE_VIRT_BASE (3): pseudo-physical memory is mapped from
    // address 0 on.
    ".balign 4",
    ".long 4, 8, 3",
    ".asciz \"Xen\"",
    ".quad 0",
    // XEN_ELFNOTE_XEN_VERSION (5), XEN_ELFNOTE_LOADER (8), XEN_ELFNOTE_PAE_MODE (9).
    ".balign 4",
    ".long 4, 8, 5",
    ".asciz \"Xen\"",
    ".asciz \"xen-3.0\"",
    ".balign 4",
    ".long 4, 8, 8",
    ".asciz \"Xen\"",
    ".asciz \"generic\"",
    ".balign 4",
    ".long 4, 4, 9",
    ".asciz \"Xen\"",
    ".asciz \"yes\"",
    ".popsection",
    ".pushsection .text.boot, \"ax\", @progbits",
    ".code32",
    ".globl pvh_entry",
    "pvh_entry:",
    "cld",
    "cli",
    "movl $agent_stack_top, %esp",
    // CR4: PAE, and OSFXSR and OSXMMEXCPT for builds whose core library uses SSE. PGE as the hypervisor has it: QEMU forgets
    // translations at a world switch once more for each register that differs.
    "movl %cr4, %eax",
    "orl $0x6a0, %eax",
    "movl %eax, %cr4",
    "movl $agent_pml4, %eax",
    "movl %eax, %cr3",
    // EFER.LME.
    "movl $0xc0000080, %ecx",
    "rdmsr",
    "orl $0x100, %eax",
    "wrmsr",
    // CR0: PG, WP, NE, MP, PE; not EM, TS.
    "movl %cr0, %eax",
    "andl $0xfffffff3, %eax",
    "orl $0x80010023, %eax",
    "movl %eax, %cr0",
    "lgdt agent_gdt_pointer",
    "ljmp $8, $2f",
    ".code64",
    "2:",
    "movl $16, %eax",
    "movl %eax, %ds",
    "movl %eax, %es",
    "movl %eax, %ss",
    "xorl %eax, %eax",
    "movl %eax, %fs",
    "movl %eax, %gs",
    "movl $agent_stack_top, %esp",
    "xorl %ebp, %ebp",
    "call agent_main",
    "ud2",
    ".globl pv_entry",
    "pv_entry:",
    "cld",
    // The start info.
    "movq %rsi, %rdi",
    "leaq agent_stack_top(%rip), %rsp",
    "xorl %ebp, %ebp",
    "call agent_pv_main",
    "ud2",
    // The same for other vCPUs, with their number in edi and on their stack.
    ".globl agent_pv_secondary_entry",
    "agent_pv_secondary_entry:",
    "cld",
    "xorl %ebp, %ebp",
    "call agent_pv_secondary",
    "ud2",
    // Where other vCPUs begin, in long mode, with their number in edi.
    ".globl agent_secondary_entry",
    "agent_secondary_entry:",
    "lgdt agent_gdt_pointer",
    "pushq $8",
    "pushq $3f",
    "lretq",
    "3:",
    "movl $16, %eax",
    "movl %eax, %ds",
    "movl %eax, %es",
    "movl %eax, %ss",
    "xorl %eax, %eax",
    "movl %eax, %fs",
    "movl %eax, %gs",
    "xorl %ebp, %ebp",
    "call agent_secondary",
    "ud2",
    ".popsection",
    // Tables that are complete when the image is loaded, and space for those that are not.
    ".pushsection .protected, \"aw\", @progbits",
    ".balign 4096",
    "agent_pml4:",
    ".quad agent_pdpt + 3",
    ".fill 511, 8, 0",
    "agent_pdpt:",
    ".quad agent_pd + 3",
    ".fill 511, 8, 0",
    ".globl agent_pd",
    "agent_pd:",
    ".set page, 0",
    ".rept 512",
    ".quad page + 0x83",
    ".set page, page + 0x200000",
    ".endr",
    ".globl agent_gdt",
    "agent_gdt:",
    ".quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff",
    ".fill {descriptors} - 3, 8, 0",
    "agent_gdt_pointer:",
    ".word {descriptors} * 8 - 1",
    ".quad agent_gdt",
    ".popsection",
    ".pushsection .bss.agent_stack, \"aw\", @nobits",
    ".balign 16",
    ".skip {stack}",
    ".globl agent_stack_top",
    "agent_stack_top:",
    ".skip {stack} * ({vcpus} - 1)",
    ".popsection",
    descriptors = const DESCRIPTORS,
    stack = const STACK,
    vcpus = const VCPUS,
    options(att_syntax)
);

unsafe extern "C" {
    static mut agent_gdt: [u64; DESCRIPTORS];
    static agent_stack_top: u8;
    fn agent_secondary_entry();
    fn agent_pv_secondary_entry();
    fn pv_entry();
    static mut agent_pd: [u64; 512];
    static __image_start: u8;
    static __writable_start: u8;
    static __image_end: u8;
}

/// A task state segment (AMD64 manual volume 2, section 12.2.5), in 32-bit words because of its odd alignment.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Tss([u32; 26]);
/// Word where IST1 lies.
const IST1: usize = 9;

#[repr(C, align(4096))]
struct PageTable([u64; 512]);

#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Idt([[u64; 2]; guard::VECTORS]);

#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct ExceptionStack([u8; EXCEPTION_STACK]);

#[unsafe(link_section = ".protected")]
static LOW_PAGES: Global<PageTable> = Global::new(PageTable([0; 512]));
#[unsafe(link_section = ".protected")]
static TSS: Global<[Tss; VCPUS]> = Global::new([Tss([0; 26]); VCPUS]);
#[unsafe(link_section = ".protected")]
static IDT: Global<[Idt; VCPUS]> = Global::new([Idt([[0; 2]; guard::VECTORS]); VCPUS]);
static EXCEPTION_STACKS: Global<[ExceptionStack; VCPUS]> =
    Global::new([ExceptionStack([0; EXCEPTION_STACK]); VCPUS]);

/// What LGDT and LIDT take.
#[repr(C, packed)]
struct Pointer {
    limit: u16,
    base: u64,
}

/// Fills the tables of all vCPUs.
pub(crate) fn set_up_tables() {
    // SAFETY: runs once, before anything reads the tables; all of them are statics of this image, at addresses that the
    // processor uses as they are (identity map). IST1 is the end of a stack that nothing else uses.
    unsafe {
        let (stacks, tasks, tables) = (EXCEPTION_STACKS.get(), TSS.get(), IDT.get());
        let gdt = &raw mut agent_gdt;
        for vcpu in 0..VCPUS {
            let ist1 = (&raw const (*stacks)[vcpu]).addr() as u64 + EXCEPTION_STACK as u64;
            let tss = &raw mut (*tasks)[vcpu];
            (*tss).0[IST1] = ist1 as u32;
            (*tss).0[IST1 + 1] = (ist1 >> 32) as u32;
            // No I/O permission map: its offset is the limit.
            (*tss).0[25] = (size_of::<Tss>() as u32) << 16;
            let base = tss.addr() as u64;
            // An available 64-bit TSS (type 9), present.
            let low = (size_of::<Tss>() as u64 - 1)
                | (base & 0xff_ffff) << 16
                | 0x89 << 40
                | (base >> 24 & 0xff) << 56;
            (*gdt)[3 + 2 * vcpu] = low;
            (*gdt)[4 + 2 * vcpu] = base >> 32;
            for (n, gate) in (*tables)[vcpu].0.iter_mut().enumerate() {
                let at = guard::vector_address(vcpu, n);
                // A 64-bit interrupt gate (type 14) on IST1.
                *gate = [
                    at & 0xffff
                        | u64::from(CODE_SELECTOR) << 16
                        | 1 << 32
                        | 0x8e << 40
                        | (at >> 16 & 0xffff) << 48,
                    at >> 32,
                ];
            }
        }
    }
}

/// Loads the task register and the interrupt descriptor table of the vCPU that runs this, once and before [`protect`]: from
/// here on exceptions are handled.
pub(crate) fn load_tables(vcpu: usize) {
    // SAFETY: `set_up_tables` has filled both; each vCPU loads its own, whose descriptor the processor marks as busy.
    unsafe {
        let idt = &raw const (*IDT.get())[vcpu];
        let pointer = Pointer { limit: size_of::<Idt>() as u16 - 1, base: idt.addr() as u64 };
        let selector = TSS_SELECTOR + SYSTEM_DESCRIPTOR * vcpu as u16;
        asm!("ltr {0:x}", in(reg) selector, options(nostack));
        asm!("lidt [{0}]", in(reg) &raw const pointer, options(nostack));
    }
}

/// How another vCPU is to begin: as this one runs now, at [`agent_secondary`](crate::agent_secondary).
pub(crate) fn secondary(vcpu: usize) -> HvmContext {
    let (cr0, cr3, cr4): (u64, u64, u64);
    let (low, high): (u32, u32);
    // SAFETY: reads registers; a guest in long mode has all of them.
    unsafe {
        asm!("mov {0}, cr0", "mov {1}, cr3", "mov {2}, cr4", out(reg) cr0, out(reg) cr3, out(reg) cr4,
            options(nostack, nomem));
        asm!("rdmsr", in("ecx") 0xc000_0080u32, out("eax") low, out("edx") high, options(nostack, nomem));
    }
    let top = (&raw const agent_stack_top).addr() as u64;
    HvmContext::long(&Hvm64 {
        rdi: vcpu as u64,
        rip: agent_secondary_entry as *const () as u64,
        rsp: top + STACK * vcpu as u64,
        cr0,
        cr3,
        cr4,
        efer: u64::from(high) << 32 | u64::from(low),
        ..Hvm64::default()
    })
}

/// The same for a pv guest, at [`agent_pv_secondary`](crate::agent_pv_secondary).
pub(crate) fn pv_secondary(vcpu: usize) -> &'static GuestContext {
    static CONTEXT: Global<GuestContext> = Global::new(GuestContext::ZERO);
    // SAFETY: the first vCPU prepares the others one by one, and nobody refers to the last one's state any more.
    let context = unsafe { &mut *CONTEXT.get() };
    let top = (&raw const agent_stack_top).addr() as u64;
    context.user_regs = UserRegisters {
        rdi: vcpu as u64,
        rip: agent_pv_secondary_entry as *const () as u64,
        rsp: top + STACK * vcpu as u64,
        ..UserRegisters::default()
    };
    context.traps[..guard::VECTORS].copy_from_slice(&guard::pv_handlers(vcpu));
    context
}

/// How the first vCPU of a pv guest is to begin: instruction and stack pointer.
pub(crate) fn pv_start() -> (u64, u64) {
    (pv_entry as *const () as u64, (&raw const agent_stack_top).addr() as u64)
}

/// Frames of the image, variables and stacks included.
pub(crate) fn image_frames() -> core::ops::Range<u64> {
    let at = |symbol: *const u8| symbol.addr() as u64 / 4096;
    at(&raw const __image_start)..at(&raw const __image_end)
}

/// Maps the lowest 2 MiB in small pages, with the parts read-only that nobody has a reason to write any more.
pub(crate) fn protect() {
    // SAFETY: the new table maps every page that the image uses to itself, writable from `__writable_start` on, where
    // all variables and stacks lie; what lies before it is not written from here on by software.
    unsafe {
        let (start, writable) = ((&raw const __image_start).addr(), (&raw const __writable_start).addr());
        let table = LOW_PAGES.get();
        for (n, entry) in (*table).0.iter_mut().enumerate() {
            let at = n * 4096;
            *entry = match at {
                0 => 0,
                _ if (start..writable).contains(&at) => at as u64 | 1,
                _ => at as u64 | 3,
            };
        }
        let pd = &raw mut agent_pd;
        (*pd)[0] = table.addr() as u64 | 3;
        asm!("mov {0}, cr3", "mov cr3, {0}", out(reg) _, options(nostack));
    }
}
