//! `grant_table_op`, and what other calls do with grant tables.

use super::*;
use crate::{
    grant::{MAX_FRAMES, MAX_HANDLES, MAX_PINS},
    mem::{frames::Owner, p2m::Kind},
};
use xen_abi::{
    DOMID_SELF, DomId,
    grant::{self, *},
    hypercall::{GRANT_TABLE_OP, MEMORY_OP},
    memory,
};

/// Where d1 and d2 see the first frame of their tables.
const TABLE: u64 = 0x5000;
/// Where they see the status frame.
const STATUS: u64 = 0x5100;
/// A frame where nothing is.
const HOLE: u64 = 0x4000;
/// Where domains list frames.
const LIST: u64 = 0xa000;

impl World {
    /// One entry of a grant operation.
    pub(super) fn grant<T: FromBytes + FromZeros + IntoBytes + Immutable>(
        &mut self,
        id: VcpuId,
        cmd: u32,
        op: T,
    ) -> (i64, T) {
        self.poke(id, ARENA, op.as_bytes());
        let value = self.call_as(id, GRANT_TABLE_OP, &[u64::from(cmd), ARENA, 1]);
        (value, self.peek(id, ARENA))
    }

    pub(super) fn add_table(&mut self, id: VcpuId, idx: u64, gfn: u64) -> i64 {
        let space = memory::MAPSPACE_GRANT_TABLE;
        let request = memory::AddToPhysmap { domid: DOMID_SELF, size: 0, space, idx, gpfn: gfn };
        self.call_with(id, MEMORY_OP, memory::ADD_TO_PHYSMAP, request).0
    }

    /// Has both domains see their tables.
    pub(super) fn with_tables(line: &str) -> Self {
        let mut world = Self::with(line);
        for id in [D1, D2] {
            assert_eq!(world.add_table(id, 0, TABLE), 0);
        }
        world
    }

    pub(super) fn set_version(&mut self, id: VcpuId, version: u32) -> (i64, u32) {
        let (value, request) = self.grant(id, grant::SET_VERSION, SetVersion { version });
        (value, request.version)
    }

    /// Writes an entry of version 1.
    pub(super) fn permit(&mut self, id: VcpuId, reference: u64, user: DomId, frame: u32, flags: u16) {
        let header = EntryHeader { flags: flags | GTF_PERMIT_ACCESS, domid: user };
        self.poke(id, TABLE * 4096 + reference * 8, EntryV1 { header, frame }.as_bytes());
    }

    /// Writes an entry of version 2.
    pub(super) fn entry(&mut self, id: VcpuId, reference: u64, entry: EntryV2) {
        self.poke(id, TABLE * 4096 + reference * 16, entry.as_bytes());
    }

    fn flags(&self, id: VcpuId, reference: u64) -> u16 {
        self.peek::<EntryV1>(id, TABLE * 4096 + reference * 8).header.flags
    }

    pub(super) fn map(
        &mut self,
        id: VcpuId,
        dom: DomId,
        reference: u32,
        flags: u32,
        gfn: u64,
    ) -> MapGrantRef {
        let op = MapGrantRef { host_addr: gfn << 12, flags, grant: reference, dom, ..Default::default() };
        let (value, op) = self.grant(id, grant::MAP_GRANT_REF, op);
        assert_eq!(value, 0);
        op
    }

    pub(super) fn unmap(&mut self, id: VcpuId, handle: u32, host_addr: u64, dev_bus_addr: u64) -> i16 {
        let op = UnmapGrantRef { host_addr, dev_bus_addr, handle, ..Default::default() };
        let (value, op) = self.grant(id, grant::UNMAP_GRANT_REF, op);
        assert_eq!(value, 0);
        op.status
    }

    pub(super) fn copy(&mut self, id: VcpuId, source: CopyEnd, dest: CopyEnd, len: u16, flags: u16) -> i16 {
        let op = grant::Copy { source, dest, len, flags, ..Default::default() };
        let (value, op) = self.grant(id, grant::COPY, op);
        assert_eq!(value, 0);
        op.status
    }

    /// The domain sees its table where it should.
    pub(super) fn is_table(&self, id: VcpuId) -> bool {
        self.kind(id, TABLE) == Some(Kind::GrantTable)
    }

    pub(super) fn version(&self, id: VcpuId) -> u32 {
        self.hypervisor.domain(id.domain).unwrap().grants.version
    }

    fn references(&self, id: VcpuId, gfn: u64) -> u32 {
        let mapping = self.hypervisor.lookup(id.domain, Gfn(gfn)).expect("mapped");
        self.hypervisor.memory.frames.references(mapping.mfn)
    }

    fn kind(&self, id: VcpuId, gfn: u64) -> Option<Kind> {
        self.hypervisor.lookup(id.domain, Gfn(gfn)).map(|mapping| mapping.kind)
    }
}

pub(super) fn end(domid: DomId, u: u64, offset: u16) -> CopyEnd {
    CopyEnd { u, domid, offset, reserved: 0 }
}

#[test]
fn a_table_comes_to_be_when_it_is_set_up() {
    let mut world = World::new();
    let size = |world: &mut World, dom| {
        let (value, op) = world.grant(D1, grant::QUERY_SIZE, QuerySize { dom, ..Default::default() });
        assert_eq!(value, 0);
        (op.status, op.nr_frames, op.max_nr_frames)
    };
    let version = |world: &mut World, dom| {
        let (value, op) = world.grant(D1, grant::GET_VERSION, GetVersion { dom, ..Default::default() });
        (value, op.version)
    };
    assert_eq!(size(&mut world, DOMID_SELF), (0, 0, MAX_FRAMES));
    assert_eq!(version(&mut world, 1), (0, 0));
    let setup = |world: &mut World, dom, nr_frames, frame_list| {
        let op = SetupTable { dom, nr_frames, frame_list, ..Default::default() };
        let (value, op) = world.grant(D1, grant::SETUP_TABLE, op);
        assert_eq!(value, 0);
        op.status
    };
    assert_eq!(setup(&mut world, DOMID_SELF, 2, LIST), 0);
    assert_eq!(size(&mut world, 1), (0, 2, MAX_FRAMES));
    assert_eq!(version(&mut world, DOMID_SELF), (0, 1));
    // The domain does not see them yet.
    assert_eq!(world.peek::<[u64; 2]>(D1, LIST), [u64::MAX; 2]);
    assert_eq!(world.add_table(D1, 1, TABLE), 0);
    assert_eq!(setup(&mut world, 1, 2, LIST), 0);
    assert_eq!(world.peek::<[u64; 2]>(D1, LIST), [u64::MAX, TABLE]);
    assert_eq!(setup(&mut world, 1, MAX_FRAMES + 1, LIST), Status::GENERAL_ERROR.0);
    assert_eq!(setup(&mut world, 1, 2, 0x200_0000), Status::BAD_VIRT_ADDR.0);
    assert_eq!(setup(&mut world, 2, 1, LIST), Status::PERMISSION_DENIED.0);
    assert_eq!(setup(&mut world, 9, 1, LIST), Status::BAD_DOMAIN.0);
    assert_eq!(size(&mut world, 2), (Status::PERMISSION_DENIED.0, 0, 0));
    assert_eq!(size(&mut world, 9), (Status::BAD_DOMAIN.0, 0, 0));
    assert_eq!(version(&mut world, 2).0, code(Errno::Perm));
    assert_eq!(version(&mut world, 9).0, code(Errno::Srch));
}

#[test]
fn arguments_are_checked_before_anything_is_done() {
    let mut world = World::with_tables("");
    let mut op = |cmd: u32, arg: u64, count: u64| world.call(GRANT_TABLE_OP, &[u64::from(cmd), arg, count]);
    for cmd in [DUMP_TABLE, TRANSFER, 13, 0xfff] {
        assert_eq!(op(cmd, ARENA, 1), code(Errno::Nosys));
    }
    for cmd in [MAP_GRANT_REF, UNMAP_GRANT_REF, UNMAP_AND_REPLACE, grant::COPY, SWAP_GRANT_REF, CACHE_FLUSH] {
        assert_eq!(op(cmd, ARENA, 0), 0);
        assert_eq!(op(cmd, 0x200_0000, 1), code(Errno::Fault));
        assert_eq!(op(cmd, u64::MAX - 3, 2), code(Errno::Fault));
        assert_eq!(op(cmd, ARENA, 513), code(Errno::TooBig));
        assert_eq!(op(cmd, ARENA, 0x8000_0000), code(Errno::Inval));
        assert_eq!(op(cmd | 0x1000, ARENA, 1), code(Errno::Inval));
    }
    for cmd in [SETUP_TABLE, QUERY_SIZE, GET_STATUS_FRAMES] {
        assert_eq!(op(cmd, ARENA, 0), code(Errno::Inval));
        assert_eq!(op(cmd, ARENA, 2), code(Errno::Inval));
        assert_eq!(op(cmd, 0x200_0000, 1), code(Errno::Fault));
    }
    for cmd in [SET_VERSION, GET_VERSION] {
        assert_eq!(op(cmd, 0x200_0000, 1), code(Errno::Fault));
    }
}

#[test]
fn a_granted_frame_is_shared_until_it_is_unmapped() {
    let mut world = World::with_tables("");
    world.poke_words(D1, 0x8_0000, &[0x1122]);
    world.permit(D1, 9, 2, 0x80, 0);
    let op = world.map(D2, 1, 9, GNTMAP_HOST_MAP, HOLE);
    assert_eq!((op.status, op.handle), (0, 0));
    assert_eq!(op.dev_bus_addr as usize, world.maddr(D1, 0x8_0000));
    assert_eq!(world.peek::<u64>(D2, HOLE << 12), 0x1122);
    world.poke_words(D2, HOLE << 12, &[0x3344]);
    assert_eq!(world.peek::<u64>(D1, 0x8_0000), 0x3344);
    assert_eq!(world.flags(D1, 9), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
    assert_eq!(world.references(D1, 0x80), 3);
    // Neither a change of the entry nor its frame's way changes what is mapped.
    world.permit(D1, 9, 1, 0x81, 0);
    assert_eq!(world.peek::<u64>(D2, HOLE << 12), 0x3344);
    assert_eq!(world.unmap(D2, op.handle, HOLE << 12, 0), 0);
    assert_eq!(world.kind(D2, HOLE), None);
    assert_eq!(world.references(D1, 0x80), 2);
    assert_eq!(world.unmap(D2, op.handle, HOLE << 12, 0), Status::BAD_HANDLE.0);
    assert_eq!(world.unmap(D2, u32::MAX, HOLE << 12, 0), Status::BAD_HANDLE.0);
}

#[test]
fn the_bits_of_an_entry_say_how_it_is_used() {
    let mut world = World::with_tables("");
    world.permit(D1, 9, 2, 0x80, 0);
    let reader = world.map(D2, 1, 9, GNTMAP_HOST_MAP | GNTMAP_READONLY, HOLE);
    assert_eq!(world.flags(D1, 9), GTF_PERMIT_ACCESS | GTF_READING);
    let fault = crate::NestedFault(1 << 1);
    let action = world.hypervisor.nested_fault(D2, Gpa(HOLE << 12), fault);
    assert_eq!(action, crate::FaultAction::InjectPageFault);
    let writer = world.map(D2, 1, 9, GNTMAP_DEVICE_MAP, 0);
    assert_eq!((reader.status, writer.status, writer.handle), (0, 0, 1));
    assert_eq!(world.flags(D1, 9), GTF_PERMIT_ACCESS | GTF_READING | GTF_WRITING);
    assert_eq!(world.references(D1, 0x80), 4);
    // Neither part named: nothing happens.
    assert_eq!(world.unmap(D2, writer.handle, 0, 0), 0);
    assert_eq!(world.unmap(D2, writer.handle, 0, 8), Status::BAD_DEV_ADDR.0);
    assert_eq!(world.unmap(D2, writer.handle, 0, writer.dev_bus_addr), 0);
    assert_eq!(world.flags(D1, 9), GTF_PERMIT_ACCESS | GTF_READING);
    assert_eq!(world.unmap(D2, reader.handle, HOLE << 12, 0), 0);
    assert_eq!(world.flags(D1, 9), GTF_PERMIT_ACCESS);
}

#[test]
fn both_parts_of_a_mapping_go_one_after_the_other() {
    for host_first in [true, false] {
        let mut world = World::with_tables("");
        world.permit(D1, 9, 2, 0x80, 0);
        let op = world.map(D2, 1, 9, GNTMAP_HOST_MAP | GNTMAP_DEVICE_MAP, HOLE);
        assert_eq!((op.status, world.references(D1, 0x80)), (0, 4));
        let parts = [(HOLE << 12, 0), (0, op.dev_bus_addr)];
        let (first, second) = if host_first { (parts[0], parts[1]) } else { (parts[1], parts[0]) };
        assert_eq!(world.unmap(D2, op.handle, first.0, first.1), 0);
        assert_eq!(world.references(D1, 0x80), 3);
        assert_eq!(world.unmap(D2, op.handle, first.0, first.1), 0);
        assert_eq!(world.unmap(D2, op.handle, second.0, second.1), 0);
        assert_eq!(world.references(D1, 0x80), 2);
        assert_eq!(world.unmap(D2, op.handle, second.0, second.1), Status::BAD_HANDLE.0);
    }
    let mut world = World::with_tables("");
    world.permit(D1, 9, 2, 0x80, 0);
    let op = world.map(D2, 1, 9, GNTMAP_HOST_MAP | GNTMAP_DEVICE_MAP, HOLE);
    assert_eq!(world.unmap(D2, op.handle, HOLE << 12, op.dev_bus_addr), 0);
    assert_eq!((world.references(D1, 0x80), world.flags(D1, 9)), (2, GTF_PERMIT_ACCESS));
}

#[test]
fn what_is_not_granted_is_not_mapped() {
    let mut world = World::with_tables("");
    world.permit(D1, 9, 2, 0x80, 0);
    world.permit(D1, 10, 2, 0x80, GTF_READONLY);
    world.permit(D1, 11, 1, 0x80, 0);
    world.permit(D1, 12, 2, 0x7000, 0);
    world.permit(D1, 13, 2, 0x10000, 0);
    world.permit(D1, 14, 2, 0x80, GTF_SUB_PAGE);
    world.permit(D1, 15, 2, TABLE as u32, 0);
    let host = GNTMAP_HOST_MAP;
    let cases = [
        (1, 9, 0, HOLE, Status::BAD_GNTREF),
        (1, 9, GNTMAP_READONLY, HOLE, Status::BAD_GNTREF),
        (1, 9, host | GNTMAP_CONTAINS_PTE, HOLE, Status::GENERAL_ERROR),
        (1, 9, host | GNTMAP_APPLICATION_MAP, HOLE, Status::GENERAL_ERROR),
        (1, 9, host | 1 << 16, HOLE, Status::GENERAL_ERROR),
        (7, 9, host, HOLE, Status::BAD_DOMAIN),
        (DOMID_SELF, 9, host, HOLE, Status::BAD_DOMAIN),
        (1, 512, host, HOLE, Status::BAD_GNTREF),
        (1, u32::MAX, host, HOLE, Status::BAD_GNTREF),
        (1, 8, host, HOLE, Status::GENERAL_ERROR),
        (1, 10, host, HOLE, Status::GENERAL_ERROR),
        (1, 11, host, HOLE, Status::GENERAL_ERROR),
        (1, 12, host, HOLE, Status::BAD_PAGE),
        (1, 13, host, HOLE, Status::BAD_PAGE),
        (1, 14, host, HOLE, Status::GENERAL_ERROR),
        (1, 15, host, HOLE, Status::BAD_PAGE),
        // The channel is a static region, and there are only so many guest frames.
        (1, 9, host, 0x10000, Status::GENERAL_ERROR),
        (1, 9, host, 1 << 35, Status::GENERAL_ERROR),
    ];
    for (dom, reference, flags, gfn, status) in cases {
        let op = world.map(D2, dom, reference, flags, gfn);
        assert_eq!(op.status, status.0, "{op:?}");
    }
    for reference in 9..16 {
        assert_eq!(world.flags(D1, reference) & (GTF_READING | GTF_WRITING), 0, "{reference}");
    }
    assert_eq!((world.kind(D2, HOLE), world.references(D1, 0x80)), (None, 2));
    assert_eq!(world.map(D2, 1, 10, host | GNTMAP_READONLY, HOLE).status, 0);
    // A domain without a table grants nothing.
    let mut world = World::new();
    assert_eq!(world.map(D2, 1, 0, host, HOLE).status, Status::GENERAL_ERROR.0);
}

#[test]
fn a_grant_goes_by_its_handle_only() {
    let mut world = World::with_tables("");
    world.permit(D1, 9, 2, 0x80, 0);
    world.permit(D1, 10, 2, 0x81, 0);
    let first = world.map(D2, 1, 9, GNTMAP_HOST_MAP, HOLE);
    let second = world.map(D2, 1, 10, GNTMAP_HOST_MAP, HOLE);
    assert_eq!((first.status, second.status), (0, Status::GENERAL_ERROR.0));
    let second = world.map(D2, 1, 10, GNTMAP_HOST_MAP, HOLE + 1);
    assert_eq!(world.unmap(D2, first.handle, (HOLE + 1) << 12, 0), Status::GENERAL_ERROR.0);
    let remove = memory::RemoveFromPhysmap { domid: DOMID_SELF, reserved: [0; 3], gpfn: HOLE };
    let (value, _) = world.call_with(D2, MEMORY_OP, memory::REMOVE_FROM_PHYSMAP, remove);
    assert_eq!(value, code(Errno::Inval));
    assert_eq!(world.add_table(D2, 0, HOLE), code(Errno::Inval));
    let replace = UnmapAndReplace { host_addr: HOLE << 12, new_addr: 0x8_0000, ..Default::default() };
    let (value, op) = world.grant(D2, UNMAP_AND_REPLACE, replace);
    assert_eq!((value, op.status), (0, Status::GENERAL_ERROR.0));
    let (_, op) = world.grant(D2, UNMAP_AND_REPLACE, UnmapAndReplace { new_addr: 0, ..replace });
    assert_eq!((op.status, world.kind(D2, HOLE)), (0, None));
    assert_eq!(world.unmap(D2, second.handle, (HOLE + 1) << 12 | 0xfff, 0), 0);
}

#[test]
fn what_was_there_loses_its_place_to_a_grant() {
    let mut world = World::with_tables("");
    world.permit(D1, 9, 2, 0x80, 0);
    let pages = world.hypervisor.domain(2).unwrap().pages;
    let op = world.map(D2, 1, 9, GNTMAP_HOST_MAP, 0x90);
    assert_eq!((op.status, world.kind(D2, 0x90)), (0, Some(Kind::Grant)));
    assert_eq!(world.unmap(D2, op.handle, 0x9_0000, 0), 0);
    assert_eq!((world.kind(D2, 0x90), world.hypervisor.domain(2).unwrap().pages), (None, pages));
}

#[test]
fn memory_that_its_owner_gives_away_stays_until_it_is_unmapped() {
    let mut world = World::with_tables("");
    world.permit(D1, 9, 2, 0x80, 0);
    let op = world.map(D2, 1, 9, GNTMAP_HOST_MAP, HOLE);
    let mfn = Mfn(op.dev_bus_addr >> 12);
    let pages = |world: &World| world.hypervisor.domain(1).unwrap().pages;
    let before = pages(&world);
    world.poke_words(D1, LIST, &[0x80]);
    let request =
        memory::Reservation { extent_start: LIST, nr_extents: 1, domid: DOMID_SELF, ..Default::default() };
    let (value, _) = world.call_with(D1, MEMORY_OP, memory::DECREASE_RESERVATION, request);
    assert_eq!((value, pages(&world)), (1, before));
    assert_eq!(world.hypervisor.memory.frames.owner(mfn), Owner::Domain(1));
    world.poke_words(D2, HOLE << 12, &[5]);
    assert_eq!(world.unmap(D2, op.handle, HOLE << 12, 0), 0);
    assert_eq!((world.hypervisor.memory.frames.owner(mfn), pages(&world)), (Owner::Free, before - 1));
}

#[test]
fn handles_and_uses_are_limited() {
    let mut world = World::with_tables("");
    world.permit(D1, 9, 2, 0x80, 0);
    world.permit(D1, 10, 2, 0x81, 0);
    for n in 0..MAX_PINS {
        let op = world.map(D2, 1, 9, GNTMAP_DEVICE_MAP, 0);
        assert_eq!((op.status, op.handle), (0, n));
    }
    assert_eq!(world.map(D2, 1, 9, GNTMAP_DEVICE_MAP, 0).status, Status::GENERAL_ERROR.0);
    assert_eq!(world.map(D2, 1, 9, GNTMAP_DEVICE_MAP | GNTMAP_READONLY, 0).status, 0);
    let op = world.map(D2, 1, 10, GNTMAP_DEVICE_MAP, 0);
    assert_eq!(op.status, Status::NO_SPACE.0);
    let bus = world.maddr(D1, 0x8_0000) as u64;
    assert_eq!(world.unmap(D2, 7, 0, bus), 0);
    assert_eq!(world.map(D2, 1, 10, GNTMAP_DEVICE_MAP, 0).handle, 7);
    assert_eq!(world.references(D1, 0x80), 2 + MAX_HANDLES - 1);
}

#[test]
fn entries_of_a_batch_end_each_in_its_own_way() {
    let mut world = World::with_tables("");
    world.permit(D1, 9, 2, 0x80, 0);
    let good = MapGrantRef { host_addr: HOLE << 12, flags: 2, grant: 9, dom: 1, ..Default::default() };
    let batch = [good, MapGrantRef { grant: 8, ..good }, MapGrantRef { host_addr: (HOLE + 1) << 12, ..good }];
    world.poke(D2, ARENA, batch.as_bytes());
    assert_eq!(world.call_as(D2, GRANT_TABLE_OP, &[0, ARENA, 3]), 0);
    let batch: [MapGrantRef; 3] = world.peek(D2, ARENA);
    assert_eq!(batch.map(|op| op.status), [0, Status::GENERAL_ERROR.0, 0]);
    assert_eq!((batch[0].handle, batch[2].handle), (0, 1));
    // The array's second entry cannot be read: the first one was done.
    let unmap = UnmapGrantRef { host_addr: HOLE << 12, handle: 0, ..Default::default() };
    world.poke(D2, 0xf_f000 + 4096 - 24, unmap.as_bytes());
    let value = world.call_as(D2, GRANT_TABLE_OP, &[1, 0xf_f000 + 4096 - 24, 2]);
    assert_eq!((value, world.kind(D2, HOLE)), (code(Errno::Fault), None));
}

#[test]
fn copies_go_by_grants_and_by_own_frames() {
    let mut world = World::with_tables("");
    world.permit(D1, 9, 2, 0x80, GTF_READONLY);
    world.permit(D1, 10, 2, 0x81, 0);
    world.poke_words(D1, 0x8_0010, &[1, 2, 3]);
    let (from, own) = (end(1, 9, 0x10), end(DOMID_SELF, 0x82, 0xff0));
    assert_eq!(world.copy(D2, from, own, 16, GNTCOPY_SOURCE_GREF), 0);
    assert_eq!(world.peek::<[u64; 2]>(D2, 0x8_2ff0), [1, 2]);
    let both = GNTCOPY_SOURCE_GREF | GNTCOPY_DEST_GREF;
    assert_eq!(world.copy(D2, from, end(1, 10, 8), 24, both), 0);
    assert_eq!(world.peek::<[u64; 3]>(D1, 0x8_1008), [1, 2, 3]);
    assert_eq!(world.copy(D1, end(DOMID_SELF, 0x80, 0x10), end(DOMID_SELF, 0x83, 0), 8, 0), 0);
    assert_eq!(world.peek::<u64>(D1, 0x8_3000), 1);
    for reference in [9, 10] {
        assert_eq!(world.flags(D1, reference) & (GTF_READING | GTF_WRITING), 0);
    }
    let gref = GNTCOPY_SOURCE_GREF;
    let cases = [
        (end(1, 9, 0x10), end(DOMID_SELF, 0x82, 0xff1), 16, gref, Status::BAD_COPY_ARG),
        (end(1, 9, 0xfff), end(DOMID_SELF, 0x82, 0), 2, gref, Status::BAD_COPY_ARG),
        (end(1, 9, 0), end(2, 0x82, 0), 1, gref, Status::PERMISSION_DENIED),
        (end(1, 9, 0), end(DOMID_SELF, 0x7000, 0), 1, gref, Status::BAD_PAGE),
        (end(1, 9, 0), end(1, 9, 0), 1, both, Status::GENERAL_ERROR),
        (end(9, 9, 0), end(DOMID_SELF, 0x82, 0), 1, gref, Status::BAD_DOMAIN),
        (end(1, 512, 0), end(DOMID_SELF, 0x82, 0), 1, gref, Status::BAD_GNTREF),
        (end(1, 8, 0), end(DOMID_SELF, 0x82, 0), 1, gref, Status::GENERAL_ERROR),
        // No bytes, no questions.
        (end(9, 9, 0), end(9, 9, 0), 0, 0, Status::OKAY),
    ];
    for (source, dest, len, flags, status) in cases {
        assert_eq!(world.copy(D2, source, dest, len, flags), status.0, "{source:?} {dest:?}");
    }
    assert_eq!((world.references(D1, 0x80), world.references(D2, 0x82)), (2, 2));
    // While it is mapped, a grant can be copied from, too.
    let op = world.map(D2, 1, 9, GNTMAP_HOST_MAP | GNTMAP_READONLY, HOLE);
    assert_eq!((op.status, world.copy(D2, from, own, 16, gref)), (0, 0));
    assert_eq!(world.copy(D2, end(DOMID_SELF, HOLE, 0), own, 1, 0), Status::BAD_PAGE.0);
}

fn header(kind: u16, domid: DomId) -> EntryHeader {
    EntryHeader { flags: kind, domid }
}

#[test]
fn parts_of_pages_are_granted_in_version_2() {
    let mut world = World::with_tables("");
    assert_eq!(world.set_version(D1, 2), (0, 2));
    let status = memory::MAPIDX_GRANT_TABLE_STATUS;
    assert_eq!(world.add_table(D1, status, STATUS), 0);
    world.poke_words(D1, 0x8_0010, &[1, 2, 3]);
    let part = header(GTF_PERMIT_ACCESS | GTF_SUB_PAGE, 2);
    world.entry(D1, 9, EntryV2 { header: part, page_off: 0x10, length: 16, frame: 0x80 });
    world.entry(D1, 10, EntryV2 { header: header(GTF_PERMIT_ACCESS, 2), frame: 0x80, ..Default::default() });
    let own = end(DOMID_SELF, 0x82, 0);
    let gref = GNTCOPY_SOURCE_GREF;
    assert_eq!(world.copy(D2, end(1, 9, 0x10), own, 16, gref), 0);
    assert_eq!(world.peek::<[u64; 2]>(D2, 0x8_2000), [1, 2]);
    assert_eq!(world.copy(D2, end(1, 9, 0x10), own, 17, gref), Status::GENERAL_ERROR.0);
    assert_eq!(world.copy(D2, end(1, 9, 0xf), own, 4, gref), Status::GENERAL_ERROR.0);
    assert_eq!(world.map(D2, 1, 9, GNTMAP_HOST_MAP, HOLE).status, Status::GENERAL_ERROR.0);
    let op = world.map(D2, 1, 10, GNTMAP_HOST_MAP, HOLE);
    let bits = |world: &World| world.peek::<u16>(D1, (STATUS << 12) + 20);
    assert_eq!((op.status, bits(&world)), (0, GTF_READING | GTF_WRITING));
    assert_eq!(world.unmap(D2, op.handle, HOLE << 12, 0), 0);
    assert_eq!(bits(&world), 0);
}

#[test]
fn one_transitive_grant_is_followed() {
    let mut world = World::with_tables("");
    for id in [D1, D2] {
        assert_eq!(world.set_version(id, 2), (0, 2));
    }
    world.poke_words(D1, 0x8_0010, &[1, 2, 3]);
    let part = header(GTF_PERMIT_ACCESS | GTF_SUB_PAGE, 2);
    let transitive = |user, other, reference| EntryV2 {
        header: header(GTF_TRANSITIVE, user),
        page_off: other,
        length: 0,
        frame: reference,
    };
    world.entry(D1, 9, EntryV2 { header: part, page_off: 0x10, length: 16, frame: 0x80 });
    // d2 grants on to d1 what d1 granted to it; to d1 again, since there are two domains.
    world.entry(D2, 20, transitive(1, 1, 9));
    let (own, gref) = (end(DOMID_SELF, 0x82, 0), GNTCOPY_SOURCE_GREF);
    assert_eq!(world.copy(D1, end(2, 20, 0x10), own, 16, gref), 0);
    assert_eq!(world.peek::<[u64; 2]>(D1, 0x8_2000), [1, 2]);
    assert_eq!(world.copy(D1, end(2, 20, 0), own, 16, gref), Status::GENERAL_ERROR.0);
    assert_eq!(world.map(D1, 2, 20, GNTMAP_HOST_MAP, HOLE).status, Status::GENERAL_ERROR.0);
    // To oneself, to nobody, to nothing, and one too many.
    world.entry(D2, 21, transitive(1, 2, 20));
    world.entry(D2, 22, transitive(1, 9, 9));
    world.entry(D2, 23, transitive(1, 1, 99));
    world.entry(D1, 11, transitive(2, 2, 20));
    world.entry(D2, 24, transitive(1, 1, 11));
    for reference in [21, 22, 23, 24] {
        assert_eq!(world.copy(D1, end(2, reference, 0x10), own, 1, gref), Status::GENERAL_ERROR.0);
    }
    // The other's entry is gone.
    world.entry(D1, 9, EntryV2::default());
    assert_eq!(world.copy(D1, end(2, 20, 0x10), own, 16, gref), Status::GENERAL_ERROR.0);
    let grants = |id| &world.hypervisor.domain(id).unwrap().grants;
    assert!((0..30).all(|reference| [1, 2].iter().all(|id| grants(*id).active(reference).is_none())));
    assert_eq!(world.references(D1, 0x80), 2);
}

#[test]
fn the_version_changes_while_nothing_is_in_use() {
    let mut world = World::with_tables("");
    world.permit(D1, 3, 2, 0x80, 0);
    world.permit(D1, 9, 2, 0x81, 0);
    let busy = world.map(D2, 1, 9, GNTMAP_HOST_MAP, HOLE);
    let kept = world.map(D2, 1, 3, GNTMAP_HOST_MAP | GNTMAP_READONLY, HOLE + 1);
    assert_eq!(world.set_version(D1, 2), (code(Errno::Busy), 1));
    assert_eq!(world.set_version(D1, 3), (code(Errno::Inval), 1));
    assert_eq!(world.set_version(D1, 1), (0, 1));
    assert_eq!(world.unmap(D2, busy.handle, HOLE << 12, 0), 0);
    assert_eq!(world.set_version(D1, 2), (0, 2));
    // The first entries stay, their bits move to the status words.
    let entry: EntryV2 = world.peek(D1, (TABLE << 12) + 3 * 16);
    assert_eq!((entry.header, entry.frame), (header(GTF_PERMIT_ACCESS, 2), 0x80));
    assert_eq!(world.add_table(D1, memory::MAPIDX_GRANT_TABLE_STATUS, STATUS), 0);
    assert_eq!(world.peek::<u16>(D1, (STATUS << 12) + 6), GTF_READING);
    let frames = |world: &mut World, nr_frames| {
        let op = GetStatusFrames { nr_frames, dom: DOMID_SELF, status: 0, frame_list: LIST };
        let (value, op) = world.grant(D1, GET_STATUS_FRAMES, op);
        assert_eq!(value, 0);
        (op.status, world.peek::<u64>(D1, LIST))
    };
    assert_eq!(frames(&mut world, 1), (0, STATUS));
    assert_eq!(frames(&mut world, 2).0, Status::GENERAL_ERROR.0);
    world.entry(D1, 4, EntryV2 { header: header(GTF_TRANSITIVE, 2), ..Default::default() });
    assert_eq!(world.set_version(D1, 1), (code(Errno::Range), 2));
    let far = EntryV2 { header: header(GTF_PERMIT_ACCESS, 2), frame: 1 << 32, ..Default::default() };
    world.entry(D1, 4, far);
    assert_eq!(world.set_version(D1, 1), (code(Errno::Range), 2));
    world.entry(D1, 4, EntryV2 { header: header(GTF_ACCEPT_TRANSFER, 2), ..Default::default() });
    assert_eq!(world.set_version(D1, 1), (0, 1));
    assert_eq!((world.kind(D1, STATUS), world.kind(D1, TABLE)), (None, Some(Kind::GrantTable)));
    assert_eq!((world.flags(D1, 3), world.flags(D1, 4)), (GTF_PERMIT_ACCESS | GTF_READING, 0));
    assert_eq!(world.unmap(D2, kept.handle, (HOLE + 1) << 12, 0), 0);
    assert_eq!(world.flags(D1, 3), GTF_PERMIT_ACCESS);
}

#[test]
fn the_space_of_the_table_grows_as_it_is_mapped() {
    let mut world = World::new();
    let status = memory::MAPIDX_GRANT_TABLE_STATUS;
    // Version 1 has no status frames.
    assert_eq!(world.add_table(D1, status, STATUS), code(Errno::Inval));
    assert_eq!(world.add_table(D1, u64::from(MAX_FRAMES) - 1, TABLE), 0);
    assert_eq!(world.add_table(D1, u64::from(MAX_FRAMES), TABLE), code(Errno::Inval));
    assert_eq!(world.add_table(D1, 1 << 32, TABLE), code(Errno::Inval));
    assert_eq!(world.set_version(D1, 2), (0, 2));
    assert_eq!(world.add_table(D1, status | 1, STATUS), 0);
    assert_eq!(world.add_table(D1, status | 2, STATUS), code(Errno::Inval));
    // A frame has one place.
    assert_eq!(world.add_table(D1, status | 1, STATUS + 1), 0);
    assert_eq!((world.kind(D1, STATUS), world.kind(D1, STATUS + 1)), (None, Some(Kind::GrantTable)));
}

#[test]
fn entries_that_nobody_uses_can_be_swapped() {
    let mut world = World::with_tables("");
    let swap = |world: &mut World, ref_a, ref_b| {
        let (value, op) =
            world.grant(D1, SWAP_GRANT_REF, SwapGrantRef { ref_a, ref_b, ..Default::default() });
        assert_eq!(value, 0);
        op.status
    };
    world.permit(D1, 9, 2, 0x80, 0);
    assert_eq!(swap(&mut world, 9, 10), 0);
    assert_eq!((world.flags(D1, 9), world.flags(D1, 10)), (0, GTF_PERMIT_ACCESS));
    assert_eq!(swap(&mut world, 9, 9), 0);
    assert_eq!(swap(&mut world, 512, 9), Status::BAD_GNTREF.0);
    assert_eq!(swap(&mut world, 9, 512), Status::BAD_GNTREF.0);
    assert_eq!(world.map(D2, 1, 10, GNTMAP_HOST_MAP, HOLE).status, 0);
    assert_eq!(swap(&mut world, 9, 10), Status::EAGAIN.0);
    assert_eq!(swap(&mut world, 10, 9), Status::EAGAIN.0);
    assert_eq!(world.unmap(D2, 0, HOLE << 12, 0), 0);
    assert_eq!(world.set_version(D1, 2), (0, 2));
    world.entry(D1, 9, EntryV2 { header: header(1, 2), page_off: 7, length: 8, frame: 0x1_0000_0080 });
    assert_eq!(swap(&mut world, 9, 255), 0);
    assert_eq!(world.peek::<EntryV2>(D1, (TABLE << 12) + 255 * 16).frame, 0x1_0000_0080);
    let mut world = World::new();
    assert_eq!(swap(&mut world, 0, 1), Status::GENERAL_ERROR.0);
}

#[test]
fn caches_are_flushed_of_what_is_granted() {
    let mut world = World::with_tables("");
    world.permit(D1, 9, 2, 0x80, 0);
    let (theirs, own) = (world.maddr(D1, 0x8_0000) as u64, world.maddr(D2, 0x8_0000) as u64);
    let flush = |world: &mut World, a, offset, length, op| {
        world.grant(D2, CACHE_FLUSH, CacheFlush { a, offset, length, op }).0
    };
    assert_eq!(flush(&mut world, own, 0, 4096, CACHE_CLEAN | CACHE_INVAL), 0);
    assert_eq!(flush(&mut world, theirs, 0, 8, CACHE_CLEAN), code(Errno::Inval));
    assert_eq!(world.map(D2, 1, 9, GNTMAP_HOST_MAP, HOLE).status, 0);
    assert_eq!(flush(&mut world, theirs, 0, 8, CACHE_CLEAN), 0);
    assert_eq!(flush(&mut world, own, 1, 4096, CACHE_CLEAN), code(Errno::Inval));
    assert_eq!(flush(&mut world, own, 4096, 0, CACHE_CLEAN), code(Errno::Inval));
    assert_eq!(flush(&mut world, own, 0, 8, 1 << 2), code(Errno::Inval));
    assert_eq!(flush(&mut world, own, 0, 8, CACHE_CLEAN | CACHE_SOURCE_GREF), code(Errno::Opnotsupp));
    assert_eq!(flush(&mut world, u64::MAX, 0, 0, CACHE_CLEAN), 0);
    assert_eq!(flush(&mut world, u64::MAX, 0, 8, CACHE_CLEAN), code(Errno::Inval));
    let table = world.maddr(D2, TABLE << 12) as u64;
    assert_eq!(flush(&mut world, table, 0, 8, CACHE_CLEAN), code(Errno::Perm));
}

pub(super) fn resource(world: &mut World, id: VcpuId, request: memory::AcquireResource) -> (i64, u32) {
    let (value, request) = world.call_with(id, MEMORY_OP, memory::ACQUIRE_RESOURCE, request);
    (value, request.nr_frames)
}

pub(super) const RESOURCE: memory::AcquireResource = memory::AcquireResource {
    domid: DOMID_SELF,
    kind: memory::RESOURCE_GRANT_TABLE,
    id: memory::RESOURCE_GRANT_TABLE_SHARED,
    nr_frames: 2,
    pad: 0,
    frame: 0,
    frame_list: LIST,
};

#[test]
fn a_table_is_acquired_as_a_resource() {
    let mut world = World::with_tables("");
    world.poke_words(D1, LIST, &[0x6000, 0x6001]);
    assert_eq!(resource(&mut world, D1, RESOURCE).0, 0);
    assert_eq!(world.kind(D1, 0x6000), Some(Kind::Resource));
    assert_eq!(world.maddr(D1, 0x600_0000), world.maddr(D1, TABLE << 12));
    let mut ask = |request| resource(&mut world, D1, request);
    let size = memory::AcquireResource { nr_frames: 0, frame_list: 0, ..RESOURCE };
    assert_eq!(ask(size), (0, MAX_FRAMES));
    let status = memory::RESOURCE_GRANT_TABLE_STATUS;
    assert_eq!(ask(memory::AcquireResource { id: status, ..size }), (0, 2));
    let cases = [
        (memory::AcquireResource { pad: 1, ..RESOURCE }, Errno::Inval),
        (memory::AcquireResource { frame: 1 << 32, ..RESOURCE }, Errno::Inval),
        (memory::AcquireResource { frame: u64::MAX, ..RESOURCE }, Errno::Inval),
        (memory::AcquireResource { domid: 2, ..RESOURCE }, Errno::Perm),
        (memory::AcquireResource { domid: 9, ..RESOURCE }, Errno::Srch),
        (memory::AcquireResource { kind: 0, ..RESOURCE }, Errno::Inval),
        (memory::AcquireResource { id: 2, ..RESOURCE }, Errno::Inval),
        (memory::AcquireResource { id: status, ..RESOURCE }, Errno::Inval),
        (memory::AcquireResource { frame_list: 0, ..RESOURCE }, Errno::Inval),
        (memory::AcquireResource { nr_frames: 0, ..RESOURCE }, Errno::Inval),
        (memory::AcquireResource { frame: 15, ..RESOURCE }, Errno::Inval),
        (memory::AcquireResource { frame_list: 0x200_0000, ..RESOURCE }, Errno::Fault),
    ];
    for (request, error) in cases {
        assert_eq!(ask(request).0, code(error), "{request:?}");
    }
    world.poke_words(D1, LIST, &[0x10000, 0]);
    assert_eq!(resource(&mut world, D1, RESOURCE).0, code(Errno::Inval));
    world.poke_words(D1, LIST, &[0x6002, 0x10000]);
    assert_eq!(resource(&mut world, D1, RESOURCE).0, code(Errno::Io));
    // Status frames stay while they are mapped as a resource.
    assert_eq!(world.set_version(D1, 2), (0, 2));
    world.poke_words(D1, LIST, &[0x6003]);
    let request = memory::AcquireResource { id: status, nr_frames: 1, ..RESOURCE };
    assert_eq!(resource(&mut world, D1, request).0, 0);
    assert_eq!(world.set_version(D1, 1), (code(Errno::Busy), 2));
    let remove = memory::RemoveFromPhysmap { domid: DOMID_SELF, reserved: [0; 3], gpfn: 0x6003 };
    assert_eq!(world.call_with(D1, MEMORY_OP, memory::REMOVE_FROM_PHYSMAP, remove).0, 0);
    assert_eq!(world.set_version(D1, 1), (0, 1));
}

#[test]
fn nothing_is_left_of_the_grants_of_a_domain_that_goes() {
    let mut world = World::with_tables("");
    world.permit(D1, 9, 2, 0x80, 0);
    world.permit(D2, 9, 1, 0x80, 0);
    let theirs = world.map(D2, 1, 9, GNTMAP_HOST_MAP | GNTMAP_DEVICE_MAP, HOLE);
    let own = world.map(D1, 2, 9, GNTMAP_HOST_MAP, HOLE);
    assert_eq!((theirs.status, own.status), (0, 0));
    let table = Mfn((world.maddr(D1, TABLE << 12) >> 12) as u64);
    world.hypervisor.release_grants(1);
    assert_eq!((world.kind(D2, HOLE), world.kind(D1, HOLE), world.kind(D1, TABLE)), (None, None, None));
    assert_eq!((world.references(D1, 0x80), world.references(D2, 0x80)), (2, 2));
    assert_eq!(world.hypervisor.memory.frames.owner(table), Owner::Free);
    assert_eq!(world.unmap(D2, theirs.handle, HOLE << 12, 0), Status::BAD_HANDLE.0);
    assert_eq!(world.flags(D2, 9), GTF_PERMIT_ACCESS);
}
