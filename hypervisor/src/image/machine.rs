//! The machine as the library sees it: RAM by way of the direct map, console, crash record.
#![expect(unsafe_code, reason = "copies to and from physical memory")]

use core::{ops::Range, ptr};

use coverage_hypercall::{coverage::Mapped, crash::CrashKind};
use hypervisor::{
    address::{Maddr, Mfn},
    machine::Machine,
    options::Mode,
};
use x86_64::{PhysAddr, registers::control::Cr3};

use super::{console, crash, heap, layout};

/// Bytes of the upper half of a root table.
const UPPER_HALF: usize = 2048;

/// The machine that the image runs on.
pub(crate) struct RealMachine {
    /// The hypervisor's part of each root table that is going to be loaded.
    upper_half: Option<[u8; UPPER_HALF]>,
}

impl RealMachine {
    /// The machine, with the page tables of the hypervisor loaded.
    pub(crate) fn new(mode: Mode) -> Self {
        let mut machine = Self { upper_half: None };
        if mode == Mode::Pv {
            let root = Cr3::read_raw().0.start_address().as_u64();
            let mut upper_half = [0; UPPER_HALF];
            machine.read(Maddr(root + UPPER_HALF as u64), &mut upper_half);
            machine.upper_half = Some(upper_half);
        }
        machine
    }
}

/// Where a physical address lies in the direct map.
fn pointer(at: Maddr) -> *mut u8 {
    layout::direct(PhysAddr::new(at.0)).as_mut_ptr()
}

/// Frame `page` of a page-aligned static range.
fn frame(range: Range<u64>, page: u32) -> Option<Mfn> {
    let at = range.start + u64::from(page) * layout::PAGE;
    (at < range.end).then(|| Maddr(layout::image_to_phys(at).as_u64()).frame())
}

impl Machine for RealMachine {
    fn read(&self, at: Maddr, out: &mut [u8]) {
        // SAFETY: the library stays inside the RAM that it was given, all of which is mapped. No guest runs while we
        // do, so nobody writes meanwhile; `out` is the hypervisor's own memory, which the library was not given.
        unsafe { ptr::copy_nonoverlapping(pointer(at), out.as_mut_ptr(), out.len()) };
    }

    fn write(&mut self, at: Maddr, data: &[u8]) {
        // SAFETY: as for `read`; nothing in Rust refers to that RAM.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), pointer(at), data.len()) };
    }

    fn console(&mut self, text: &[u8]) {
        console::write(text);
    }

    fn guest_console(&mut self, text: &[u8]) {
        console::write_guest(text);
    }

    fn region_frame(&self, what: Mapped, page: u32) -> Option<Mfn> {
        match what {
            Mapped::Counters => frame(coverage_rt::counters(), page),
            Mapped::Comparisons => frame(coverage_rt::comparisons(), page),
        }
    }

    fn prepare_root(&mut self, root: Mfn) {
        if let Some(upper_half) = self.upper_half {
            self.write(Maddr(root.address().0 + UPPER_HALF as u64), &upper_half);
        }
    }

    fn heap_damage(&self, thorough: bool) -> Option<&'static str> {
        heap::damage(thorough)
    }

    fn report(&self, kind: CrashKind, message: &str) -> ! {
        crash::report(kind, &message)
    }
}
