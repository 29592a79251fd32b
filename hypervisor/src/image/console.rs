//! The console: a ring in memory for the host, and until the machine is ready also port 0xe9.
#![expect(unsafe_code, reason = "writes a static and a port")]

use core::{
    fmt::{self, Write},
    sync::atomic::{AtomicBool, Ordering},
};

use coverage_hypercall::harness::{ConsoleHeader, Region, standalone};
use x86_64::instructions::port::PortWriteOnly;

use super::{global::Global, layout};

const TEXT_LEN: usize = 0x4000 - size_of::<ConsoleHeader>();
/// The port of QEMU's `debugcon` and Bochs.
const DEBUG_PORT: u16 = 0xe9;

#[repr(C, align(4096))]
struct Ring {
    header: ConsoleHeader,
    text: [u8; TEXT_LEN],
}

static RING: Global<Ring> =
    Global::new(Ring { header: ConsoleHeader { written: 0, size: TEXT_LEN as u64 }, text: [0; TEXT_LEN] });
static LOUD: AtomicBool = AtomicBool::new(true);

/// From here on the port hears nothing more, last words included, unless `verbose`: a byte there costs a system call of QEMU's, and whoever
/// waits for the end of a program reads the ring.
pub(crate) fn go_quiet(verbose: bool) {
    LOUD.store(verbose, Ordering::Relaxed);
}

/// Where the ring lies in physical memory.
pub(crate) fn region() -> Region {
    Region { base: layout::image_to_phys(RING.address()).as_u64(), len: size_of::<Ring>() as u64 }
}

/// Writes bytes to the ring and, while loud, to the port.
pub(crate) fn write(bytes: &[u8]) {
    let ring = RING.as_ptr();
    for &byte in bytes {
        // SAFETY: the ring is a static that only this function writes, on the only processor; the host only
        // reads it. `written % TEXT_LEN` is inside the text.
        unsafe {
            let written = (&raw const (*ring).header.written).read_volatile();
            let at = (&raw mut (*ring).text).cast::<u8>().add((written % TEXT_LEN as u64) as usize);
            at.write_volatile(byte);
            (&raw mut (*ring).header.written).write_volatile(written + 1);
        }
    }
    if LOUD.load(Ordering::Relaxed) {
        let mut port = PortWriteOnly::<u8>::new(DEBUG_PORT);
        for &byte in bytes {
            // SAFETY: a write to this port has no effect on memory, whether or not a device is there.
            unsafe { port.write(byte) };
        }
    }
}

/// Passes on what a guest writes, where the machine runs it for its own sake.
pub(crate) fn write_guest(bytes: &[u8]) {
    let mut port = PortWriteOnly::<u8>::new(standalone::CONSOLE_PORT);
    for &byte in bytes {
        // SAFETY: a write to this port has no effect on memory, whether or not a device is there.
        unsafe { port.write(byte) };
    }
}

/// The console as a target of `write!`.
pub(crate) struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

/// Writes a line to the console.
macro_rules! println {
    ($($arg:tt)*) => {{
        use core::fmt::Write as _;
        // The console takes everything.
        let _ = writeln!($crate::image::console::Console, $($arg)*);
    }};
}
pub(crate) use println;
