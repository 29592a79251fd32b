//! `vcpu_op` (`public/vcpu.h`): `cmd`, number of the vCPU, pointer to the operation's structure; and the state in which
//! a vCPU of an hvm domain begins (`public/hvm/hvm_vcpu.h`).

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`HvmContext`] for an hvm domain: gives the vCPU its first state.
pub const INITIALISE: u32 = 0;
/// Lets the vCPU run.
pub const UP: u32 = 1;
/// Stops the vCPU.
pub const DOWN: u32 = 2;
/// Returns 1 if the vCPU is up, else 0.
pub const IS_UP: u32 = 3;
/// [`RunstateInfo`].
pub const GET_RUNSTATE_INFO: u32 = 4;
/// [`Area`]: guest-virtual address of a [`RunstateInfo`] that is kept up to date.
pub const REGISTER_RUNSTATE_MEMORY_AREA: u32 = 5;
/// [`PeriodicTimer`].
pub const SET_PERIODIC_TIMER: u32 = 6;
/// Stops the periodic timer.
pub const STOP_PERIODIC_TIMER: u32 = 7;
/// [`SingleshotTimer`].
pub const SET_SINGLESHOT_TIMER: u32 = 8;
/// Stops the singleshot timer.
pub const STOP_SINGLESHOT_TIMER: u32 = 9;
/// [`RegisterVcpuInfo`].
pub const REGISTER_VCPU_INFO: u32 = 10;
/// Raises an NMI in the vCPU; the argument is a null pointer.
pub const SEND_NMI: u32 = 11;
/// [`Physid`].
pub const GET_PHYSID: u32 = 12;
/// [`Area`]: guest-virtual address of a [`TimeInfo`] that is kept up to date.
pub const REGISTER_VCPU_TIME_MEMORY_AREA: u32 = 13;
/// [`Area`]: guest-physical address of a [`RunstateInfo`]; all bits set: none. Since Xen 4.18.
pub const REGISTER_RUNSTATE_PHYS_AREA: u32 = 14;
/// [`Area`]: guest-physical address of a [`TimeInfo`]; all bits set: none. Since Xen 4.18.
pub const REGISTER_VCPU_TIME_PHYS_AREA: u32 = 15;

/// The vCPU has the processor.
pub const RUNSTATE_RUNNING: u32 = 0;
/// The vCPU could run.
pub const RUNSTATE_RUNNABLE: u32 = 1;
/// The vCPU waits.
pub const RUNSTATE_BLOCKED: u32 = 2;
/// The vCPU is down, or its domain has ended.
pub const RUNSTATE_OFFLINE: u32 = 3;
/// In [`RunstateInfo::state_entry_time`]: an update is under way (`XEN_RUNSTATE_UPDATE`).
pub const RUNSTATE_UPDATE: u64 = 1 << 63;
/// Flag of [`SingleshotTimer`]: the deadline should lie in the future. It changes nothing.
pub const SSHOTTMR_FUTURE: u32 = 1;
/// Mode of [`HvmContext`]: [`Hvm32`].
pub const HVM_MODE_32B: u32 = 0;
/// Mode of [`HvmContext`]: [`Hvm64`].
pub const HVM_MODE_64B: u32 = 1;

/// What a vCPU did with its time (`vcpu_runstate_info`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RunstateInfo {
    /// One of `RUNSTATE_*`.
    pub state: u32,
    /// Padding.
    pub reserved: u32,
    /// System time, in nanoseconds, at which it was entered.
    pub state_entry_time: u64,
    /// Nanoseconds spent in each.
    pub time: [u64; 4],
}

const _: () = assert!(size_of::<RunstateInfo>() == 48);
const _: () = assert!(offset_of!(RunstateInfo, state_entry_time) == 8);
const _: () = assert!(offset_of!(RunstateInfo, time) == 16);

/// Where a copy is to be kept (`vcpu_register_runstate_memory_area`, `vcpu_register_time_memory_area`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Area {
    /// Its address.
    pub addr: u64,
}

const _: () = assert!(size_of::<Area>() == 8);

/// Argument of [`SET_PERIODIC_TIMER`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PeriodicTimer {
    /// Nanoseconds between two events.
    pub period_ns: u64,
}

const _: () = assert!(size_of::<PeriodicTimer>() == 8);

/// Argument of [`SET_SINGLESHOT_TIMER`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SingleshotTimer {
    /// System time in nanoseconds.
    pub timeout_abs_ns: u64,
    /// [`SSHOTTMR_FUTURE`].
    pub flags: u32,
    /// Padding.
    pub reserved: u32,
}

const _: () = assert!(size_of::<SingleshotTimer>() == 16);
const _: () = assert!(offset_of!(SingleshotTimer, flags) == 8);

/// Moves the `vcpu_info` of a vCPU out of the shared-info page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RegisterVcpuInfo {
    /// Guest frame.
    pub mfn: u64,
    /// Offset in it.
    pub offset: u32,
    /// Not used.
    pub rsvd: u32,
}

const _: () = assert!(size_of::<RegisterVcpuInfo>() == 16);
const _: () = assert!(offset_of!(RegisterVcpuInfo, offset) == 8);

/// On which processor a vCPU runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Physid {
    /// APIC identifier, ACPI identifier in the upper half.
    pub phys_id: u64,
}

const _: () = assert!(size_of::<Physid>() == 8);

/// How the time-stamp counter becomes system time (`vcpu_time_info`, `public/xen.h`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct TimeInfo {
    /// Odd during an update.
    pub version: u32,
    /// Padding.
    pub pad0: u32,
    /// Counter at the last update.
    pub tsc_timestamp: u64,
    /// System time then, in nanoseconds.
    pub system_time: u64,
    /// Nanoseconds of a tick, in units of 2⁻³², after the shift.
    pub tsc_to_system_mul: u32,
    /// Bits by which the ticks are shifted to the left.
    pub tsc_shift: i8,
    /// [`PVCLOCK_TSC_STABLE`].
    pub flags: u8,
    /// Padding.
    pub pad1: [u8; 2],
}

/// The counter is the same on all vCPUs (`XEN_PVCLOCK_TSC_STABLE_BIT`).
pub const PVCLOCK_TSC_STABLE: u8 = 1;

const _: () = assert!(size_of::<TimeInfo>() == 32);
const _: () = assert!(offset_of!(TimeInfo, tsc_to_system_mul) == 24);
const _: () = assert!(offset_of!(TimeInfo, flags) == 29);

/// State of a vCPU that begins in 32-bit or compatibility mode (`vcpu_hvm_x86_32`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(
    missing_docs,
    reason = "registers by their names; _ar: bits 0-7 and 12-15 of a descriptor's upper half"
)]
pub struct Hvm32 {
    pub eax: u32,
    pub ecx: u32,
    pub edx: u32,
    pub ebx: u32,
    pub esp: u32,
    pub ebp: u32,
    pub esi: u32,
    pub edi: u32,
    pub eip: u32,
    pub eflags: u32,
    pub cr0: u32,
    pub cr3: u32,
    pub cr4: u32,
    pub pad1: u32,
    pub efer: u64,
    pub cs_base: u32,
    pub ds_base: u32,
    pub ss_base: u32,
    pub es_base: u32,
    pub tr_base: u32,
    pub cs_limit: u32,
    pub ds_limit: u32,
    pub ss_limit: u32,
    pub es_limit: u32,
    pub tr_limit: u32,
    pub cs_ar: u16,
    pub ds_ar: u16,
    pub ss_ar: u16,
    pub es_ar: u16,
    pub tr_ar: u16,
    pub pad2: [u16; 3],
}

const _: () = assert!(size_of::<Hvm32>() == 120);
const _: () = assert!(offset_of!(Hvm32, efer) == 56);
const _: () = assert!(offset_of!(Hvm32, cs_ar) == 104);

/// State of a vCPU that begins in 64-bit mode (`vcpu_hvm_x86_64`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
#[expect(missing_docs, reason = "registers by their names")]
pub struct Hvm64 {
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rbx: u64,
    pub rsp: u64,
    pub rbp: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rip: u64,
    pub rflags: u64,
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
}

const _: () = assert!(size_of::<Hvm64>() == 112);

/// State in which a vCPU begins (`vcpu_hvm_context`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HvmContext {
    /// [`HVM_MODE_32B`] or [`HVM_MODE_64B`].
    pub mode: u32,
    /// Zero.
    pub pad: u32,
    /// [`Hvm32`], or [`Hvm64`] and padding.
    pub cpu_regs: [u8; size_of::<Hvm32>()],
}

const _: () = assert!(size_of::<HvmContext>() == 128);

impl HvmContext {
    /// A vCPU that begins in 64-bit mode.
    pub fn long(registers: &Hvm64) -> Self {
        let mut context = Self { mode: HVM_MODE_64B, pad: 0, cpu_regs: [0; size_of::<Hvm32>()] };
        context.cpu_regs[..size_of::<Hvm64>()].copy_from_slice(registers.as_bytes());
        context
    }

    /// A vCPU that begins in 32-bit mode.
    pub fn protected(registers: &Hvm32) -> Self {
        let mut context = Self { mode: HVM_MODE_32B, pad: 0, cpu_regs: [0; size_of::<Hvm32>()] };
        context.cpu_regs.copy_from_slice(registers.as_bytes());
        context
    }
}
