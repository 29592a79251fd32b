//! Guests that misbehave, each in its own way. They are position-independent 64-bit code, and find memory to write to in R12.

use super::between;

/// A guest that misbehaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hostile {
    pub(crate) name: &'static str,
    pub(crate) code: &'static [u8],
}

/// Assembles each guest behind a label, and a table of where they begin and end.
macro_rules! guests {
    ($($name:ident: [$($line:literal),* $(,)?];)*) => {
        core::arch::global_asm!(
            ".pushsection .rodata.hostile, \"a\", @progbits",
            // Handlers for all vectors that go on R13 bytes behind the instruction. The table lies at R12.
            ".macro forgive",
            "jmp 33f",
            "31: add rsp, 8",
            "32: add [rsp], r13",
            "iretq",
            "33: mov r10d, cs",
            "shl r10, 16",
            "mov rdi, r12",
            "xor ecx, ecx",
            "34: lea rax, [rip + 32b]",
            "cmp ecx, 32",
            "jae 35f",
            "mov edx, 0x60227d00", // vectors with an error code
            "bt edx, ecx",
            "jnc 35f",
            "lea rax, [rip + 31b]",
            "35: movzx edx, ax",
            "or rdx, r10",
            "shr rax, 16",
            "shl rax, 48",
            "or rdx, rax",
            "mov rax, 0x8e0000000000",
            "or rdx, rax",
            "mov [rdi], rdx",
            "mov qword ptr [rdi + 8], 0",
            "add rdi, 16",
            "inc ecx",
            "cmp ecx, 256",
            "jb 34b",
            "mov word ptr [r12 + 0x1000], 0xfff",
            "mov [r12 + 0x1002], r12",
            "lidt [r12 + 0x1000]",
            ".endm",
            // An instruction after which the guest goes on, whatever it raises.
            ".macro attempt bytes:vararg",
            ".byte 0x41, 0xbd", // mov r13d, imm32
            ".long 37f - 36f",
            "36: .byte \\bytes",
            "37:",
            ".endm",
            // The next number of Marsaglia's xorshift in R15.
            ".macro random",
            "mov r11, r15",
            "shl r11, 13",
            "xor r15, r11",
            "mov r11, r15",
            "shr r11, 7",
            "xor r15, r11",
            "mov r11, r15",
            "shl r11, 17",
            "xor r15, r11",
            ".endm",
            // A page of random numbers at RDI.
            ".macro random_page",
            "mov ecx, 512",
            "38: random",
            "mov [rdi], r15",
            "add rdi, 8",
            "dec ecx",
            "jnz 38b",
            ".endm",
            // From here on 32-bit code without paging, with a task state segment.
            ".macro flat_mode",
            "lea rdi, [r12 + 0x6000]",
            "mov qword ptr [rdi], 0",
            "mov rax, 0x00cf9b000000ffff",
            "mov [rdi + 8], rax",
            "mov rax, 0x00cf93000000ffff",
            "mov [rdi + 16], rax",
            "mov rax, r12",
            "shl rax, 16",
            "mov rdx, 0x0000890070000067", // its base lies 0x7000 above R12
            "add rax, rdx",
            "mov [rdi + 24], rax",
            "mov rdx, 0x01000000", // the other task 0x100 above it
            "add rax, rdx",
            "mov [rdi + 32], rax",
            "mov word ptr [r12 + 0x6100], 39",
            "mov [r12 + 0x6102], rdi",
            "lgdt [r12 + 0x6100]",
            "mov ebp, r12d",
            "push 8",
            "lea rax, [rip + 39f]",
            "push rax",
            ".byte 0x48, 0xcb", // a far return
            ".code32",
            "39: mov eax, 16",
            "mov ds, eax",
            "mov es, eax",
            "mov ss, eax",
            "mov eax, cr0",
            "and eax, 0x7fffffff",
            "mov cr0, eax",
            "mov ecx, 0xc0000080",
            "rdmsr",
            "and eax, 0xfffffeff",
            "wrmsr",
            ".endm",
            // An exception is the last one: 32-bit code without any handler.
            ".macro no_handlers",
            "mov dword ptr [ebp], 0",
            "mov dword ptr [ebp + 4], 0",
            "lidt [ebp]",
            ".endm",
            "hostile_code:",
            $(
                concat!("hostile_", stringify!($name), ":"),
                $($line,)*
                ".code64",
                concat!("hostile_", stringify!($name), "_end:"),
            )*
            ".balign 4",
            "hostile_table:",
            $(
                concat!(".long hostile_", stringify!($name), " - hostile_code"),
                concat!(".long hostile_", stringify!($name), "_end - hostile_code"),
            )*
            "hostile_table_end:",
            ".popsection",
        );
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

guests! {
    endless_loop: ["2: jmp 2b"];
    exits_without_end: ["2: cpuid", "jmp 2b"];
    triple_fault: ["push 0", "push 0", "lidt [rsp]", "ud2"];
    every_msr: [
        "forgive", "mov r13d, 2", "lea rbx, [rip + 7f]",
        "6: mov ecx, [rbx]", "mov esi, [rbx + 4]", "test esi, esi", "jz 8f",
        "2: rdmsr", "wrmsr", "mov eax, -1", "mov edx, eax", "wrmsr", "inc ecx", "dec esi", "jnz 2b",
        "add rbx, 8", "jmp 6b",
        "7: .long 0x40000000, 0x300, 0, 0x800, 0xc0000080, 0x100, 0xc0010000, 0x300, 0xfffffff0, 16, 0, 0x2000",
        ".long 0xc0000000, 0x2000, 0xc0010000, 0x2000, 0, 0",
        "8: ret",
    ];
    every_port: [
        "forgive", "mov r13d, 1", "xor edx, edx",
        "2: in al, dx", "out dx, al", "inc edx", "test dl, dl", "jnz 3f",
        "in eax, dx", "out dx, eax", "lea rdi, [r12 + 0x2000]", "mov rsi, rdi", "insb", "outsb",
        "mov ecx, 100000", "mov r13d, 2", "rep outsb", "mov r13d, 1",
        "3: cmp edx, 0x10000", "jb 2b", "ret",
    ];
    random_hypercalls: [
        "mov r15, 0x9e3779b97f4a7c15", "lea rdi, [r12 + 0x3000]", "random_page",
        "lea rdi, [r12 + 0x3000]", "mov ecx, 256", "3: and qword ptr [rdi], 0xff", "add rdi, 16", "dec ecx", "jnz 3b",
        "mov r14d, 4000",
        "2: random", "mov rdi, r15", "shr rdi, 59", "random", "mov rsi, r15", "random", "mov rdx, r15",
        "bt r15, 3", "jc 3f", "lea rsi, [r12 + 0x3000]", "and edx, 0xff",
        "3: random", "mov r10, r15", "random", "mov r8, r15", "mov r9, r15", "random", "mov rax, r15", "shr rax, 58",
        "vmmcall", "dec r14d", "jnz 2b", "ret",
    ];
    nested_svm: [
        "forgive", "xor ebx, ebx",
        "2: mov rax, rbx", "attempt 0x0f, 0x01, 0xd8", "attempt 0x0f, 0x01, 0xda", "attempt 0x0f, 0x01, 0xdb",
        "attempt 0x0f, 0x01, 0xdc", "attempt 0x0f, 0x01, 0xdd", "attempt 0x0f, 0x01, 0xde", "attempt 0x0f, 0x01, 0xdf",
        "attempt 0x66, 0x0f, 0x01, 0xd8",
        "lea rax, [r12 + 0x4000]", "cmp rbx, rax", "mov rbx, rax", "jne 2b", "ret",
    ];
    control_registers: [
        "forgive", "mov r8, cr4", "xor r9d, r9d",
        "2: mov rax, r8", "btc rax, r9", "attempt 0x0f, 0x22, 0xe0", "cpuid",
        "mov rax, r8", "attempt 0x0f, 0x22, 0xe0", "inc r9d", "cmp r9d, 64", "jb 2b",
        "mov eax, 15", "attempt 0x44, 0x0f, 0x22, 0xc0", "mov rax, -1", "attempt 0x44, 0x0f, 0x22, 0xc0",
        "mov cr2, rax", "cpuid",
        "mov r8, cr0", "xor r9d, r9d",
        "2: mov rax, r8", "btc rax, r9", "attempt 0x0f, 0x22, 0xc0", "cpuid",
        "mov rax, r8", "attempt 0x0f, 0x22, 0xc0", "inc r9d", "cmp r9d, 64", "jb 2b",
        "mov rax, -1", "attempt 0x0f, 0x22, 0xd8", "cpuid", "ret",
    ];
    debug_registers: [
        "forgive", "lea rax, [rip + 2f]", "mov r8, rax",
        "attempt 0x0f, 0x23, 0xc0", "attempt 0x0f, 0x23, 0xc8", "attempt 0x41, 0x0f, 0x23, 0xd0", "attempt 0x66, 0x41, 0x0f, 0x23, 0xd8",
        "attempt 0x0f, 0x23, 0xe0", "attempt 0x0f, 0x23, 0xe8", "mov eax, 0xffffffff", "attempt 0x0f, 0x23, 0xf0",
        "attempt 0x0f, 0x23, 0xf8", "mov rax, -1", "attempt 0x0f, 0x23, 0xf8",
        "2: nop", "mov rax, dr7", "mov eax, 17", "xor edi, edi", "vmmcall", "ret",
    ];
    endless_strings: [
        "forgive", "mov r13d, 2", "mov rcx, -1", "mov rdi, r12", "lea rsi, [r12 + 64]", "add rdi, 0x2000", "add rsi, 0x2000",
        "rep movsb", "mov rcx, -1", "mov rdi, r12", "repne scasb", "mov rcx, -1", "mov rsi, r12", "rep lodsb",
        "std", "mov rcx, -1", "mov rdi, r12", "rep stosb", "ret",
    ];
    places_without_memory: [
        "forgive", "lea rbx, [rip + 7f]", "mov r13d, 3",
        "2: mov rcx, [rbx]", "test rcx, rcx", "jz 3f", "mov rax, [rcx]", "mov [rcx], rax", "add rbx, 8", "jmp 2b",
        "7: .quad 0xfee00000, 0xfee000b0, 0xfee00300, 0xfec00000, 0xfec00010, 0xfed00000, 0xb8000, 0xf0000, 0xfffffff8",
        ".quad 0x3ffffff8, 0x40000000, 0x30000000, 0x10000000, 0x1001fff8, 0x7fffffffffff, 0x800000000000, -8, 0",
        "3: ret",
    ];
    far_jumps: [
        "forgive", "lea rbx, [r12 + 0x5000]", "lea rax, [rip + 3f]", "mov [rbx], rax", "mov r13d, 2", "xor ecx, ecx",
        "2: mov [rbx + 4], cx", ".byte 0xff, 0x2b",
        "3: .byte 0x8e, 0xd9", ".byte 0x8e, 0xd1", "mov r13d, 3", ".byte 0x0f, 0x00, 0xd1", "mov r13d, 2",
        "add ecx, 36", "cmp ecx, 0x10000", "jb 2b",
        "mov qword ptr [r12], 0", "mov qword ptr [r12 + 8], 0", "lidt [r12]", "push -1", "push -1", "push -1", "push -1", "push -1", "iretq", ".byte 0x48, 0xcb", "ret",
    ];
    every_interrupt: [
        "forgive", "xor ecx, ecx", "xor r13d, r13d",
        "2: mov [rip + 3f], cl", ".byte 0xcd", "3: .byte 0", "inc ecx", "cmp ecx, 256", "jb 2b",
        "int3", "mov r13d, 1", ".byte 0xf1", ".byte 0xce", "ret",
    ];
    task_switch: [
        "flat_mode",
        "mov edi, ebp", "mov ecx, 256", "2: mov dword ptr [edi], 0x00200000", "mov dword ptr [edi + 4], 0x00008500",
        "add edi, 8", "loop 2b",
        "mov word ptr [ebp + 0x1000], 0x7ff", "mov [ebp + 0x1002], ebp", "lidt [ebp + 0x1000]",
        "mov eax, 24", "ltr ax", ".byte 0xea", ".long 0", ".word 32", "int 3", "ud2",
    ];
    real_mode: [
        "flat_mode", "no_handlers",
        "mov eax, cr0", "and eax, 0xfffffffe", "mov cr0, eax", "mov eax, 17", "xor ebx, ebx", "vmmcall", "cpuid",
        "mov ecx, 0x10", "rdmsr", "wbinvd", "mov eax, cr4", "mov cr4, eax", "int 0x10", "sti", "hlt",
    ];
    virtual_8086: [
        "flat_mode", "no_handlers",
        // At 0x500: CPUID, VMMCALL, INT 10, HLT.
        "mov dword ptr [0x500], 0x010fa20f", "mov dword ptr [0x504], 0xf410cdd9",
        "push 0", "push 0", "push 0", "push 0", "push 0", "push 0x1000", "push 0x23202", "push 0", "push 0x500", "iretd",
    ];
    prefixes: [
        "forgive", "mov ebp, 2",
        "2: mov eax, 17", "xor edi, edi", "attempt 0x66, 0x0f, 0x01, 0xd9", "mov eax, 17", "attempt 0xf2, 0x2e, 0x4f, 0x0f, 0x01, 0xd9",
        "mov eax, 17", "attempt 0xf3, 0x0f, 0x01, 0xd9", "mov eax, 17", "attempt 0xf0, 0x0f, 0x01, 0xd9",
        "xor eax, eax", "attempt 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x0f, 0xa2",
        "xor eax, eax", "attempt 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x0f, 0xa2",
        "mov ecx, 0x10", "attempt 0x48, 0x0f, 0x32", "attempt 0x65, 0x67, 0x0f, 0x30", "attempt 0xf3, 0x0f, 0x09", "attempt 0x26, 0x0f, 0x08",
        "dec ebp", "jnz 2b", "ret",
    ];
    odd_instructions: [
        "forgive", "xor ecx, ecx", "attempt 0x0f, 0x31", "attempt 0x0f, 0x01, 0xf9", "attempt 0x0f, 0x33", "mov rax, r12",
        "attempt 0x0f, 0x01, 0xc8", "attempt 0x0f, 0x01, 0xc9", "attempt 0x0f, 0x01, 0xd1", "attempt 0x0f, 0x01, 0xd0",
        "attempt 0x0f, 0xaa", "attempt 0x0f, 0x08", "attempt 0x0f, 0x09", "attempt 0x0f, 0x01, 0xf8", "attempt 0x0f, 0x01, 0xf8",
        "attempt 0x0f, 0x37", "attempt 0x0f, 0x06", "attempt 0x0f, 0x01, 0xe0", "attempt 0x0f, 0xb9, 0xc0",
        "attempt 0xf0, 0x0f, 0xc7, 0xc8", "attempt 0x0f, 0x01, 0xc1", "attempt 0x0f, 0x01, 0xc2", "attempt 0x0f, 0x01, 0xc4",
        "attempt 0x0f, 0x01, 0xca", "attempt 0xf3, 0x90", "attempt 0x0f, 0x01, 0x38", "attempt 0x0f, 0x01, 0xd9",
        "xor esi, esi", "2: mov eax, esi", "cpuid", "lea eax, [rsi + 0x40000000]", "cpuid", "lea eax, [rsi - 0x80000000]", "cpuid",
        "lea eax, [rsi - 32]", "cpuid", "inc esi", "cmp esi, 64", "jb 2b", "sti", "hlt", "ret",
    ];
    self_modifying: [
        "mov r14d, 60",
        "2: mov dword ptr [rip + 3f], 0x90d9010f", "call 4f", "mov dword ptr [rip + 3f], 0xd9010f66", "call 4f",
        "mov dword ptr [rip + 3f], 0x90909090", "call 4f", "mov dword ptr [rip + 3f], 0x9090a20f", "call 4f", "dec r14d", "jnz 2b",
        "lea rsi, [rip + 5f]", "lea rdi, [r12 + 0x4000]", "mov ecx, 64", "rep movsb", "lea rax, [r12 + 0x4000]", "mov r14d, 500", "jmp rax",
        "4: mov eax, 17", "xor edi, edi", "3: nop", "nop", "nop", "nop", "ret",
        "5: lea rsi, [rip + 5b]", "lea rdi, [rsi + 64]", "mov rax, rdi", "mov ecx, 64", "rep movsb", "dec r14d", "jz 6f", "jmp rax", "6: ret",
    ];
    random_code: [
        "mov r15, 0x2545f4914f6cdd1d", "lea rdi, [r12 + 0x8000]", "random_page", "lea rax, [r12 + 0x8000]",
        "jmp rax",
    ];
    other_random_code: [
        "mov r15, 0x123456789abcdef1", "lea rdi, [r12 + 0x8000]", "random_page", "lea rax, [r12 + 0x8000]",
        "jmp rax",
    ];
    random_page_tables: [
        "mov r15, 0x2545f4914f6cdd1d", "lea rdi, [r12 + 0x8000]", "random_page", "lea rdi, [r12 + 0x8000]", "mov ecx, 512",
        "2: or qword ptr [rdi], 7", "add rdi, 8", "dec ecx", "jnz 2b", "lea rax, [r12 + 0x8000]", "mov cr3, rax", "cpuid", "ret",
    ];
    page_tables_of_themselves: [
        "lea rdi, [r12 + 0x8000]", "mov ecx, 512", "lea rax, [rdi + 7]", "2: mov [rdi], rax", "add rdi, 8", "dec ecx", "jnz 2b",
        "lea rax, [r12 + 0x8000]", "mov cr3, rax", "cpuid", "ret",
    ];
    page_tables_nowhere: ["mov eax, 0x3f000000", "mov cr3, rax", "cpuid", "ret"];
    exceptions_nowhere: [
        "mov word ptr [r12], 0xfff", "mov qword ptr [r12 + 2], 0x30000000", "lidt [r12]", "ud2",
    ];
    exceptions_for_ever: [
        // No page is mapped where the handlers are said to be, and the stack is the same each time.
        "lea rdi, [r12 + 0x6000]", "mov qword ptr [rdi], 0", "mov rax, 0x00af9b000000ffff", "mov [rdi + 8], rax",
        "mov rax, 0x00cf93000000ffff", "mov [rdi + 16], rax", "mov rax, r12", "shl rax, 16", "mov rdx, 0x0000890070000067", "add rax, rdx",
        "mov [rdi + 24], rax", "mov qword ptr [rdi + 32], 0", "mov word ptr [r12 + 0x6100], 39", "mov [r12 + 0x6102], rdi", "lgdt [r12 + 0x6100]",
        "lea rax, [r12 + 0x9000]", "mov [r12 + 0x7024], rax", "mov eax, 24", "ltr ax",
        "mov rdi, r12", "mov rax, 0x8e0100080000", "mov ecx, 256",
        "2: mov [rdi], rax", "mov qword ptr [rdi + 8], 0x4000", "add rdi, 16", "dec ecx", "jnz 2b",
        "mov word ptr [r12 + 0x1000], 0xfff", "mov [r12 + 0x1002], r12", "lidt [r12 + 0x1000]", "ud2",
    ];
    stack_nowhere: [
        "forgive", "mov r13d, 1", "mov rax, 0x30000000", "mov rsp, rax", "push rax", "mov rax, 0x8000000000000000", "mov rsp, rax", "push rax",
        "ud2",
    ];
    strange_flags: [
        "forgive", "xor r13d, r13d", "push 0x7fffffff", "popfq", "nop", "mov eax, 17", "xor edi, edi", "vmmcall", "cpuid",
        "pushfq", "and qword ptr [rsp], 0xfffffffffffffeff", "popfq", "ret",
    ];
    system_calls: [
        "forgive", "mov ecx, 0xc0000080", "rdmsr", "or eax, 1", "wrmsr", "mov ecx, 0xc0000082", "mov edx, 0x80000000", "xor eax, eax", "attempt 0x0f, 0x30",
        "mov ecx, 0xc0000081", "mov edx, -1", "mov eax, -1", "attempt 0x0f, 0x30", "attempt 0x0f, 0x05", "attempt 0x0f, 0x34",
        "mov rcx, 0x8000000000000000", "mov r11, -1", "attempt 0x48, 0x0f, 0x07", "attempt 0x0f, 0x35", "ret",
    ];
    user_mode: [
        // Without handlers: one whose page user mode may not read would raise exceptions for ever, in no instruction at all.
        "mov qword ptr [r12], 0", "mov qword ptr [r12 + 8], 0", "lidt [r12]",
        "lea rdi, [r12 + 0x6000]", "mov qword ptr [rdi], 0", "mov rax, 0x00affb000000ffff", "mov [rdi + 8], rax",
        "mov rax, 0x00cff3000000ffff", "mov [rdi + 16], rax", "mov word ptr [r12 + 0x6100], 23", "mov [r12 + 0x6102], rdi", "lgdt [r12 + 0x6100]",
        "push 19", "lea rax, [r12 + 0x9000]", "push rax", "push 0x202", "push 11", "lea rax, [rip + 2f]", "push rax", "iretq",
        "2: mov eax, 17", "xor edi, edi", "vmmcall", "cpuid", "syscall", "hlt",
    ];
    memory_given_away: [
        "mov ebx, 0x3ff", "lea rsi, [r12 + 0x3000]", "lea rax, [rsi + 64]", "mov [rsi], rax", "mov qword ptr [rsi + 8], 1",
        "mov qword ptr [rsi + 16], 0", "mov qword ptr [rsi + 24], 0x7ff0",
        "2: mov [rsi + 64], rbx", "mov edi, 1", "mov eax, 12", "vmmcall", "dec ebx", "jns 2b", "ret",
    ];
}

unsafe extern "C" {
    safe static hostile_code: u8;
    safe static hostile_table: u8;
    safe static hostile_table_end: u8;
}

/// All of them.
pub(crate) fn all() -> Vec<Hostile> {
    // SAFETY: all three labels are those of the section above, in this order.
    let (code, table) = unsafe {
        (
            between(&raw const hostile_code, &raw const hostile_table),
            between(&raw const hostile_table, &raw const hostile_table_end),
        )
    };
    let offset = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap()) as usize;
    let guests = NAMES.iter().zip(table.chunks_exact(8));
    guests
        .map(|(name, entry)| Hostile { name, code: &code[offset(&entry[..4])..offset(&entry[4..])] })
        .collect()
}
