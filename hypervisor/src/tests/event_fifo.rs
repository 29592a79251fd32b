//! `event_channel_op` in the FIFO ABI.

use super::{
    events::{on_port, op, set_word, status, unbound, word},
    *,
};
use xen_abi::{event, hypercall, memory, sched, shared_info};

/// Frames of the first domain that tests give to the hypervisor.
const BLOCK: u64 = 0x90;
const SECOND_BLOCK: u64 = 0x91;
const ARRAY: u64 = 0x92;
const SECOND_ARRAY: u64 = 0x93;

const PENDING: u32 = 1 << 31;
const MASKED: u32 = 1 << 30;
const LINKED: u32 = 1 << 29;

fn init(world: &mut World, control_gfn: u64, offset: u32, vcpu: u32) -> i64 {
    let request = event::InitControl { control_gfn, offset, vcpu, ..Default::default() };
    let (value, answer) = op(world, D1, event::INIT_CONTROL, request);
    assert_eq!(answer.link_bits, if value == 0 { 17 } else { 0 });
    value
}

fn expand(world: &mut World, array_gfn: u64) -> i64 {
    op(world, D1, event::EXPAND_ARRAY, event::ExpandArray { array_gfn }).0
}

fn set_priority(world: &mut World, port: u32, priority: u32) -> i64 {
    op(world, D1, event::SET_PRIORITY, event::SetPriority { port, priority }).0
}

fn move_to(world: &mut World, port: u32, vcpu: u32) -> i64 {
    op(world, D1, event::BIND_VCPU, event::BindVcpu { port, vcpu }).0
}

fn reset(world: &mut World) -> i64 {
    op(world, D1, event::RESET, event::Reset { dom: 0x7ff0 }).0
}

/// A port that the domain can signal itself.
fn looped(world: &mut World) -> u32 {
    let port = unbound(world, D1, 0x7ff0);
    let request = event::BindInterdomain { remote_dom: 0x7ff0, remote_port: port, ..Default::default() };
    let (value, answer) = op(world, D1, event::BIND_INTERDOMAIN, request);
    assert_eq!(value, 0);
    answer.local_port
}

/// Sends through one end of a loop: the other one, the lower by one, becomes pending.
fn signal(world: &mut World, port: u32) {
    assert_eq!(on_port(world, D1, event::SEND, port), 0);
}

fn event_word(world: &World, port: u32) -> u32 {
    world.peek(D1, ARRAY * 4096 + u64::from(port) * 4)
}

fn set_event_word(world: &mut World, port: u32, word: u32) {
    world.poke(D1, ARRAY * 4096 + u64::from(port) * 4, &word.to_le_bytes());
}

fn ready(world: &World, block: u64) -> u32 {
    world.peek(D1, block * 4096)
}

fn head(world: &World, block: u64, priority: u64) -> u32 {
    world.peek(D1, block * 4096 + 8 + priority * 4)
}

/// With a control block and a page of words, and the event of binding consumed.
fn fifo_world() -> World {
    let mut world = World::new();
    assert_eq!(init(&mut world, BLOCK, 0, 0), 0);
    assert_eq!(expand(&mut world, ARRAY), 0);
    world
}

fn references(world: &World, gfn: u64) -> u32 {
    let mapping = world.hypervisor.lookup(1, Gfn(gfn)).unwrap();
    world.hypervisor.memory.frames.references(mapping.mfn)
}

#[test]
fn control_blocks_lie_within_a_page_of_the_domain() {
    let mut world = World::new();
    for (gfn, offset, vcpu, error) in [
        (BLOCK, 0, 2, Errno::Noent),
        (BLOCK, 0xfc0, 0, Errno::Inval),
        (BLOCK, 0xfff8, 0, Errno::Inval),
        (BLOCK, 4, 0, Errno::Inval),
        (BLOCK, u32::MAX, 0, Errno::Inval),
        (0x4000, 0, 0, Errno::Inval),
        (u64::MAX, 0, 0, Errno::Inval),
        (0x10000, 0, 0, Errno::Inval),
    ] {
        assert_eq!(init(&mut world, gfn, offset, vcpu), code(error), "{gfn:#x} {offset:#x} {vcpu}");
        assert_eq!(references(&world, BLOCK), 2);
    }
    assert_eq!(expand(&mut world, ARRAY), code(Errno::Opnotsupp));
    let port = unbound(&mut world, D1, 2);
    assert_eq!(set_priority(&mut world, port, 3), code(Errno::Nosys));
    assert_eq!(set_priority(&mut world, 2000, 3), code(Errno::Inval));
    assert_eq!(init(&mut world, BLOCK, 0xfb8, 0), 0);
    assert_eq!(init(&mut world, SECOND_BLOCK, 0, 0), code(Errno::Inval));
    assert_eq!(init(&mut world, BLOCK, 0, 1), 0);
    assert_eq!(references(&world, BLOCK), 4);
    assert_eq!(set_priority(&mut world, port, 16), code(Errno::Inval));
    assert_eq!(set_priority(&mut world, port, 15), 0);
    assert_eq!(reset(&mut world), 0);
    assert_eq!(references(&world, BLOCK), 2);
    assert_eq!(expand(&mut world, ARRAY), code(Errno::Opnotsupp));
}

#[test]
fn events_queue_up_in_order() {
    let mut world = fifo_world();
    let ports: Vec<u32> = (0..3).map(|_| looped(&mut world)).collect();
    assert_eq!(ports, [2, 4, 6]);
    // Binding made each of them pending; they are linked to one another.
    assert_eq!(head(&world, BLOCK, 7), 2);
    assert_eq!(event_word(&world, 2), PENDING | LINKED | 4);
    assert_eq!(event_word(&world, 4), PENDING | LINKED | 6);
    assert_eq!(event_word(&world, 6), PENDING | LINKED);
    assert_eq!(ready(&world, BLOCK), 1 << 7);
    assert_eq!(word(&world, 1, shared_info::UPCALL_PENDING) & 0xff, 1);
    // The two-level bits stay out of it.
    assert_eq!((word(&world, 1, shared_info::PENDING), word(&world, 1, shared_info::PENDING_SEL)), (0, 0));
    // The guest takes all of them; the next event is the first of its queue again.
    for port in ports {
        set_event_word(&mut world, port, 0);
    }
    world.poke(D1, BLOCK * 4096, &[0; 12]);
    set_word(&world, 1, shared_info::UPCALL_PENDING, 0);
    signal(&mut world, 6);
    assert_eq!(event_word(&world, 5), PENDING | LINKED);
    assert_eq!((head(&world, BLOCK, 7), ready(&world, BLOCK)), (5, 1 << 7));
    assert_eq!(word(&world, 1, shared_info::UPCALL_PENDING) & 0xff, 1);
    // The same again: it is linked already.
    signal(&mut world, 6);
    assert_eq!(event_word(&world, 5), PENDING | LINKED);
}

#[test]
fn the_last_of_a_queue_is_not_linked_to_itself() {
    let mut world = fifo_world();
    let port = looped(&mut world);
    for _ in 0..3 {
        set_event_word(&mut world, port, 0);
        world.poke(D1, BLOCK * 4096, &[0; 72]);
        signal(&mut world, port - 1);
        assert_eq!(event_word(&world, port), PENDING | LINKED);
        assert_eq!(head(&world, BLOCK, 7), port);
    }
    // Nor after it was closed and opened again.
    set_event_word(&mut world, port, 0);
    assert_eq!(on_port(&mut world, D1, event::CLOSE, port), 0);
    assert_eq!(op(&mut world, D1, event::BIND_IPI, event::BindIpi { vcpu: 0, port: 0 }).1.port, port);
    signal(&mut world, port);
    assert_eq!(event_word(&world, port), PENDING | LINKED);
}

#[test]
fn ports_move_between_priorities_and_vcpus() {
    let mut world = fifo_world();
    assert_eq!(init(&mut world, SECOND_BLOCK, 0x100, 1), 0);
    let at = SECOND_BLOCK * 4096 + 0x100;
    let ends = [looped(&mut world), looped(&mut world)];
    for port in ends {
        set_event_word(&mut world, port, 0);
    }
    assert_eq!(set_priority(&mut world, 1, 2), 0);
    assert_eq!(move_to(&mut world, 1, 1), 0);
    assert_eq!(status(&mut world, D1, 1).vcpu, 1);
    signal(&mut world, 2);
    assert_eq!(world.peek::<u32>(D1, at), 1 << 2);
    assert_eq!(world.peek::<u32>(D1, at + 8 + 4 * 2), 1);
    let second = shared_info::VCPU_INFO_LEN + shared_info::UPCALL_PENDING;
    assert_eq!(word(&world, 1, second) & 0xff, 1);
    // Still in that queue: a new priority counts from the next time on.
    assert_eq!(set_priority(&mut world, 1, 0), 0);
    signal(&mut world, 2);
    assert_eq!(world.peek::<u32>(D1, at), 1 << 2);
    set_event_word(&mut world, 1, 0);
    signal(&mut world, 2);
    assert_eq!(world.peek::<u32>(D1, at), 1 << 2 | 1);
    assert_eq!(world.peek::<u32>(D1, at + 8), 1);
    // The old queue ended with this port: the next one begins it anew, though the port is linked, elsewhere.
    assert_eq!(set_priority(&mut world, 3, 2), 0);
    assert_eq!(move_to(&mut world, 3, 1), 0);
    signal(&mut world, 4);
    assert_eq!(world.peek::<u32>(D1, at + 8 + 4 * 2), 3);
    assert_eq!(event_word(&world, 1), PENDING | LINKED);
}

#[test]
fn masked_events_wait_for_unmask() {
    let mut world = fifo_world();
    let port = looped(&mut world);
    set_event_word(&mut world, 1, MASKED);
    signal(&mut world, port);
    assert_eq!(event_word(&world, 1), PENDING | MASKED);
    assert_eq!(on_port(&mut world, D1, event::UNMASK, 1), 0);
    assert_eq!(event_word(&world, 1), PENDING | LINKED);
    assert_eq!(on_port(&mut world, D1, event::UNMASK, 1), 0);
    assert_eq!(event_word(&world, 1), PENDING | LINKED);
    assert_eq!(on_port(&mut world, D1, event::UNMASK, 5000), code(Errno::Inval));
    // A poll sees it, a closed port loses it but stays in its queue, and is not used again until it is taken off.
    world.poke_words(D1, 0xa000, &[1]);
    let request = sched::Poll { ports: 0xa000, nr_ports: 1, reserved: 0, timeout: 0 };
    assert_eq!(world.call_with(D1, hypercall::SCHED_OP, sched::POLL, request).0, 0);
    assert_eq!(on_port(&mut world, D1, event::CLOSE, 1), 0);
    assert_eq!(event_word(&world, 1), LINKED);
    assert_eq!(unbound(&mut world, D1, 2), 3);
    set_event_word(&mut world, 1, 0);
    assert_eq!(unbound(&mut world, D1, 2), 1);
}

#[test]
fn pending_events_are_raised_when_their_words_appear() {
    let mut world = World::new();
    let port = looped(&mut world);
    assert_eq!(word(&world, 1, shared_info::PENDING), 1 << port);
    assert_eq!(init(&mut world, BLOCK, 0, 0), 0);
    // There is no word yet, so that one more is only remembered.
    signal(&mut world, port);
    assert_eq!(expand(&mut world, ARRAY), 0);
    assert_eq!(event_word(&world, 1), PENDING | LINKED | 2);
    assert_eq!(event_word(&world, 2), PENDING | LINKED);
    assert_eq!(head(&world, BLOCK, 7), 1);
}

#[test]
fn without_a_control_block_events_are_dropped() {
    let mut world = fifo_world();
    let ipi = op(&mut world, D1, event::BIND_IPI, event::BindIpi { vcpu: 1, port: 0 }).1.port;
    signal(&mut world, ipi);
    assert_eq!(event_word(&world, ipi), PENDING);
    assert_eq!(init(&mut world, SECOND_BLOCK, 0, 1), 0);
    assert_eq!(on_port(&mut world, D1, event::UNMASK, ipi), 0);
    assert_eq!(event_word(&world, ipi), PENDING | LINKED);
    assert_eq!(head(&world, SECOND_BLOCK, 7), ipi);
}

#[test]
fn whatever_the_guest_writes_harms_only_itself() {
    let mut world = fifo_world();
    let ports: Vec<u32> = (0..8).map(|_| looped(&mut world)).collect();
    let mut noise = 0x9e37_79b9u32;
    let before: Vec<u8> = world.ram.borrow()[..0x10_0000].to_vec();
    for round in 0..2000u32 {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let port = ports[(noise >> 20) as usize % ports.len()];
        set_event_word(&mut world, noise >> 24, noise);
        world.poke(D1, BLOCK * 4096 + u64::from(noise >> 16 & 15) * 4, &noise.to_le_bytes());
        signal(&mut world, port - (round & 1));
        assert_eq!(set_priority(&mut world, port, noise >> 8 & 15), 0);
        assert_eq!(on_port(&mut world, D1, event::UNMASK, port), 0);
    }
    assert_eq!(world.ram.borrow()[..0x10_0000], before, "memory below the domains has changed");
    assert_eq!(reset(&mut world), 0);
    assert_eq!(looped(&mut world), 2);
}

#[test]
fn frames_that_are_given_back_stay_until_the_reset() {
    let mut world = fifo_world();
    let mfn = world.hypervisor.lookup(1, Gfn(ARRAY)).unwrap().mfn;
    world.poke_words(D1, 0xa000, &[ARRAY]);
    let request = memory::Reservation { extent_start: 0xa000, nr_extents: 1, domid: 1, ..Default::default() };
    assert_eq!(world.call_with(D1, hypercall::MEMORY_OP, memory::DECREASE_RESERVATION, request).0, 1);
    assert!(!world.is_mapped(ARRAY));
    let port = looped(&mut world);
    signal(&mut world, port);
    assert_eq!(world.hypervisor.memory.frames.references(mfn), 1);
    assert_eq!(world.hypervisor.audit(), Ok(()));
    assert_eq!(reset(&mut world), 0);
    assert_eq!(world.hypervisor.memory.frames.references(mfn), 0);
    assert_eq!(world.hypervisor.audit(), Ok(()));
}

#[test]
fn there_are_more_ports_and_pages_have_a_limit() {
    let mut world = fifo_world();
    for expected in 1..2048 {
        assert_eq!(unbound(&mut world, D1, 2), expected);
    }
    let request = event::AllocUnbound { dom: 0x7ff0, remote_dom: 2, port: 0 };
    assert_eq!(op(&mut world, D1, event::ALLOC_UNBOUND, request).0, code(Errno::Nospc));
    for page in 1..128 {
        assert_eq!(expand(&mut world, SECOND_ARRAY), 0, "{page}");
    }
    assert_eq!(expand(&mut world, SECOND_ARRAY), code(Errno::Nospc));
    assert_eq!(reset(&mut world), 0);
    assert_eq!(references(&world, SECOND_ARRAY), 2);
    assert_eq!(status(&mut world, D1, 1500).status, event::STATUS_CLOSED);
    for expected in 1..1024 {
        assert_eq!(unbound(&mut world, D1, 2), expected);
    }
    assert_eq!(op(&mut world, D1, event::ALLOC_UNBOUND, request).0, code(Errno::Nospc));
}

#[test]
fn a_batch_of_resets_ends_with_its_credit() {
    let mut world = fifo_world();
    world.poke(D1, 0xb000, event::Reset { dom: 0x7ff0 }.as_bytes());
    let entry = xen_abi::multicall::Entry {
        op: hypercall::EVENT_CHANNEL_OP,
        result: 1,
        args: [event::RESET.into(), 0xb000, 0, 0, 0, 0],
    };
    for n in 0..400 {
        world.poke(D1, 0xc000 + n * 64, entry.as_bytes());
    }
    assert_eq!(world.call(hypercall::MULTICALL, &[0xc000, 400]), 0);
    let last: xen_abi::multicall::Entry = world.peek(D1, 0xc000 + 399 * 64);
    assert_eq!(last.result as i64, code(Errno::Again));
}
