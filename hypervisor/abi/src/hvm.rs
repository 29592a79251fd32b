//! `hvm_op` (`public/hvm/hvm_op.h`): operation, pointer to its structure; and the parameters of a guest
//! (`public/hvm/params.h`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`Param`].
pub const SET_PARAM: u32 = 0;
/// [`Param`].
pub const GET_PARAM: u32 = 1;
/// No argument.
pub const FLUSH_TLBS: u32 = 5;
/// A domain's `domid`; for shadow page tables.
pub const PAGETABLE_DYING: u32 = 9;
/// Writes the system time.
pub const GET_TIME: u32 = 10;
/// [`GetMemType`].
pub const GET_MEM_TYPE: u32 = 15;
/// [`UpcallVector`].
pub const SET_EVTCHN_UPCALL_VECTOR: u32 = 23;
/// No argument.
pub const GUEST_REQUEST_VM_EVENT: u32 = 24;
/// Alternative physmaps.
pub const ALTP2M: u32 = 25;

/// Parameters (`HVM_PARAM_*`).
pub mod param {
    /// How events are delivered.
    pub const CALLBACK_IRQ: u32 = 0;
    /// Frame of the store's ring.
    pub const STORE_PFN: u32 = 1;
    /// Port of the store.
    pub const STORE_EVTCHN: u32 = 2;
    /// Frame of the requests.
    pub const IOREQ_PFN: u32 = 5;
    /// Frame of the buffered requests.
    pub const BUFIOREQ_PFN: u32 = 6;
    /// Interfaces of another hypervisor.
    pub const VIRIDIAN: u32 = 9;
    /// What becomes of missed ticks.
    pub const TIMER_MODE: u32 = 10;
    /// There is an HPET.
    pub const HPET_ENABLED: u32 = 11;
    /// Page table for real mode.
    pub const IDENT_PT: u32 = 12;
    /// The domain of the device model.
    pub const DM_DOMAIN: u32 = 13;
    /// Sleep state.
    pub const ACPI_S_STATE: u32 = 14;
    /// Task state for real mode.
    pub const VM86_TSS: u32 = 15;
    /// Alignment of timers.
    pub const VPT_ALIGN: u32 = 16;
    /// Frame of the console's ring.
    pub const CONSOLE_PFN: u32 = 17;
    /// Port of the console.
    pub const CONSOLE_EVTCHN: u32 = 18;
    /// Where ACPI's ports are.
    pub const ACPI_IOPORTS_LOCATION: u32 = 19;
    /// First of the obsolete memory events.
    pub const MEMORY_EVENT_CR0: u32 = 20;
    /// Last of those in a row.
    pub const MEMORY_EVENT_INT3: u32 = 23;
    /// Nested virtualisation.
    pub const NESTEDHVM: u32 = 24;
    /// Obsolete.
    pub const MEMORY_EVENT_SINGLE_STEP: u32 = 25;
    /// Obsolete.
    pub const MEMORY_EVENT_MSR: u32 = 30;
    /// What a triple fault ends the domain with.
    pub const TRIPLE_FAULT_REASON: u32 = 31;
    /// First frame of the request pages.
    pub const IOREQ_SERVER_PFN: u32 = 32;
    /// How many there are.
    pub const NR_IOREQ_SERVER_PAGES: u32 = 33;
    /// Generation of the guest.
    pub const VM_GENERATION_ID_ADDR: u32 = 34;
    /// Alternative physmaps.
    pub const ALTP2M: u32 = 35;
    /// Width of the FPU's instruction pointer.
    pub const X87_FIP_WIDTH: u32 = 36;
    /// Task state for real mode, with its size.
    pub const VM86_TSS_SIZED: u32 = 37;
    /// Machine checks.
    pub const MCA_CAP: u32 = 38;
    /// Number of parameters (`HVM_NR_PARAMS`).
    pub const COUNT: u32 = 39;
}

/// Types of memory (`hvmmem_type_t`).
pub mod memory {
    /// Ordinary memory.
    pub const RAM_RW: u16 = 0;
    /// Memory that the guest may only read.
    pub const RAM_RO: u16 = 1;
    /// Nothing; accesses go to a device model.
    pub const MMIO_DM: u16 = 2;
    /// Not used.
    pub const UNUSED: u16 = 3;
    /// Writes go to a device model.
    pub const IOREQ_SERVER: u16 = 4;
}

/// A parameter of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Param {
    /// Whose.
    pub domid: u16,
    /// Padding.
    pub pad: u16,
    /// Which, of [`param`].
    pub index: u32,
    /// Its value.
    pub value: u64,
}

const _: () = assert!(size_of::<Param>() == 16);

/// Asks for the type of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct GetMemType {
    /// Whose.
    pub domid: u16,
    /// Out: one of [`memory`].
    pub mem_type: u16,
    /// Padding.
    pub pad: [u16; 2],
    /// The frame.
    pub pfn: u64,
}

const _: () = assert!(size_of::<GetMemType>() == 16);

/// By which vector a vCPU is told of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct UpcallVector {
    /// The vCPU.
    pub vcpu: u32,
    /// The vector.
    pub vector: u8,
    /// Padding.
    pub pad: [u8; 3],
}
