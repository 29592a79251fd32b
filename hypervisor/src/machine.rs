//! What the domain logic needs of the machine that it runs on.

use crate::address::{Maddr, Mfn, PAGE_SIZE};
use coverage_hypercall::{coverage::Mapped, crash::CrashKind};

/// The machine under the hypervisor. The image implements it on real memory, the tests on a vector.
///
/// It is used as a trait object, so that all of the logic is compiled, and instrumented, in this crate.
pub trait Machine {
    /// Reads memory. The range lies in RAM that the hypervisor was given.
    fn read(&self, at: Maddr, out: &mut [u8]);

    /// Writes memory. The range lies in RAM that the hypervisor was given.
    fn write(&mut self, at: Maddr, data: &[u8]);

    /// Appends to the hypervisor's console.
    fn console(&mut self, text: &[u8]);

    /// Passes on what a guest writes to its console, where the machine runs one guest for its own sake.
    fn guest_console(&mut self, text: &[u8]) {
        self.console(text);
    }

    /// Frame that holds page number `page` of an instrumentation region, if the region has that many.
    fn region_frame(&self, what: Mapped, page: u32) -> Option<Mfn>;

    /// Makes an empty root table of a physical map ready to be loaded: in pv mode its upper half is the hypervisor's.
    fn prepare_root(&mut self, _root: Mfn) {}

    /// Leaves a crash record and ends the run: an oracle was violated.
    fn report(&self, kind: CrashKind, message: &str) -> !;

    /// True where all bytes of a frame are the same as `byte`.
    fn is_filled(&self, frame: Mfn, byte: u8) -> bool {
        let mut page = [0; PAGE_SIZE as usize];
        self.read(frame.address(), &mut page);
        memory_scan::is_filled(&page, byte)
    }

    /// What is wrong with the hypervisor's heap, if anything is. A thorough look takes its time.
    fn heap_damage(&self, _thorough: bool) -> Option<&'static str> {
        None
    }

    /// Reads hypervisor memory at an address that nobody checked: only planted bugs do.
    fn wild_read(&mut self, at: u64) -> u64 {
        planted_bugs::wild_read(at)
    }

    /// Writes hypervisor memory at an address that nobody checked: only planted bugs do.
    fn wild_write(&mut self, at: u64, value: u64) {
        planted_bugs::wild_write(at, value);
    }
}

/// Little-endian accesses.
impl dyn Machine + '_ {
    /// Reads eight bytes.
    pub fn read_u64(&self, at: Maddr) -> u64 {
        let mut bytes = [0; 8];
        self.read(at, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// Writes eight bytes.
    pub fn write_u64(&mut self, at: Maddr, value: u64) {
        self.write(at, &value.to_le_bytes());
    }

    /// Reads four bytes.
    pub fn read_u32(&self, at: Maddr) -> u32 {
        let mut bytes = [0; 4];
        self.read(at, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Writes four bytes.
    pub fn write_u32(&mut self, at: Maddr, value: u32) {
        self.write(at, &value.to_le_bytes());
    }

    /// Fills a page with one byte.
    pub fn fill_page(&mut self, frame: Mfn, byte: u8) {
        let chunk = [byte; 512];
        for part in 0..8 {
            self.write(Maddr(frame.address().0 + part * 512), &chunk);
        }
    }
}
