//! Each planted bug: on, its trigger ends in its oracle or crash; off, the same calls do nothing of the kind.

use super::*;
use coverage_hypercall::coverage::{COVERAGE_OP, cmd};
use planted_bugs::Bug;
use std::{sync::mpsc, thread, time::Duration};
use xen_abi::{event, hypercall, memory, multicall::Entry, sched};

const ARRAY: u64 = 0x9000;

/// Runs `trigger` with the bug off: it is reached, not triggered. Returns what it returned.
pub(super) fn harmless(bug: Bug, trigger: fn(&mut World) -> i64) -> i64 {
    let mut world = World::new();
    let value = trigger(&mut world);
    let canary = world.hypervisor.canaries()[bug as usize];
    assert!(canary.reached > 0 && canary.triggered == 0, "{canary:?}");
    value
}

/// Runs `trigger` with the bug on and tells how it ended.
pub(super) fn harmful(bug: Bug, trigger: fn(&mut World) -> i64) -> String {
    let mut world = World::with(&alloc::format!("plant={}", bug.name()));
    let message = panic_of(|| {
        trigger(&mut world);
    });
    assert!(world.hypervisor.canaries()[bug as usize].triggered > 0);
    message
}

fn exchange(world: &mut World) -> i64 {
    let arena = memory::Reservation { extent_start: ARRAY, nr_extents: 2, domid: 1, ..Default::default() };
    let output = memory::Reservation { extent_start: (1 << 47) - 8, ..arena };
    world.poke_words(D1, ARRAY, &[0x80, 0x81]);
    let request = memory::Exchange { input: arena, output, nr_exchanged: 1 };
    world.call_with(D1, hypercall::MEMORY_OP, memory::EXCHANGE, request).0
}

#[test]
fn exchange_oob_writes_through_a_wild_pointer() {
    assert_eq!(harmless(Bug::ExchangeOob, exchange), code(Errno::Fault));
    assert_eq!(harmful(Bug::ExchangeOob, exchange), "wild write at 0x800000000000");
}

fn poll(world: &mut World) -> i64 {
    world.poke_words(D1, ARRAY, &[500]);
    let request = sched::Poll { ports: ARRAY, nr_ports: 1, reserved: 0, timeout: 1 };
    world.call_with(D1, hypercall::SCHED_OP, sched::POLL, request).0
}

#[test]
fn poll_unalloc_follows_a_null_pointer() {
    assert_eq!(harmless(Bug::PollUnalloc, poll), code(Errno::Inval));
    let message = harmful(Bug::PollUnalloc, poll);
    assert!(message.starts_with("wild read at 0x"), "{message}");
}

fn console(world: &mut World) -> i64 {
    world.call(hypercall::CONSOLE_IO, &[0, 0x8000_0000, ARENA])
}

#[test]
fn count_sign_runs_over_the_stack_canary() {
    assert_eq!(harmless(Bug::CountSign, console), 0);
    assert!(harmful(Bug::CountSign, console).starts_with("oracle stack-canary"));
}

fn batch(world: &mut World) -> i64 {
    let coverage = |cmd, arg| Entry { op: COVERAGE_OP, result: 0, args: [cmd, arg, 0, 0, 0, 0] };
    let list = [coverage(cmd::RELEASE, 0), coverage(cmd::RESET, 0)];
    world.poke(D1, ARENA, list.as_bytes());
    world.call(hypercall::MULTICALL, &[ARENA, 2]);
    world.peek::<[Entry; 2]>(D1, ARENA)[1].result as i64
}

#[test]
fn batch_privilege_keeps_a_right_that_was_given_up() {
    assert_eq!(harmless(Bug::BatchPrivilege, batch), code(Errno::Perm));
    assert!(harmful(Bug::BatchPrivilege, batch).starts_with("oracle privilege"));
}

fn move_frame(world: &mut World) -> i64 {
    let request =
        memory::AddToPhysmap { domid: 1, size: 0, space: memory::MAPSPACE_GMFN, idx: 0x80, gpfn: 0x4000 };
    world.call_with(D1, hypercall::MEMORY_OP, memory::ADD_TO_PHYSMAP, request).0
}

#[test]
fn m2p_desync_leaves_the_old_mapping() {
    assert_eq!(harmless(Bug::M2pDesync, move_frame), 0);
    assert!(harmful(Bug::M2pDesync, move_frame).starts_with("oracle m2p-identity"));
}

fn long_poll(world: &mut World) -> i64 {
    let request = event::AllocUnbound { dom: 1, remote_dom: 1, port: 0 };
    world.call_with(D1, hypercall::EVENT_CHANNEL_OP, event::ALLOC_UNBOUND, request);
    world.poke_words(D1, ARRAY, &[1]);
    let request = sched::Poll { ports: ARRAY, nr_ports: 1, reserved: 0, timeout: u64::MAX };
    world.call_with(D1, hypercall::SCHED_OP, sched::POLL, request).0
}

#[test]
fn poll_hang_never_ends() {
    assert_eq!(harmless(Bug::PollHang, long_poll), 0);
    let (sender, receiver) = mpsc::channel();
    // The thread stays behind until the test process ends.
    thread::spawn(move || {
        let mut world = World::with("plant=poll-hang");
        long_poll(&mut world);
        let _ = sender.send(());
    });
    assert_eq!(receiver.recv_timeout(Duration::from_millis(300)), Err(mpsc::RecvTimeoutError::Timeout));
}

#[test]
fn all_bugs_together_leave_ordinary_calls_alone() {
    let names = Bug::ALL.map(Bug::name).join(",");
    let mut world = World::with(&alloc::format!("plant={names}"));
    world.poke_words(D1, ARRAY, &[0x80]);
    let request = memory::Reservation { extent_start: ARRAY, nr_extents: 1, domid: 1, ..Default::default() };
    let (value, _) = world.call_with(D1, hypercall::MEMORY_OP, memory::DECREASE_RESERVATION, request);
    assert_eq!(value, 1);
    let (value, _) = world.call_with(D1, hypercall::MEMORY_OP, memory::POPULATE_PHYSMAP, request);
    assert_eq!(value, 1);
    world.poke(D1, ARENA, b"text\n");
    assert_eq!(world.call(hypercall::CONSOLE_IO, &[0, 5, ARENA]), 0);
    assert_eq!(world.console(), "(d1) text\n");
    assert!(world.hypervisor.canaries().iter().all(|canary| canary.triggered == 0));
}

#[test]
fn without_oracles_a_violation_goes_unnoticed() {
    let mut world = World::with("plant=m2p-desync oracles=off");
    assert_eq!(move_frame(&mut world), 0);
    assert!(world.is_mapped(0x80) && world.is_mapped(0x4000));
}
