//! The way into a pv guest and back: IRETQ and SYSRETQ, SYSCALL and exceptions.
//!
//! There is one processor and interrupts are off, so two words of memory say all that the entries need: where the registers of
//! the running guest go, and where the hypervisor's stack is. GS stays the guest's.
#![expect(unsafe_code, reason = "enters the guest")]

use core::{arch::naked_asm, mem::offset_of};

use coverage_hypercall::harness::Marker;
use x86_64::{
    PhysAddr, VirtAddr,
    registers::{
        control::{Cr4, Cr4Flags},
        model_specific::{Efer, EferFlags, LStar, Msr, SFMask},
        rflags::RFlags,
    },
    structures::paging::{PhysFrame, Size4KiB},
};
use xen_abi::pv;

use crate::image::{
    arch::{ExceptionFrame, HYPERVISOR_CODE},
    fpu::{FpuState, HOST_USES_SSE},
    global::Global,
};

/// STAR and CSTAR: AMD APM volume 2, section 6.1.1.
const MSR_STAR: u32 = 0xc000_0081;
const MSR_CSTAR: u32 = 0xc000_0083;
const MSR_FS_BASE: u32 = 0xc000_0100;
const MSR_GS_BASE: u32 = 0xc000_0101;
const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// In place of a vector: the guest executed SYSCALL.
pub(super) const SYSCALL: u64 = 0x100;

/// Where the registers of the running guest go.
static FRAME: Global<u64> = Global::new(0);
/// The hypervisor's stack pointer while a guest runs.
static STACK: Global<u64> = Global::new(0);
/// The guest's stack pointer for the length of three instructions.
static GUEST_STACK: Global<u64> = Global::new(0);

/// Makes the processor ready for pv guests.
pub(super) fn enable() {
    // SYSCALL loads CS from bits 32–47 and SS from what follows it; SYSRETQ takes CS and SS 16 and 8 bytes behind bits 48–63.
    let star = u64::from(HYPERVISOR_CODE) << 32 | u64::from(pv::CODE_SELECTOR - 16) << 48;
    const { assert!(pv::DATA_SELECTOR == pv::CODE_SELECTOR - 8) };
    // Whatever a guest does to its flags, the hypervisor starts with none.
    SFMask::write(RFlags::all());
    LStar::write(VirtAddr::new(syscall_entry as *const () as u64));
    // SAFETY: the selectors name our code and stack and the guest's, the entry saves what it needs. Supervisor code touches user
    // pages nowhere: guest memory is reached through the direct map, so that any such access is a defect and faults.
    unsafe {
        Msr::new(MSR_STAR).write(star);
        // There is no 32-bit code segment for guests; if there was, it would end in the same place.
        Msr::new(MSR_CSTAR).write(syscall_entry as *const () as u64);
        Efer::update(|efer| efer.insert(EferFlags::SYSTEM_CALL_EXTENSIONS));
        Cr4::update(|cr4| {
            cr4.insert(
                Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION | Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION,
            );
        });
    }
}

/// Loads the page tables of a guest, and forgets the translations that the processor keeps. `state` is what [`Marker::Tables`] says of the guests'
/// tables.
pub(super) fn load_tables(root: PhysAddr, state: u64) {
    let root = PhysFrame::<Size4KiB>::containing_address(root).start_address().as_u64();
    // SAFETY: the root is that of a physical map, which `Machine::prepare_root` gave the hypervisor's upper half: code, stack and
    // data stay where they are. The lower half is the guest's alone. No flag of CR3 is set, as tables are page-aligned.
    unsafe { write_cr3(root, state) };
}

/// Writes CR3. Translations of the upper half are global, so that a host which sees the marker need not forget them.
///
/// # Safety
/// The new tables map the upper half as those do that are in use.
#[unsafe(naked)]
unsafe extern "C" fn write_cr3(root: u64, state: u64) {
    naked_asm!(
        ".byte {n0}, {n1}, {n2}, {n3}, {n4}, {n5}, {n6}, {n7}",
        "mov cr3, rdi",
        "ret",
        n0 = const Marker::Tables.code()[0], n1 = const Marker::Tables.code()[1],
        n2 = const Marker::Tables.code()[2], n3 = const Marker::Tables.code()[3],
        n4 = const Marker::Tables.code()[4], n5 = const Marker::Tables.code()[5],
        n6 = const Marker::Tables.code()[6], n7 = const Marker::Tables.code()[7],
    )
}

/// Segment registers and bases, which no instruction of the hypervisor uses: they stay the guest's until another one runs.
#[derive(Clone, Debug, Default)]
pub(super) struct Segments {
    ds: u16,
    es: u16,
    fs: u16,
    gs: u16,
    fs_base: u64,
    gs_base: u64,
    gs_user_base: u64,
}

impl Segments {
    /// Null segments with bases, which must be canonical.
    pub(super) fn with_bases([fs_base, gs_base, gs_user_base]: [u64; 3]) -> Self {
        Self { fs_base, gs_base, gs_user_base, ..Self::default() }
    }

    /// Takes what is in the processor.
    pub(super) fn save(&mut self) {
        // SAFETY: reads registers.
        unsafe {
            core::arch::asm!(
                "mov {0:x}, ds", "mov {1:x}, es", "mov {2:x}, fs", "mov {3:x}, gs",
                out(reg) self.ds, out(reg) self.es, out(reg) self.fs, out(reg) self.gs,
                options(nomem, nostack, preserves_flags),
            );
            self.fs_base = Msr::new(MSR_FS_BASE).read();
            self.gs_base = Msr::new(MSR_GS_BASE).read();
            self.gs_user_base = Msr::new(MSR_KERNEL_GS_BASE).read();
        }
    }

    /// Puts it into the processor.
    pub(super) fn restore(&self) {
        // SAFETY: the selectors are null, as at the start, or were in the registers before; the table that they name never changes.
        // The bases come from the registers or were checked to be canonical. Nothing of the hypervisor depends on them.
        unsafe {
            core::arch::asm!(
                "mov ds, {0:x}", "mov es, {1:x}", "mov fs, {2:x}", "mov gs, {3:x}",
                in(reg) self.ds, in(reg) self.es, in(reg) self.fs, in(reg) self.gs,
                options(nostack, preserves_flags),
            );
        }
        set_base(hypervisor::pv::Segment::Fs, self.fs_base);
        set_base(hypervisor::pv::Segment::Gs, self.gs_base);
        set_base(hypervisor::pv::Segment::GsUser, self.gs_user_base);
    }
}

const fn base_register(segment: hypervisor::pv::Segment) -> Msr {
    Msr::new(match segment {
        hypervisor::pv::Segment::Fs => MSR_FS_BASE,
        hypervisor::pv::Segment::Gs => MSR_GS_BASE,
        hypervisor::pv::Segment::GsUser => MSR_KERNEL_GS_BASE,
    })
}

/// The register that holds a segment's base, if `msr` is one.
pub(super) const fn segment_of(msr: u32) -> Option<hypervisor::pv::Segment> {
    match msr {
        MSR_FS_BASE => Some(hypervisor::pv::Segment::Fs),
        MSR_GS_BASE => Some(hypervisor::pv::Segment::Gs),
        MSR_KERNEL_GS_BASE => Some(hypervisor::pv::Segment::GsUser),
        _ => None,
    }
}

/// Sets the base of a segment of the running guest. It must be canonical.
pub(super) fn set_base(segment: hypervisor::pv::Segment, base: u64) {
    // SAFETY: the callers have checked the address; nothing of the hypervisor uses FS or GS.
    unsafe { base_register(segment).write(base) };
}

/// The base of a segment of the running guest.
pub(super) fn base(segment: hypervisor::pv::Segment) -> u64 {
    // SAFETY: the register exists on every 64-bit processor.
    unsafe { base_register(segment).read() }
}

/// Runs a guest until it comes back; its registers, and why it did, are in the frame then.
pub(super) fn enter(frame: &mut ExceptionFrame, fpu: &mut FpuState) {
    frame.cs = pv::CODE_SELECTOR.into();
    frame.ss = pv::DATA_SELECTOR.into();
    frame.rflags = hypervisor::pv::guest_flags(frame.rflags);
    assert!(hypervisor::pv::is_canonical(frame.rip), "a guest was to be entered at no address");
    let fast = frame.vector == SYSCALL;
    // SAFETY: the frame holds ring 3 selectors, flags that keep interrupts off and an address that IRETQ and SYSRETQ take;
    // the tables in CR3 give ring 3 the guest's memory only. Both references are exclusive.
    unsafe { switch(frame, fpu, fast) };
}

/// Guest registers in, guest, guest registers out.
///
/// # Safety
/// The frame holds what ring 3 may have, the loaded page tables confine it.
#[unsafe(naked)]
unsafe extern "C" fn switch(frame: *mut ExceptionFrame, fpu: *mut FpuState, fast: bool) {
    naked_asm!(
        "push rbp", "mov rbp, rsp",
        "push rbx", "push r12", "push r13", "push r14", "push r15",
        "push rsi",             // FPU state
        "mov [rip + {frame}], rdi",
        "mov [rip + {stack}], rsp",
        ".if {sse}",
        "fxrstor64 [rsi]",
        ".endif",
        ".byte {n0}, {n1}, {n2}, {n3}, {n4}, {n5}, {n6}, {n7}",
        "mov rsp, rdi",
        "test edx, edx",
        "pop rax", "pop rbx", "pop rcx", "pop rdx", "pop rsi", "pop rdi", "pop rbp",
        "lea rsp, [rsp + 8]",
        "pop r8", "pop r9", "pop r10", "pop r11", "pop r12", "pop r13", "pop r14", "pop r15",
        "jnz 2f",
        "lea rsp, [rsp + 16]",
        "iretq",
        // SYSRETQ takes RIP from RCX and flags from R11, which the guest's SYSCALL left there anyway.
        "2:",
        "mov rcx, [rsp + 16]",
        "mov r11, [rsp + 32]",
        "mov rsp, [rsp + 40]",
        "sysretq",
        frame = sym FRAME,
        stack = sym STACK,
        sse = const HOST_USES_SSE as u32,
        n0 = const Marker::Enter.code()[0], n1 = const Marker::Enter.code()[1],
        n2 = const Marker::Enter.code()[2], n3 = const Marker::Enter.code()[3],
        n4 = const Marker::Enter.code()[4], n5 = const Marker::Enter.code()[5],
        n6 = const Marker::Enter.code()[6], n7 = const Marker::Enter.code()[7],
    )
}

/// Where SYSCALL arrives: RCX and R11 hold RIP and flags, the stack is the guest's, all flags are clear.
#[unsafe(naked)]
extern "C" fn syscall_entry() {
    naked_asm!(
        "mov [rip + {guest_stack}], rsp",
        "mov rsp, [rip + {frame}]",
        "mov [rsp + {rip}], rcx",
        "mov [rsp + {flags}], r11",
        "mov qword ptr [rsp + {vector}], {syscall}",
        "mov [rsp], rax", "mov [rsp + 8], rbx", "mov [rsp + 16], rcx", "mov [rsp + 24], rdx",
        "mov [rsp + 32], rsi", "mov [rsp + 40], rdi", "mov [rsp + 48], rbp",
        "mov [rsp + 64], r8", "mov [rsp + 72], r9", "mov [rsp + 80], r10", "mov [rsp + 88], r11",
        "mov [rsp + 96], r12", "mov [rsp + 104], r13", "mov [rsp + 112], r14", "mov [rsp + 120], r15",
        "mov rax, [rip + {guest_stack}]",
        "mov [rsp + {rsp}], rax",
        "jmp {leave}",
        guest_stack = sym GUEST_STACK,
        frame = sym FRAME,
        rip = const offset_of!(ExceptionFrame, rip),
        flags = const offset_of!(ExceptionFrame, rflags),
        vector = const offset_of!(ExceptionFrame, vector),
        rsp = const offset_of!(ExceptionFrame, rsp),
        syscall = const SYSCALL,
        leave = sym leave,
    )
}

/// Where an exception of a guest goes on: RSP points to its frame, on a stack for exceptions. Alignment checks (AC), which the
/// guest may have switched on, would let the hypervisor into user pages.
#[unsafe(naked)]
pub(crate) extern "C" fn guest_exception() {
    naked_asm!(
        "push 2",
        "popfq",
        "mov rsi, rsp",
        "mov rdi, [rip + {frame}]",
        "mov ecx, {words}",
        "rep movsq",
        "jmp {leave}",
        frame = sym FRAME,
        words = const size_of::<ExceptionFrame>() / 8,
        leave = sym leave,
    )
}

/// Back on the hypervisor's stack, and out of [`switch`].
#[unsafe(naked)]
extern "C" fn leave() {
    naked_asm!(
        "mov rsp, [rip + {stack}]",
        ".byte {n0}, {n1}, {n2}, {n3}, {n4}, {n5}, {n6}, {n7}",
        "pop rcx",
        ".if {sse}",
        "fxsave64 [rcx]",
        "fninit",
        "mov dword ptr [rsp - 4], 0x1f80",
        "ldmxcsr dword ptr [rsp - 4]",
        ".endif",
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp",
        "ret",
        stack = sym STACK,
        sse = const HOST_USES_SSE as u32,
        n0 = const Marker::Leave.code()[0], n1 = const Marker::Leave.code()[1],
        n2 = const Marker::Leave.code()[2], n3 = const Marker::Leave.code()[3],
        n4 = const Marker::Leave.code()[4], n5 = const Marker::Leave.code()[5],
        n6 = const Marker::Leave.code()[6], n7 = const Marker::Leave.code()[7],
    )
}
