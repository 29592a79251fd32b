//! What the host's target expects of a C library, for images that are built for it.
#![expect(unsafe_code, reason = "symbols that compiled code calls")]

use core::arch::naked_asm;

/// Named by the unwind tables of the precompiled core; nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// Named by the clean-up paths of the precompiled alloc; nothing unwinds, so nobody gets here.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    panic!("unwinding in an image that cannot")
}

#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn strlen(_text: *const u8) -> usize {
    naked_asm!("xor eax, eax", "2:", "cmp byte ptr [rdi + rax], 0", "je 3f", "inc rax", "jmp 2b", "3:", "ret",)
}
