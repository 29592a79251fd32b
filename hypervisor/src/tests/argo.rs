//! `argo_op`.

use super::{
    events::{op, word},
    *,
};
use xen_abi::{argo, event, hypercall, shared_info};

/// Ring of the second domain in its frames 0x80 and 0x81.
const RING: u64 = 0x80;
/// Where tests put arrays.
const ARRAY: u64 = 0x9000;
const TEXT: u64 = 0xa000;
const PORT: u32 = 7;
/// Bytes of a ring of one page.
const LEN: u32 = 4096 - 64;

fn register(world: &mut World, partner_id: u16, len: u32, gfns: &[u64], flags: u64) -> i64 {
    world.poke_words(D2, ARRAY, gfns);
    world.poke(D2, ARENA, argo::RegisterRing { aport: PORT, partner_id, pad: 0, len }.as_bytes());
    world.call_as(
        D2,
        hypercall::ARGO_OP,
        &[argo::REGISTER_RING.into(), ARENA, ARRAY, gfns.len() as u64, flags],
    )
}

fn unregister(world: &mut World, partner_id: u16) -> i64 {
    world.poke(D2, ARENA, argo::UnregisterRing { aport: PORT, partner_id, pad: 0 }.as_bytes());
    world.call_as(D2, hypercall::ARGO_OP, &[argo::UNREGISTER_RING.into(), ARENA])
}

fn addr(src: u16, dst: u16) -> argo::SendAddr {
    let end = |aport, domain_id| argo::Addr { aport, domain_id, pad: 0 };
    argo::SendAddr { src: end(3, src), dst: end(PORT, dst) }
}

fn send_to(world: &mut World, addr: argo::SendAddr, iovs: &[argo::Iov]) -> i64 {
    world.poke(D1, ARENA, addr.as_bytes());
    world.poke(D1, ARRAY, iovs.as_bytes());
    world.call(hypercall::ARGO_OP, &[argo::SENDV.into(), ARENA, ARRAY, iovs.len() as u64, 0x77])
}

/// Sends so many bytes of the text in two pieces.
fn send(world: &mut World, len: u32) -> i64 {
    let half = len / 2;
    let piece = |from, iov_len| argo::Iov { iov_hnd: TEXT + u64::from(from), iov_len, pad: 0u32 };
    send_to(world, addr(argo::DOMID_ANY, 2), &[piece(0, half), piece(half, len - half)])
}

fn at(world: &World, offset: u64) -> u32 {
    world.peek(D2, RING * 4096 + offset)
}

fn set_rx(world: &mut World, rx: u32) {
    world.poke(D2, RING * 4096, &rx.to_le_bytes());
}

fn references(world: &World, gfn: u64) -> u32 {
    let mapping = world.hypervisor.lookup(2, Gfn(gfn)).unwrap();
    world.hypervisor.memory.frames.references(mapping.mfn)
}

/// The second domain has a ring of one page, in which nothing is.
fn world_with_ring(partner: u16) -> World {
    let mut world = World::new();
    world.poke(D2, RING * 4096, &[0; 4096]);
    world.poke(D1, TEXT, &(0..4096u32).map(|n| n as u8).collect::<Vec<u8>>());
    assert_eq!(register(&mut world, partner, LEN, &[RING], 0), 0);
    world
}

#[test]
fn rings_have_sizes_and_partners() {
    let mut world = World::new();
    for (partner, len, gfns, flags, error) in [
        (1, 32, &[RING][..], 0, Errno::Inval),
        (1, LEN + 8, &[RING], 0, Errno::Inval),
        (1, LEN + 16, &[RING], 0, Errno::Inval),
        (1, LEN, &[RING, 0x81], 0, Errno::Inval),
        (1, LEN, &[], 0, Errno::Inval),
        (1, u32::MAX, &[RING], 0, Errno::Inval),
        (1, LEN, &[RING], 2, Errno::Inval),
        (1, LEN, &[RING], 1 << 32, Errno::Inval),
        (9, LEN, &[RING], 0, Errno::Srch),
        (0x7ff0, LEN, &[RING], 0, Errno::Srch),
        (1, LEN, &[0x70000], 0, Errno::Inval),
        (1, LEN, &[0x10000], 0, Errno::Inval),
        (1, LEN + 16, &[RING, 0x70000], 0, Errno::Inval),
    ] {
        assert_eq!(register(&mut world, partner, len, gfns, flags), code(error), "{partner} {len} {gfns:?}");
        assert_eq!(references(&world, RING), 2);
    }
    assert_eq!(unregister(&mut world, 1), code(Errno::Noent));
    assert_eq!(register(&mut world, 1, LEN, &[RING], 1), 0);
    assert_eq!(references(&world, RING), 3);
    assert_eq!(register(&mut world, 1, LEN, &[RING], 1), code(Errno::Exist));
    assert_eq!(register(&mut world, 1, LEN - 16, &[RING], 0), code(Errno::Inval));
    // The same ring in other memory.
    assert_eq!(register(&mut world, 1, LEN, &[0x81], 0), 0);
    assert_eq!((references(&world, RING), references(&world, 0x81)), (2, 3));
    assert_eq!(unregister(&mut world, 1), 0);
    assert_eq!(references(&world, 0x81), 2);
    assert_eq!(world.hypervisor.audit(), Ok(()));
}

#[test]
fn messages_arrive_with_their_source() {
    let mut world = world_with_ring(argo::DOMID_ANY);
    let request = event::BindVirq { virq: event::VIRQ_ARGO, vcpu: 0, port: 0 };
    let (value, bound) = op(&mut world, D2, event::BIND_VIRQ, request);
    assert_eq!(value, 0);
    assert_eq!(send(&mut world, 21), 21);
    assert_eq!(word(&world, 2, shared_info::PENDING), 1 << bound.port);
    // Header, text, and the next slot.
    assert_eq!((at(&world, 4), at(&world, 64)), (48, 37));
    assert_eq!((at(&world, 68), at(&world, 72), at(&world, 76)), (3, 1, 0x77));
    let text: [u8; 21] = world.peek(D2, RING * 4096 + 80);
    assert_eq!(text, core::array::from_fn(|n| n as u8));
    assert_eq!(send(&mut world, 0), 0);
    assert_eq!((at(&world, 4), at(&world, 64 + 48)), (64, 16));
}

#[test]
fn a_full_ring_makes_senders_wait() {
    let mut world = world_with_ring(1);
    assert_eq!(send(&mut world, 4000), 4000);
    assert_eq!(at(&world, 4), 4016);
    assert_eq!(send(&mut world, 1), code(Errno::Again));
    let request = event::BindVirq { virq: event::VIRQ_ARGO, vcpu: 0, port: 0 };
    let (_, bound) = op(&mut world, D1, event::BIND_VIRQ, request);
    let notify = [argo::NOTIFY.into(), 0];
    assert_eq!(world.call_as(D2, hypercall::ARGO_OP, &notify), 0);
    assert_eq!(word(&world, 1, shared_info::PENDING), 0);
    // The owner reads everything, and says so.
    set_rx(&mut world, 4016);
    assert_eq!(world.call_as(D2, hypercall::ARGO_OP, &notify), 0);
    assert_eq!(word(&world, 1, shared_info::PENDING), 1 << bound.port);
    // Around the end of the ring: one slot is left there, for the header.
    assert_eq!(send(&mut world, 20), 20);
    assert_eq!((at(&world, 64 + 4016), at(&world, 4)), (36, 32));
    let text: [u8; 20] = world.peek(D2, RING * 4096 + 64);
    assert_eq!(text, core::array::from_fn(|n| n as u8));
}

#[test]
fn senders_are_refused() {
    let mut world = world_with_ring(1);
    assert_eq!(send_to(&mut world, addr(argo::DOMID_ANY, 9), &[]), code(Errno::Srch));
    assert_eq!(send_to(&mut world, addr(2, 2), &[]), code(Errno::Perm));
    assert_eq!(send_to(&mut world, addr(1, 1), &[]), code(Errno::Connrefused));
    assert_eq!(send_to(&mut world, addr(1, 2), &[]), 0);
    let piece = |iov_hnd, iov_len, pad| argo::Iov { iov_hnd, iov_len, pad };
    let many = [piece(TEXT, 1, 0); 9];
    for (iovs, error) in [
        (&many[..], Errno::Inval),
        (&[piece(TEXT, 1, 1)], Errno::Inval),
        (&[piece(TEXT, LEN - 16, 0)], Errno::Msgsize),
        (&[piece(TEXT, u32::MAX, 0), piece(TEXT, 2, 0)], Errno::Msgsize),
        (&[piece(1 << 40, 8, 0)], Errno::Fault),
        (&[piece(u64::MAX, 8, 0)], Errno::Fault),
    ] {
        let before = at(&world, 4);
        assert_eq!(send_to(&mut world, addr(1, 2), iovs), code(error), "{iovs:?}");
        assert_eq!(at(&world, 4), before, "nothing was sent");
    }
    let mut odd = addr(1, 2);
    odd.dst.pad = 1;
    assert_eq!(send_to(&mut world, odd, &[]), code(Errno::Inval));
    assert_eq!(world.call(hypercall::ARGO_OP, &[9, 0]), code(Errno::Opnotsupp));
    assert_eq!(world.call(hypercall::ARGO_OP, &[argo::NOTIFY.into(), 0, 1]), code(Errno::Inval));
    assert_eq!(
        world.call(hypercall::ARGO_OP, &[argo::UNREGISTER_RING.into(), ARENA, 0, 1]),
        code(Errno::Inval)
    );
    // A ring that is for another domain alone.
    assert_eq!(unregister(&mut world, 1), 0);
    assert_eq!(register(&mut world, 2, LEN, &[RING], 0), 0);
    assert_eq!(send(&mut world, 1), code(Errno::Connrefused));
}

#[test]
fn hostile_pointers_stay_in_the_ring() {
    let mut world = world_with_ring(1);
    let neighbour: [u8; 4096] = world.peek(D2, 0x81 * 4096);
    let mut noise = 1u32;
    for _ in 0..500 {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        world.poke(D2, RING * 4096, [noise, noise.rotate_left(9)].as_bytes());
        let sent = send(&mut world, noise >> 20);
        assert!(sent >= 0 || sent == code(Errno::Again) || sent == code(Errno::Msgsize), "{sent}");
        if noise & 7 == 0 {
            assert_eq!(register(&mut world, 1, LEN, &[RING], 0), 0);
            assert!(at(&world, 4) < LEN && at(&world, 4).is_multiple_of(16));
        }
    }
    assert_eq!(world.peek::<[u8; 4096]>(D2, 0x81 * 4096), neighbour);
    assert_eq!(references(&world, RING), 3);
}

#[test]
fn notify_describes_rings() {
    let mut world = world_with_ring(argo::DOMID_ANY);
    let mut ask = |domain_id, aport, space_required| {
        let ring = argo::Addr { aport, domain_id, pad: 0 };
        let entry = argo::RingDataEnt { ring, space_required, flags: 0xffff, ..Default::default() };
        world.poke(D1, ARENA, argo::RingData { nent: 1, pad: 0 }.as_bytes());
        world.poke(D1, ARENA + 8, entry.as_bytes());
        assert_eq!(world.call(hypercall::ARGO_OP, &[argo::NOTIFY.into(), ARENA]), 0);
        let answer: argo::RingDataEnt = world.peek(D1, ARENA + 8);
        (answer.flags, answer.max_message_size)
    };
    let there = argo::RING_EXISTS | argo::RING_SHARED | argo::RING_EMPTY;
    assert_eq!(ask(2, PORT, 100), (there | argo::RING_SUFFICIENT, LEN - 32));
    assert_eq!(ask(2, PORT, LEN), (there | argo::RING_EMSGSIZE, LEN - 32));
    assert_eq!(ask(2, PORT + 1, 100), (0, 0));
    assert_eq!(ask(9, PORT, 100), (0, 0));
    assert_eq!(send(&mut world, 4000), 4000);
    world.poke(D1, ARENA, argo::RingData { nent: 257, pad: 0 }.as_bytes());
    assert_eq!(world.call(hypercall::ARGO_OP, &[argo::NOTIFY.into(), ARENA]), code(Errno::Acces));
    world.poke(D1, ARENA, argo::RingData { nent: 1, pad: 1 }.as_bytes());
    assert_eq!(world.call(hypercall::ARGO_OP, &[argo::NOTIFY.into(), ARENA]), code(Errno::Inval));
}

#[test]
fn rings_and_pages_are_limited() {
    let mut world = World::new();
    for aport in 0..17 {
        world.poke_words(D2, ARRAY, &[RING]);
        world.poke(D2, ARENA, argo::RegisterRing { aport, partner_id: 1, pad: 0, len: LEN }.as_bytes());
        let value = world.call_as(D2, hypercall::ARGO_OP, &[1, ARENA, ARRAY, 1, 0]);
        assert_eq!(value, if aport < 16 { 0 } else { code(Errno::Nospc) });
    }
    world.poke(D2, ARENA, argo::RegisterRing { aport: 0, partner_id: 2, pad: 0, len: 300 << 12 }.as_bytes());
    assert_eq!(world.call_as(D2, hypercall::ARGO_OP, &[1, ARENA, ARRAY, 301, 0]), code(Errno::Nospc));
    world.hypervisor.end_argo(1);
    assert_eq!(references(&world, RING), 2);
    assert_eq!(world.call_as(D2, hypercall::ARGO_OP, &[1, ARENA, ARRAY, 301, 0]), code(Errno::Nomem));
}
