//! `memory_op`, and what it does to physmap and frames.

use super::*;
use crate::mem::frames::{Owner, POISON};
use xen_abi::{hypercall, memory};

/// A frame of RAM that no test keeps structures in.
const GFN: u64 = 0x80;
const ARRAY: u64 = 0x9000;
const SELF: u16 = 0x7ff0;

fn op<T: FromBytes + FromZeros + IntoBytes + Immutable>(world: &mut World, cmd: u32, arg: T) -> (i64, T) {
    world.call_with(D1, hypercall::MEMORY_OP, cmd, arg)
}

fn reserve(world: &mut World, cmd: u32, order: u32, frames: &[u64]) -> i64 {
    world.poke_words(D1, ARRAY, frames);
    let request = memory::Reservation {
        extent_start: ARRAY,
        nr_extents: frames.len() as u64,
        extent_order: order,
        domid: SELF,
        ..Default::default()
    };
    op(world, cmd, request).0
}

fn pages(world: &mut World) -> i64 {
    op(world, memory::CURRENT_RESERVATION, memory::Domain { domid: SELF }).0
}

fn mfn(world: &World, gfn: u64) -> Mfn {
    world.hypervisor.lookup(1, Gfn(gfn)).unwrap().mfn
}

fn add(world: &mut World, space: u32, idx: u64, gpfn: u64) -> i64 {
    let request = memory::AddToPhysmap { domid: SELF, size: 0, space, idx, gpfn };
    op(world, memory::ADD_TO_PHYSMAP, request).0
}

#[test]
fn frames_that_are_given_away_are_poisoned_and_come_back_zeroed() {
    let mut world = World::new();
    let frame = mfn(&world, GFN);
    world.poke(D1, GFN << 12, b"secret");
    assert_eq!(reserve(&mut world, memory::DECREASE_RESERVATION, 0, &[GFN, GFN + 1]), 2);
    assert_eq!(pages(&mut world), 254);
    assert!(!world.is_mapped(GFN) && !world.is_mapped(GFN + 1));
    let at = frame.address().0 as usize;
    assert_eq!(world.ram.borrow()[at..at + 4096], [POISON; 4096]);
    assert_eq!(world.hypervisor.memory.frames.owner(frame), Owner::Free);
    assert_eq!(reserve(&mut world, memory::DECREASE_RESERVATION, 0, &[GFN + 2, GFN, GFN + 3]), 1);
    assert!(world.is_mapped(GFN + 3));
    assert_eq!(reserve(&mut world, memory::POPULATE_PHYSMAP, 0, &[0x5000]), 1);
    assert_eq!(mfn(&world, 0x5000), frame);
    assert_eq!(world.peek::<[u8; 4096]>(D1, 0x5000 << 12), [0; 4096]);
    assert_eq!(world.hypervisor.memory.frames.gfn(frame), Some(Gfn(0x5000)));
    assert_eq!(op(&mut world, memory::MAXIMUM_GPFN, memory::Domain { domid: SELF }).0, 0x39000);
}

#[test]
fn reservations_stop_at_limits_and_say_how_far_they_came() {
    let mut world = World::new();
    assert_eq!(op(&mut world, memory::MAXIMUM_RESERVATION, memory::Domain { domid: SELF }).0, 272);
    let frames: Vec<u64> = (0x5000..0x5018).collect();
    assert_eq!(reserve(&mut world, memory::POPULATE_PHYSMAP, 0, &frames), 16);
    assert_eq!(reserve(&mut world, memory::INCREASE_RESERVATION, 0, &[0]), 0);
    assert_eq!(reserve(&mut world, memory::DECREASE_RESERVATION, 2, &[0x5000]), 1);
    assert_eq!(reserve(&mut world, memory::POPULATE_PHYSMAP, 2, &[0x6000]), 1);
    assert_eq!(mfn(&world, 0x6000).0 % 4, 0);
    assert_eq!(mfn(&world, 0x6003).0, mfn(&world, 0x6000).0 + 3);
    assert_eq!(reserve(&mut world, memory::DECREASE_RESERVATION, 0, &[0x6000, 0x6001]), 2);
    assert_eq!(reserve(&mut world, memory::INCREASE_RESERVATION, 0, &[0, 0]), 2);
    assert_eq!(pages(&mut world), 272);
    assert_eq!(reserve(&mut world, memory::POPULATE_PHYSMAP, 10, &[0x6000]), 0);
    // Beyond the address space, in the static region, and from an array that is not there.
    assert_eq!(reserve(&mut world, memory::DECREASE_RESERVATION, 0, &[0x6002]), 1);
    assert_eq!(reserve(&mut world, memory::POPULATE_PHYSMAP, 0, &[1 << 35]), 0);
    assert_eq!(reserve(&mut world, memory::POPULATE_PHYSMAP, 0, &[u64::MAX]), 0);
    assert_eq!(reserve(&mut world, memory::POPULATE_PHYSMAP, 0, &[0x10000]), 0);
    assert_eq!(reserve(&mut world, memory::DECREASE_RESERVATION, 0, &[0x10000]), 0);
    assert_eq!(pages(&mut world), 271);
    let request =
        memory::Reservation { extent_start: 0x200_0000, nr_extents: 1, domid: SELF, ..Default::default() };
    assert_eq!(op(&mut world, memory::POPULATE_PHYSMAP, request).0, 0);
    let foreign = memory::Reservation { domid: 2, ..request };
    assert_eq!(op(&mut world, memory::INCREASE_RESERVATION, foreign).0, 0);
    let huge = memory::Reservation { nr_extents: 1 << 26, ..request };
    assert_eq!(op(&mut world, memory::INCREASE_RESERVATION, huge).0, 0);
    // A call that was interrupted goes on behind what was done.
    world.poke_words(D1, ARRAY, &[GFN, GFN + 1, GFN + 2]);
    let request = memory::Reservation { extent_start: ARRAY, nr_extents: 3, ..request };
    let resumed = memory::DECREASE_RESERVATION | 2 << memory::CMD_START_SHIFT;
    assert_eq!(op(&mut world, resumed, request).0, 3);
    assert!(world.is_mapped(GFN + 1) && !world.is_mapped(GFN + 2));
}

#[test]
fn populating_over_memory_leaves_it_without_a_place() {
    let mut world = World::new();
    let old = mfn(&world, GFN);
    assert_eq!(reserve(&mut world, memory::POPULATE_PHYSMAP, 0, &[GFN]), 1);
    assert_ne!(mfn(&world, GFN), old);
    let frames = &world.hypervisor.memory.frames;
    assert_eq!((frames.owner(old), frames.gfn(old)), (Owner::Domain(1), None));
    assert_eq!(pages(&mut world), 257);
}

#[test]
fn frames_move_and_replace_what_was_there() {
    let mut world = World::new();
    let (moved, replaced) = (mfn(&world, GFN), mfn(&world, GFN + 1));
    assert_eq!(add(&mut world, memory::MAPSPACE_GMFN, GFN, GFN + 1), 0);
    assert_eq!(mfn(&world, GFN + 1), moved);
    assert!(!world.is_mapped(GFN));
    assert_eq!(world.hypervisor.memory.frames.owner(replaced), Owner::Free);
    assert_eq!(pages(&mut world), 255);
    assert_eq!(add(&mut world, memory::MAPSPACE_GMFN, GFN + 1, GFN + 1), 0);
    assert_eq!(mfn(&world, GFN + 1), moved);
    for (space, idx, gfn) in
        [(2, GFN, GFN + 2), (2, 0x10000, GFN), (2, GFN + 2, 1 << 35), (1, 16, GFN), (6, 0, GFN)]
    {
        assert_eq!(add(&mut world, space, idx, gfn), code(Errno::Inval), "{space} {idx:#x}");
    }
    assert_eq!(add(&mut world, memory::MAPSPACE_GMFN, GFN + 2, 0x10000), code(Errno::Inval));
    assert_eq!(add(&mut world, memory::MAPSPACE_GMFN_FOREIGN, GFN, GFN), code(Errno::Nosys));
    let range = memory::AddToPhysmap {
        domid: SELF,
        size: 3,
        space: memory::MAPSPACE_GMFN_RANGE,
        idx: GFN + 4,
        gpfn: 0x7000,
    };
    let (value, left) = op(&mut world, memory::ADD_TO_PHYSMAP, range);
    assert_eq!((value, left.size, left.gpfn), (0, 0, 0x7003));
    let (value, left) = op(&mut world, memory::ADD_TO_PHYSMAP, range);
    assert_eq!((value, left.size), (code(Errno::Inval), 3));
    let (value, _) = op(&mut world, memory::ADD_TO_PHYSMAP, memory::AddToPhysmap { size: 513, ..range });
    assert_eq!(value, code(Errno::TooBig));
}

#[test]
fn shared_info_is_one_page_that_moves() {
    let mut world = World::new();
    let page = world.hypervisor.domain(1).unwrap().shared_info;
    assert_eq!(add(&mut world, memory::MAPSPACE_SHARED_INFO, 0, 0x4000), 0);
    assert_eq!(mfn(&world, 0x4000), page);
    assert_eq!(add(&mut world, memory::MAPSPACE_SHARED_INFO, 0, GFN), 0);
    assert!(!world.is_mapped(0x4000));
    assert_eq!(pages(&mut world), 255);
    assert_eq!(reserve(&mut world, memory::DECREASE_RESERVATION, 0, &[GFN]), 0);
    assert_eq!(add(&mut world, memory::MAPSPACE_SHARED_INFO, 1, GFN), code(Errno::Inval));
    assert_eq!(add(&mut world, memory::MAPSPACE_GMFN, GFN, GFN + 1), code(Errno::Inval));
    let mut remove = |domid, gpfn| {
        let request = memory::RemoveFromPhysmap { domid, gpfn, ..Default::default() };
        op(&mut world, memory::REMOVE_FROM_PHYSMAP, request).0
    };
    assert_eq!(remove(SELF, GFN), 0);
    assert_eq!(remove(SELF, GFN), code(Errno::Noent));
    assert_eq!(remove(2, GFN), code(Errno::Perm));
    assert_eq!(remove(3, GFN), code(Errno::Srch));
    assert_eq!(remove(SELF, 0x10000), code(Errno::Inval));
    assert_eq!(world.hypervisor.memory.frames.owner(page), Owner::Hypervisor);
    assert_eq!(add(&mut world, memory::MAPSPACE_SHARED_INFO, 0, GFN), 0);
}

#[test]
fn a_batch_has_a_result_per_page() {
    let mut world = World::new();
    world.poke_words(D1, ARRAY, &[GFN, 0x9999, GFN + 1]);
    world.poke_words(D1, ARRAY + 0x100, &[0x4000, 0x4001, 0x4002]);
    let batch = memory::AddToPhysmapBatch {
        domid: SELF,
        space: memory::MAPSPACE_GMFN as u16,
        size: 3,
        foreign_domid: 0,
        idxs: ARRAY,
        gpfns: ARRAY + 0x100,
        errs: ARRAY + 0x200,
    };
    assert_eq!(op(&mut world, memory::ADD_TO_PHYSMAP_BATCH, batch).0, 0);
    assert_eq!(world.peek::<[i32; 3]>(D1, ARRAY + 0x200), [0, -22, 0]);
    assert!(world.is_mapped(0x4000) && world.is_mapped(0x4002));
    let mut refuse = |changed, error| {
        assert_eq!(op(&mut world, memory::ADD_TO_PHYSMAP_BATCH, changed).0, code(error));
    };
    refuse(memory::AddToPhysmapBatch { space: 3, ..batch }, Errno::Opnotsupp);
    refuse(memory::AddToPhysmapBatch { foreign_domid: 1, ..batch }, Errno::Opnotsupp);
    refuse(memory::AddToPhysmapBatch { space: 4, foreign_domid: 2, ..batch }, Errno::Perm);
    refuse(memory::AddToPhysmapBatch { space: 4, foreign_domid: 9, ..batch }, Errno::Srch);
    refuse(memory::AddToPhysmapBatch { size: 600, ..batch }, Errno::TooBig);
    refuse(memory::AddToPhysmapBatch { domid: 2, ..batch }, Errno::Perm);
    refuse(memory::AddToPhysmapBatch { errs: 0x200_0000, ..batch }, Errno::Fault);
}

/// Four pages from `GFN` on for one extent of order 2 at 0x7000.
fn exchange() -> memory::Exchange {
    let extents =
        memory::Reservation { domid: SELF, extent_start: ARRAY, nr_extents: 4, ..Default::default() };
    let output =
        memory::Reservation { extent_start: ARRAY + 0x100, nr_extents: 1, extent_order: 2, ..extents };
    memory::Exchange { input: extents, output, nr_exchanged: 0 }
}

#[test]
fn exchange_gives_other_frames() {
    let mut world = World::new();
    world.poke_words(D1, ARRAY, &[GFN, GFN + 1, GFN + 2, GFN + 3]);
    world.poke_words(D1, ARRAY + 0x100, &[0x7000]);
    let (value, answer) = op(&mut world, memory::EXCHANGE, exchange());
    assert_eq!((value, answer.nr_exchanged), (0, 4));
    assert!(!world.is_mapped(GFN) && !world.is_mapped(GFN + 3));
    assert_eq!(mfn(&world, 0x7000).0 % 4, 0);
    assert!(world.is_mapped(0x7003));
    assert_eq!(pages(&mut world), 256);
    // And back again, in the other direction.
    world.poke_words(D1, ARRAY, &[0x7000]);
    world.poke_words(D1, ARRAY + 0x100, &[GFN, GFN + 1, GFN + 2, GFN + 3]);
    let there = exchange();
    let back = memory::Exchange {
        input: memory::Reservation { extent_start: ARRAY, ..there.output },
        output: memory::Reservation { extent_start: ARRAY + 0x100, ..there.input },
        nr_exchanged: 0,
    };
    let (value, answer) = op(&mut world, memory::EXCHANGE, back);
    assert_eq!((value, answer.nr_exchanged), (0, 1));
    assert!(world.is_mapped(GFN + 3) && !world.is_mapped(0x7000));
    let done = memory::Exchange { nr_exchanged: 1, ..back };
    assert_eq!(op(&mut world, memory::EXCHANGE, done).0, 0);
}

#[test]
fn exchange_says_how_far_it_came() {
    let mut world = World::new();
    world.poke_words(D1, ARRAY, &[GFN, GFN + 1, 0x9999, GFN + 3]);
    world.poke_words(D1, ARRAY + 0x100, &[0x7000, 0x7001, 0x7002, 0x7003]);
    let pairs = exchange();
    let output = memory::Reservation { extent_start: ARRAY + 0x100, ..pairs.input };
    let pairs = memory::Exchange { output, ..pairs };
    let (value, answer) = op(&mut world, memory::EXCHANGE, pairs);
    assert_eq!((value, answer.nr_exchanged), (code(Errno::Inval), 2));
    assert!(world.is_mapped(0x7001) && !world.is_mapped(0x7002) && world.is_mapped(GFN + 3));
}

#[test]
fn one_exchange_does_a_bounded_amount_of_work() {
    let mut world = World::new();
    world.poke_words(D1, ARRAY, &[GFN; 512]);
    let mut request = exchange();
    request.input.nr_extents = 600;
    request.output = request.input;
    for page in 0..2 {
        world.poke_words(D1, ARRAY + page * 0x1000, &[GFN; 512]);
    }
    let (value, answer) = op(&mut world, memory::EXCHANGE, request);
    assert_eq!((value, answer.nr_exchanged), (code(Errno::Again), 512));
    let (value, answer) = op(&mut world, memory::EXCHANGE, answer);
    assert_eq!((value, answer.nr_exchanged), (0, 600));
}

#[test]
fn exchange_refuses_what_does_not_fit() {
    let mut world = World::new();
    let good = exchange();
    let mut refuse = |changed: memory::Exchange, error| {
        assert_eq!(op(&mut world, memory::EXCHANGE, changed).0, code(error), "{changed:?}");
    };
    refuse(memory::Exchange { nr_exchanged: 5, ..good }, Errno::Inval);
    let input = |input| memory::Exchange { input, ..good };
    refuse(input(memory::Reservation { domid: 2, ..good.input }), Errno::Inval);
    refuse(input(memory::Reservation { nr_extents: 5, ..good.input }), Errno::Inval);
    refuse(input(memory::Reservation { nr_extents: u64::MAX, extent_order: 1, ..good.input }), Errno::Inval);
    refuse(input(memory::Reservation { extent_order: 10, ..good.input }), Errno::Perm);
    refuse(input(memory::Reservation { extent_start: 0x200_0000, ..good.input }), Errno::Fault);
    refuse(input(memory::Reservation { extent_start: u64::MAX - 8, ..good.input }), Errno::Fault);
    let foreign = memory::Exchange {
        input: memory::Reservation { domid: 2, ..good.input },
        output: memory::Reservation { domid: 2, ..good.output },
        nr_exchanged: 0,
    };
    refuse(foreign, Errno::Perm);
}

#[test]
fn questions_are_answered() {
    let mut world = World::new();
    let highest = world.call(hypercall::MEMORY_OP, &[u64::from(memory::MAXIMUM_RAM_PAGE), 0]);
    assert_eq!(highest, (MACHINE as i64 >> 12) - 1);
    let map = memory::MemoryMap { nr_entries: 8, reserved: 0, buffer: ARRAY };
    let (value, answer) = op(&mut world, memory::MEMORY_MAP, map);
    assert_eq!((value, answer.nr_entries), (0, 3));
    assert_eq!(world.peek::<[u8; 20]>(D1, ARRAY)[8..17], [0, 0, 0x10, 0, 0, 0, 0, 0, 1]);
    let (value, _) = op(&mut world, memory::MEMORY_MAP, memory::MemoryMap { nr_entries: 1, ..map });
    assert_eq!(value, code(Errno::Inval));
    let (value, _) = op(&mut world, memory::MEMORY_MAP, memory::MemoryMap { buffer: 0x200_0000, ..map });
    assert_eq!(value, code(Errno::Fault));
    let list = memory::MachphysMfnList { max_extents: 4, nr_extents: 9, ..Default::default() };
    let (value, answer) = op(&mut world, memory::MACHPHYS_MFN_LIST, list);
    assert_eq!((value, answer.nr_extents), (0, 0));
    for cmd in [10] {
        assert_eq!(world.call(hypercall::MEMORY_OP, &[cmd, ARENA]), code(Errno::Perm), "{cmd}");
    }
    assert_eq!(world.call(hypercall::MEMORY_OP, &[63, ARENA]), code(Errno::Nosys));
    assert_eq!(world.call(hypercall::MEMORY_OP, &[1 << 6 | 9, ARENA]), code(Errno::Inval));
    let other = |world: &mut World, domid| op(world, memory::CURRENT_RESERVATION, memory::Domain { domid }).0;
    assert_eq!(other(&mut world, 2), code(Errno::Perm));
    assert_eq!(other(&mut world, 3), code(Errno::Srch));
    assert_eq!(world.call(hypercall::MEMORY_OP, &[3, 0x200_0000]), code(Errno::Fault));
}

#[test]
fn page_tables_are_bounded() {
    let mut world = World::new();
    assert_eq!(reserve(&mut world, memory::DECREASE_RESERVATION, 4, &[GFN]), 1);
    let far: Vec<u64> = (1..33).map(|n| n << 30).collect();
    let done = reserve(&mut world, memory::POPULATE_PHYSMAP, 0, &far);
    assert!((10..32).contains(&done), "{done}");
    assert_eq!(pages(&mut world), 240 + done);
}

#[test]
fn memory_flags_say_where_memory_lies() {
    let mut world = World::new();
    world.poke_words(D1, ARRAY, &[0x5000]);
    let request =
        memory::Reservation { extent_start: ARRAY, nr_extents: 1, domid: SELF, ..Default::default() };
    let mut populate =
        |mem_flags| op(&mut world, memory::POPULATE_PHYSMAP, memory::Reservation { mem_flags, ..request }).0;
    let node = |node: u32| (node + 1) << 8;
    // The machine has 8 MiB: 23 bits.
    for (flags, done) in [
        (12, 0),
        (20, 0),
        (22, 1),
        (23, 1),
        (64, 1),
        (255, 1),
        (memory::MEMF_POPULATE_ON_DEMAND, 0),
        (node(0), 1),
        (node(1), 1),
        (node(2), 1),
        (node(254), 1),
        (node(0) | memory::MEMF_EXACT_NODE, 0),
        (memory::MEMF_EXACT_NODE, 1),
        (memory::MEMF_VNODE, 1),
    ] {
        assert_eq!(populate(flags), done, "{flags:#x}");
    }
    let request = memory::Reservation { mem_flags: memory::MEMF_POPULATE_ON_DEMAND, ..request };
    assert_eq!(op(&mut world, memory::INCREASE_RESERVATION, request).0, 1);
    assert!(mfn(&world, 0x5000).0 < 1 << 11);
}

#[test]
fn extents_go_up_to_the_first_hole() {
    let mut world = World::new();
    assert_eq!(reserve(&mut world, memory::DECREASE_RESERVATION, 0, &[GFN + 2]), 1);
    for first in [GFN, GFN + 5] {
        assert_eq!(reserve(&mut world, memory::DECREASE_RESERVATION, 2, &[first]), i64::from(first != GFN));
    }
    assert!(!world.is_mapped(GFN) && !world.is_mapped(GFN + 1) && world.is_mapped(GFN + 3));
    assert!(world.is_mapped(GFN + 4) && !world.is_mapped(GFN + 5) && !world.is_mapped(GFN + 8));
    // Nothing is taken for an extent that would cover what stays where it is.
    let before = pages(&mut world);
    assert_eq!(reserve(&mut world, memory::POPULATE_PHYSMAP, 2, &[0xfffe]), 0);
    assert_eq!(pages(&mut world), before);
    assert!(!world.is_mapped(0xfffe));
}

#[test]
fn claims_and_targets_are_for_the_privileged() {
    let mut world = World::new();
    let claim = memory::Reservation { nr_extents: 4, domid: 1, ..Default::default() };
    let mut refuse = |changed: memory::Reservation, error| {
        assert_eq!(op(&mut world, memory::CLAIM_PAGES, changed).0, code(error), "{changed:?}");
    };
    refuse(claim, Errno::Perm);
    refuse(memory::Reservation { domid: SELF, ..claim }, Errno::Inval);
    refuse(memory::Reservation { domid: 9, ..claim }, Errno::Inval);
    refuse(memory::Reservation { extent_start: ARRAY, ..claim }, Errno::Inval);
    refuse(memory::Reservation { extent_order: 1, ..claim }, Errno::Inval);
    refuse(memory::Reservation { mem_flags: 1, ..claim }, Errno::Inval);
    for cmd in [memory::SET_POD_TARGET, memory::GET_POD_TARGET] {
        for (domid, error) in [(SELF, Errno::Perm), (2, Errno::Perm), (9, Errno::Srch)] {
            let target = memory::PodTarget { domid, ..Default::default() };
            assert_eq!(op(&mut world, cmd, target), (code(error), target));
        }
        let nowhere = world.call(hypercall::MEMORY_OP, &[cmd.into(), 0x200_0000]);
        assert_eq!(nowhere, code(Errno::Fault));
    }
}

#[test]
fn a_domain_may_change_the_map_that_it_is_shown() {
    let mut world = World::new();
    let entry = memory::E820Entry { addr: 0x1000, size: 0x2000, kind: memory::E820_RESERVED };
    world.poke(D1, ARRAY, &entry.to_bytes());
    let map = memory::MemoryMap { nr_entries: 1, reserved: 0, buffer: ARRAY };
    let request = memory::ForeignMemoryMap { domid: SELF, map, ..Default::default() };
    let mut set = |changed| op(&mut world, memory::SET_MEMORY_MAP, changed).0;
    assert_eq!(set(memory::ForeignMemoryMap { domid: 2, ..request }), code(Errno::Perm));
    let long = memory::MemoryMap { nr_entries: 129, ..map };
    assert_eq!(set(memory::ForeignMemoryMap { map: long, ..request }), code(Errno::Inval));
    let nowhere = memory::MemoryMap { buffer: 0x200_0000, ..map };
    assert_eq!(set(memory::ForeignMemoryMap { map: nowhere, ..request }), code(Errno::Fault));
    assert_eq!(set(request), 0);
    let (value, answer) = op(&mut world, memory::MEMORY_MAP, memory::MemoryMap { buffer: ARRAY + 64, ..map });
    assert_eq!((value, answer.nr_entries), (0, 1));
    assert_eq!(world.peek::<[u8; 20]>(D1, ARRAY + 64), entry.to_bytes());
    let none = memory::MemoryMap { nr_entries: 0, ..map };
    assert_eq!(
        op(&mut world, memory::SET_MEMORY_MAP, memory::ForeignMemoryMap { map: none, ..request }).0,
        0
    );
    assert_eq!(op(&mut world, memory::MEMORY_MAP, map).0, code(Errno::Nosys));
}
