//! The world switch: VMRUN and what it leaves to software.
#![expect(unsafe_code, reason = "enters the guest")]

use core::{arch::naked_asm, mem::offset_of};

use x86_64::{
    PhysAddr,
    registers::model_specific::{Efer, EferFlags, Msr},
};

use super::vmcb::Vmcb;
use crate::image::{
    fpu::{FpuState, HOST_USES_SSE},
    global::Global,
    layout,
};

/// AMD APM volume 2, section 15.30.4.
const VM_HSAVE_PA: u32 = 0xc001_0117;

#[repr(C, align(4096))]
struct HostPage([u8; 4096]);

/// Where the processor keeps the host's state while a guest runs. Nobody else reads it.
static HOST_SAVE: Global<HostPage> = Global::new(HostPage([0; 4096]));
/// What VMSAVE keeps of the host: FS, GS, TR, LDTR and the system-call registers. The format is a VMCB's.
static HOST_EXTRA: Global<HostPage> = Global::new(HostPage([0; 4096]));

/// General registers of a guest that VMRUN does not switch. RAX and RSP are in the VMCB.
#[derive(Clone, Debug, Default)]
#[repr(C)]
pub(super) struct Registers {
    pub(super) rbx: u64,
    pub(super) rcx: u64,
    pub(super) rdx: u64,
    pub(super) rsi: u64,
    pub(super) rdi: u64,
    pub(super) rbp: u64,
    pub(super) r8: u64,
    pub(super) r9: u64,
    pub(super) r10: u64,
    pub(super) r11: u64,
    pub(super) r12: u64,
    pub(super) r13: u64,
    pub(super) r14: u64,
    pub(super) r15: u64,
}

/// Switches SVM on.
pub(super) fn enable() {
    // SAFETY: the processor has SVM; the page for the host's state is ours and 4 KiB-aligned.
    unsafe {
        Efer::update(|efer| efer.insert(EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE));
        Msr::new(VM_HSAVE_PA).write(layout::image_to_phys(HOST_SAVE.address()).as_u64());
        core::arch::asm!("vmsave rax", in("rax") layout::image_to_phys(HOST_EXTRA.address()).as_u64());
    }
}

/// Runs a guest until it exits.
pub(super) fn enter(vmcb: &mut Vmcb, registers: &mut Registers, fpu: &mut FpuState) {
    let vmcb_phys = layout::direct_to_phys(&raw const *vmcb as u64);
    let host_extra = layout::image_to_phys(HOST_EXTRA.address());
    // SAFETY: SVM is on (`enable` runs before the first vCPU exists). The VMCB intercepts VMRUN, uses nested paging
    // and the permission maps, so that the guest reaches nothing of ours. All three references are exclusive, and
    // the heap, where the VMCB lies, is in the direct map.
    unsafe { switch(registers, vmcb_phys, host_extra, fpu) };
}

/// Guest registers in, VMRUN, guest registers out.
///
/// # Safety
/// SVM is on, the first address is that of a VMCB that confines the guest, the second that of a page that VMSAVE filled.
#[unsafe(naked)]
unsafe extern "C" fn switch(
    registers: *mut Registers,
    vmcb: PhysAddr,
    host_extra: PhysAddr,
    fpu: *mut FpuState,
) {
    naked_asm!(
        "push rbp", "mov rbp, rsp",
        "push rbx", "push r12", "push r13", "push r14", "push r15",
        "push rcx",             // [rsp + 16] FPU state
        "push rdx",             // [rsp + 8]  host's extra state
        "push rdi",             // [rsp]      guest's registers
        ".if {sse}",
        "fxrstor64 [rcx]",
        ".endif",
        "mov rax, rsi",
        "mov rbx, [rdi + {rbx}]", "mov rcx, [rdi + {rcx}]", "mov rdx, [rdi + {rdx}]",
        "mov rsi, [rdi + {rsi}]", "mov rbp, [rdi + {rbp}]",
        "mov r8, [rdi + {r8}]", "mov r9, [rdi + {r9}]", "mov r10, [rdi + {r10}]", "mov r11, [rdi + {r11}]",
        "mov r12, [rdi + {r12}]", "mov r13, [rdi + {r13}]", "mov r14, [rdi + {r14}]", "mov r15, [rdi + {r15}]",
        "mov rdi, [rdi + {rdi}]",
        "vmload rax",
        "vmrun rax",
        "vmsave rax",
        "xchg rdi, [rsp]",      // the guest's RDI for the pointer
        "mov [rdi + {rbx}], rbx", "mov [rdi + {rcx}], rcx", "mov [rdi + {rdx}], rdx",
        "mov [rdi + {rsi}], rsi", "mov [rdi + {rbp}], rbp",
        "mov [rdi + {r8}], r8", "mov [rdi + {r9}], r9", "mov [rdi + {r10}], r10", "mov [rdi + {r11}], r11",
        "mov [rdi + {r12}], r12", "mov [rdi + {r13}], r13", "mov [rdi + {r14}], r14", "mov [rdi + {r15}], r15",
        "pop rcx",
        "mov [rdi + {rdi}], rcx",
        "pop rax",
        "vmload rax",
        "pop rcx",
        ".if {sse}",
        "fxsave64 [rcx]",
        "fninit",
        "mov dword ptr [rsp - 4], 0x1f80",
        "ldmxcsr dword ptr [rsp - 4]",
        ".endif",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp",
        "ret",
        sse = const HOST_USES_SSE as u32,
        rbx = const offset_of!(Registers, rbx),
        rcx = const offset_of!(Registers, rcx),
        rdx = const offset_of!(Registers, rdx),
        rsi = const offset_of!(Registers, rsi),
        rdi = const offset_of!(Registers, rdi),
        rbp = const offset_of!(Registers, rbp),
        r8 = const offset_of!(Registers, r8),
        r9 = const offset_of!(Registers, r9),
        r10 = const offset_of!(Registers, r10),
        r11 = const offset_of!(Registers, r11),
        r12 = const offset_of!(Registers, r12),
        r13 = const offset_of!(Registers, r13),
        r14 = const offset_of!(Registers, r14),
        r15 = const offset_of!(Registers, r15),
    )
}
