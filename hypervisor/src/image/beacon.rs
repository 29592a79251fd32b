//! The beacon and the markers: how the host learns where everything is and what has happened.
#![expect(unsafe_code, reason = "executes the marker instructions and writes the beacon")]

use core::arch::asm;

use coverage_hypercall::harness::{BEACON_MAGIC, BEACON_VERSION, Beacon, Marker, Region, standalone};
use x86_64::{PhysAddr, instructions::port::PortWriteOnly};

use super::{console, crash, global::Global, layout};

const EMPTY: Region = Region { base: 0, len: 0 };

static BEACON: Global<Beacon> = Global::new(Beacon {
    magic: 0,
    version: BEACON_VERSION,
    domains: 0,
    channel: EMPTY,
    counters: EMPTY,
    comparisons: EMPTY,
    crash: EMPTY,
    console: EMPTY,
    canaries: EMPTY,
    text: EMPTY,
    build_id: [0; 32],
});

/// A static range of the image as physical memory.
fn region(virt: core::ops::Range<u64>) -> Region {
    Region { base: layout::image_to_phys(virt.start).as_u64(), len: virt.end - virt.start }
}

/// The linker's build id, padded with zeros.
pub(crate) fn build_id() -> [u8; 32] {
    let mut id = [0; 32];
    for (to, from) in id.iter_mut().zip(layout::build_id()) {
        *to = *from;
    }
    id
}

/// Fills the beacon in and says where it is.
pub(crate) fn publish(domains: u32, channel: Region, canaries: Region) -> PhysAddr {
    let beacon = Beacon {
        magic: BEACON_MAGIC,
        version: BEACON_VERSION,
        domains,
        channel,
        counters: region(coverage_rt::counters()),
        comparisons: region(coverage_rt::comparisons()),
        crash: crash::region(),
        console: console::region(),
        canaries,
        text: region(layout::text()),
        build_id: build_id(),
    };
    // SAFETY: nothing holds a reference to the beacon; the host reads it after the ready marker.
    unsafe { BEACON.as_ptr().write_volatile(beacon) };
    layout::image_to_phys(BEACON.address())
}

macro_rules! marker {
    ($marker:expr, $rdi:expr) => {
        // SAFETY: the instruction is a NOP. What the host does at it, it does to the machine as a whole: the
        // block counts as reading and writing all memory. It is as long as `Marker::code` says.
        unsafe {
            asm!(
                ".byte {0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}",
                const $marker.code()[0], const $marker.code()[1], const $marker.code()[2], const $marker.code()[3],
                const $marker.code()[4], const $marker.code()[5], const $marker.code()[6], const $marker.code()[7],
                in("rdi") $rdi,
                options(nostack, preserves_flags),
            )
        }
    };
}

/// Tells the host that programs can be run from here on.
#[inline(never)]
pub(crate) fn ready(beacon: PhysAddr) {
    marker!(Marker::Ready, beacon.as_u64());
}

/// Tells the host that the program has ended. Comes back only where no host resets the machine.
#[inline(never)]
pub(crate) fn done() {
    marker!(Marker::Done, 0u64);
}

/// Tells the host that nothing can run any more, and why the first domain ended, if it did.
#[inline(never)]
pub(crate) fn idle(ending: Option<u32>) -> ! {
    marker!(Marker::Idle, 0u64);
    halt(ending.map_or(standalone::EXIT_BLOCKED, |reason| standalone::EXIT_SHUTDOWN | (reason & 0xf) as u8))
}

/// Tells the host that the crash record is complete.
#[inline(never)]
pub(crate) fn crashed() -> ! {
    marker!(Marker::Crash, 0u64);
    halt(standalone::EXIT_CRASH)
}

/// What is left to do where no host resets the machine: end it, if it has a port for that.
fn halt(status: u8) -> ! {
    // SAFETY: a write to this port has no effect on memory, whether or not a device is there.
    unsafe { PortWriteOnly::<u8>::new(standalone::EXIT_PORT).write(status) };
    loop {
        x86_64::instructions::hlt();
    }
}
