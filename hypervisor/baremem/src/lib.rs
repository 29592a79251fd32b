//! `memcpy` and its kin for the images.
//!
//! An emulator that translates code executes each step of a repeated string instruction as a block of its own, and compilers call
//! these functions for every few bytes. So here short copies are a few moves that overlap in the middle, and long ones
//! are moves of 64 bytes a turn. No SSE: the images have none, or must not touch a guest's.
//!
//! The names are the C library's, and binaries that have one must not link this crate.
#![cfg_attr(not(test), no_std)]
#![expect(unsafe_code, reason = "symbols that compiled code calls, in assembly")]

use core::arch::naked_asm;

/// Copies `len` bytes; the ranges may overlap.
///
/// # Safety
/// `from` is readable and `to` is writable for `len` bytes.
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "cmp rdx, 16",
        "ja 4f",
        "cmp edx, 8",
        "jae 3f",
        "cmp edx, 4",
        "jae 2f",
        "test edx, edx",
        "je 1f",
        // 1 to 3: first, middle, last.
        "mov ecx, edx",
        "shr ecx, 1",
        "movzx r8d, byte ptr [rsi]",
        "movzx r9d, byte ptr [rsi + rcx]",
        "movzx r10d, byte ptr [rsi + rdx - 1]",
        "mov [rdi], r8b",
        "mov [rdi + rcx], r9b",
        "mov [rdi + rdx - 1], r10b",
        "1:",
        "ret",
        "2:",
        "mov ecx, [rsi]",
        "mov r8d, [rsi + rdx - 4]",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], r8d",
        "ret",
        "3:",
        "mov rcx, [rsi]",
        "mov r8, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], r8",
        "ret",
        "4:",
        "cmp rdx, 32",
        "ja 5f",
        "mov rcx, [rsi]",
        "mov r8, [rsi + 8]",
        "mov r9, [rsi + rdx - 16]",
        "mov r10, [rsi + rdx - 8]",
        "mov [rdi], rcx",
        "mov [rdi + 8], r8",
        "mov [rdi + rdx - 16], r9",
        "mov [rdi + rdx - 8], r10",
        "ret",
        // Backwards where the destination begins inside the source.
        "5:",
        "mov rcx, rdi",
        "sub rcx, rsi",
        "cmp rcx, rdx",
        "jb 8f",
        // The last 16 bytes are read before anything is written over them.
        "mov r8, [rsi + rdx - 16]",
        "mov r9, [rsi + rdx - 8]",
        "lea r10, [rdi + rdx - 16]",
        "sub rdx, 64",
        "jb 7f",
        "6:",
        "mov rcx, [rsi]",
        "mov r11, [rsi + 8]",
        "mov [rdi], rcx",
        "mov [rdi + 8], r11",
        "mov rcx, [rsi + 16]",
        "mov r11, [rsi + 24]",
        "mov [rdi + 16], rcx",
        "mov [rdi + 24], r11",
        "mov rcx, [rsi + 32]",
        "mov r11, [rsi + 40]",
        "mov [rdi + 32], rcx",
        "mov [rdi + 40], r11",
        "mov rcx, [rsi + 48]",
        "mov r11, [rsi + 56]",
        "mov [rdi + 48], rcx",
        "mov [rdi + 56], r11",
        "add rsi, 64",
        "add rdi, 64",
        "sub rdx, 64",
        "jae 6b",
        "7:",
        "add rdx, 48",
        "js 2f",
        "3:",
        "mov rcx, [rsi]",
        "mov r11, [rsi + 8]",
        "mov [rdi], rcx",
        "mov [rdi + 8], r11",
        "add rsi, 16",
        "add rdi, 16",
        "sub rdx, 16",
        "jns 3b",
        "2:",
        "mov [r10], r8",
        "mov [r10 + 8], r9",
        "ret",
        // The same from the end, with the first 16 bytes put aside.
        "8:",
        "mov r8, [rsi]",
        "mov r9, [rsi + 8]",
        "3:",
        "mov rcx, [rsi + rdx - 8]",
        "mov r11, [rsi + rdx - 16]",
        "mov [rdi + rdx - 8], rcx",
        "mov [rdi + rdx - 16], r11",
        "sub rdx, 16",
        "cmp rdx, 16",
        "ja 3b",
        "mov [rax], r8",
        "mov [rax + 8], r9",
        "ret",
    )
}

/// Copies `len` bytes.
///
/// # Safety
/// As for [`memmove`].
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    naked_asm!("jmp {0}", sym memmove)
}

/// Fills `len` bytes with the low byte of `byte`.
///
/// # Safety
/// `to` is writable for `len` bytes.
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    naked_asm!(
        "mov rax, rdi",
        "movzx esi, sil",
        "movabs rcx, 0x0101010101010101",
        "imul rcx, rsi",
        "cmp rdx, 16",
        "ja 4f",
        "cmp edx, 8",
        "jae 3f",
        "cmp edx, 4",
        "jae 2f",
        "test edx, edx",
        "je 1f",
        "mov esi, edx",
        "shr esi, 1",
        "mov [rdi], cl",
        "mov [rdi + rsi], cl",
        "mov [rdi + rdx - 1], cl",
        "1:",
        "ret",
        "2:",
        "mov [rdi], ecx",
        "mov [rdi + rdx - 4], ecx",
        "ret",
        "3:",
        "mov [rdi], rcx",
        "mov [rdi + rdx - 8], rcx",
        "ret",
        "4:",
        // The end first; what is left before it is a multiple of 16 for the loops, or they overlap it.
        "mov [rdi + rdx - 16], rcx",
        "mov [rdi + rdx - 8], rcx",
        "sub rdx, 64",
        "jb 6f",
        "5:",
        "mov [rdi], rcx",
        "mov [rdi + 8], rcx",
        "mov [rdi + 16], rcx",
        "mov [rdi + 24], rcx",
        "mov [rdi + 32], rcx",
        "mov [rdi + 40], rcx",
        "mov [rdi + 48], rcx",
        "mov [rdi + 56], rcx",
        "add rdi, 64",
        "sub rdx, 64",
        "jae 5b",
        "6:",
        "add rdx, 48",
        "js 8f",
        "7:",
        "mov [rdi], rcx",
        "mov [rdi + 8], rcx",
        "add rdi, 16",
        "sub rdx, 16",
        "jns 7b",
        "8:",
        "ret",
    )
}

/// Compares `len` bytes: zero if they are equal, else the sign says which is less at the first difference.
///
/// # Safety
/// Both are readable for `len` bytes.
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    naked_asm!(
        "sub rdx, 8",
        "jb 3f",
        "2:",
        "mov rax, [rdi]",
        "mov rcx, [rsi]",
        "cmp rax, rcx",
        "jne 5f",
        "add rdi, 8",
        "add rsi, 8",
        "sub rdx, 8",
        "jae 2b",
        "3:",
        "add rdx, 8",
        "je 6f",
        "4:",
        "movzx eax, byte ptr [rdi]",
        "movzx ecx, byte ptr [rsi]",
        "sub eax, ecx",
        "jne 7f",
        "inc rdi",
        "inc rsi",
        "dec rdx",
        "jne 4b",
        "6:",
        "xor eax, eax",
        "ret",
        "5:",
        "bswap rax",
        "bswap rcx",
        "cmp rax, rcx",
        "sbb eax, eax",
        "or eax, 1",
        "7:",
        "ret",
    )
}

/// [`memcmp`] for those who do not ask which is less.
///
/// # Safety
/// As for [`memcmp`].
#[unsafe(naked)]
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, len: usize) -> i32 {
    naked_asm!("jmp {0}", sym memcmp)
}

#[cfg(test)]
mod tests {
    /// Lengths around every boundary, at all alignments, forwards and backwards.
    #[test]
    fn copies_like_a_slice() {
        let original: Vec<u8> = (0..=255u8).cycle().take(700).collect();
        for len in (0..150).chain([255, 256, 257, 400]) {
            for (from, to) in [
                (0, 300),
                (300, 0),
                (10, 11),
                (11, 10),
                (10, 17),
                (17, 10),
                (5, 30),
                (30, 5),
                (9, 60),
                (60, 9),
                (9, 9),
            ] {
                if from + len > 700 || to + len > 700 {
                    continue;
                }
                let (mut ours, mut theirs) = (original.clone(), original.clone());
                theirs.copy_within(from..from + len, to);
                let start = ours.as_mut_ptr();
                // SAFETY: both ranges lie in the vector.
                let answer = unsafe { super::memmove(start.add(to), start.add(from), len) };
                assert_eq!(answer, start.wrapping_add(to));
                assert_eq!(ours, theirs, "{len} bytes from {from} to {to}");
            }
        }
    }

    #[test]
    fn fills_like_a_slice() {
        for len in (0..150).chain([255, 256, 257, 400]) {
            let (mut ours, mut theirs) = (vec![1u8; 500], vec![1u8; 500]);
            theirs[7..7 + len].fill(0xab);
            // SAFETY: the range lies in the vector.
            unsafe { super::memset(ours.as_mut_ptr().add(7), 0x1ab, len) };
            assert_eq!(ours, theirs, "{len} bytes");
        }
    }

    #[test]
    fn compares_like_a_slice() {
        let base: Vec<u8> = (0..100).map(|n| n * 2 + 1).collect();
        for len in 0..100 {
            // SAFETY: both are vectors of 100 bytes.
            assert_eq!(unsafe { super::memcmp(base.as_ptr(), base.clone().as_ptr(), len) }, 0);
            for at in 0..len {
                for change in [-1i8, 1] {
                    let mut other = base.clone();
                    other[at] = other[at].wrapping_add_signed(change);
                    // SAFETY: as above.
                    let answer = unsafe { super::memcmp(base.as_ptr(), other.as_ptr(), len) };
                    assert_eq!(answer.signum(), base[..len].cmp(&other[..len]) as i32, "{len} bytes, {at}");
                }
            }
        }
    }
}
