//! A whole port of the coverage hypercall, small enough to be read at once: a hypervisor with three edges and one domain.
//!
//! The manual shows it piece by piece (`fuzzer/docs/book/src/porting.md`). What a real port does elsewhere (page tables, locks, compiler-made
//! counters) stands in comments.

// ANCHOR: state
use coverage_hypercall::coverage::{
    COVERAGE_OP, Caller, DomainCoverage, Enable, Errno, Fault, Features, Info, Instrumentation, Mapped, Read,
    VERSION, cmd, handle,
};
use zerocopy::{FromZeros, IntoBytes};

/// The counters, one byte for each edge. A compiler fills them; here code does it by hand.
struct Counters([u8; 3]);

/// The domain that calls: its memory, and what it holds.
struct Guest {
    memory: Vec<u8>,
    may_cover: bool,
}

/// The hypervisor. A real one keeps a `DomainCoverage` for each domain, and the counters behind a lock.
struct Hypervisor {
    counters: Counters,
    guest: Guest,
    coverage: DomainCoverage,
}
// ANCHOR_END: state

// ANCHOR: instrumentation
impl Instrumentation for Counters {
    fn features(&self) -> Features {
        Features::EDGES
    }
    fn counters(&self) -> u32 {
        self.0.len() as u32
    }
    fn read(&self, first: u32, out: &mut [u8]) {
        out.copy_from_slice(&self.0[first as usize..][..out.len()]);
    }
    fn reset(&mut self) {
        self.0.fill(0);
    }
    fn set_comparisons(&mut self, _: bool) {
        // This build logs no comparisons, and does not offer COMPARISONS.
    }
    fn comparison_capacity(&self) -> u32 {
        0
    }
    fn build_id(&self) -> [u8; 32] {
        // A hash over the image, so that nobody mixes the coverage of two builds.
        [0x11; 32]
    }
    fn pages(&self, _: Mapped) -> u32 {
        0
    }
}
// ANCHOR_END: instrumentation

// ANCHOR: caller
impl Guest {
    /// Where `len` bytes lie. A real hypervisor walks the guest's page tables.
    fn translate(&self, addr: u64, len: usize) -> Result<std::ops::Range<usize>, Fault> {
        let begin = usize::try_from(addr).map_err(|_| Fault)?;
        let end = begin.checked_add(len).filter(|end| *end <= self.memory.len()).ok_or(Fault)?;
        Ok(begin..end)
    }
}

impl Caller for Guest {
    fn vcpu(&self) -> u32 {
        0
    }
    fn permitted(&self) -> bool {
        self.may_cover
    }
    fn copy_from_guest(&self, addr: u64, out: &mut [u8]) -> Result<(), Fault> {
        let range = self.translate(addr, out.len())?;
        out.copy_from_slice(&self.memory[range]);
        Ok(())
    }
    fn copy_to_guest(&mut self, addr: u64, data: &[u8]) -> Result<(), Fault> {
        let range = self.translate(addr, data.len())?;
        self.memory[range].copy_from_slice(data);
        Ok(())
    }
    fn map(&mut self, _: Mapped, _: u32, _: u64) -> Result<(), Errno> {
        // Never asked: this build does not offer MAPPING.
        Err(Errno::EINVAL)
    }
    fn unmap(&mut self, _: Mapped, _: u32, _: u64) -> Result<(), Errno> {
        Err(Errno::ENOENT)
    }
    fn release(&mut self) {
        self.may_cover = false;
    }
}
// ANCHOR_END: caller

// ANCHOR: dispatch
impl Hypervisor {
    fn hypercall(&mut self, number: u64, first: u64, second: u64) -> i64 {
        match number {
            COVERAGE_OP => handle(&mut self.coverage, &mut self.counters, &mut self.guest, first, second),
            // A hypercall to be covered: two edges, and a third that only one argument reaches.
            7 => {
                self.counters.0[0] += 1;
                if first == 0x2a {
                    self.counters.0[2] += 1
                } else {
                    self.counters.0[1] += 1
                }
                0
            }
            _ => Errno::ENOSYS.status(),
        }
    }
}
// ANCHOR_END: dispatch

// ANCHOR: guest
/// A guest puts a structure at an address of its own and asks. (With `client::Client` these are methods.)
#[test]
fn a_guest_sees_what_its_call_has_executed() {
    let guest = Guest { memory: vec![0; 4096], may_cover: true };
    let mut hypervisor = Hypervisor { counters: Counters([0; 3]), guest, coverage: DomainCoverage::new() };
    let (structure, buffer) = (0x100, 0x200);

    assert_eq!(hypervisor.hypercall(COVERAGE_OP, cmd::INFO, structure), 0);
    let mut info = Info::new_zeroed();
    hypervisor.guest.copy_from_guest(structure, info.as_mut_bytes()).unwrap();
    assert_eq!((info.version, info.counters, info.features), (VERSION, 3, Features::EDGES.bits()));

    let enable = Enable { version: VERSION, flags: Features::EDGES.bits() };
    hypervisor.guest.copy_to_guest(structure, enable.as_bytes()).unwrap();
    assert_eq!(hypervisor.hypercall(COVERAGE_OP, cmd::ENABLE, structure), 0);
    assert_eq!(hypervisor.hypercall(COVERAGE_OP, cmd::RESET, 0), 0);

    assert_eq!(hypervisor.hypercall(7, 0x2a, 0), 0);

    let read = Read { version: VERSION, offset: 0, count: info.counters, reserved: 0, buffer };
    hypervisor.guest.copy_to_guest(structure, read.as_bytes()).unwrap();
    assert_eq!(hypervisor.hypercall(COVERAGE_OP, cmd::READ, structure), 3);
    assert_eq!(hypervisor.guest.memory[buffer as usize..][..3], [1, 0, 1]);
}
// ANCHOR_END: guest

#[test]
fn a_guest_without_the_right_learns_nothing_and_a_bad_address_is_a_status() {
    let guest = Guest { memory: vec![0; 4096], may_cover: false };
    let mut hypervisor = Hypervisor { counters: Counters([0; 3]), guest, coverage: DomainCoverage::new() };
    for command in 0..16 {
        assert_eq!(hypervisor.hypercall(COVERAGE_OP, command, 0x100), Errno::EPERM.status());
    }
    hypervisor.guest.may_cover = true;
    assert_eq!(hypervisor.hypercall(COVERAGE_OP, cmd::INFO, 4090), Errno::EFAULT.status());
    assert_eq!(hypervisor.hypercall(COVERAGE_OP, cmd::INFO, u64::MAX), Errno::EFAULT.status());
    assert_eq!(hypervisor.hypercall(COVERAGE_OP, cmd::RELEASE, 0), 0);
    assert_eq!(hypervisor.hypercall(COVERAGE_OP, cmd::INFO, 0x100), Errno::EPERM.status());
}
