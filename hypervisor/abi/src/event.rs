//! `event_channel_op` (`public/event_channel.h`): `cmd`, pointer to the operation's structure.

use core::mem::offset_of;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// [`BindInterdomain`].
pub const BIND_INTERDOMAIN: u32 = 0;
/// [`BindVirq`].
pub const BIND_VIRQ: u32 = 1;
/// [`BindPirq`].
pub const BIND_PIRQ: u32 = 2;
/// [`Port`].
pub const CLOSE: u32 = 3;
/// [`Port`].
pub const SEND: u32 = 4;
/// [`Status`].
pub const STATUS: u32 = 5;
/// [`AllocUnbound`].
pub const ALLOC_UNBOUND: u32 = 6;
/// [`BindIpi`].
pub const BIND_IPI: u32 = 7;
/// [`BindVcpu`].
pub const BIND_VCPU: u32 = 8;
/// [`Port`].
pub const UNMASK: u32 = 9;
/// [`Reset`].
pub const RESET: u32 = 10;
/// [`InitControl`].
pub const INIT_CONTROL: u32 = 11;
/// [`ExpandArray`].
pub const EXPAND_ARRAY: u32 = 12;
/// [`SetPriority`].
pub const SET_PRIORITY: u32 = 13;
/// The port is not in use.
pub const STATUS_CLOSED: u32 = 0;
/// Waits for the other side.
pub const STATUS_UNBOUND: u32 = 1;
/// Connected to another port.
pub const STATUS_INTERDOMAIN: u32 = 2;
/// Bound to a physical interrupt.
pub const STATUS_PIRQ: u32 = 3;
/// Bound to a virtual interrupt.
pub const STATUS_VIRQ: u32 = 4;
/// Bound to interprocessor events.
pub const STATUS_IPI: u32 = 5;
/// Flag of [`BindPirq`].
pub const PIRQ_WILL_SHARE: u32 = 1;
/// Virtual interrupts are numbered below this (`public/xen.h`).
pub const NR_VIRQS: u32 = 24;
/// Per vCPU: the singleshot timer.
pub const VIRQ_TIMER: u32 = 0;
/// Per vCPU: asked to dump its state.
pub const VIRQ_DEBUG: u32 = 1;
/// Per vCPU: profiling.
pub const VIRQ_XENOPROF: u32 = 7;
/// Global, of the domain: an Argo message.
pub const VIRQ_ARGO: u32 = 11;
/// Per vCPU: performance counter.
pub const VIRQ_XENPMU: u32 = 13;
/// Ports of the two-level ABI.
pub const CHANNELS_2L: u32 = 4096;

/// The default of the sixteen priorities of the FIFO ABI, of which 0 is the highest.
pub const FIFO_PRIORITY_DEFAULT: u32 = 7;
/// The lowest priority.
pub const FIFO_PRIORITY_MIN: u32 = 15;
/// Queues of a vCPU: one per priority.
pub const FIFO_MAX_QUEUES: u32 = 16;
/// Bit of an event word: an event is pending.
pub const FIFO_PENDING: u32 = 31;
/// Bit of an event word: events are not to be queued.
pub const FIFO_MASKED: u32 = 30;
/// Bit of an event word: it is in a queue.
pub const FIFO_LINKED: u32 = 29;
/// Bit of an event word: the guest is about to take it off its queue.
pub const FIFO_BUSY: u32 = 28;
/// Bits of a link: the port that is next in the queue.
pub const FIFO_LINK_BITS: u32 = 17;
/// The link in an event word.
pub const FIFO_LINK_MASK: u32 = (1 << FIFO_LINK_BITS) - 1;
/// Ports that can be linked.
pub const FIFO_NR_CHANNELS: u32 = 1 << FIFO_LINK_BITS;
/// In a control block: `u32`, queues with events, one bit each.
pub const FIFO_READY: usize = 0;
/// In a control block: `u32` per queue, its first port.
pub const FIFO_HEAD: usize = 8;
/// Bytes of a control block.
pub const FIFO_BLOCK_LEN: usize = 72;

/// Makes a port that waits for a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AllocUnbound {
    /// In: where the port is to be; an unprivileged caller may only name itself.
    pub dom: u16,
    /// In: who may connect.
    pub remote_dom: u16,
    /// Out: the new port.
    pub port: u32,
}

const _: () = assert!(size_of::<AllocUnbound>() == 8);

/// Connects to a waiting port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindInterdomain {
    /// In: whose port.
    pub remote_dom: u16,
    /// Padding.
    pub reserved: u16,
    /// In: which port.
    pub remote_port: u32,
    /// Out: the new port of the caller.
    pub local_port: u32,
}

const _: () = assert!(size_of::<BindInterdomain>() == 12);
const _: () = assert!(offset_of!(BindInterdomain, remote_port) == 4);

/// Binds a virtual interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindVirq {
    /// In: number of the interrupt.
    pub virq: u32,
    /// In: the vCPU to be notified.
    pub vcpu: u32,
    /// Out: the new port.
    pub port: u32,
}

const _: () = assert!(size_of::<BindVirq>() == 12);

/// Binds a physical interrupt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindPirq {
    /// In: number of the interrupt.
    pub pirq: u32,
    /// In: [`PIRQ_WILL_SHARE`].
    pub flags: u32,
    /// Out: the new port.
    pub port: u32,
}

const _: () = assert!(size_of::<BindPirq>() == 12);

/// Makes a port for interprocessor events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindIpi {
    /// In: the vCPU to be notified.
    pub vcpu: u32,
    /// Out: the new port.
    pub port: u32,
}

const _: () = assert!(size_of::<BindIpi>() == 8);

/// The argument of close, send and unmask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Port {
    /// In: which port.
    pub port: u32,
}

const _: () = assert!(size_of::<Port>() == 4);

/// Asks for the state of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Status {
    /// In: whose port.
    pub dom: u16,
    /// Padding.
    pub reserved: u16,
    /// In: which port.
    pub port: u32,
    /// Out: one of `STATUS_*`.
    pub status: u32,
    /// Out: the vCPU that is notified.
    pub vcpu: u32,
    /// Out: the other domain in its low half, or the interrupt.
    pub detail: u32,
    /// Out: the other port, where interdomain.
    pub remote_port: u32,
}

const _: () = assert!(size_of::<Status>() == 24);
const _: () = assert!(offset_of!(Status, port) == 4);
const _: () = assert!(offset_of!(Status, status) == 8);
const _: () = assert!(offset_of!(Status, detail) == 16);

/// Chooses the vCPU to be notified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BindVcpu {
    /// In: which port.
    pub port: u32,
    /// In: which vCPU.
    pub vcpu: u32,
}

const _: () = assert!(size_of::<BindVcpu>() == 8);

/// Closes all ports of a domain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Reset {
    /// In: whose ports.
    pub dom: u16,
}

const _: () = assert!(size_of::<Reset>() == 2);

/// Switches to the FIFO ABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct InitControl {
    /// In: frame of the control block.
    pub control_gfn: u64,
    /// In: offset in the frame.
    pub offset: u32,
    /// In: whose control block.
    pub vcpu: u32,
    /// Out: significant bits of a link.
    pub link_bits: u8,
    /// Padding.
    pub reserved: [u8; 7],
}

const _: () = assert!(size_of::<InitControl>() == 24);
const _: () = assert!(offset_of!(InitControl, link_bits) == 16);

/// Adds a page to the event array of the FIFO ABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ExpandArray {
    /// In: the frame.
    pub array_gfn: u64,
}

const _: () = assert!(size_of::<ExpandArray>() == 8);

/// Chooses the priority of a port of the FIFO ABI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SetPriority {
    /// In: which port.
    pub port: u32,
    /// In: 0 is the highest.
    pub priority: u32,
}

const _: () = assert!(size_of::<SetPriority>() == 8);
