//! Tests of the hypervisor through its public interface, on a machine that is a vector.

mod argo;
mod contracts;
mod device_model;
mod domctl;
mod event_fifo;
mod events;
mod grant_sequences;
mod grants;
mod guests;
mod interface;
mod memory;
mod oracles;
mod planted;
mod planted_events;
mod planted_grants;
mod planted_memory;
mod planted_vcpus;
mod pv;
mod regions;
mod schedule;
mod vcpus;

use crate::{
    Disposition, GuestContext, Hypervisor, Options, PagingMode, VcpuId,
    address::{Gfn, Gpa, Maddr, Mfn},
    bundle::tests::archive,
    machine::Machine,
};
use alloc::{boxed::Box, rc::Rc, string::String, vec, vec::Vec};
use core::cell::RefCell;
use coverage_hypercall::{
    coverage::{Features, Instrumentation, Mapped},
    crash::CrashKind,
    harness,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use xen_abi::{elfnote, errno::Errno};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Bytes of the machine; the first megabyte is not the hypervisor's to use.
const MACHINE: usize = 8 << 20;
/// First frame of the counters.
const COUNTERS: u64 = 0x80;
/// Where tests put structures; it is mapped one to one.
const ARENA: u64 = 0x8000;

const CONFIG: &str = "
[domain d1]
memory = 1M
maximum = 1088K
vcpus = 2
coverage = yes
cmdline = first
[domain d2]
memory = 1M
[shared channel]
size = 16K
gpa = 0x10000000
domains = d1 d2
";

struct TestMachine {
    ram: Rc<RefCell<Vec<u8>>>,
    console: Rc<RefCell<Vec<u8>>>,
}

impl Machine for TestMachine {
    fn read(&self, at: Maddr, out: &mut [u8]) {
        let at = at.0 as usize;
        out.copy_from_slice(&self.ram.borrow()[at..at + out.len()]);
    }

    fn write(&mut self, at: Maddr, data: &[u8]) {
        let at = at.0 as usize;
        self.ram.borrow_mut()[at..at + data.len()].copy_from_slice(data);
    }

    fn console(&mut self, text: &[u8]) {
        self.console.borrow_mut().extend_from_slice(text);
    }

    fn region_frame(&self, what: Mapped, page: u32) -> Option<Mfn> {
        (what == Mapped::Counters && page < 2).then_some(Mfn(COUNTERS + u64::from(page)))
    }

    fn report(&self, kind: CrashKind, message: &str) -> ! {
        panic!("oracle {}: {message}", kind.name());
    }

    fn wild_read(&mut self, at: u64) -> u64 {
        panic!("wild read at {at:#x}");
    }

    fn wild_write(&mut self, at: u64, _value: u64) {
        panic!("wild write at {at:#x}");
    }
}

struct TestInstrumentation;

impl Instrumentation for TestInstrumentation {
    fn features(&self) -> Features {
        Features::EDGES | Features::MAPPING
    }
    fn counters(&self) -> u32 {
        100
    }
    fn read(&self, _first: u32, out: &mut [u8]) {
        out.fill(7);
    }
    fn reset(&mut self) {}
    fn set_comparisons(&mut self, _on: bool) {}
    fn comparison_capacity(&self) -> u32 {
        0
    }
    fn build_id(&self) -> [u8; 32] {
        [0xb1; 32]
    }
    fn pages(&self, what: Mapped) -> u32 {
        if what == Mapped::Counters { 2 } else { 0 }
    }
}

/// A hypervisor with two domains, whose first vCPUs are ready.
struct World {
    hypervisor: Hypervisor,
    ram: Rc<RefCell<Vec<u8>>>,
    console: Rc<RefCell<Vec<u8>>>,
}

const D0: VcpuId = VcpuId { domain: 0, vcpu: 0 };
const D1: VcpuId = VcpuId { domain: 1, vcpu: 0 };
const D2: VcpuId = VcpuId { domain: 2, vcpu: 0 };
const FLAT: GuestContext = GuestContext { cr3: 0, cpl: 0, paging: PagingMode::Flat };

/// An ELF file with one segment at `paddr` and, if `note`, a PVH entry note for 0x1000.
fn elf(paddr: u64, note: bool) -> Vec<u8> {
    let mut file = vec![0; 64 + 2 * 56];
    file[..8].copy_from_slice(&[0x7f, b'E', b'L', b'F', 2, 1, 1, 0]);
    file[16..20].copy_from_slice(&[2, 0, 62, 0]);
    file[20..24].copy_from_slice(&1u32.to_le_bytes());
    file[32..40].copy_from_slice(&64u64.to_le_bytes());
    file[52..58].copy_from_slice(&[64, 0, 56, 0, 2, 0]);
    let mut header = |n: usize, kind: u32, offset: u64, paddr: u64, size: u64| {
        let at = 64 + n * 56;
        file[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        for (field, value) in [(8, offset), (24, paddr), (32, size), (40, size), (48, 4)] {
            file[at + field..at + field + 8].copy_from_slice(&value.to_le_bytes());
        }
    };
    let data = 64 + 2 * 56;
    header(0, 1, data, paddr, 8);
    header(1, if note { 4 } else { 0 }, data + 8, 0, 48);
    file.extend_from_slice(b"segment!");
    for kind in [elfnote::PHYS32_ENTRY, elfnote::ENTRY] {
        for word in [4, 8, kind] {
            file.extend_from_slice(&word.to_le_bytes());
        }
        file.extend_from_slice(elfnote::NAME);
        file.extend_from_slice(&0x1000u64.to_le_bytes());
    }
    file
}

impl World {
    /// Nothing is built yet.
    fn empty(line: &str) -> Self {
        let ram = Rc::new(RefCell::new(vec![0xee; MACHINE]));
        let console = Rc::new(RefCell::new(Vec::new()));
        let machine = TestMachine { ram: ram.clone(), console: console.clone() };
        let frames = [Mfn(0x100)..Mfn(MACHINE as u64 >> 12)];
        let options = Options::parse(line).unwrap();
        let hypervisor = Hypervisor::new(Box::new(machine), Box::new(TestInstrumentation), &frames, options);
        Self { hypervisor, ram, console }
    }

    fn with(line: &str) -> Self {
        Self::configured(line, CONFIG, &[D2, D1])
    }

    /// As [`Self::with`], and a control domain besides.
    fn with_control(line: &str) -> Self {
        let config = CONFIG.replace("domains = d1 d2", "domains = d0 d1 d2");
        let config = std::format!("[domain d0]\nprivileged = yes\nmemory = 1M\nmaximum = 1088K\n{config}");
        Self::configured(line, &config, &[D2, D1, D0])
    }

    /// A world in which these vCPUs get ready, in this order.
    fn configured(line: &str, config: &str, order: &[VcpuId]) -> Self {
        let mut world = Self::empty(line);
        let file = elf(0x1000, true);
        let bundle = archive(&[("domains.conf", config.as_bytes()), ("agent.elf", &file)]);
        world.hypervisor.build(&bundle).unwrap();
        for (n, id) in order.iter().enumerate() {
            assert_eq!(world.hypervisor.vcpu_to_run(), Some(*id));
            let answer = world.raw(*id, harness::HARNESS_OP, &[harness::HARNESS_READY]);
            let last = n + 1 == order.len();
            assert_eq!(answer, if last { Disposition::Ready } else { Disposition::Reschedule });
        }
        assert_eq!(world.hypervisor.vcpu_to_run(), Some(D1));
        assert_eq!(world.hypervisor.resume_value(D1), Some(0));
        world
    }

    fn new() -> Self {
        Self::with("")
    }

    fn raw(&mut self, id: VcpuId, number: u64, args: &[u64]) -> Disposition {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        self.hypervisor.hypercall(id, number, all, &FLAT)
    }

    /// A call of d1 that returns.
    fn call(&mut self, number: u64, args: &[u64]) -> i64 {
        self.call_as(D1, number, args)
    }

    fn call_as(&mut self, id: VcpuId, number: u64, args: &[u64]) -> i64 {
        match self.raw(id, number, args) {
            Disposition::Return(value) => value,
            other => panic!("{other:?}"),
        }
    }

    /// A call whose second argument is the address of a structure; returns it as it is afterwards.
    fn call_with<T: FromBytes + FromZeros + IntoBytes + Immutable>(
        &mut self,
        id: VcpuId,
        number: u64,
        cmd: u32,
        argument: T,
    ) -> (i64, T) {
        self.poke(id, ARENA, argument.as_bytes());
        let value = self.call_as(id, number, &[u64::from(cmd), ARENA]);
        (value, self.peek(id, ARENA))
    }

    fn maddr(&self, id: VcpuId, gpa: u64) -> usize {
        let mapping = self.hypervisor.lookup(id.domain, Gpa(gpa).frame()).expect("mapped");
        (mapping.mfn.address().0 + Gpa(gpa).offset()) as usize
    }

    /// Writes into a page of a domain.
    fn poke(&mut self, id: VcpuId, gpa: u64, bytes: &[u8]) {
        let at = self.maddr(id, gpa);
        self.ram.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn poke_words(&mut self, id: VcpuId, gpa: u64, words: &[u64]) {
        self.poke(id, gpa, words.as_bytes());
    }

    /// Reads from a page of a domain.
    fn peek<T: FromBytes>(&self, id: VcpuId, gpa: u64) -> T {
        let at = self.maddr(id, gpa);
        T::read_from_prefix(&self.ram.borrow()[at..]).unwrap().0
    }

    fn is_mapped(&self, gfn: u64) -> bool {
        self.hypervisor.lookup(1, Gfn(gfn)).is_some()
    }

    fn console(&self) -> String {
        String::from_utf8(self.console.borrow().clone()).unwrap()
    }
}

fn code(error: Errno) -> i64 {
    error.code()
}

/// Message of the panic that `action` ends in.
fn panic_of(action: impl FnOnce()) -> String {
    let error = catch_unwind(AssertUnwindSafe(action)).expect_err("nothing was violated");
    match error.downcast::<String>() {
        Ok(message) => *message,
        Err(error) => String::from(*error.downcast::<&str>().unwrap()),
    }
}
