//! Static shared regions, frames of other domains, and the shared-info page: what outlives whom.

use super::*;
use crate::mem::{frames::Owner, p2m::Kind};
use std::format;
use xen_abi::{domctl, hypercall, memory, shared_info::SHARED_INFO_GPA};

const POOL: &str = "
[shared pool]
size = 16K
owner = d1 0x20000000
borrower = d2 0x20000000 ro offset=4K cache=uc
borrower = d0 0x30000000 size=8K cache=wt
";
/// First address of the pool for its owner.
const OWNED: u64 = 0x2000_0000;

fn world() -> World {
    let config = CONFIG.replace("domains = d1 d2", "domains = d0 d1 d2");
    let config = format!("[domain d0]\nprivileged = yes\nmemory = 1M\nmaximum = 1088K\n{config}{POOL}");
    World::configured("", &config, &[D2, D1, D0])
}

fn destroy(world: &mut World, id: u16) {
    let request = domctl::Domctl {
        cmd: domctl::DESTROY_DOMAIN,
        interface_version: domctl::INTERFACE_VERSION,
        domain: id,
        pad: [0; 3],
        u: [0; 128],
    };
    for _ in 0..100 {
        world.poke(D0, ARENA, request.as_bytes());
        if world.call_as(D0, hypercall::DOMCTL, &[ARENA]) == 0 {
            break;
        }
    }
    assert!(world.hypervisor.domain(id).is_none());
    assert_eq!(world.hypervisor.audit(), Ok(()));
}

fn owner(world: &World, mfn: Mfn) -> Owner {
    world.hypervisor.memory.frames.owner(mfn)
}

#[test]
fn views_show_and_allow_what_the_configuration_says() {
    let mut world = world();
    world.poke(D1, OWNED + 0x1ff0, b"written by d1");
    assert_eq!(world.peek::<[u8; 13]>(D2, OWNED + 0xff0), *b"written by d1");
    world.poke(D0, 0x3000_0008, b"d0");
    assert_eq!(world.peek::<[u8; 2]>(D1, OWNED + 8), *b"d0");
    let view = |id, gpa: u64| world.hypervisor.lookup(id, Gpa(gpa).frame());
    assert!(view(2, OWNED).is_some_and(|m| m.kind == Kind::Region && !m.writable));
    assert!(view(1, OWNED + 0x3000).is_some_and(|m| m.writable));
    assert!(view(2, OWNED + 0x2000).is_some() && view(2, OWNED + 0x3000).is_none());
    assert!(view(0, 0x3000_1000).is_some() && view(0, 0x3000_2000).is_none());
    let bits = |id, gpa: u64| {
        let domain = world.hypervisor.domain(id).unwrap();
        domain.p2m.cache_bits(&world.hypervisor.memory, Gpa(gpa).frame())
    };
    assert_eq!([bits(1, OWNED), bits(2, OWNED), bits(0, 0x3000_0000)], [0, 0x18, 0x8]);
    // A hypercall cannot write where the guest cannot.
    let version = xen_abi::version::EXTRAVERSION.into();
    assert_eq!(world.call_as(D2, hypercall::XEN_VERSION, &[version, OWNED]), code(Errno::Fault));
    // Nobody moves or removes it.
    let gone = memory::RemoveFromPhysmap { domid: 1, reserved: [0; 3], gpfn: Gpa(OWNED).frame().0 };
    let (value, _) = world.call_with(D1, hypercall::MEMORY_OP, memory::REMOVE_FROM_PHYSMAP, gone);
    assert_eq!(value, code(Errno::Inval));
    assert_eq!(world.hypervisor.audit(), Ok(()));
}

#[test]
fn pages_stay_until_the_last_view_goes() {
    let mut world = world();
    let frames: Vec<Mfn> =
        (0..4).map(|n| world.hypervisor.lookup(1, Gfn((OWNED >> 12) + n)).unwrap().mfn).collect();
    world.poke(D1, OWNED + 0x1000, b"kept");
    destroy(&mut world, 1);
    // All are borrowed: pages 0 and 1 by d0, 1 to 3 by d2.
    assert!(frames.iter().all(|mfn| owner(&world, *mfn) == Owner::Orphan));
    assert_eq!(world.peek::<[u8; 4]>(D2, OWNED), *b"kept");
    destroy(&mut world, 2);
    let left = frames.iter().map(|mfn| owner(&world, *mfn)).collect::<Vec<_>>();
    assert_eq!(left, [Owner::Orphan, Owner::Orphan, Owner::Free, Owner::Free]);
    assert_eq!(world.peek::<[u8; 4]>(D0, 0x3000_1000), *b"kept");
}

#[test]
fn a_borrower_goes_alone() {
    let mut world = world();
    let frame = world.hypervisor.lookup(1, Gpa(OWNED).frame()).unwrap().mfn;
    world.poke(D1, OWNED, b"kept");
    destroy(&mut world, 2);
    assert_eq!(owner(&world, frame), Owner::Region);
    assert_eq!(world.peek::<[u8; 4]>(D0, 0x3000_0000), *b"kept");
    assert_eq!(world.peek::<[u8; 4]>(D1, OWNED), *b"kept");
}

fn map_foreign(world: &mut World, id: VcpuId, from: u16, idx: u64, gfn: u64) -> (i64, i32) {
    world.poke_words(id, 0x9000, &[idx, gfn, u64::MAX]);
    let request = memory::AddToPhysmapBatch {
        domid: id.domain,
        space: memory::MAPSPACE_GMFN_FOREIGN as u16,
        size: 1,
        foreign_domid: from,
        idxs: 0x9000,
        gpfns: 0x9008,
        errs: 0x9010,
    };
    let (value, _) = world.call_with(id, hypercall::MEMORY_OP, memory::ADD_TO_PHYSMAP_BATCH, request);
    (value, world.peek(id, 0x9010))
}

#[test]
fn frames_of_others_are_mapped_for_the_control_domain_only() {
    let mut world = world();
    assert_eq!(map_foreign(&mut world, D1, 2, 0x20, 0x4000), (code(Errno::Perm), -1));
    assert_eq!(map_foreign(&mut world, D0, 9, 0x20, 0x4000), (code(Errno::Srch), -1));
    let inval = code(Errno::Inval) as i32;
    assert_eq!(map_foreign(&mut world, D0, 0, 0x20, 0x4000), (0, inval));
    assert_eq!(map_foreign(&mut world, D0, 2, 0x7000, 0x4000), (0, inval));
    assert_eq!(map_foreign(&mut world, D0, 2, 0x1_0000, 0x4000), (0, inval));
    assert_eq!(map_foreign(&mut world, D0, 2, 0x20, 0x1_0000), (0, inval));
    world.poke(D2, 0x20000, b"of d2");
    assert_eq!(map_foreign(&mut world, D0, 2, 0x20, 0x4000), (0, 0));
    assert_eq!(map_foreign(&mut world, D0, 2, 0x20, 0x4001), (0, 0));
    assert_eq!(world.peek::<[u8; 5]>(D0, 0x400_0000), *b"of d2");
    assert_eq!(world.hypervisor.audit(), Ok(()));
    // It is nobody's memory there, and where d0's own was, that is given back.
    let pages = world.hypervisor.domain(0).unwrap().pages;
    assert_eq!(map_foreign(&mut world, D0, 2, 0x21, 0x30), (0, 0));
    assert_eq!(world.hypervisor.domain(0).unwrap().pages, pages - 1);
    world.poke_words(D0, 0x9000, &[0x4001]);
    let less = memory::Reservation { extent_start: 0x9000, nr_extents: 1, ..Default::default() };
    assert_eq!(world.call_with(D0, hypercall::MEMORY_OP, memory::DECREASE_RESERVATION, less).0, 0);
    let gone = memory::RemoveFromPhysmap { domid: 0, reserved: [0; 3], gpfn: 0x4001 };
    assert_eq!(world.call_with(D0, hypercall::MEMORY_OP, memory::REMOVE_FROM_PHYSMAP, gone).0, 0);
    assert_eq!(world.hypervisor.audit(), Ok(()));
}

#[test]
fn a_frame_that_others_map_outlives_its_owner() {
    let mut world = world();
    world.poke(D2, 0x20000, b"of d2");
    assert_eq!(map_foreign(&mut world, D0, 2, 0x20, 0x4000), (0, 0));
    let frame = world.hypervisor.lookup(2, Gfn(0x20)).unwrap().mfn;
    // Its owner gives it back first: it still counts.
    let pages = world.hypervisor.domain(2).unwrap().pages;
    world.poke_words(D2, 0x9000, &[0x20]);
    let less = memory::Reservation { extent_start: 0x9000, nr_extents: 1, domid: 2, ..Default::default() };
    assert_eq!(world.call_with(D2, hypercall::MEMORY_OP, memory::DECREASE_RESERVATION, less).0, 1);
    assert_eq!(world.hypervisor.domain(2).unwrap().pages, pages);
    assert_eq!(world.hypervisor.audit(), Ok(()));
    assert_eq!(map_foreign(&mut world, D0, 2, 0x21, 0x4001), (0, 0));
    destroy(&mut world, 2);
    assert_eq!(owner(&world, frame), Owner::Orphan);
    assert_eq!(world.peek::<[u8; 5]>(D0, 0x400_0000), *b"of d2");
    for gpfn in [0x4000, 0x4001] {
        let gone = memory::RemoveFromPhysmap { domid: 0, reserved: [0; 3], gpfn };
        assert_eq!(world.call_with(D0, hypercall::MEMORY_OP, memory::REMOVE_FROM_PHYSMAP, gone).0, 0);
    }
    assert_eq!(owner(&world, frame), Owner::Free);
    assert_eq!(world.hypervisor.audit(), Ok(()));
}

#[test]
fn the_shared_info_page_is_handed_over_without_a_hole() {
    let mut world = world();
    let place = Gpa(SHARED_INFO_GPA).frame();
    let pages = world.hypervisor.domain(1).unwrap().pages;
    let page = world.hypervisor.domain(1).unwrap().shared_info;
    assert_eq!(world.hypervisor.lookup(1, place).unwrap().mfn, page);
    let gone = memory::RemoveFromPhysmap { domid: 1, reserved: [0; 3], gpfn: place.0 };
    assert_eq!(world.call_with(D1, hypercall::MEMORY_OP, memory::REMOVE_FROM_PHYSMAP, gone).0, 0);
    assert!((0..pages).all(|gfn| world.is_mapped(gfn)));
    assert_eq!(world.hypervisor.lookup(1, place), None);
    // Whoever comes next maps it again, at the same place.
    let again = memory::AddToPhysmap {
        domid: 1,
        size: 0,
        space: memory::MAPSPACE_SHARED_INFO,
        idx: 0,
        gpfn: place.0,
    };
    assert_eq!(world.call_with(D1, hypercall::MEMORY_OP, memory::ADD_TO_PHYSMAP, again).0, 0);
    assert_eq!(world.hypervisor.lookup(1, place).unwrap().mfn, page);
    assert_eq!(world.hypervisor.domain(1).unwrap().pages, pages);
    assert_eq!(world.hypervisor.audit(), Ok(()));
}
