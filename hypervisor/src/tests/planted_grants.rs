//! The planted bugs of grant tables.

use super::{
    grants::{RESOURCE, end, resource},
    planted::{harmful, harmless},
    *,
};
use planted_bugs::Bug;
use xen_abi::{DOMID_SELF, grant::*, memory};

const TABLE: u64 = 0x5000;
const HOLE: u64 = 0x4000;

/// Has both domains see their tables.
fn tables(world: &mut World) {
    for id in [D1, D2] {
        assert_eq!(world.add_table(id, 0, TABLE), 0);
    }
}

fn swap(world: &mut World) -> i64 {
    let (_, op) = world.grant(D1, SWAP_GRANT_REF, SwapGrantRef { ref_a: 1, ref_b: 2, ..Default::default() });
    op.status.into()
}

#[test]
fn grant_uninit_follows_a_null_pointer() {
    assert_eq!(harmless(Bug::GrantUninit, swap), Status::GENERAL_ERROR.0.into());
    assert_eq!(harmful(Bug::GrantUninit, swap), "wild read at 0x8");
}

fn unmap_twice(world: &mut World) -> i64 {
    tables(world);
    world.permit(D1, 9, 2, 0x80, 0);
    let op = world.map(D2, 1, 9, GNTMAP_HOST_MAP | GNTMAP_DEVICE_MAP, HOLE);
    assert_eq!(world.unmap(D2, op.handle, HOLE << 12, 0), 0);
    world.unmap(D2, op.handle, 0, op.dev_bus_addr).into()
}

#[test]
fn unmap_underflow_loses_a_reference() {
    assert_eq!(harmless(Bug::UnmapUnderflow, unmap_twice), 0);
    assert!(harmful(Bug::UnmapUnderflow, unmap_twice).starts_with("oracle references"));
}

fn unmap_at_once(world: &mut World) -> i64 {
    tables(world);
    world.permit(D1, 9, 2, 0x80, 0);
    let op = world.map(D2, 1, 9, GNTMAP_HOST_MAP | GNTMAP_DEVICE_MAP, HOLE);
    world.unmap(D2, op.handle, HOLE << 12, op.dev_bus_addr).into()
}

#[test]
fn unmap_underflow_spares_a_mapping_that_goes_at_once() {
    let mut world = World::with("plant=unmap-underflow");
    assert_eq!(unmap_at_once(&mut world), 0);
    assert_eq!(world.hypervisor.canaries()[Bug::UnmapUnderflow as usize].triggered, 0);
}

fn change_back(world: &mut World) -> i64 {
    tables(world);
    assert_eq!(world.set_version(D1, 2).0, 0);
    assert_eq!(world.add_table(D1, memory::MAPIDX_GRANT_TABLE_STATUS, 0x5100), 0);
    world.set_version(D1, 1).0
}

#[test]
fn status_freed_leaves_a_freed_frame_mapped() {
    assert_eq!(harmless(Bug::StatusFreed, change_back), 0);
    assert!(harmful(Bug::StatusFreed, change_back).starts_with("oracle freed-frame"));
}

/// As above, but the status frame is mapped as a resource, which leaves no trace in the machine-to-physical table.
fn change_back_under_a_resource(world: &mut World) -> i64 {
    tables(world);
    assert_eq!(world.set_version(D1, 2).0, 0);
    world.poke_words(D1, RESOURCE.frame_list, &[HOLE]);
    let status = memory::RESOURCE_GRANT_TABLE_STATUS;
    assert_eq!(resource(world, D1, memory::AcquireResource { id: status, nr_frames: 1, ..RESOURCE }).0, 0);
    world.set_version(D1, 1).0
}

#[test]
fn status_freed_is_seen_wherever_the_frame_is_mapped() {
    assert_eq!(harmless(Bug::StatusFreed, change_back_under_a_resource), code(Errno::Busy));
    assert!(harmful(Bug::StatusFreed, change_back_under_a_resource).starts_with("oracle freed-frame"));
}

/// A chain whose end does not exist: nothing is copied.
fn chain_to_nowhere(world: &mut World) -> i64 {
    tables(world);
    for id in [D1, D2] {
        assert_eq!(world.set_version(id, 2).0, 0);
    }
    for (id, reference, user, other, source) in [(D1, 10, 2, 2, 9), (D2, 11, 1, 1, 10)] {
        let header = EntryHeader { flags: GTF_TRANSITIVE, domid: user };
        world.entry(id, reference, EntryV2 { header, page_off: other, length: 0, frame: source });
    }
    world.copy(D1, end(2, 11, 0), end(DOMID_SELF, 0x82, 0), 8, GNTCOPY_SOURCE_GREF).into()
}

#[test]
fn transitive_copy_is_seen_before_its_end() {
    assert_eq!(harmless(Bug::TransitiveCopy, chain_to_nowhere), Status::GENERAL_ERROR.0.into());
    assert!(harmful(Bug::TransitiveCopy, chain_to_nowhere).starts_with("oracle isolation"));
}

fn chain(world: &mut World) -> i64 {
    tables(world);
    for id in [D1, D2] {
        assert_eq!(world.set_version(id, 2).0, 0);
    }
    let direct = EntryHeader { flags: GTF_PERMIT_ACCESS, domid: 1 };
    world.entry(D2, 9, EntryV2 { header: direct, frame: 0x80, ..Default::default() });
    for (id, reference, user, other, source) in [(D1, 10, 2, 2, 9), (D2, 11, 1, 1, 10)] {
        let header = EntryHeader { flags: GTF_TRANSITIVE, domid: user };
        world.entry(id, reference, EntryV2 { header, page_off: other, length: 0, frame: source });
    }
    world.copy(D1, end(2, 11, 0), end(DOMID_SELF, 0x82, 0), 8, GNTCOPY_SOURCE_GREF).into()
}

#[test]
fn transitive_copy_follows_a_chain() {
    assert_eq!(harmless(Bug::TransitiveCopy, chain), Status::GENERAL_ERROR.0.into());
    assert!(harmful(Bug::TransitiveCopy, chain).starts_with("oracle isolation"));
}

fn write_readonly(world: &mut World) -> i64 {
    tables(world);
    world.permit(D1, 9, 2, 0x80, GTF_READONLY);
    world.map(D2, 1, 9, GNTMAP_HOST_MAP, HOLE).status.into()
}

#[test]
fn retval_sign_is_no_status() {
    assert_eq!(harmless(Bug::RetvalSign, write_readonly), Status::GENERAL_ERROR.0.into());
    assert!(harmful(Bug::RetvalSign, write_readonly).starts_with("oracle return-contract"));
}

fn acquire_badly(world: &mut World) -> i64 {
    resource(world, D1, memory::AcquireResource { frame_list: 0x200_0000, ..RESOURCE }).0
}

#[test]
fn ref_leak_keeps_a_reference() {
    assert_eq!(harmless(Bug::RefLeak, acquire_badly), code(Errno::Fault));
    assert!(harmful(Bug::RefLeak, acquire_badly).starts_with("oracle references"));
}
