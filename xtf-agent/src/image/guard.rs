//! Calls that may raise an exception, and the handlers that bring them home.
//!
//! [`call`] saves what the System V ABI preserves, remembers its stack pointer and calls. If the callee
//! raises an exception, wherever that is and whatever it did to the registers, the handler notes it and goes on behind the
//! call. An exception without a guarded call ends the domain. An NMI is taken note of by nobody.
//!
//! Each vCPU has this code once for itself: nothing else tells a handler for certain on which vCPU it runs, whatever a
//! program did to the registers.
//!
//! A pv guest has its exceptions from the hypervisor, on the stack where they were raised, and makes hypercalls by SYSCALL.
#![expect(unsafe_code, reason = "recovery from exceptions is done in assembly")]

use core::arch::global_asm;

use xen_abi::{
    hypercall,
    pv::{CODE_SELECTOR, TrapInfo},
};
use xtf_agent::Exception;

use crate::{Global, runtime};

/// Vectors with a handler: the exceptions.
pub(crate) const VECTORS: usize = 32;
/// Bytes between the entry points of two handlers.
const VECTOR_STRIDE: usize = 16;
/// vCPUs that can run an agent.
pub(crate) const VCPUS: usize = 2;

global_asm!(
    ".pushsection .text.agent_guard, \"ax\", @progbits",
    // rdi: what to call; rsi: rax rdi rsi rdx r10 r8 r9; rdx: where the result goes. Returns 1 after an exception.
    ".macro agent_guard_of vcpu",
    ".globl agent_guarded_\\vcpu",
    "agent_guarded_\\vcpu:",
    "push rbx",
    "push rbp",
    "push r12",
    "push r13",
    "push r14",
    "push r15",
    "pushfq",
    "push rdx",
    "sub rsp, 8",
    "mov [agent_guard + 8 * \\vcpu], rsp",
    "mov r11, rdi",
    "mov rax, [rsi]",
    "mov rdi, [rsi + 8]",
    "mov rdx, [rsi + 24]",
    "mov r10, [rsi + 32]",
    "mov r8, [rsi + 40]",
    "mov r9, [rsi + 48]",
    "mov rsi, [rsi + 16]",
    "call r11",
    // The callee may have changed every register.
    "mov rsp, [agent_guard + 8 * \\vcpu]",
    "mov rdx, [rsp + 8]",
    "mov [rdx], rax",
    "xor eax, eax",
    "jmp 3f",
    "agent_recovered_\\vcpu:",
    "mov eax, 1",
    "3:",
    "mov qword ptr [agent_guard + 8 * \\vcpu], 0",
    "add rsp, 16",
    "popfq",
    "pop r15",
    "pop r14",
    "pop r13",
    "pop r12",
    "pop rbp",
    "pop rbx",
    "ret",
    // One entry per vector. Those without an error code push a zero (AMD64 manual volume 2, table 8-1).
    ".balign 16",
    ".globl agent_vectors_\\vcpu",
    "agent_vectors_\\vcpu:",
    ".set vector, 0",
    ".rept 32",
    ".balign 16",
    ".if vector == 2",
    "iretq",
    ".else",
    ".if ((0x60227d00 >> vector) & 1) == 0",
    "push 0",
    ".endif",
    "push vector",
    "jmp agent_exception_\\vcpu",
    ".endif",
    ".set vector, vector + 1",
    ".endr",
    // On IST1: vector, error, rip, cs, rflags, rsp, ss.
    ".balign 16",
    "agent_exception_\\vcpu:",
    "cld",
    "pop qword ptr [agent_fault + 32 * \\vcpu]",
    "pop qword ptr [agent_fault + 32 * \\vcpu + 8]",
    "pop qword ptr [agent_fault + 32 * \\vcpu + 16]",
    "mov rax, cr2",
    "mov [agent_fault + 32 * \\vcpu + 24], rax",
    "cmp qword ptr [agent_guard + 8 * \\vcpu], 0",
    "je 4f",
    // Return through IRETQ: it ends the blocking of NMIs and loads known segments and flags.
    "push 16",
    "push qword ptr [agent_guard + 8 * \\vcpu]",
    "push 2",
    "push 8",
    "lea rax, [rip + agent_recovered_\\vcpu]",
    "push rax",
    "iretq",
    "4:",
    "and rsp, -16",
    "mov edi, \\vcpu",
    "call agent_fatal",
    "ud2",
    // The same for a pv guest. Behind RCX and R11 the frame is the processor's; CR2 is read for us.
    ".balign 16",
    ".globl agent_pv_vectors_\\vcpu",
    "agent_pv_vectors_\\vcpu:",
    ".set vector, 0",
    ".rept 32",
    ".balign 16",
    "pop rcx",
    "pop r11",
    ".if ((0x60227d00 >> vector) & 1) == 0",
    "push 0",
    ".endif",
    "push vector",
    "jmp agent_pv_exception_\\vcpu",
    ".set vector, vector + 1",
    ".endr",
    ".balign 16",
    "agent_pv_exception_\\vcpu:",
    "cld",
    "pop qword ptr [agent_fault + 32 * \\vcpu]",
    "pop qword ptr [agent_fault + 32 * \\vcpu + 8]",
    "pop qword ptr [agent_fault + 32 * \\vcpu + 16]",
    "mov rax, cr2",
    "mov [agent_fault + 32 * \\vcpu + 24], rax",
    "cmp qword ptr [agent_guard + 8 * \\vcpu], 0",
    "je 4b",
    "mov rsp, [agent_guard + 8 * \\vcpu]",
    "jmp agent_recovered_\\vcpu",
    ".endm",
    "agent_guard_of 0",
    "agent_guard_of 1",
    // The operations.
    ".globl agent_op_read",
    "agent_op_read:",
    "mov rax, [rdi]",
    "ret",
    ".globl agent_op_write",
    "agent_op_write:",
    "mov [rdi], rsi",
    "xor eax, eax",
    "ret",
    ".globl agent_op_ud2",
    "agent_op_ud2:",
    "ud2",
    "ret",
    ".globl agent_op_rdmsr",
    "agent_op_rdmsr:",
    "mov ecx, edi",
    "rdmsr",
    "shl rdx, 32",
    "or rax, rdx",
    "ret",
    ".globl agent_op_wrmsr",
    "agent_op_wrmsr:",
    "mov ecx, edi",
    "mov rax, rsi",
    "mov rdx, rsi",
    "shr rdx, 32",
    "wrmsr",
    "xor eax, eax",
    "ret",
    ".globl agent_op_cpuid",
    "agent_op_cpuid:",
    "mov eax, edi",
    "mov ecx, esi",
    "cpuid",
    "shl rbx, 32",
    "or rax, rbx",
    "ret",
    ".globl agent_op_inb",
    "agent_op_inb:",
    "mov edx, edi",
    "xor eax, eax",
    "in al, dx",
    "ret",
    ".globl agent_op_outb",
    "agent_op_outb:",
    "mov edx, edi",
    "mov eax, esi",
    "out dx, al",
    "xor eax, eax",
    "ret",
    // Numbers that the hypercall page has no room for: the number is in rax already.
    ".globl agent_vmmcall",
    "agent_vmmcall:",
    "vmmcall",
    "ret",
    ".globl agent_vmcall",
    "agent_vmcall:",
    "vmcall",
    "ret",
    ".globl agent_syscall",
    "agent_syscall:",
    "syscall",
    "ret",
    // Xen's prefix for CPUID (`XEN_CPUID` of `public/arch-x86/xen.h`): without it a pv guest asks the machine.
    ".globl agent_pv_cpuid",
    "agent_pv_cpuid:",
    "mov eax, edi",
    "mov ecx, esi",
    ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e",
    "cpuid",
    "shl rbx, 32",
    "or rax, rbx",
    "ret",
    ".popsection",
);

/// For each vCPU the stack pointer of the guarded call that is under way, or zero.
#[unsafe(export_name = "agent_guard")]
static GUARD: Global<[u64; VCPUS]> = Global::new([0; VCPUS]);

/// What the handler of each vCPU noted: vector, error, rip, cr2.
#[unsafe(export_name = "agent_fault")]
static FAULT: Global<[[u64; 4]; VCPUS]> = Global::new([[0; 4]; VCPUS]);

/// Calls code at an address, with registers, and a place for the result.
type Guarded = unsafe extern "C" fn(u64, *const [u64; 7], *mut i64) -> u64;

unsafe extern "C" {
    fn agent_guarded_0(target: u64, registers: *const [u64; 7], result: *mut i64) -> u64;
    fn agent_guarded_1(target: u64, registers: *const [u64; 7], result: *mut i64) -> u64;
    fn agent_syscall();
    static agent_vectors_0: u8;
    static agent_vectors_1: u8;
    static agent_pv_vectors_0: u8;
    static agent_pv_vectors_1: u8;
}

/// By vCPU.
const GUARDED: [Guarded; VCPUS] = [agent_guarded_0, agent_guarded_1];

/// Where the handler of a vector begins, on a vCPU below [`VCPUS`].
pub(crate) fn vector_address(vcpu: usize, vector: usize) -> u64 {
    let handlers = [&raw const agent_vectors_0, &raw const agent_vectors_1];
    (handlers[vcpu].addr() + vector * VECTOR_STRIDE) as u64
}

/// Where the exceptions of a vCPU of a pv guest go.
pub(crate) fn pv_handlers(vcpu: usize) -> [TrapInfo; VECTORS] {
    let handlers = [&raw const agent_pv_vectors_0, &raw const agent_pv_vectors_1];
    let first = handlers[vcpu].addr();
    core::array::from_fn(|n| TrapInfo {
        vector: n as u8,
        // Breakpoints may come from any code (INT3).
        flags: if n == 3 { 3 } else { 0 },
        cs: CODE_SELECTOR,
        reserved: 0,
        address: (first + n * VECTOR_STRIDE) as u64,
    })
}

/// Tells the hypervisor of a pv guest where the exceptions of the first vCPU go.
pub(crate) fn set_up_pv_handlers() -> Result<i64, Exception> {
    // An empty entry ends the list.
    let mut table = [TrapInfo::default(); VECTORS + 1];
    table[..VECTORS].copy_from_slice(&pv_handlers(0));
    pv_hypercall(
        0,
        hypercall::SET_TRAP_TABLE,
        &[(&raw const table).expose_provenance() as u64, 0, 0, 0, 0, 0],
    )
}

/// A hypercall of a pv guest.
///
/// # Errors
/// The exception that it raised.
pub(crate) fn pv_hypercall(vcpu: usize, number: u64, args: &[u64; 6]) -> Result<i64, Exception> {
    call(vcpu, agent_syscall as *const () as u64, number, args)
}

/// Calls the code at `target` with the number in rax and the arguments in rdi rsi rdx r10 r8 r9, on the vCPU that runs this.
///
/// # Errors
/// The exception that it raised.
pub(crate) fn call(vcpu: usize, target: u64, number: u64, args: &[u64; 6]) -> Result<i64, Exception> {
    let registers = [number, args[0], args[1], args[2], args[3], args[4], args[5]];
    let mut result = 0;
    // SAFETY: the assembly preserves what the ABI asks for, whatever the callee does to registers. What the callee does to
    // memory is the program's doing: it may hit anything that is mapped writable, this image's variables too. That cannot be
    // prevented from in here; it stays within the domain, and the next reset undoes it.
    let faulted = unsafe { GUARDED[vcpu](target, &raw const registers, &raw mut result) };
    if faulted == 0 { Ok(result) } else { Err(fault(vcpu)) }
}

fn fault(vcpu: usize) -> Exception {
    // SAFETY: the handler that wrote it has ended; nothing else refers to it.
    let [vector, error, rip, cr2] = unsafe { (*FAULT.get())[vcpu] };
    let address = if vector == 14 { cr2 } else { 0 };
    Exception { vector: vector as u8, error: error as u32, rip, address }
}

/// An exception outside a guarded call, on a vCPU below [`VCPUS`].
#[unsafe(no_mangle)]
extern "C" fn agent_fatal(vcpu: u32) -> ! {
    let vcpu = vcpu as usize;
    let e = fault(vcpu);
    runtime::die_of(vcpu, &e)
}
