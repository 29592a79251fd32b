//! The processor: descriptor tables, exceptions, paging.
#![expect(unsafe_code, reason = "reads processor features and programs the interrupt controllers")]

mod gdt;
mod idt;
pub(crate) mod paging;

use core::arch::x86_64::{__cpuid, __cpuid_count};

use x86_64::instructions::port::PortWriteOnly;

pub(crate) use gdt::CODE as HYPERVISOR_CODE;
pub(crate) use idt::ExceptionFrame;

/// Loads our own descriptor tables, so that from here on every exception ends in a crash record.
pub(crate) fn install_descriptor_tables() {
    gdt::install();
    idt::install();
    for port in [0x21, 0xa1] {
        // SAFETY: masks all lines of both 8259 controllers; nobody expects an interrupt.
        unsafe { PortWriteOnly::<u8>::new(port).write(0xff) };
    }
}

/// Stops with a message where the processor lacks what we need.
pub(crate) fn require_features() {
    // AMD APM volume 3, appendix E: leaf 0x8000_0001 ECX bit 2 is SVM, leaf 0x8000_000A EDX bit 0 nested paging.
    let extended = __cpuid(0x8000_0000).eax;
    assert!(
        extended >= 0x8000_000a && __cpuid(0x8000_0001).ecx & (1 << 2) != 0,
        "the processor has no SVM: use -cpu qemu64,+svm,+npt"
    );
    assert!(
        __cpuid(0x8000_000a).edx & 1 != 0,
        "the processor has no nested paging: use -cpu qemu64,+svm,+npt"
    );
}

/// Stops with a message where the processor cannot keep the hypervisor off a guest's pages, which pv mode puts beside ours.
pub(crate) fn require_supervisor_protection() {
    // AMD APM volume 3, appendix E: leaf 7 EBX bit 7 is SMEP, bit 20 is SMAP.
    const SMEP_SMAP: u32 = 1 << 7 | 1 << 20;
    assert!(
        __cpuid(0).eax >= 7 && __cpuid_count(7, 0).ebx & SMEP_SMAP == SMEP_SMAP,
        "the processor has no SMEP and SMAP: use -cpu qemu64,+svm,+npt,+smep,+smap"
    );
}
