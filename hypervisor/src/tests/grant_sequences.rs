//! Grants in any order: whatever domains do with them, and with their memory meanwhile, no oracle fires and nothing is lost.

use super::{grants::*, *};
use proptest::prelude::*;
use xen_abi::{
    DOMID_SELF, DomId,
    grant::{self, *},
    hypercall::{GRANT_TABLE_OP, MEMORY_OP},
    memory,
};

const TABLE: u64 = 0x5000;
const STATUS: u64 = 0x5100;
const LIST: u64 = 0xa000;

/// One step of a domain. Numbers are small, so that steps meet.
#[derive(Clone, Copy, Debug)]
struct Step {
    second: bool,
    what: u8,
    a: u64,
    b: u64,
    flags: u16,
}

fn step() -> impl Strategy<Value = Step> {
    (any::<bool>(), 0u8..14, 0u64..4, 0u64..4, 0u16..8).prop_map(|(second, what, a, b, flags)| Step {
        second,
        what,
        a,
        b,
        flags,
    })
}

/// A frame of memory, a hole, a frame of the table, or the channel.
fn place(n: u64) -> u64 {
    [0x80, 0x81, 0x4000, 0x4001][n as usize & 3]
}

fn write_entry(world: &mut World, id: VcpuId, other: DomId, step: Step) {
    let reference = 6 + step.a;
    if !world.is_table(id) {
        return;
    }
    let flags = if step.flags & 1 == 0 { 0 } else { GTF_READONLY };
    if world.version(id) == 2 {
        let kind = [GTF_PERMIT_ACCESS, GTF_PERMIT_ACCESS | GTF_SUB_PAGE, GTF_TRANSITIVE, GTF_INVALID];
        let kind = kind[usize::from(step.flags >> 1)];
        let header = EntryHeader { flags: flags | kind, domid: other };
        let (page_off, frame) = if kind == GTF_TRANSITIVE { (other, 6 + step.b) } else { (8, place(step.b)) };
        world.entry(id, reference, EntryV2 { header, page_off, length: 64, frame });
    } else {
        world.permit(id, reference, other, place(step.b) as u32, flags);
    }
}

fn memory_step(world: &mut World, id: VcpuId, step: Step) {
    let gfn = place(step.a);
    world.poke_words(id, LIST, &[gfn]);
    let extents =
        memory::Reservation { extent_start: LIST, nr_extents: 1, domid: DOMID_SELF, ..Default::default() };
    match step.b {
        0 => drop(world.call_with(id, MEMORY_OP, memory::DECREASE_RESERVATION, extents)),
        1 => drop(world.call_with(id, MEMORY_OP, memory::POPULATE_PHYSMAP, extents)),
        2 => {
            let request = memory::RemoveFromPhysmap { domid: DOMID_SELF, reserved: [0; 3], gpfn: gfn };
            world.call_with(id, MEMORY_OP, memory::REMOVE_FROM_PHYSMAP, request);
        }
        _ => {
            let kind = u32::from(step.flags & 1);
            let request = memory::AcquireResource { id: kind, nr_frames: 1, ..RESOURCE };
            resource(world, id, request);
        }
    }
}

fn carry_out(world: &mut World, step: Step) {
    let (id, other) = if step.second { (D2, 1) } else { (D1, 2) };
    let handle = step.a as u32;
    let bus = |world: &World| {
        let mfn = world.hypervisor.lookup(other, Gfn(place(step.b))).map(|mapping| mapping.mfn);
        mfn.map_or(0, |mfn| mfn.address().0)
    };
    match step.what {
        0 | 1 => write_entry(world, id, other, step),
        2 | 3 => {
            let flags = [2, 3, 1, 6, 7, 5, 2, 3][usize::from(step.flags)];
            world.map(id, other, 6 + step.a as u32, flags, place(step.b));
        }
        4 | 5 => {
            let host = if step.flags & 1 == 0 { place(step.b) << 12 } else { 0 };
            let device = if step.flags & 2 == 0 { bus(world) } else { 0 };
            world.unmap(id, handle, host, device);
        }
        6 | 7 => {
            let end = |granted: bool, n: u64| {
                if granted { end(other, 6 + n, 8) } else { end(DOMID_SELF, place(n), 8) }
            };
            let (source, dest) = (end(step.flags & 1 != 0, step.a), end(step.flags & 2 != 0, step.b));
            world.copy(id, source, dest, 32, step.flags & 3);
        }
        8 => drop(world.set_version(id, 1 + u32::from(step.flags & 1))),
        9 => {
            let op = SwapGrantRef { ref_a: 6 + handle, ref_b: 6 + step.b as u32, ..Default::default() };
            world.grant(id, grant::SWAP_GRANT_REF, op);
        }
        10 => drop(world.add_table(id, memory::MAPIDX_GRANT_TABLE_STATUS, STATUS + step.a)),
        11 => drop(world.add_table(id, 0, TABLE)),
        12 => memory_step(world, id, step),
        _ => {
            let replace = UnmapAndReplace { host_addr: place(step.b) << 12, handle, ..Default::default() };
            world.grant(id, grant::UNMAP_AND_REPLACE, replace);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn nothing_is_violated_and_nothing_is_lost(steps in prop::collection::vec(step(), 1..120), ends in any::<bool>()) {
        let mut world = World::with_tables("");
        for step in steps {
            carry_out(&mut world, step);
            prop_assert_eq!(world.hypervisor.audit(), Ok(()));
        }
        let id = if ends { 1 } else { 2 };
        world.hypervisor.release_grants(id);
        prop_assert_eq!(world.hypervisor.audit(), Ok(()));
    }
}

#[test]
fn a_batch_does_a_bounded_amount_of_work() {
    let mut world = World::with_tables("");
    for id in [D1, D2] {
        assert_eq!(world.set_version(id, 2).0, 0);
    }
    let header = EntryHeader { flags: GTF_PERMIT_ACCESS, domid: 2 };
    world.entry(D1, 9, EntryV2 { header, frame: 0x80, ..Default::default() });
    let header = EntryHeader { flags: GTF_TRANSITIVE, domid: 1 };
    world.entry(D2, 9, EntryV2 { header, page_off: 1, length: 0, frame: 9 });
    let ends = end(2, 9, 0);
    let op = grant::Copy { source: ends, dest: ends, len: 4096, flags: 3, ..Default::default() };
    for n in 0..512 {
        world.poke(D1, 0x9_0000 + n * 40, op.as_bytes());
    }
    assert_eq!(world.call(GRANT_TABLE_OP, &[u64::from(grant::COPY), 0x9_0000, 512]), 0);
    assert_eq!(world.peek::<grant::Copy>(D1, 0x9_0000 + 511 * 40).status, 0);
    let steps = world.hypervisor.memory.watch.steps();
    assert!(steps > 1000 && steps * 3 <= crate::oracle::work::LIMIT, "{steps}");
}
