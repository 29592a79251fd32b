//! A domain of Xen itself: a guest without a harness below it.
//!
//! Nobody answers the harness hypercall there, so the agent does it: it executes the ready and the done marker in its own code
//! and tells the host by a beacon of its own where everything is. Xen gives the initial domain its image, and all that
//! the image claims to need, in one piece of machine memory; so the channel, which lies behind the playground, is in one piece too.
//! [`builder`](crate::builder) does the same for a domain that it makes.
#![expect(unsafe_code, reason = "executes the marker instructions and reads what Xen wrote")]

use core::{
    arch::asm,
    mem::offset_of,
    ptr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use coverage_hypercall::{
    channel::{CHANNEL_LEN, OWN_CHANNEL},
    harness::{
        BEACON_MAGIC, BEACON_VERSION, Beacon, HARNESS_DONE, HARNESS_READY, HARNESS_SWITCH, Marker, Region,
    },
    signature::{SIGNATURE_MAGIC, SIGNATURE_OFFSET, Signature},
};
use xen_abi::{errno::Errno, pv::StartInfo};

use crate::Global;

/// Bytes of a page.
const PAGE: u64 = 4096;

/// The beacon, in a page of its own.
#[repr(C, align(4096))]
struct Aligned(Beacon);

const _: () = assert!(size_of::<Aligned>() == PAGE as usize && size_of::<Beacon>() <= SIGNATURE_OFFSET);

const NOWHERE: Region = Region { base: 0, len: 0 };

static BEACON: Global<Aligned> = Global::new(Aligned(Beacon {
    magic: BEACON_MAGIC,
    version: BEACON_VERSION,
    domains: 1,
    channel: NOWHERE,
    counters: NOWHERE,
    comparisons: NOWHERE,
    crash: NOWHERE,
    console: NOWHERE,
    canaries: NOWHERE,
    text: NOWHERE,
    build_id: [0; 32],
}));

/// The agent is its own harness.
static OWN: AtomicBool = AtomicBool::new(false);

/// True where the agent answers the harness hypercall itself.
pub(crate) fn is_own() -> bool {
    OWN.load(Ordering::Relaxed)
}

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
}

/// The list that says which machine frame is behind each frame of the domain.
struct Frames {
    list: u64,
    count: u64,
}

impl Frames {
    /// Machine address of a byte of the image or behind it.
    fn machine(&self, address: u64) -> Option<u64> {
        let frame = address / PAGE;
        (frame < self.count).then(|| {
            let at = self.list + frame * 8;
            // SAFETY: Xen maps the whole list where the start info says, and nobody changes it.
            let machine = unsafe { ptr::with_exposed_provenance::<u64>(at as usize).read() };
            machine * PAGE + address % PAGE
        })
    }

    /// Machine memory behind a range, if it is in one piece.
    fn region(&self, start: u64, len: u64) -> Option<Region> {
        let base = self.machine(start)?;
        let whole = (start / PAGE..(start + len).div_ceil(PAGE)).all(|frame| {
            self.machine(frame * PAGE) == Some((base - start % PAGE) + (frame - start / PAGE) * PAGE)
        });
        whole.then_some(Region { base, len })
    }
}

/// Fills the beacon from the start info at this address. From here on the agent answers the harness hypercall itself. None if memory is
/// not as it has to be.
pub(crate) fn set_up(start: u64) -> Option<()> {
    let field = |at: usize| {
        // SAFETY: the start info is where Xen says, mapped, and aligned to a page.
        unsafe { ptr::with_exposed_provenance::<u64>(start as usize + at).read() }
    };
    let frames = Frames {
        list: field(offset_of!(StartInfo, mfn_list)),
        count: field(offset_of!(StartInfo, nr_pages)),
    };
    let text = text();
    let text = frames.region(text.base, text.len)?;
    let channel = frames.region(OWN_CHANNEL, CHANNEL_LEN as u64)?;
    let at = frames.machine(BEACON.get().expose_provenance() as u64)?;
    fill(channel, text, at);
    Some(())
}

/// Fills the beacon where the agent knows no machine addresses: with its own, and the pages that the host has to find say which they
/// are. From here on the agent answers the harness hypercall itself.
pub(crate) fn set_up_translated() {
    let beacon = BEACON.get().expose_provenance() as u64;
    fill(Region { base: OWN_CHANNEL, len: CHANNEL_LEN as u64 }, text(), beacon);
    let channel = OWN_CHANNEL / PAGE..(OWN_CHANNEL + CHANNEL_LEN as u64).div_ceil(PAGE);
    for frame in channel.chain([beacon / PAGE]) {
        let signature = Signature { magic: SIGNATURE_MAGIC, frame };
        let at = (frame * PAGE) as usize + SIGNATURE_OFFSET;
        // SAFETY: the ends of the beacon's page and of the channel's pages, which are mapped and aligned; nothing lies there yet.
        unsafe { ptr::with_exposed_provenance_mut::<Signature>(at).write_volatile(signature) };
    }
}

/// The code of the image.
fn text() -> Region {
    let (image, end) = ((&raw const __image_start).addr() as u64, (&raw const __text_end).addr() as u64);
    Region { base: image, len: end - image }
}

/// Fills the beacon, which lies at `at` for the host, or for itself where the host finds it.
fn fill(channel: Region, text: Region, at: u64) {
    // SAFETY: runs once, before anything else refers to the beacon.
    unsafe {
        let beacon = BEACON.get();
        (*beacon).0.channel = channel;
        (*beacon).0.text = text;
    }
    HOSTS_BEACON.store(at, Ordering::Relaxed);
    OWN.store(true, Ordering::Relaxed);
}

/// Address of the beacon, for the ready marker.
static HOSTS_BEACON: AtomicU64 = AtomicU64::new(0);

/// Executes a marker at the start of a translated block.
macro_rules! marker {
    ($marker:expr, $rdi:expr) => {
        // SAFETY: a jump to the next instruction and two NOPs. The host may read and write the channel here, hence the block counts as
        // reading and writing all memory. It is as long as `Marker::code` says.
        unsafe {
            asm!(
                "jmp 2f",
                "2:",
                ".byte {}, {}, {}, {}, {}, {}, {}, {}",
                const $marker.code()[0], const $marker.code()[1], const $marker.code()[2], const $marker.code()[3],
                const $marker.code()[4], const $marker.code()[5], const $marker.code()[6], const $marker.code()[7],
                in("rdi") $rdi,
                options(nostack),
            )
        }
    };
}

/// Answers the harness hypercall.
pub(crate) fn answer(operation: u64) -> i64 {
    match operation {
        HARNESS_READY => {
            marker!(Marker::Ready, HOSTS_BEACON.load(Ordering::Relaxed));
            0
        }
        HARNESS_DONE => {
            marker!(Marker::Done, 0u64);
            0
        }
        // There is nobody else: whichever domain and vCPU a program names, it is this one.
        HARNESS_SWITCH => Errno::Inval.code(),
        _ => Errno::Nosys.code(),
    }
}
