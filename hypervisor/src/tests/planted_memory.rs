//! The planted bugs of `memory_op` and `xen_version`: see [`super::planted`].

use super::{
    planted::{harmful, harmless},
    *,
};
use planted_bugs::Bug;
use xen_abi::{hypercall, memory, version};

const ARRAY: u64 = 0x9000;

fn reserve(world: &mut World, cmd: u32, extent_order: u32, mem_flags: u32, gfn: u64) -> i64 {
    world.poke_words(D1, ARRAY, &[gfn]);
    let request = memory::Reservation {
        extent_start: ARRAY,
        nr_extents: 1,
        extent_order,
        mem_flags,
        domid: 1,
        ..Default::default()
    };
    world.call_with(D1, hypercall::MEMORY_OP, cmd, request).0
}

fn wild_node(world: &mut World) -> i64 {
    reserve(world, memory::INCREASE_RESERVATION, 0, 65 << 8, 0)
}

#[test]
fn node_oob_is_out_of_bounds() {
    // Without privilege the node is a wish that nobody hears.
    assert_eq!(harmless(Bug::NodeOob, wild_node), 1);
    assert!(harmful(Bug::NodeOob, wild_node).contains("index out of bounds"));
}

fn large_extent(world: &mut World) -> i64 {
    reserve(world, memory::POPULATE_PHYSMAP, 40, 0, 0x2_0000)
}

#[test]
fn order_unbounded_takes_too_long() {
    assert_eq!(harmless(Bug::OrderUnbounded, large_extent), 0);
    assert!(harmful(Bug::OrderUnbounded, large_extent).starts_with("oracle latency"));
}

fn decrease_twice(world: &mut World) -> i64 {
    assert_eq!(reserve(world, memory::DECREASE_RESERVATION, 0, 0, 0x80), 1);
    reserve(world, memory::DECREASE_RESERVATION, 0, 0, 0x80)
}

#[test]
fn lock_leak_is_a_lock_that_is_held_on_return() {
    assert_eq!(harmless(Bug::LockLeak, decrease_twice), 0);
    assert!(harmful(Bug::LockLeak, decrease_twice).starts_with("oracle lock-held"));
}

#[test]
fn a_hole_where_nothing_ever_was_leaks_no_lock() {
    let mut world = World::with("plant=lock-leak");
    assert_eq!(reserve(&mut world, memory::DECREASE_RESERVATION, 0, 0, 0x5000), 0);
    assert_eq!(world.hypervisor.canaries()[Bug::LockLeak as usize].triggered, 0);
}

fn misaligned(world: &mut World) -> i64 {
    reserve(world, memory::DECREASE_RESERVATION, 3, 0, 0x81)
}

#[test]
fn pod_order_fails_an_assertion() {
    assert_eq!(harmless(Bug::PodOrder, misaligned), 1);
    assert!(harmful(Bug::PodOrder, misaligned).starts_with("an extent of order 3 begins at 0x81"));
}

fn odd_buffer(world: &mut World) -> i64 {
    world.call(hypercall::XEN_VERSION, &[u64::from(version::CHANGESET), ARENA + 4])
}

#[test]
fn stack_leak_gives_away_what_nobody_initialised() {
    assert_eq!(harmless(Bug::StackLeak, odd_buffer), 0);
    assert!(harmful(Bug::StackLeak, odd_buffer).starts_with("oracle uninitialised"));
    let mut world = World::with("plant=stack-leak");
    let value = world.call(hypercall::XEN_VERSION, &[u64::from(version::CHANGESET), ARENA]);
    assert_eq!((value, world.hypervisor.canaries()[Bug::StackLeak as usize].triggered), (0, 0));
}
