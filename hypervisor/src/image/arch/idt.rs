//! Interrupt descriptor table. Interrupts are off and no exception of ours is expected: each one ends in a
//! crash record, on a stack of its own. Those that a pv guest raises in ring 3 are its own.
#![expect(unsafe_code, reason = "exception entry code")]

use core::arch::naked_asm;

use x86_64::{
    PrivilegeLevel, VirtAddr,
    structures::idt::{EntryOptions, InterruptDescriptorTable},
};

use super::gdt::ExceptionStack;
use crate::image::{crash, global::Global, pv::guest_exception};

static IDT: Global<InterruptDescriptorTable> = Global::new(InterruptDescriptorTable::new());

/// What the entry code leaves on the stack: general registers in the crash record's order, then vector and error
/// code, then what the processor pushed (AMD APM volume 2, section 8.9.3).
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct ExceptionFrame {
    /// rax rbx rcx rdx rsi rdi rbp, a hole for rsp, r8 … r15.
    pub(crate) gpr: [u64; 16],
    pub(crate) vector: u64,
    pub(crate) error: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

extern "C" fn exception(frame: &ExceptionFrame) -> ! {
    crash::exception(frame)
}

#[unsafe(naked)]
extern "C" fn common_entry() {
    naked_asm!(
        "push r15", "push r14", "push r13", "push r12", "push r11", "push r10", "push r9", "push r8",
        "push 0", "push rbp", "push rdi", "push rsi", "push rdx", "push rcx", "push rbx", "push rax",
        "cld",
        "test byte ptr [rsp + {cs}], 3",
        "jnz {guest}",
        "mov rdi, rsp",
        "and rsp, -16",
        "call {exception}",
        "ud2",
        cs = const core::mem::offset_of!(ExceptionFrame, cs),
        guest = sym guest_exception,
        exception = sym exception,
    )
}

/// An entry for one vector: makes the frame uniform and goes on in [`common_entry`].
macro_rules! entry {
    ($vector:literal, with_error) => {{
        #[unsafe(naked)]
        extern "C" fn entry() {
            naked_asm!(concat!("push ", $vector), "jmp {common}", common = sym common_entry)
        }
        entry as *const () as u64
    }};
    ($vector:literal, without_error) => {{
        #[unsafe(naked)]
        extern "C" fn entry() {
            naked_asm!("push 0", concat!("push ", $vector), "jmp {common}", common = sym common_entry)
        }
        entry as *const () as u64
    }};
}

fn stack_of(options: &mut EntryOptions, stack: ExceptionStack) {
    // SAFETY: each slot of the interrupt stack table holds the top of a stack that nothing else uses.
    unsafe { options.set_stack_index(stack as u16) };
}

/// Fills and loads the table. Called once, after the task state segment is loaded.
pub(super) fn install() {
    // SAFETY: called once, at boot; from here on only the processor uses the table.
    let idt: &'static mut InterruptDescriptorTable = unsafe { &mut *IDT.as_ptr() };
    macro_rules! set {
        ($($field:ident $vector:literal $error:ident $stack:ident;)*) => {$(
            // SAFETY: the address is that of entry code which expects this vector's frame.
            let options = unsafe { idt.$field.set_handler_addr(VirtAddr::new(entry!($vector, $error))) };
            stack_of(options, ExceptionStack::$stack);
            // INT3 and INTO are instructions of every program.
            if matches!($vector, 3 | 4) {
                options.set_privilege_level(PrivilegeLevel::Ring3);
            }
        )*};
    }
    set! {
        divide_error 0 without_error Other;
        debug 1 without_error Other;
        non_maskable_interrupt 2 without_error NonMaskable;
        breakpoint 3 without_error Other;
        overflow 4 without_error Other;
        bound_range_exceeded 5 without_error Other;
        invalid_opcode 6 without_error Other;
        device_not_available 7 without_error Other;
        double_fault 8 with_error DoubleFault;
        invalid_tss 10 with_error Other;
        segment_not_present 11 with_error Other;
        stack_segment_fault 12 with_error Other;
        general_protection_fault 13 with_error Other;
        page_fault 14 with_error PageFault;
        x87_floating_point 16 without_error Other;
        alignment_check 17 with_error Other;
        machine_check 18 without_error MachineCheck;
        simd_floating_point 19 without_error Other;
        virtualization 20 without_error Other;
        cp_protection_exception 21 with_error Other;
        hv_injection_exception 28 without_error Other;
        vmm_communication_exception 29 with_error Other;
        security_exception 30 with_error Other;
    }
    idt.load();
}
