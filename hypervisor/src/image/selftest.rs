//! Crashes on purpose, so that crash records can be tested from outside: `selftest=NAME` on the boot line.
#![expect(unsafe_code, reason = "breaks things on purpose")]

use alloc::{string::String, vec::Vec};
use core::{hint::black_box, ptr};
use coverage_hypercall::crash::CrashKind;

use super::{crash, heap};

const WORD: &str = "selftest=";

/// A way to crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SelfTest {
    /// An explicit panic.
    Panic,
    /// A failed check of the language.
    Assertion,
    /// A read from an address that is not mapped.
    Fault,
    /// An instruction that does not exist.
    Undefined,
    /// A write to the hypervisor's code.
    WriteText,
    /// A jump into data.
    RunData,
    /// A stack that grows without end.
    Overflow,
    /// A write behind the end of a block of the heap.
    HeapOverrun,
    /// A write to a block of the heap that was freed.
    HeapLateWrite,
}

/// Takes the test, if there is one, out of the boot line: the rest of it is the library's.
pub(crate) fn split(line: &str) -> (Option<SelfTest>, String) {
    let test =
        line.split_ascii_whitespace().find_map(|word| word.strip_prefix(WORD)).map(|name| match name {
            "panic" => SelfTest::Panic,
            "assertion" => SelfTest::Assertion,
            "fault" => SelfTest::Fault,
            "undefined" => SelfTest::Undefined,
            "write-text" => SelfTest::WriteText,
            "run-data" => SelfTest::RunData,
            "overflow" => SelfTest::Overflow,
            "heap-overrun" => SelfTest::HeapOverrun,
            "heap-late-write" => SelfTest::HeapLateWrite,
            other => panic!("boot line: no self-test is called `{other}`"),
        });
    let rest: Vec<_> = line.split_ascii_whitespace().filter(|word| !word.starts_with(WORD)).collect();
    (test, rest.join(" "))
}

impl SelfTest {
    /// Crashes.
    pub(crate) fn run(self) -> ! {
        match self {
            Self::Panic => panic!("self-test"),
            Self::Assertion => {
                let nothing: [u8; 0] = black_box([]);
                black_box(nothing[black_box(1)..].len());
            }
            Self::Fault => {
                // SAFETY: none: the lower half is not mapped, and the read faults.
                black_box(unsafe { black_box(0x1000 as *const u8).read_volatile() });
            }
            // SAFETY: none: the instruction faults.
            Self::Undefined => unsafe { core::arch::asm!("ud2") },
            Self::WriteText => {
                let code = split as *const () as *mut u8;
                // SAFETY: none: code is read-only, and the write faults.
                unsafe { ptr::write_volatile(code, 0) };
            }
            Self::RunData => {
                static DATA: [u8; 1] = [0xc3];
                // SAFETY: none: constants are not executable, and the call faults.
                unsafe { core::mem::transmute::<*const u8, extern "C" fn()>(black_box(DATA.as_ptr()))() };
            }
            Self::Overflow => {
                black_box(deeper(0));
            }
            Self::HeapOverrun => {
                let mut block = black_box(Vec::<u8>::with_capacity(24));
                let end = block.as_mut_ptr().wrapping_add(block.capacity());
                // SAFETY: none: the byte belongs to the allocator.
                unsafe { ptr::write_volatile(end, 1) };
                report_damage(false);
            }
            Self::HeapLateWrite => {
                let mut block = black_box(Vec::<u8>::with_capacity(24));
                let start = block.as_mut_ptr();
                drop(block);
                assert!(heap::damage(true).is_none(), "the heap is whole so far");
                // SAFETY: none: the block was freed.
                unsafe { ptr::write_volatile(start.add(7), 1) };
                report_damage(true);
            }
        }
        panic!("self-test {self:?} did not crash")
    }
}

/// Reports what is wrong with the heap, as the oracle does.
fn report_damage(thorough: bool) {
    if let Some(what) = heap::damage(thorough) {
        crash::report(CrashKind::HeapCanary, &what);
    }
}

#[expect(unconditional_recursion, reason = "that is the test")]
#[inline(never)]
fn deeper(depth: u64) -> u64 {
    let local = black_box([depth; 64]);
    deeper(depth + 1) + black_box(local)[7]
}
