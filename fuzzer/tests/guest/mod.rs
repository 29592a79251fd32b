//! A guest of two hundred bytes, started by PVH, that ends in whichever way the first byte of its request says.
//!
//! Before that it dirties memory and checks that all of it was as at the snapshot: had a reset forgotten something,
//! counter [`SPOILT`] would be set.
#![expect(unsafe_code, reason = "its code is assembled into the test and copied from there")]

use coverage_hypercall::harness::Marker;

/// What the first byte of a request asks for.
pub(crate) const DONE: u8 = 0;
pub(crate) const CRASH: u8 = 1;
pub(crate) const IDLE: u8 = 2;
pub(crate) const TRIPLE_FAULT: u8 = 3;
pub(crate) const SPIN: u8 = 4;
pub(crate) const HALT: u8 = 5;
/// Programs the interrupt controller, and stores what its mask was in counter 200.
pub(crate) const PORT: u8 = 6;
/// Changes its own code, and stores what the code then does in counter [`PATCHED`].
pub(crate) const PATCH: u8 = 7;
/// Arms a debug register.
pub(crate) const BREAKPOINT: u8 = 8;
/// Stores the time-stamp counter in counters.
pub(crate) const CLOCK: u8 = 9;
/// Waits for nobody, with a hundred PAUSEs.
pub(crate) const WAIT: u8 = 10;
/// How many of these there are.
pub(crate) const REQUESTS: u8 = 11;

/// Edge counters.
pub(crate) const COUNTERS: usize = 256;
/// Counter that is set where memory was not as at the snapshot.
pub(crate) const SPOILT: usize = 255;
/// See [`PATCH`].
pub(crate) const PATCHED: usize = 201;

/// Where the code is loaded and starts.
const BASE: u32 = 0x10_0000;
/// Type of the note that names the entry point: `XEN_ELFNOTE_PHYS32_ENTRY` of Xen's `public/elfnote.h`.
const PHYS32_ENTRY: u32 = 18;

core::arch::global_asm!(
    ".pushsection .rodata.guest, \"a\", @progbits",
    ".code32",
    ".balign 16",
    "guest_start:",
    "cld",
    "lidt 0x620100", // zeros: no descriptor, so that any exception ends in a triple fault
    "movl $0x700000, %esp",
    "movl $0x435a4648, 0x400000", // magic of the channel
    "movl $0x314e4148, 0x400004",
    "movl $64, 0x501008",    // entries of the comparison log
    "movl $0x100, 0x504008", // bytes of the console
    "movl $({BASE} + guest_beacon - guest_start), %edi",
    "jmp 1f",
    "1: .byte 0x0f, 0x1f, 0x80, {READY}, 'Z', 'F', 'H', 0x90",
    "jmp 2f",
    "2:",
    "movzbl 0x401008, %ebx", // first byte of the request
    "incl 0x620000",
    "cmpl $1, 0x620000",
    "jne 8f",
    "incb 0x500000(%ebx)",
    "movl $24, %ecx",
    "movl $0x600000, %esi",
    "2: incl (%esi)",
    "cmpl $1, (%esi)",
    "jne 8f",
    "addl $4096, %esi",
    "loop 2b",
    "cmpl $1, %ebx",
    "je guest_crash",
    "cmpl $2, %ebx",
    "je guest_idle",
    "cmpl $3, %ebx",
    "je guest_fault",
    "cmpl $4, %ebx",
    "je guest_spin",
    "cmpl $5, %ebx",
    "je guest_halt",
    "cmpl $6, %ebx",
    "je guest_port",
    "cmpl $7, %ebx",
    "je guest_patch",
    "cmpl $8, %ebx",
    "je guest_breakpoint",
    "cmpl $9, %ebx",
    "je guest_clock",
    "cmpl $10, %ebx",
    "je guest_wait",
    "jmp 9f",
    "8: incb 0x5000ff",
    "9: .byte 0x0f, 0x1f, 0x80, {DONE}, 'Z', 'F', 'H', 0x90",
    "jmp 9b",
    "guest_crash:",
    "movl $0x435a4648, 0x503000", // magic of the crash record
    "movl $0x48534152, 0x503004",
    "movl $1, 0x503008",
    "movl $1, 0x50300c",
    ".byte 0x0f, 0x1f, 0x80, {CRASH}, 'Z', 'F', 'H', 0x90",
    "guest_idle:",
    ".byte 0x0f, 0x1f, 0x80, {IDLE}, 'Z', 'F', 'H', 0x90",
    "guest_fault: ud2",
    "guest_spin: incl 0x610000",
    "jmp guest_spin",
    "guest_halt: cli",
    "hlt",
    "jmp 8b",
    "guest_port: movl $0x21, %edx",
    "inb %dx, %al",
    "movb %al, 0x5000c8",
    "incb %al",
    "outb %al, %dx",
    "jmp 9b",
    "guest_patch: movb $7, {BASE} + guest_patched - guest_start + 1",
    "jmp guest_patched",
    "guest_patched: movb $3, %al",
    "movb %al, 0x5000c9",
    "jmp 9b",
    "guest_breakpoint: movl $0x600000, %eax",
    "movl %eax, %dr0",
    "movl $0x000d0402, %eax",
    "movl %eax, %dr7",
    "jmp 9b",
    "guest_clock: rdtsc",
    "movl %eax, 0x5000d0",
    "movl %edx, 0x5000d4",
    "jmp 9b",
    "guest_wait: movl $100, %ecx",
    "1: pause",
    "loop 1b",
    "jmp 9b",
    "guest_code_end:",
    ".balign 8",
    "guest_beacon:",
    ".ascii \"HFZBEACN\"",
    ".long 1, 1",
    ".quad 0x400000, 0x21000",  // channel
    ".quad 0x500000, 256",      // counters
    ".quad 0x501000, 16 + 2048", // comparisons
    ".quad 0x503000, 720",      // crash record
    ".quad 0x504000, 16 + 256", // console
    ".quad 0, 0",               // canaries
    ".quad {BASE}, guest_code_end - guest_start",
    ".fill 32, 1, 0x5a",
    "guest_end:",
    ".code64",
    ".popsection",
    BASE = const BASE,
    READY = const Marker::Ready as u8,
    DONE = const Marker::Done as u8,
    CRASH = const Marker::Crash as u8,
    IDLE = const Marker::Idle as u8,
    options(att_syntax)
);

unsafe extern "C" {
    safe static guest_start: u8;
    safe static guest_end: u8;
}

/// The guest's code.
fn code() -> &'static [u8] {
    let (start, end) = (&raw const guest_start, &raw const guest_end);
    // SAFETY: both labels lie in one section of the test's own image, the first before the second.
    unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) }
}

/// The guest as a 32-bit ELF image with a PVH note.
pub(crate) fn image() -> Vec<u8> {
    const HEADERS: u32 = 52 + 2 * 32;
    const NOTE: u32 = 20;
    let code = code();
    let len = u32::try_from(code.len()).unwrap();
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |elf: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| elf.extend(v.to_le_bytes()));
    let word = |elf: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| elf.extend(v.to_le_bytes()));
    half(&mut elf, &[2, 3]); // executable, i386
    word(&mut elf, &[1, BASE, 52, 0, 0]);
    half(&mut elf, &[52, 32, 2, 40, 0, 0]);
    word(&mut elf, &[1, HEADERS + NOTE, BASE, BASE, len, len, 7, 1]); // PT_LOAD
    word(&mut elf, &[4, HEADERS, 0, 0, NOTE, NOTE, 4, 4]); // PT_NOTE
    word(&mut elf, &[4, 4, PHYS32_ENTRY, u32::from_le_bytes(*b"Xen\0"), BASE]);
    elf.extend_from_slice(code);
    elf
}
