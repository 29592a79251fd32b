//! Each oracle fires on a defect that is made by hand, and not without one. Planted bugs do the same by calls.

use super::*;
use crate::{
    mem::{
        frames::Owner,
        guest::Call,
        p2m::{Kind, Mapping},
    },
    oracle::{canary::Guarded, locks::Lock, output, work::LIMIT},
};
use memory_scan::Tag;
use xen_abi::{console, event, hypercall, memory, multicall::Entry, sched, version};

const GFN: u64 = 0x80;
const ARRAY: u64 = 0x9000;
const CALL: Call = Call { caller: D1, context: FLAT };

fn mfn(world: &World, id: VcpuId, gfn: u64) -> Mfn {
    world.hypervisor.lookup(id.domain, Gfn(gfn)).unwrap().mfn
}

fn tag(world: &World) -> Tag {
    world.hypervisor.memory.watch.tag
}

/// The defect is reported by this oracle, unless oracles are off.
fn fires(kind: CrashKind, defect: fn(&mut World)) {
    let message = panic_of(|| defect(&mut World::new()));
    assert!(message.starts_with(&alloc::format!("oracle {}:", kind.name())), "{message}");
    defect(&mut World::with("oracles=off"));
}

/// A call that does nothing, but ends.
fn any_call(world: &mut World) {
    assert_eq!(world.call(hypercall::XEN_VERSION, &[u64::from(version::PAGESIZE), 0]), 4096);
}

#[test]
fn an_overrun_hurts_the_canary() {
    fires(CrashKind::StackCanary, |world| {
        let mut buffer = Guarded::<16>::new();
        buffer.unchecked(16).fill(0x41);
        world.hypervisor.check_canary(&buffer);
        assert_eq!(buffer.text(99), [0x41; 16]);
        buffer.unchecked(17).fill(0x41);
        world.hypervisor.check_canary(&buffer);
    });
}

#[test]
fn a_write_to_a_free_frame_is_seen_when_it_is_allocated() {
    fires(CrashKind::FreedFrame, |world| {
        let at = mfn(world, D1, GFN).address().0 as usize;
        world.poke_words(D1, ARRAY, &[GFN]);
        let request =
            memory::Reservation { extent_start: ARRAY, nr_extents: 1, domid: 1, ..Default::default() };
        let take = memory::DECREASE_RESERVATION;
        assert_eq!(world.call_with(D1, hypercall::MEMORY_OP, take, request).0, 1);
        world.ram.borrow_mut()[at + 4095] = 0;
        world.call_with(D1, hypercall::MEMORY_OP, memory::POPULATE_PHYSMAP, request);
    });
}

#[test]
fn a_frame_that_is_mapped_and_free_is_seen() {
    fires(CrashKind::FreedFrame, |world| {
        let frame = mfn(world, D1, GFN);
        world.hypervisor.memory.put(frame);
        world.hypervisor.memory.put(frame);
        let request = memory::AddToPhysmap { domid: 1, space: 2, idx: GFN, gpfn: 0x180, size: 0 };
        world.call_with(D1, hypercall::MEMORY_OP, memory::ADD_TO_PHYSMAP, request);
    });
}

#[test]
fn a_reference_too_many_is_seen() {
    fires(CrashKind::References, |world| {
        let frame = mfn(world, D1, GFN);
        world.hypervisor.memory.get(frame);
        let request = memory::AddToPhysmap { domid: 1, space: 2, idx: GFN, gpfn: 0x4000, size: 0 };
        world.call_with(D1, hypercall::MEMORY_OP, memory::ADD_TO_PHYSMAP, request);
    });
}

#[test]
fn the_audit_looks_at_frames_that_no_call_touched() {
    let broken = |defect: fn(&mut World)| {
        let mut world = World::with("oracles=audit");
        assert_eq!(world.hypervisor.audit(), Ok(()));
        defect(&mut world);
        let message = panic_of(|| {
            world.raw(D1, harness::HARNESS_OP, &[harness::HARNESS_DONE]);
        });
        assert!(world.hypervisor.audit().is_err());
        message
    };
    let lost = broken(|world| {
        let frame = mfn(world, D1, GFN);
        world.hypervisor.memory.get(frame);
    });
    assert!(lost.starts_with("oracle references"), "{lost}");
    let moved = broken(|world| {
        let frame = mfn(world, D1, GFN);
        world.hypervisor.memory.set_gfn(frame, Some(Gfn(GFN + 1)));
    });
    assert!(moved.starts_with("oracle m2p-identity"), "{moved}");
    let counted = broken(|world| world.hypervisor.domain_mut(1).unwrap().pages += 1);
    assert!(counted.starts_with("oracle references"), "{counted}");
    let foreign = broken(|world| {
        let frame = mfn(world, D2, GFN);
        let (memory, p2m) = world.hypervisor.memory_and_p2m(1).unwrap();
        p2m.set(memory, Gfn(0x4000), Mapping::ram(frame)).unwrap();
    });
    assert!(foreign.starts_with("oracle isolation"), "{foreign}");
}

#[test]
fn a_lock_that_is_kept_is_seen() {
    fires(CrashKind::LockHeld, |world| {
        world.hypervisor.lock(Lock::Event(1));
        any_call(world);
    });
    fires(CrashKind::LockHeld, |world| {
        world.hypervisor.locked(Lock::P2m(1), |hypervisor| {
            hypervisor.locked(Lock::Domain(1), |_| ());
        });
    });
    fires(CrashKind::LockHeld, |world| {
        world.hypervisor.depth += 1;
        any_call(world);
    });
}

#[test]
fn a_call_that_takes_too_many_steps_is_seen() {
    fires(CrashKind::Latency, |world| {
        world.hypervisor.before_call(D1);
        world.hypervisor.memory.work(LIMIT);
        world.hypervisor.memory.work(1);
    });
    // Between calls nobody counts.
    let mut world = World::new();
    any_call(&mut world);
    world.hypervisor.memory.work(LIMIT + 1);
}

/// Steps of the costliest calls that we can think of: the bound is at least three times that.
#[test]
fn the_costliest_calls_stay_below_a_third_of_the_bound() {
    let mut world = World::new();
    let mut most = 0;
    let mut note = |world: &World, name: &str, value: i64| {
        let steps = world.hypervisor.memory.watch.steps();
        std::println!("{name}: {steps} steps, returned {value}");
        most = most.max(steps);
    };
    // 170 pages for each other, then all of them once more.
    let pages: Vec<u64> = (0x20..0xc0).collect();
    world.poke_words(D1, ARRAY, &pages);
    let extents = memory::Reservation {
        extent_start: ARRAY,
        nr_extents: pages.len() as u64,
        domid: 1,
        ..Default::default()
    };
    let request = memory::Exchange { input: extents, output: extents, nr_exchanged: 0 };
    let (value, _) = world.call_with(D1, hypercall::MEMORY_OP, memory::EXCHANGE, request);
    note(&world, "exchange", value);
    let batch = memory::AddToPhysmapBatch {
        domid: 1,
        space: memory::MAPSPACE_GMFN as u16,
        size: 512,
        foreign_domid: 0,
        idxs: ARRAY,
        gpfns: ARRAY + 0x1000,
        errs: ARRAY + 0x2000,
    };
    for n in 0..512 {
        world.poke_words(D1, ARRAY + n * 8, &[0x20 + n % 64 + (n / 64 % 2) * 0x4000]);
        world.poke_words(D1, ARRAY + 0x1000 + n * 8, &[0x4020 + n % 64 - (n / 64 % 2) * 0x4000]);
    }
    let (value, _) = world.call_with(D1, hypercall::MEMORY_OP, memory::ADD_TO_PHYSMAP_BATCH, batch);
    note(&world, "batch", value);
    // A multicall of which each entry copies in and out across a page, or pays for one page and moves 512.
    let list = 0x10_000;
    let multicall = |world: &mut World, entry: Entry| {
        for n in 0..512 {
            world.poke(D1, list + n * 64, entry.as_bytes());
        }
        world.call(hypercall::MULTICALL, &[list, 512])
    };
    let entry = |op, args| Entry { op, result: 0, args };
    let map = memory::MemoryMap { nr_entries: 8, reserved: 0, buffer: ARRAY + 0xff8 };
    world.poke(D1, 0x8ff8, map.as_bytes());
    let args = [memory::MEMORY_MAP.into(), 0x8ff8, 0, 0, 0, 0];
    let value = multicall(&mut world, entry(hypercall::MEMORY_OP, args));
    note(&world, "memory_map", value);
    let args = [console::WRITE.into(), 4096, ARRAY + 0xff8, 0, 0, 0];
    let value = multicall(&mut world, entry(hypercall::CONSOLE_IO, args));
    note(&world, "console", value);
    world.poke(D1, 0x8ff8, memory::Exchange { nr_exchanged: 0, ..request }.as_bytes());
    let args = [memory::EXCHANGE.into(), 0x8ff8, 0, 0, 0, 0];
    let value = multicall(&mut world, entry(hypercall::MEMORY_OP, args));
    note(&world, "exchange in multicall", value);
    let mut ports = Vec::new();
    for _ in 0..sched::POLL_MAX_PORTS {
        let request = event::AllocUnbound { dom: 1, remote_dom: 1, port: 0 };
        ports.push(world.call_with(D1, hypercall::EVENT_CHANNEL_OP, event::ALLOC_UNBOUND, request).1.port);
    }
    world.poke(D1, ARRAY, ports.as_bytes());
    let poll = sched::Poll { ports: ARRAY, nr_ports: sched::POLL_MAX_PORTS, reserved: 0, timeout: 1 };
    world.poke(D1, 0x8ff8, poll.as_bytes());
    let args = [sched::POLL.into(), 0x8ff8, 0, 0, 0, 0];
    let value = multicall(&mut world, entry(hypercall::SCHED_OP, args));
    note(&world, "poll in multicall", value);
    assert!(most > 1000 && most * 3 <= LIMIT, "{most} of {LIMIT}");
    assert_eq!(world.hypervisor.audit(), Ok(()));
}

#[test]
fn a_result_that_no_operation_gives_is_seen() {
    fires(CrashKind::ReturnContract, |world| {
        let answer = Ok(Disposition::Return(1));
        world.hypervisor.check_contract(hypercall::EVENT_CHANNEL_OP, &[4, 0, 0, 0, 0, 0], &answer);
    });
    fires(CrashKind::ReturnContract, |world| {
        let answer = Ok(Disposition::Return(-4096));
        world.hypervisor.check_contract(hypercall::XEN_VERSION, &[1, 0, 0, 0, 0, 0], &answer);
    });
    // Reservations never fail.
    fires(CrashKind::ReturnContract, |world| {
        let args = [memory::POPULATE_PHYSMAP.into(), 0, 0, 0, 0, 0];
        world.hypervisor.check_contract(hypercall::MEMORY_OP, &args, &Err(Errno::Nomem));
    });
}

#[test]
fn a_call_that_fails_leaves_its_output_alone() {
    let write_and_fail = |world: &mut World, cmd: u32, error| {
        world.hypervisor.before_call(D1);
        world.hypervisor.write_struct(&CALL, ARENA, &7u64).unwrap();
        let args = [cmd.into(), ARENA, 0, 0, 0, 0];
        world.hypervisor.check_contract(hypercall::MEMORY_OP, &args, &Err(error));
    };
    let mut world = World::new();
    // What failed is the copy, or the output tells how far the call came.
    write_and_fail(&mut world, memory::MEMORY_MAP, Errno::Fault);
    write_and_fail(&mut world, memory::EXCHANGE, Errno::Inval);
    let message = panic_of(|| write_and_fail(&mut world, memory::MEMORY_MAP, Errno::Inval));
    assert!(message.starts_with("oracle return-contract"), "{message}");
}

#[test]
fn outputs_are_searched_for_what_nobody_initialised() {
    fires(CrashKind::Uninitialised, |world| {
        let mut output = output::Output::<40>::new(&world.hypervisor.memory);
        output.bytes_mut()[..28].fill(0);
        let data = output.bytes().to_vec();
        world.hypervisor.write_guest(&CALL, crate::address::Gva(ARENA), &data).unwrap();
    });
    let mut world = World::new();
    let mut output = output::Output::<40>::new(&world.hypervisor.memory);
    output.bytes_mut().fill(0);
    let data = output.bytes().to_vec();
    world.hypervisor.write_guest(&CALL, crate::address::Gva(ARENA), &data).unwrap();
}

#[test]
fn outputs_are_searched_for_secrets_of_others() {
    fires(CrashKind::Isolation, |world| {
        let secret = tag(world).word(output::secret(2));
        world.hypervisor.write_struct(&CALL, ARENA, &[0, secret]).unwrap();
    });
    let mut world = World::new();
    let (own, foreign) = [1, 2].map(|id| tag(&world).word(output::secret(id))).into();
    world.hypervisor.write_struct(&CALL, ARENA, &own).unwrap();
    // Who has it already learns nothing.
    world.poke_words(D1, ARENA, &[0, foreign]);
    world.hypervisor.write_struct(&CALL, ARENA, &[1, foreign]).unwrap();
    // Each domain holds its own.
    assert_eq!(world.peek::<u64>(D2, 0xfe000), foreign);
}

#[test]
fn calls_write_to_memory_of_their_caller() {
    fires(CrashKind::Isolation, |world| {
        let frame = mfn(world, D2, GFN);
        let (memory, p2m) = world.hypervisor.memory_and_p2m(1).unwrap();
        p2m.set(memory, Gfn(0x4000), Mapping::ram(frame)).unwrap();
        world.hypervisor.write_struct(&CALL, 0x4000 << 12, &1u64).unwrap();
    });
    fires(CrashKind::Isolation, |world| {
        world.hypervisor.before_call(D1);
        let (memory, p2m) = world.hypervisor.memory_and_p2m(2).unwrap();
        p2m.clear(memory, Gfn(GFN)).unwrap();
        world.hypervisor.after_call(D1, Disposition::Return(0));
    });
    let mut world = World::new();
    let owner = world.hypervisor.memory.frames.owner(mfn(&world, D1, 0x10000));
    assert_eq!(owner, Owner::Region);
    assert_eq!(world.hypervisor.lookup(1, Gfn(0x10000)).unwrap().kind, Kind::Region);
    world.hypervisor.write_struct(&CALL, 0x1000_0000, &1u64).unwrap();
}

#[test]
fn who_had_no_part_in_a_program_is_as_before() {
    let done = |world: &mut World| {
        assert_eq!(world.raw(D1, harness::HARNESS_OP, &[harness::HARNESS_DONE]), Disposition::Done);
    };
    let strike = |world: &mut World| world.poke_words(D2, 0xfe800, &[0]);
    let mut world = World::new();
    any_call(&mut world);
    done(&mut world);
    strike(&mut world);
    let message = panic_of(|| done(&mut world));
    assert!(message.starts_with("oracle isolation"), "{message}");
    // Whoever is named may change.
    let mut world = World::new();
    let request = memory::Domain { domid: 2 };
    world.call_with(D1, hypercall::MEMORY_OP, memory::CURRENT_RESERVATION, request);
    strike(&mut world);
    done(&mut world);
}
