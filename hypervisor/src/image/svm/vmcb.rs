//! The virtual machine control block: AMD APM volume 2, appendix B.

use core::mem::offset_of;

use zerocopy::FromZeros;

/// Table B-1, the part that the hypervisor writes and the processor's reports.
#[derive(Clone, Debug, FromZeros)]
#[repr(C)]
pub(super) struct Control {
    pub(super) intercept_cr: u32,
    pub(super) intercept_dr: u32,
    pub(super) intercept_exceptions: u32,
    pub(super) intercept_1: u32,
    pub(super) intercept_2: u32,
    reserved_014: [u8; 0x2c],
    pub(super) iopm_base: u64,
    pub(super) msrpm_base: u64,
    pub(super) tsc_offset: u64,
    pub(super) asid: u32,
    pub(super) tlb_control: u32,
    pub(super) interrupt_control: u64,
    pub(super) interrupt_shadow: u64,
    pub(super) exit_code: u64,
    pub(super) exit_info_1: u64,
    pub(super) exit_info_2: u64,
    pub(super) exit_interrupt_info: u64,
    pub(super) nested_control: u64,
    reserved_098: [u8; 0x10],
    pub(super) event_injection: u64,
    pub(super) nested_cr3: u64,
    pub(super) virtualization: u64,
    pub(super) clean_bits: u64,
    reserved_0c8: [u8; 0x338],
}

/// A segment register as the save area holds it.
#[derive(Clone, Copy, Debug, FromZeros)]
#[repr(C)]
pub(super) struct Segment {
    pub(super) selector: u16,
    /// Bits 40–47 and 52–55 of the descriptor, packed into 12 bits.
    pub(super) attributes: u16,
    pub(super) limit: u32,
    pub(super) base: u64,
}

/// Table B-2.
#[derive(Clone, Debug, FromZeros)]
#[repr(C)]
pub(super) struct SaveArea {
    pub(super) es: Segment,
    pub(super) cs: Segment,
    pub(super) ss: Segment,
    pub(super) ds: Segment,
    pub(super) fs: Segment,
    pub(super) gs: Segment,
    pub(super) gdtr: Segment,
    pub(super) ldtr: Segment,
    pub(super) idtr: Segment,
    pub(super) tr: Segment,
    reserved_0a0: [u8; 0x2b],
    pub(super) cpl: u8,
    reserved_0cc: u32,
    pub(super) efer: u64,
    reserved_0d8: [u8; 0x70],
    pub(super) cr4: u64,
    pub(super) cr3: u64,
    pub(super) cr0: u64,
    pub(super) dr7: u64,
    pub(super) dr6: u64,
    pub(super) rflags: u64,
    pub(super) rip: u64,
    reserved_180: [u8; 0x58],
    pub(super) rsp: u64,
    reserved_1e0: [u8; 0x18],
    pub(super) rax: u64,
    pub(super) star: u64,
    pub(super) lstar: u64,
    pub(super) cstar: u64,
    pub(super) sfmask: u64,
    pub(super) kernel_gs_base: u64,
    pub(super) sysenter_cs: u64,
    pub(super) sysenter_esp: u64,
    pub(super) sysenter_eip: u64,
    pub(super) cr2: u64,
    reserved_248: [u8; 0x20],
    pub(super) pat: u64,
    reserved_270: [u8; 0x990],
}

/// One page that the processor reads at VMRUN and writes at #VMEXIT.
#[derive(Clone, Debug, FromZeros)]
#[repr(C, align(4096))]
pub(super) struct Vmcb {
    pub(super) control: Control,
    pub(super) save: SaveArea,
}

const _: () = assert!(size_of::<Vmcb>() == 4096);
const _: () = assert!(size_of::<Control>() == 0x400);
const _: () = assert!(offset_of!(Control, iopm_base) == 0x40);
const _: () = assert!(offset_of!(Control, asid) == 0x58);
const _: () = assert!(offset_of!(Control, exit_code) == 0x70);
const _: () = assert!(offset_of!(Control, nested_control) == 0x90);
const _: () = assert!(offset_of!(Control, event_injection) == 0xa8);
const _: () = assert!(offset_of!(Control, nested_cr3) == 0xb0);
const _: () = assert!(offset_of!(Control, clean_bits) == 0xc0);
const _: () = assert!(offset_of!(SaveArea, cpl) == 0xcb);
const _: () = assert!(offset_of!(SaveArea, efer) == 0xd0);
const _: () = assert!(offset_of!(SaveArea, cr4) == 0x148);
const _: () = assert!(offset_of!(SaveArea, rip) == 0x178);
const _: () = assert!(offset_of!(SaveArea, rsp) == 0x1d8);
const _: () = assert!(offset_of!(SaveArea, rax) == 0x1f8);
const _: () = assert!(offset_of!(SaveArea, cr2) == 0x240);
const _: () = assert!(offset_of!(SaveArea, pat) == 0x268);

/// Bits of [`Control::intercept_1`], offset 0x0c.
pub(super) mod intercept_1 {
    pub(in super::super) const INTR: u32 = 1 << 0;
    pub(in super::super) const NMI: u32 = 1 << 1;
    pub(in super::super) const SMI: u32 = 1 << 2;
    pub(in super::super) const INIT: u32 = 1 << 3;
    pub(in super::super) const RDPMC: u32 = 1 << 15;
    pub(in super::super) const CPUID: u32 = 1 << 18;
    pub(in super::super) const RSM: u32 = 1 << 19;
    pub(in super::super) const INVD: u32 = 1 << 22;
    pub(in super::super) const HLT: u32 = 1 << 24;
    pub(in super::super) const INVLPGA: u32 = 1 << 26;
    pub(in super::super) const IO: u32 = 1 << 27;
    pub(in super::super) const MSR: u32 = 1 << 28;
    pub(in super::super) const TASK_SWITCH: u32 = 1 << 29;
    pub(in super::super) const FERR_FREEZE: u32 = 1 << 30;
    pub(in super::super) const SHUTDOWN: u32 = 1 << 31;
}

/// Bits of [`Control::intercept_2`], offset 0x10.
pub(super) mod intercept_2 {
    /// VMRUN (mandatory), VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT.
    pub(in super::super) const SVM_INSTRUCTIONS: u32 = 0x7f;
    pub(in super::super) const WBINVD: u32 = 1 << 9;
    pub(in super::super) const MONITOR: u32 = 1 << 10;
    pub(in super::super) const MWAIT: u32 = 1 << 11;
    pub(in super::super) const MWAIT_ARMED: u32 = 1 << 12;
    pub(in super::super) const XSETBV: u32 = 1 << 13;
}

/// Writes to all debug registers: QEMU would keep a guest's breakpoint armed while the hypervisor runs.
pub(super) const INTERCEPT_DR_WRITES: u32 = 0xffff_0000;
/// Writes to CR4: QEMU would take bits that VMRUN then refuses.
pub(super) const INTERCEPT_CR4_WRITES: u32 = 1 << (16 + 4);
/// Exceptions that are the host's own business: #MC.
pub(super) const INTERCEPT_MACHINE_CHECK: u32 = 1 << 18;
/// [`Control::interrupt_control`]: the guest's RFLAGS.IF masks virtual interrupts only.
pub(super) const VIRTUAL_INTERRUPT_MASKING: u64 = 1 << 24;
/// [`Control::tlb_control`]: VMRUN flushes nothing by itself (AMD APM volume 2, section 15.16.1).
pub(super) const FLUSH_NOTHING: u32 = 0;
/// [`Control::tlb_control`]: flush everything on VMRUN.
pub(super) const FLUSH_ALL: u32 = 1;
/// [`Control::nested_control`]: nested paging.
pub(super) const NESTED_PAGING: u64 = 1;
/// EFER.SVME, which the save area must hold (section 15.5.1).
pub(super) const EFER_SVME: u64 = 1 << 12;
