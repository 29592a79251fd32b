//! The callbacks. Each is a stub that returns at once while recording is off; the stubs differ in the width they
//! pass on, so that the linker cannot fold them.
#![expect(unsafe_code, reason = "symbols that instrumented code calls, in assembly")]

use core::arch::naked_asm;

use coverage_hypercall::harness::CmpEntry;

use crate::log::{self, LOG};

/// Where a stub goes on while recording is on.
extern "C" fn record(left: u64, right: u64, width: u32, constant: u32, pc: u64) {
    log::append(CmpEntry { pc, left, right, width, constant });
}

macro_rules! stub {
    ($name:ident, $argument:ty, $width:literal, $constant:literal, $extend:literal) => {
        /// Called by instrumented code before a comparison; the symbol's name is LLVM's.
        #[unsafe(naked)]
        #[unsafe(no_mangle)]
        extern "C" fn $name(_left: $argument, _right: $argument) {
            naked_asm!(
                "cmp dword ptr [rip + {log}], 0",
                "jne 2f",
                "ret",
                "2:",
                $extend,
                "mov edx, {width}",
                "mov ecx, {constant}",
                "mov r8, [rsp]",
                "jmp {record}",
                log = sym LOG,
                width = const $width,
                constant = const $constant,
                record = sym record,
            )
        }
    };
}

stub!(__sanitizer_cov_trace_cmp1, u8, 1, 0, "movzx edi, dil\nmovzx esi, sil");
stub!(__sanitizer_cov_trace_cmp2, u16, 2, 0, "movzx edi, di\nmovzx esi, si");
stub!(__sanitizer_cov_trace_cmp4, u32, 4, 0, "mov edi, edi\nmov esi, esi");
stub!(__sanitizer_cov_trace_cmp8, u64, 8, 0, "");
stub!(__sanitizer_cov_trace_const_cmp1, u8, 1, 1, "movzx edi, dil\nmovzx esi, sil");
stub!(__sanitizer_cov_trace_const_cmp2, u16, 2, 1, "movzx edi, di\nmovzx esi, si");
stub!(__sanitizer_cov_trace_const_cmp4, u32, 4, 1, "mov edi, edi\nmov esi, esi");
stub!(__sanitizer_cov_trace_const_cmp8, u64, 8, 1, "");

/// Called before a switch: `cases` points to the number of cases, the width in bits, then the case values.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn __sanitizer_cov_trace_switch(_value: u64, _cases: *const u64) {
    naked_asm!(
        "cmp dword ptr [rip + {log}], 0",
        "jne 2f",
        "ret",
        "2:",
        "mov rdx, [rsp]",
        "jmp {record}",
        log = sym LOG,
        record = sym record_switch,
    )
}

extern "C" fn record_switch(value: u64, cases: *const u64, pc: u64) {
    // SAFETY: instrumented code passes a constant table that begins with its own length.
    let (count, bits) = unsafe { (cases.read(), cases.add(1).read()) };
    let width = (bits / 8) as u32;
    for n in 0..count as usize {
        // SAFETY: the table has `count` values behind its two header words.
        let case = unsafe { cases.add(2 + n).read() };
        log::append(CmpEntry { pc, left: case, right: value, width, constant: 1 });
    }
}
