//! The coverage hypercall against a mock hypervisor whose guest memory is one array.

use std::collections::BTreeMap;

use coverage_hypercall::coverage::{
    Caller, DomainCoverage, Enable, Errno, Fault, Features, Info, Instrumentation, MAX_MAP_PAGES, MAX_READ,
    MAX_VCPUS, MAX_WINDOWS, Map, Mapped, Read, Unmap, VERSION, VcpuState, cmd, handle, switch,
};
use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

const COUNTERS: u32 = 10_000;
const PAGES: u32 = 3;
const LOG_PAGES: u32 = 200;

struct Mock {
    counters: Vec<u8>,
    features: Features,
    comparisons: bool,
    edges: bool,
}

impl Instrumentation for Mock {
    fn features(&self) -> Features {
        self.features
    }
    fn counters(&self) -> u32 {
        self.counters.len() as u32
    }
    fn read(&self, first: u32, out: &mut [u8]) {
        out.copy_from_slice(&self.counters[first as usize..][..out.len()]);
    }
    fn reset(&mut self) {
        self.counters.fill(0);
    }
    fn set_comparisons(&mut self, on: bool) {
        self.comparisons = on;
    }
    fn set_edges(&mut self, on: bool) {
        self.edges = on;
    }
    fn comparison_capacity(&self) -> u32 {
        1000
    }
    fn build_id(&self) -> [u8; 32] {
        [7; 32]
    }
    fn pages(&self, what: Mapped) -> u32 {
        match what {
            Mapped::Counters => PAGES,
            Mapped::Comparisons => LOG_PAGES,
        }
    }
}

struct Guest {
    vcpu: u32,
    permitted: bool,
    memory: Vec<u8>,
    p2m: BTreeMap<u64, (u32, u32)>,
    taken: u64,
}

impl Caller for Guest {
    fn vcpu(&self) -> u32 {
        self.vcpu
    }
    fn permitted(&self) -> bool {
        self.permitted
    }
    fn copy_from_guest(&self, addr: u64, out: &mut [u8]) -> Result<(), Fault> {
        let from = usize::try_from(addr).map_err(|_| Fault)?;
        let end = from.checked_add(out.len()).ok_or(Fault)?;
        out.copy_from_slice(self.memory.get(from..end).ok_or(Fault)?);
        Ok(())
    }
    fn copy_to_guest(&mut self, addr: u64, data: &[u8]) -> Result<(), Fault> {
        let to = usize::try_from(addr).map_err(|_| Fault)?;
        let end = to.checked_add(data.len()).ok_or(Fault)?;
        self.memory.get_mut(to..end).ok_or(Fault)?.copy_from_slice(data);
        Ok(())
    }
    fn map(&mut self, what: Mapped, page: u32, gfn: u64) -> Result<(), Errno> {
        if gfn == self.taken || self.p2m.contains_key(&gfn) {
            return Err(Errno::EBUSY);
        }
        self.p2m.insert(gfn, (what as u32, page));
        Ok(())
    }
    fn unmap(&mut self, what: Mapped, page: u32, gfn: u64) -> Result<(), Errno> {
        if self.p2m.get(&gfn) != Some(&(what as u32, page)) {
            return Err(Errno::ENOENT);
        }
        self.p2m.remove(&gfn);
        Ok(())
    }
    fn release(&mut self) {
        self.permitted = false;
    }
}

struct World {
    state: DomainCoverage,
    mock: Mock,
    guest: Guest,
}

impl World {
    fn new() -> Self {
        let counters = (0..COUNTERS).map(|n| (n % 251) as u8).collect();
        let features = Features::RECORDABLE | Features::MAPPING;
        Self {
            state: DomainCoverage::new(),
            mock: Mock { counters, features, comparisons: false, edges: false },
            guest: Guest {
                vcpu: 0,
                permitted: true,
                memory: vec![0; 0x4000],
                p2m: BTreeMap::new(),
                taken: 0x999,
            },
        }
    }

    fn call(&mut self, cmd: u64, arg: u64) -> i64 {
        handle(&mut self.state, &mut self.mock, &mut self.guest, cmd, arg)
    }

    /// Puts the structure at address 0x100 and calls with it.
    fn with(&mut self, cmd: u64, bytes: &[u8]) -> i64 {
        self.guest.memory[0x100..0x100 + bytes.len()].copy_from_slice(bytes);
        self.call(cmd, 0x100)
    }

    fn enable(&mut self, flags: u32) -> i64 {
        self.with(cmd::ENABLE, Enable { version: VERSION, flags }.as_bytes())
    }

    fn read(&mut self, offset: u32, count: u32, buffer: u64) -> i64 {
        self.with(cmd::READ, Read { version: VERSION, offset, count, reserved: 0, buffer }.as_bytes())
    }

    fn map(&mut self, what: u32, first_page: u32, pages: u32, gfn: u64) -> i64 {
        self.with(cmd::MAP, Map { version: VERSION, what, first_page, pages, gfn }.as_bytes())
    }

    fn unmap(&mut self, pages: u32, gfn: u64) -> i64 {
        self.with(cmd::UNMAP, Unmap { version: VERSION, pages, gfn }.as_bytes())
    }
}

const BOTH: u32 = Features::RECORDABLE.bits();

#[test]
fn info_describes_the_build() {
    let mut w = World::new();
    assert_eq!(w.call(cmd::INFO, 0x200), 0);
    let info = Info::read_from_prefix(&w.guest.memory[0x200..]).unwrap().0;
    assert_eq!(
        info,
        Info {
            version: VERSION,
            features: w.mock.features.bits(),
            counters: COUNTERS,
            comparison_capacity: 1000,
            counter_pages: PAGES,
            comparison_pages: LOG_PAGES,
            build_id: [7; 32],
        }
    );
    assert_eq!(w.call(cmd::INFO, 0x3fff), Errno::EFAULT.status());
    assert_eq!(w.call(cmd::INFO, u64::MAX), Errno::EFAULT.status());
}

#[test]
fn recording_is_per_vcpu_and_a_state_machine() {
    let mut w = World::new();
    assert_eq!(w.call(cmd::DISABLE, 0), Errno::EINVAL.status());
    assert_eq!(w.call(cmd::RESET, 0), Errno::EINVAL.status());
    assert_eq!(w.enable(BOTH), 0);
    assert!(w.mock.comparisons && w.mock.edges);
    assert_eq!(w.enable(BOTH), Errno::EBUSY.status());
    assert_eq!(w.state.vcpu(0), VcpuState::Recording(Features::RECORDABLE));
    w.guest.vcpu = 1;
    assert_eq!(w.call(cmd::RESET, 0), Errno::EINVAL.status());
    assert!(w.mock.counters.iter().any(|c| *c != 0));
    w.guest.vcpu = 0;
    assert_eq!(w.call(cmd::RESET, 0), 0);
    assert!(w.mock.counters.iter().all(|c| *c == 0));
    assert_eq!(w.call(cmd::DISABLE, 0), 0);
    assert!(!w.mock.comparisons && !w.mock.edges);
    assert_eq!(w.state.vcpu(0), VcpuState::Off);
    w.guest.vcpu = MAX_VCPUS as u32;
    assert_eq!(w.enable(BOTH), Errno::EOPNOTSUPP.status());
    assert_eq!(w.call(cmd::DISABLE, 0), Errno::EINVAL.status());
}

#[test]
fn enable_refuses_what_is_not_there() {
    let mut w = World::new();
    assert_eq!(w.enable(0), Errno::EINVAL.status());
    assert_eq!(w.enable(1 << 9), Errno::EINVAL.status());
    assert_eq!(w.enable(Features::MAPPING.bits()), Errno::EINVAL.status());
    w.mock.features = Features::EDGES;
    assert_eq!(w.enable(BOTH), Errno::EOPNOTSUPP.status());
    let other = Enable { version: VERSION + 1, flags: BOTH };
    assert_eq!(w.with(cmd::ENABLE, other.as_bytes()), Errno::EOPNOTSUPP.status());
    assert_eq!(w.call(cmd::ENABLE, 1 << 40), Errno::EFAULT.status());
    assert_eq!(w.state.vcpu(0), VcpuState::Off);
}

#[test]
fn read_copies_a_bounded_part() {
    let mut w = World::new();
    assert_eq!(w.read(5, 300, 0x1000), 300);
    assert_eq!(w.guest.memory[0x1000..0x112c], w.mock.counters[5..305]);
    assert_eq!(w.guest.memory[0x112c], 0);
    assert_eq!(w.read(0, u32::MAX, 0x1000), i64::from(MAX_READ));
    assert_eq!(w.read(COUNTERS - 3, 10, 0x1000), 3);
    assert_eq!(w.read(COUNTERS, 10, 0x1000), 0);
    assert_eq!(w.read(COUNTERS + 1, 10, 0x1000), Errno::EINVAL.status());
    assert_eq!(w.read(0, 300, 0x3f80), Errno::EFAULT.status());
    assert_eq!(w.read(0, 300, u64::MAX - 100), Errno::EFAULT.status());
    let mut r = Read { version: VERSION, offset: 0, count: 1, reserved: 1, buffer: 0x1000 };
    assert_eq!(w.with(cmd::READ, r.as_bytes()), Errno::EINVAL.status());
    r.version = 0;
    assert_eq!(w.with(cmd::READ, r.as_bytes()), Errno::EOPNOTSUPP.status());
}

#[test]
fn map_and_unmap_work_in_whole_windows() {
    let mut w = World::new();
    assert_eq!(w.map(0, 1, 2, 0x500), 0);
    assert_eq!(w.guest.p2m, BTreeMap::from([(0x500, (0, 1)), (0x501, (0, 2))]));
    assert_eq!(w.map(1, 0, 1, 0x501), Errno::EBUSY.status());
    assert_eq!(w.unmap(1, 0x500), Errno::ENOENT.status());
    assert_eq!(w.unmap(2, 0x501), Errno::ENOENT.status());
    assert_eq!(w.unmap(2, 0x500), 0);
    assert!(w.guest.p2m.is_empty());
    assert_eq!(w.unmap(2, 0x500), Errno::ENOENT.status());
    // Half of the window is taken: nothing stays mapped.
    assert_eq!(w.map(1, 0, 4, 0x997), Errno::EBUSY.status());
    assert!(w.guest.p2m.is_empty());
    assert_eq!(w.state.mapped_pages(), 0);
}

#[test]
fn map_refuses_nonsense() {
    let mut w = World::new();
    for (what, first, pages, gfn, errno) in [
        (2, 0, 1, 0, Errno::EINVAL),
        (0, 0, 0, 0, Errno::EINVAL),
        (0, 0, PAGES + 1, 0, Errno::EINVAL),
        (0, PAGES, 1, 0, Errno::EINVAL),
        (0, u32::MAX, 1, 0, Errno::EINVAL),
        (0, 0, 2, u64::MAX - 1, Errno::EINVAL),
        (1, 0, MAX_MAP_PAGES + 1, 0, Errno::E2BIG),
    ] {
        assert_eq!(w.map(what, first, pages, gfn), errno.status(), "{what} {first} {pages} {gfn:#x}");
    }
    for n in 0..MAX_WINDOWS as u64 {
        assert_eq!(w.map(0, 0, 1, n), 0);
    }
    assert_eq!(w.map(0, 0, 1, 0x100), Errno::EAGAIN.status());
    w.mock.features = Features::EDGES;
    assert_eq!(w.map(0, 0, 1, 0x100), Errno::EOPNOTSUPP.status());
    let old = Map { version: 0, what: 0, first_page: 0, pages: 1, gfn: 0 };
    assert_eq!(w.with(cmd::MAP, old.as_bytes()), Errno::EOPNOTSUPP.status());
    let old = Unmap { version: 0, pages: 1, gfn: 0 };
    assert_eq!(w.with(cmd::UNMAP, old.as_bytes()), Errno::EOPNOTSUPP.status());
    assert_eq!(w.call(cmd::MAP, 0x4000), Errno::EFAULT.status());
    assert_eq!(w.call(cmd::UNMAP, 0x4000), Errno::EFAULT.status());
}

#[test]
fn release_is_final_and_leaves_nothing_behind() {
    let mut w = World::new();
    assert_eq!(w.enable(BOTH), 0);
    assert_eq!(w.map(0, 0, 2, 0x500), 0);
    // The guest replaced one of the pages: that one must stay.
    w.guest.p2m.insert(0x501, (77, 77));
    assert_eq!(w.call(cmd::RELEASE, 1), Errno::EINVAL.status());
    assert_eq!(w.call(cmd::RELEASE, 0), 0);
    assert_eq!(w.guest.p2m, BTreeMap::from([(0x501, (77, 77))]));
    assert!(w.state.released() && !w.mock.comparisons && !w.guest.permitted);
    // Even a hypervisor that gives the right back by mistake does not revive it.
    w.guest.permitted = true;
    for cmd in 0..10 {
        assert_eq!(w.call(cmd, 0x100), Errno::EPERM.status());
    }
}

#[test]
fn without_the_right_nothing_works() {
    let mut w = World::new();
    w.guest.permitted = false;
    for cmd in 0..10 {
        assert_eq!(w.call(cmd, 0), Errno::EPERM.status());
    }
    w.guest.permitted = true;
    assert_eq!(w.call(8, 0), Errno::ENOSYS.status());
    assert_eq!(w.call(u64::MAX, 0), Errno::ENOSYS.status());
    assert_eq!(w.call(cmd::RESET, 1), Errno::EINVAL.status());
    assert_eq!(w.call(cmd::DISABLE, 1), Errno::EINVAL.status());
}

#[test]
fn switching_touches_only_what_differs() {
    let mut w = World::new();
    let (off, comparisons) = (VcpuState::Off, VcpuState::Recording(Features::COMPARISONS));
    w.mock.comparisons = true;
    switch(off, off, &mut w.mock);
    assert!(w.mock.comparisons, "a host that records by itself is not disturbed");
    switch(comparisons, VcpuState::Recording(Features::EDGES), &mut w.mock);
    assert!(!w.mock.comparisons && w.mock.edges);
    switch(off, comparisons, &mut w.mock);
    assert!(w.mock.comparisons);
    assert_eq!(w.enable(BOTH), 0);
    w.state.stop(0, &mut w.mock);
    assert!(!w.mock.comparisons && !w.mock.edges);
    assert_eq!(w.state.vcpu(0), off);
    w.state.stop(u32::MAX, &mut w.mock);
}

#[test]
fn status_codes_survive() {
    for n in 0..200 {
        if let Some(errno) = Errno::from_status(-n) {
            assert_eq!(errno.status(), -n);
        }
    }
}

proptest! {
    /// Whatever a guest passes: no panic, a known status, and a state that adds up.
    #[test]
    fn garbage_is_answered(
        calls in prop::collection::vec(
            (prop_oneof![9 => 0u64..9, 1 => any::<u64>()],
             prop_oneof![5 => Just(0x100u64), 2 => Just(0), 1 => 0u64..0x5000, 1 => any::<u64>()],
             0u32..3,
             prop::collection::vec(prop_oneof![0u32..4, 0u32..0x4000, any::<u32>()], 6)),
            1..60),
    ) {
        let mut w = World::new();
        for (cmd, arg, vcpu, mut words) in calls {
            w.guest.vcpu = vcpu * 40;
            if words[5] % 4 != 0 {
                words[0] = VERSION;
                words[3] %= 70;
                words[5] = 0;
            }
            w.guest.memory[0x100..0x118].copy_from_slice(words.as_bytes());
            let status = w.call(cmd, arg);
            prop_assert!(status <= i64::from(MAX_READ));
            if status < 0 {
                prop_assert!(Errno::from_status(status).is_some());
            }
            prop_assert_eq!(w.state.mapped_pages() as usize, w.guest.p2m.len());
        }
    }
}
