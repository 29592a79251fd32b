//! Building, CPUID, model-specific registers, `xen_version`, `console_io`, `multicall`, coverage.

use super::*;
use crate::{BuildError, InjectGp, bundle::BundleError, mem::frames::Owner};
use coverage_hypercall::coverage::{COVERAGE_OP, Info, Map, cmd};
use proptest::prelude::*;
use xen_abi::{console, cpuid, hypercall, multicall::Entry, start_info, version};

#[test]
fn domains_are_built_as_configured() {
    let mut world = World::new();
    let entry = world.hypervisor.entry(D1);
    assert_eq!((entry.start.rip, entry.start.rbx, entry.asid), (0x1000, 0xff000, 2));
    assert_ne!(entry.nested_cr3, world.hypervisor.entry(D2).nested_cr3);
    assert_eq!(world.peek::<[u8; 8]>(D2, 0x1000), *b"segment!");
    let start: start_info::StartInfo = world.peek(D1, entry.start.rbx);
    assert_eq!((start.magic, start.version, start.memmap_entries), (start_info::MAGIC, 1, 3));
    let channel: start_info::MemmapEntry = world.peek(D1, start.memmap_paddr + 24);
    assert_eq!((channel.addr, channel.size, channel.kind), (0x1000_0000, 0x4000, 2));
    assert_eq!(world.peek::<[u8; 6]>(D1, start.cmdline_paddr), *b"first\0");
    world.poke(D1, 0x1000_3ff8, b"shared!!");
    assert_eq!(world.peek::<[u8; 8]>(D2, 0x1000_3ff8), *b"shared!!");
    let (at, len) = world.hypervisor.region("channel").unwrap();
    assert_eq!((at.0 as usize, len), (world.maddr(D1, 0x1000_0000), 0x4000));
    assert_eq!(world.hypervisor.region("other"), None);
}

#[test]
fn what_cannot_be_built_is_named() {
    let build = |config: &str, file: &[u8]| {
        World::empty("")
            .hypervisor
            .build(&archive(&[("domains.conf", config.as_bytes()), ("agent.elf", file)]))
    };
    let good = elf(0x1000, true);
    assert_eq!(build(CONFIG, &good), Ok(()));
    assert_eq!(build(CONFIG, &elf(0x1000, false)), Err(BuildError::NoEntry));
    assert_eq!(build(CONFIG, &elf(0xffffc, true)), Err(BuildError::DoesNotFit { at: Gpa(0xffffc) }));
    assert_eq!(build(CONFIG, b"text"), Err(BuildError::Elf));
    assert_eq!(build("[domain d]\nmemory = 64M", &good), Err(BuildError::OutOfMemory));
    assert!(matches!(build("[domain", &good), Err(BuildError::Config(error)) if error.line == 1));
    let empty = World::empty("").hypervisor.build(&archive(&[]));
    assert_eq!(empty, Err(BuildError::Bundle(BundleError::Missing("domains.conf"))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_damaged_image_never_panics(at in 0usize..208, value: u8) {
        let mut file = elf(0x1000, true);
        let at = at % file.len();
        file[at] = value;
        let bundle = archive(&[("domains.conf", b"[domain d]\nmemory = 64K"), ("agent.elf", &file)]);
        let _ = World::empty("").hypervisor.build(&bundle);
    }
}

#[test]
fn cpuid_says_xen_and_hides_svm() {
    let world = World::new();
    let ask = |leaf, native| world.hypervisor.cpuid(D1, leaf, 0, native);
    assert_eq!(ask(cpuid::BASE, [0; 4])[1], cpuid::SIGNATURE_EBX);
    assert_eq!(ask(cpuid::HYPERCALL, [0; 4])[..2], [1, cpuid::MSR_HYPERCALL]);
    assert_eq!(ask(cpuid::HVM, [0; 4]), [0x18, 0, 1, 0]);
    assert_eq!(ask(0x8000_0001, [!0; 4])[2], !4);
    assert_eq!(ask(0x8000_000a, [!0; 4]), [0; 4]);
    assert_eq!(ask(1, [0; 4])[2], 1 << 31);
    assert_eq!(ask(0x4000_1234, [!0; 4]), [0; 4]);
    assert_eq!(ask(7, [1, 2, 3, 4]), [1, 2, 3, 4]);
}

#[test]
fn the_hypercall_page_holds_stubs() {
    let mut world = World::new();
    world.hypervisor.wrmsr(D1, cpuid::MSR_HYPERCALL, 0x9000).unwrap();
    assert_eq!(world.peek::<[u8; 9]>(D1, 0x9000 + 55 * 32), [0xb8, 55, 0, 0, 0, 0x0f, 0x01, 0xd9, 0xc3]);
    assert_eq!(world.peek::<u8>(D1, 0x9fe0), 0xb8);
    for bad in [0x9001, 0x200_0000] {
        assert_eq!(world.hypervisor.wrmsr(D1, cpuid::MSR_HYPERCALL, bad), Err(InjectGp));
    }
    assert_eq!(world.hypervisor.wrmsr(D1, 0xc000_0080, 0), Err(InjectGp));
    assert_eq!(world.hypervisor.rdmsr(D1, 0xdead), Err(InjectGp));
    assert!(world.hypervisor.rdmsr(D1, 0x10).unwrap() > 0);
}

#[test]
fn xen_version_answers_every_question() {
    let mut world = World::new();
    let mut ask = |cmd: u32, buffer: u64| world.call(hypercall::XEN_VERSION, &[u64::from(cmd), buffer]);
    assert_eq!(ask(version::VERSION, 0), 0x4_0011);
    assert_eq!(ask(version::PAGESIZE, 0), 4096);
    assert_eq!(ask(version::PAGESIZE, ARENA), code(Errno::Inval));
    assert_eq!(ask(version::BUILD_ID, 0), 32);
    assert_eq!(ask(99, ARENA), code(Errno::Nosys));
    for cmd in [1, 2, 3, 4, 5, 8, 9] {
        assert_eq!(ask(cmd, ARENA), 0, "{cmd}");
        assert_eq!(ask(cmd, 0x200_0000), code(Errno::Fault), "{cmd}");
    }
    assert_eq!(world.peek::<[u8; 9]>(D1, ARENA), *b"<denied>\0");
    let feature = version::FeatureInfo { submap_idx: 0, submap: 0 };
    let (value, answer) = world.call_with(D1, hypercall::XEN_VERSION, version::GET_FEATURES, feature);
    assert_eq!(value, 0);
    assert_ne!(answer.submap & 1 << version::FEAT_AUTO_TRANSLATED_PHYSMAP, 0);
    let feature = version::FeatureInfo { submap_idx: 1, submap: 0 };
    let (value, _) = world.call_with(D1, hypercall::XEN_VERSION, version::GET_FEATURES, feature);
    assert_eq!(value, code(Errno::Inval));
    for (len, expected) in [(0, code(Errno::Inval)), (31, code(Errno::Nobufs)), (32, 32)] {
        let request = version::BuildId { len };
        assert_eq!(world.call_with(D1, hypercall::XEN_VERSION, version::BUILD_ID, request).0, expected);
    }
    assert_eq!(world.peek::<[u8; 32]>(D1, ARENA + 4), [0xb1; 32]);
}

#[test]
fn the_console_prints_lines_of_what_can_be_printed() {
    let mut world = World::new();
    let write = |world: &mut World, text: &[u8]| {
        world.poke(D1, ARENA, text);
        world.call(hypercall::CONSOLE_IO, &[u64::from(console::WRITE), text.len() as u64, ARENA])
    };
    assert_eq!(write(&mut world, b"ab\x07c"), 0);
    assert_eq!(world.console(), "");
    assert_eq!(write(&mut world, b"d\nrest"), 0);
    assert_eq!(world.console(), "(d1) abcd\n");
    assert_eq!(write(&mut world, &[b'x'; 700]), 0);
    assert_eq!(world.console().lines().count(), 6);
    let io = |world: &mut World, cmd: u64, count: u64, at: u64| {
        world.call(hypercall::CONSOLE_IO, &[cmd, count, at])
    };
    assert_eq!(io(&mut world, 0, 0, 0), 0);
    assert_eq!(io(&mut world, 0, 8, 0x200_0000), code(Errno::Fault));
    assert_eq!(io(&mut world, 0, 0x8000_0000, ARENA), 0);
    assert_eq!(io(&mut world, 1, 16, ARENA), 0);
    assert_eq!(io(&mut world, 1, 0x8000_0000, ARENA), code(Errno::Inval));
    assert_eq!(io(&mut world, 2, 0, 0), code(Errno::Nosys));
}

#[test]
fn unknown_and_unprivileged_calls_are_refused() {
    let mut world = World::new();
    for number in [0, 33, 63, u64::MAX] {
        assert_eq!(world.call(number, &[]), code(Errno::Nosys));
    }
    let user = GuestContext { cpl: 3, ..FLAT };
    let answer = world.hypervisor.hypercall(D1, hypercall::XEN_VERSION, [0; 6], &user);
    assert_eq!(answer, Disposition::Return(code(Errno::Perm)));
}

fn entry(op: u64, args: [u64; 6]) -> Entry {
    Entry { op, result: 0x55, args }
}

#[test]
fn a_multicall_stores_a_result_per_entry() {
    let mut world = World::new();
    let list = [
        entry(hypercall::XEN_VERSION, [0; 6]),
        entry(99, [0; 6]),
        entry(hypercall::MULTICALL, [ARENA, 1, 0, 0, 0, 0]),
    ];
    world.poke(D1, ARENA, list.as_bytes());
    assert_eq!(world.call(hypercall::MULTICALL, &[ARENA, 3]), 0);
    let list: [Entry; 3] = world.peek(D1, ARENA);
    let expected = [0x4_0011, code(Errno::Nosys), code(Errno::Inval)];
    assert_eq!(list.map(|entry| entry.result as i64), expected);
    assert_eq!(world.call(hypercall::MULTICALL, &[0x200_0000, 1]), code(Errno::Fault));
    assert_eq!(world.call(hypercall::MULTICALL, &[ARENA, 513]), code(Errno::TooBig));
    assert_eq!(world.call(hypercall::MULTICALL, &[ARENA, 0]), 0);
}

#[test]
fn a_multicall_stops_where_the_processor_is_given_up() {
    let mut world = World::new();
    let list = [entry(hypercall::SCHED_OP, [1, 0, 0, 0, 0, 0]), entry(hypercall::XEN_VERSION, [0; 6])];
    world.poke(D1, ARENA, list.as_bytes());
    assert_eq!(world.raw(D1, hypercall::MULTICALL, &[ARENA, 2]), Disposition::Reschedule);
    let list: [Entry; 2] = world.peek(D1, ARENA);
    assert_eq!(list.map(|entry| entry.result), [0, 0x55]);
}

#[test]
fn coverage_is_read_mapped_and_released() {
    let mut world = World::new();
    assert_eq!(world.call(COVERAGE_OP, &[cmd::INFO, ARENA]), 0);
    assert_eq!(world.peek::<Info>(D1, ARENA).counters, 100);
    assert_eq!(world.call(COVERAGE_OP, &[cmd::INFO, 0x200_0000]), code(Errno::Fault));
    let map = Map { version: 1, what: 0, first_page: 0, pages: 2, gfn: 0x4000 };
    world.poke(D1, ARENA, map.as_bytes());
    assert_eq!(world.call(COVERAGE_OP, &[cmd::MAP, ARENA]), 0);
    assert_eq!(world.maddr(D1, 0x400_1000) as u64, (COUNTERS + 1) << 12);
    // Read-only: the guest may not have the hypervisor write there either.
    assert_eq!(world.call(COVERAGE_OP, &[cmd::INFO, 0x400_0000]), code(Errno::Fault));
    let fault = crate::NestedFault(1 << 1);
    assert_eq!(
        world.hypervisor.nested_fault(D1, Gpa(0x400_0000), fault),
        crate::FaultAction::InjectPageFault
    );
    assert_eq!(world.call(COVERAGE_OP, &[cmd::RELEASE, 0]), 0);
    assert!(!world.is_mapped(0x4000));
    assert_eq!(world.call(COVERAGE_OP, &[cmd::INFO, ARENA]), code(Errno::Perm));
    assert_eq!(world.call_as(D2, COVERAGE_OP, &[cmd::INFO, ARENA]), code(Errno::Perm));
}

/// Whether to switch before, hypercall, sub-operation, structure.
fn any_call() -> impl Strategy<Value = (bool, u64, u64, Vec<u64>)> {
    let number = prop::sample::select(vec![12u64, 12, 13, 17, 18, 20, 20, 29, 32, 32, 54, 55]);
    let word = prop_oneof![
        4 => 0u64..8,
        4 => 0x70u64..0x90,
        3 => Just(0x7ff0),
        3 => (0u64..12).prop_map(|n| ARENA + n * 8),
        1 => any::<u64>(),
    ];
    (any::<bool>(), number, 0u64..26, prop::collection::vec(word, 12))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// No oracle fires, and nothing panics, whatever two domains ask for.
    #[test]
    fn arbitrary_calls_violate_nothing(calls in prop::collection::vec(any_call(), 1..40)) {
        let mut world = World::new();
        for (turn, number, cmd, words) in calls {
            if turn {
                let _ = world.raw(D1, harness::HARNESS_OP, &[harness::HARNESS_SWITCH, 2]);
            }
            let Some(id) = world.hypervisor.vcpu_to_run() else { break };
            if world.hypervisor.lookup(id.domain, Gfn(ARENA >> 12)).is_some_and(|there| there.writable) {
                world.poke_words(id, ARENA, &words);
            }
            let args = if number == hypercall::MULTICALL { [ARENA, cmd % 3, 0] } else { [cmd, ARENA, cmd % 3] };
            let _ = world.raw(id, number, &args);
        }
        for domain in [1, 2] {
            let owned = (0..MACHINE as u64 >> 12)
                .filter(|mfn| world.hypervisor.memory.frames.owner(Mfn(*mfn)) == Owner::Domain(domain))
                .count() as u64;
            prop_assert_eq!(owned, world.hypervisor.domain(domain).unwrap().pages);
        }
    }
}
