//! What lies before every guest: from the PVH entry to 64-bit code, and what ends the domain behind it.

use super::between;

/// Where the code is loaded and starts.
const BASE: u32 = 0x10_0000;
/// Type of the note that names the entry point: `XEN_ELFNOTE_PHYS32_ENTRY` of Xen's `public/elfnote.h`.
const PHYS32_ENTRY: u32 = 18;

// The lowest 4 GiB are mapped to themselves, for user mode too. RBX: start info; R12: 1 MiB of zeroed memory; the stack ends at
// 0x80000. The guest begins at a multiple of 16 behind it and is called; if it returns, the domain powers off.
core::arch::global_asm!(
    ".pushsection .rodata.start, \"a\", @progbits",
    ".code32",
    ".balign 16",
    "machine_start:",
    "cld",
    "mov esp, 0x80000",
    "mov edi, 0x200000",
    "xor eax, eax",
    "mov ecx, 0x1800",
    "rep stosd",
    "mov dword ptr [0x200000], 0x201007",
    "mov dword ptr [0x201000], 0x202007",
    "mov dword ptr [0x201008], 0x203007",
    "mov dword ptr [0x201010], 0x204007",
    "mov dword ptr [0x201018], 0x205007",
    "mov edi, 0x202000",
    "mov eax, 0x87",
    "mov ecx, 2048",
    "2: mov [edi], eax",
    "add eax, 0x200000",
    "add edi, 8",
    "loop 2b",
    "mov eax, 0x200000",
    "mov cr3, eax",
    "mov eax, 0x620", // PAE, OSFXSR, OSXMMEXCPT
    "mov cr4, eax",
    "mov ecx, 0xc0000080",
    "rdmsr",
    "or eax, 0x100",
    "wrmsr",
    "mov eax, cr0",
    "or eax, 0x80000000",
    "mov cr0, eax",
    "lgdt [{BASE} + machine_gdtr - machine_start]",
    ".byte 0xea", // a far jump
    ".long {BASE} + machine_long - machine_start",
    ".word 8",
    ".code64",
    "machine_long:",
    "mov eax, 16",
    "mov ds, eax",
    "mov es, eax",
    "mov ss, eax",
    "mov ebx, ebx",
    "mov r12d, 0x300000",
    "lea rax, [rip + machine_end]",
    "call rax",
    "push 0", // SHUTDOWN_poweroff
    "mov rsi, rsp",
    "mov edi, 2", // SCHEDOP_shutdown
    "mov eax, 29", // sched_op
    "vmmcall",
    "ud2",
    ".balign 8",
    "machine_gdt:",
    ".quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff",
    "machine_gdtr:",
    ".word 23",
    ".long {BASE} + machine_gdt - machine_start",
    ".balign 16",
    "machine_end:",
    ".popsection",
    BASE = const BASE,
);

unsafe extern "C" {
    safe static machine_start: u8;
    safe static machine_end: u8;
}

/// The whole of the guest's memory image.
fn loaded(guest: &[u8]) -> Vec<u8> {
    // SAFETY: both labels are those of the section above, in this order.
    let start = unsafe { between(&raw const machine_start, &raw const machine_end) };
    [start, guest].concat()
}

/// The note that names the entry point.
fn note() -> Vec<u8> {
    [4, 4, PHYS32_ENTRY, u32::from_le_bytes(*b"Xen\0"), BASE]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

/// A guest, whose first byte is its 64-bit entry, as a 32-bit ELF image.
pub(crate) fn image_32(guest: &[u8]) -> Vec<u8> {
    const HEADERS: u32 = 52 + 2 * 32;
    let (code, note) = (loaded(guest), note());
    let (len, note_len) = (u32::try_from(code.len()).unwrap(), u32::try_from(note.len()).unwrap());
    let mut elf = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |elf: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| elf.extend(v.to_le_bytes()));
    let word = |elf: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| elf.extend(v.to_le_bytes()));
    half(&mut elf, &[2, 3]); // executable, i386
    word(&mut elf, &[1, BASE, 52, 0, 0]);
    half(&mut elf, &[52, 32, 2, 40, 0, 0]);
    word(&mut elf, &[1, HEADERS + note_len, BASE, BASE, len, len, 7, 1]); // PT_LOAD
    word(&mut elf, &[4, HEADERS, 0, 0, note_len, note_len, 4, 4]); // PT_NOTE
    [elf, note, code].concat()
}

/// The same as a 64-bit ELF image.
pub(crate) fn image_64(guest: &[u8]) -> Vec<u8> {
    const HEADERS: u64 = 64 + 2 * 56;
    let (code, note) = (loaded(guest), note());
    let (len, note_len) = (code.len() as u64, note.len() as u64);
    let base = u64::from(BASE);
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |elf: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| elf.extend(v.to_le_bytes()));
    let word = |elf: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| elf.extend(v.to_le_bytes()));
    let long = |elf: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|v| elf.extend(v.to_le_bytes()));
    half(&mut elf, &[2, 62]); // executable, x86-64
    word(&mut elf, &[1]);
    long(&mut elf, &[base, 64, 0]);
    word(&mut elf, &[0]);
    half(&mut elf, &[64, 56, 2, 64, 0, 0]);
    word(&mut elf, &[1, 7]); // PT_LOAD
    long(&mut elf, &[HEADERS + note_len, base, base, len, len, 1]);
    word(&mut elf, &[4, 4]); // PT_NOTE
    long(&mut elf, &[HEADERS, 0, 0, note_len, note_len, 4]);
    [elf, note, code].concat()
}
