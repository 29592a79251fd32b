//! Paravirtualised guests (`public/xen.h`, `public/arch-x86/xen.h`, `public/arch-x86/xen-x86_64.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Selector of a guest's 64-bit code (`FLAT_RING3_CS64`). In frames its lowest two bits are clear: the guest's kernel.
pub const CODE_SELECTOR: u16 = 0xe033;
/// Selector of a guest's stack and data (`FLAT_RING3_SS64`).
pub const DATA_SELECTOR: u16 = 0xe02b;

/// One entry of the list for `set_trap_table` (`struct trap_info`); an address of 0 ends it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TrapInfo {
    /// Exception.
    pub vector: u8,
    /// Bits 0–1: privilege that may raise it by software; bit 2: mask events on delivery.
    pub flags: u8,
    /// Code selector of the handler.
    pub cs: u16,
    /// Not used.
    pub reserved: u32,
    /// First instruction of the handler.
    pub address: u64,
}

/// What lies on the stack of a guest that calls `iret` (`struct iret_context`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct IretContext {
    /// RAX after the return.
    pub rax: u64,
    /// R11 after the return, unless [`IN_SYSCALL`].
    pub r11: u64,
    /// RCX after the return, unless [`IN_SYSCALL`].
    pub rcx: u64,
    /// [`IN_SYSCALL`].
    pub flags: u64,
    /// Where to go on.
    pub rip: u64,
    /// Code selector; bits 0–1 clear: the guest's kernel.
    pub cs: u64,
    /// Flags.
    pub rflags: u64,
    /// Stack pointer.
    pub rsp: u64,
    /// Stack selector.
    pub ss: u64,
}

/// In [`IretContext::flags`]: RCX and R11 may be lost (`VGCF_in_syscall`).
pub const IN_SYSCALL: u64 = 1 << 8;

/// `set_segment_base`: base of FS.
pub const SEGBASE_FS: u64 = 0;
/// `set_segment_base`: base of GS that SWAPGS would bring.
pub const SEGBASE_GS_USER: u64 = 1;
/// `set_segment_base`: base of GS.
pub const SEGBASE_GS_KERNEL: u64 = 2;

/// Magic of the start info, with the zero behind it.
pub const START_MAGIC: &[u8; 15] = b"xen-3.0-x86_64\0";
/// Bytes of the command line in the start info (`MAX_GUEST_CMDLINE`).
pub const COMMAND_LINE: usize = 1024;

/// What RSI points to when a guest starts (`struct start_info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct StartInfo {
    /// [`START_MAGIC`], padded with zeros.
    pub magic: [u8; 32],
    /// Pages of the domain.
    pub nr_pages: u64,
    /// Machine address of the shared info; 0 where the guest maps it itself.
    pub shared_info: u64,
    /// `SIF_*`.
    pub flags: u32,
    /// Not used.
    pub reserved_1: u32,
    /// Frame of the store's page.
    pub store_mfn: u64,
    /// Port of the store.
    pub store_evtchn: u32,
    /// Not used.
    pub reserved_2: u32,
    /// Frame of the console's page.
    pub console_mfn: u64,
    /// Port of the console.
    pub console_evtchn: u32,
    /// Not used.
    pub reserved_3: u32,
    /// Virtual address of the page tables.
    pub pt_base: u64,
    /// Frames of the page tables.
    pub nr_pt_frames: u64,
    /// Virtual address of the list of frames.
    pub mfn_list: u64,
    /// Virtual address of a module.
    pub mod_start: u64,
    /// Bytes of the module.
    pub mod_len: u64,
    /// Command line.
    pub cmd_line: [u8; COMMAND_LINE],
    /// First page of the list of frames where that is not mapped.
    pub first_p2m_pfn: u64,
    /// Frames of that list.
    pub nr_p2m_frames: u64,
}

const _: () = assert!(size_of::<TrapInfo>() == 16);
const _: () = assert!(size_of::<IretContext>() == 72);
const _: () = assert!(size_of::<StartInfo>() == 1168);
const _: () = assert!(core::mem::offset_of!(StartInfo, pt_base) == 88);
const _: () = assert!(core::mem::offset_of!(StartInfo, cmd_line) == 128);

/// In [`GuestContext::flags`]: the vCPU begins in the guest's kernel (`VGCF_in_kernel`).
pub const CONTEXT_IN_KERNEL: u64 = 1 << 2;
/// In [`GuestContext::flags`]: the vCPU is up (`VGCF_online`).
pub const CONTEXT_ONLINE: u64 = 1 << 5;
/// [`MmuextOp`]: a frame is a root of page tables, and stays one (`MMUEXT_PIN_L4_TABLE`).
pub const PIN_L4_TABLE: u32 = 3;
/// `update_va_mapping`: the old translation goes (`UVMF_INVLPG`).
pub const INVALIDATE_PAGE: u64 = 2;

/// An operation on page tables (`struct mmuext_op`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MmuextOp {
    /// Which, say [`PIN_L4_TABLE`].
    pub cmd: u32,
    /// Padding.
    pub pad: u32,
    /// A frame or an address.
    pub arg1: u64,
    /// Something else.
    pub arg2: u64,
}

const _: () = assert!(size_of::<MmuextOp>() == 24);

/// General registers (`struct cpu_user_regs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "registers by their names")]
pub struct UserRegisters {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub error_code: u32,
    pub entry_vector: u32,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub es: u64,
    pub ds: u64,
    pub fs: u64,
    pub gs: u64,
}

/// State in which a vCPU begins, for `VCPUOP_initialise` (`struct vcpu_guest_context`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GuestContext {
    /// As FXSAVE leaves it.
    pub fpu: [u8; 512],
    /// `VGCF_*`.
    pub flags: u64,
    /// General registers.
    pub user_regs: UserRegisters,
    /// Handlers by vector.
    pub traps: [TrapInfo; 256],
    /// Address of the local descriptor table.
    pub ldt_base: u64,
    /// Its entries.
    pub ldt_ents: u64,
    /// Frames of the global descriptor table.
    pub gdt_frames: [u64; 16],
    /// Its entries.
    pub gdt_ents: u64,
    /// Stack selector of the kernel.
    pub kernel_ss: u64,
    /// Stack pointer of the kernel.
    pub kernel_sp: u64,
    /// Control registers.
    pub ctrlreg: [u64; 8],
    /// Debug registers.
    pub debugreg: [u64; 8],
    /// Where events are announced.
    pub event_callback_eip: u64,
    /// Where failures are.
    pub failsafe_callback_eip: u64,
    /// Where the guest's own system calls arrive.
    pub syscall_callback_eip: u64,
    /// Assistance that is switched on.
    pub vm_assist: u64,
    /// Base of FS.
    pub fs_base: u64,
    /// Base of GS.
    pub gs_base_kernel: u64,
    /// Base of GS behind SWAPGS.
    pub gs_base_user: u64,
}

impl GuestContext {
    /// All zero.
    pub const ZERO: Self = zerocopy::transmute!([0u64; size_of::<Self>() / 8]);
}

const _: () = assert!(size_of::<UserRegisters>() == 200);
const _: () = assert!(size_of::<GuestContext>() == 5168);
const _: () = assert!(core::mem::offset_of!(GuestContext, traps) == 720);
const _: () = assert!(core::mem::offset_of!(GuestContext, fs_base) == 5144);
