//! `hvm_op`, `dm_op` and `sysctl`.

use super::*;
use std::collections::BTreeSet;
use xen_abi::{dm, domctl::GetDomainInfo, hvm, hvm::param, hypercall, sched, sysctl};

/// Where the buffers of a `dm_op` lie.
const FIRST: u64 = 0x9000;
const SECOND: u64 = 0xa000;

fn set(world: &mut World, id: VcpuId, domid: u16, index: u32, value: u64) -> i64 {
    let request = hvm::Param { domid, pad: 0, index, value };
    world.call_with(id, hypercall::HVM_OP, hvm::SET_PARAM, request).0
}

fn get(world: &mut World, id: VcpuId, domid: u16, index: u32) -> Result<u64, i64> {
    let request = hvm::Param { domid, pad: 0, index, value: 77 };
    let (value, answer) = world.call_with(id, hypercall::HVM_OP, hvm::GET_PARAM, request);
    if value == 0 { Ok(answer.value) } else { Err(value) }
}

#[test]
fn parameters_have_owners_and_limits() {
    let mut world = World::with_control("");
    let (perm, inval) = (code(Errno::Perm), code(Errno::Inval));
    // A guest sets and reads some of its own; the rest is the control domain's.
    assert_eq!(set(&mut world, D1, 1, param::CALLBACK_IRQ, 1 << 56), 0);
    assert_eq!(get(&mut world, D1, xen_abi::DOMID_SELF, param::CALLBACK_IRQ), Ok(1 << 56));
    assert_eq!(set(&mut world, D1, 1, param::STORE_PFN, 9), perm);
    assert_eq!(set(&mut world, D0, 1, param::STORE_PFN, 9), 0);
    assert_eq!(get(&mut world, D1, 1, param::STORE_PFN), Ok(9));
    assert_eq!(get(&mut world, D1, 1, param::IDENT_PT), Err(perm));
    assert_eq!(get(&mut world, D0, 1, param::IDENT_PT), Ok(0));
    assert_eq!(get(&mut world, D1, 2, param::STORE_PFN), Err(perm));
    assert_eq!(set(&mut world, D1, 2, param::CALLBACK_IRQ, 0), perm);
    assert_eq!(set(&mut world, D0, 9, param::STORE_PFN, 9), code(Errno::Srch));
    for index in [param::COUNT, 1 << 31, u32::MAX] {
        assert_eq!(set(&mut world, D0, 1, index, 0), inval);
        assert_eq!(get(&mut world, D0, 1, index), Err(inval));
    }
    for index in [20, 21, 22, 23, 25, 30] {
        assert_eq!(set(&mut world, D0, 1, index, 0), code(Errno::Opnotsupp));
        assert_eq!(get(&mut world, D0, 1, index), Err(code(Errno::Opnotsupp)));
    }
    for (index, value) in [
        (param::TIMER_MODE, 4),
        (param::VIRIDIAN, 2),
        (param::VIRIDIAN, 1 << 20),
        (param::ACPI_S_STATE, 1),
        (param::NESTEDHVM, 1),
        (param::NR_IOREQ_SERVER_PAGES, 0),
        (param::NR_IOREQ_SERVER_PAGES, 65),
        (param::TRIPLE_FAULT_REASON, u64::MAX),
        (param::ALTP2M, 4),
        (param::X87_FIP_WIDTH, 2),
        (param::MCA_CAP, 2),
        (param::DM_DOMAIN, 0),
    ] {
        assert_eq!(set(&mut world, D0, 1, index, value), inval, "{index} = {value:#x}");
    }
    for (value, answer) in [(4, 0), (4, 0), (5, code(Errno::Exist))] {
        assert_eq!(set(&mut world, D0, 1, param::NR_IOREQ_SERVER_PAGES, value), answer);
    }
    assert_eq!(world.call(hypercall::HVM_OP, &[hvm::SET_PARAM.into(), 0xffff_f000]), code(Errno::Fault));
}

#[test]
fn small_questions_of_a_guest_are_answered() {
    let mut world = World::with_control("");
    let op = |world: &mut World, cmd: u32, arg| world.call(hypercall::HVM_OP, &[cmd.into(), arg]);
    for cmd in [hvm::FLUSH_TLBS, hvm::GUEST_REQUEST_VM_EVENT] {
        assert_eq!((op(&mut world, cmd, 0), op(&mut world, cmd, ARENA)), (0, code(Errno::Inval)));
    }
    assert_eq!(op(&mut world, hvm::ALTP2M, ARENA), code(Errno::Opnotsupp));
    assert_eq!(op(&mut world, hvm::PAGETABLE_DYING, ARENA), code(Errno::Perm));
    world.poke(D1, ARENA, &1u16.to_le_bytes());
    assert_eq!(op(&mut world, hvm::PAGETABLE_DYING, ARENA), code(Errno::Inval));
    for cmd in [2, 3, 12, 99] {
        assert_eq!(op(&mut world, cmd, ARENA), code(Errno::Nosys));
    }
    assert_eq!(op(&mut world, hvm::GET_TIME, ARENA), 0);
    assert_eq!(world.peek::<u64>(D1, ARENA), world.hypervisor.time);
    let mut type_of = |id, pfn| {
        let request = hvm::GetMemType { domid: 1, mem_type: 9, pad: [0; 2], pfn };
        let (value, answer) = world.call_with(id, hypercall::HVM_OP, hvm::GET_MEM_TYPE, request);
        (value, answer.mem_type)
    };
    assert_eq!(type_of(D1, 0x20), (0, hvm::memory::RAM_RW));
    assert_eq!(type_of(D0, 0x7000), (0, hvm::memory::MMIO_DM));
    assert_eq!(type_of(D2, 0x20), (code(Errno::Perm), 9));
    for (vcpu, vector, answer) in
        [(0, 0xf0, 0), (1, 0x10, 0), (9, 0xf0, code(Errno::Noent)), (0, 0xf, code(Errno::Inval))]
    {
        let request = hvm::UpcallVector { vcpu, vector, pad: [0; 3] };
        let cmd = hvm::SET_EVTCHN_UPCALL_VECTOR;
        assert_eq!(world.call_with(D1, hypercall::HVM_OP, cmd, request).0, answer);
    }
}

/// A `dm_op` of d0 on d1 whose buffers have these sizes.
fn dm_sized(world: &mut World, op: u32, body: &[u8], sizes: [u64; 2]) -> i64 {
    world.poke(D0, FIRST, dm::Head { op, pad: 0 }.as_bytes());
    world.poke(D0, FIRST + 8, body);
    let buffers = [dm::Buffer { h: FIRST, size: sizes[0] }, dm::Buffer { h: SECOND, size: sizes[1] }];
    world.poke(D0, ARENA, buffers.as_bytes());
    world.call_as(D0, hypercall::DM_OP, &[1, 2, ARENA])
}

fn dm<T: IntoBytes + Immutable>(world: &mut World, op: u32, body: &T) -> i64 {
    dm_sized(world, op, body.as_bytes(), [8 + size_of::<T>() as u64, 4096])
}

#[test]
fn buffers_are_never_left() {
    let mut world = World::with_control("");
    let fault = code(Errno::Fault);
    let call = |world: &mut World, id, args: &[u64]| world.call_as(id, hypercall::DM_OP, args);
    assert_eq!(call(&mut world, D0, &[1, 3, ARENA]), code(Errno::TooBig));
    assert_eq!(call(&mut world, D0, &[1, u64::MAX, ARENA]), code(Errno::TooBig));
    assert_eq!(call(&mut world, D0, &[1, 1, 0xffff_f000]), fault);
    assert_eq!(call(&mut world, D0, &[1, 0, 0xffff_f000]), fault);
    assert_eq!(call(&mut world, D0, &[9, 0, ARENA]), code(Errno::Srch));
    assert_eq!(call(&mut world, D0, &[0, 0, ARENA]), code(Errno::Perm));
    assert_eq!(call(&mut world, D1, &[2, 0, ARENA]), code(Errno::Perm));
    // The length of a buffer is a limit, however much memory there is behind it.
    let body = dm::CreateServer::default();
    for size in [0, 7, 8, 15] {
        assert_eq!(
            dm_sized(&mut world, dm::CREATE_IOREQ_SERVER, body.as_bytes(), [size, 0]),
            fault,
            "{size}"
        );
    }
    assert_eq!(dm_sized(&mut world, dm::CREATE_IOREQ_SERVER, body.as_bytes(), [16, 0]), 0);
    assert_eq!(dm_sized(&mut world, dm::CREATE_IOREQ_SERVER, body.as_bytes(), [u64::MAX, 0]), 0);
    for op in [21, 99, u32::MAX, 0, 14, 15, 17, 18, 19] {
        assert_eq!(dm_sized(&mut world, op, &[0; 24], [64, 0]), code(Errno::Opnotsupp), "{op}");
    }
    world.poke(D0, FIRST, dm::Head { op: dm::NR_VCPUS, pad: 1 }.as_bytes());
    assert_eq!(call(&mut world, D0, &[1, 2, ARENA]), code(Errno::Inval));
    // Extents beyond the second buffer.
    let many = dm::ModifiedMemory { nr_extents: 257, opaque: 0 };
    assert_eq!(dm_sized(&mut world, dm::MODIFIED_MEMORY, many.as_bytes(), [16, 4096]), code(Errno::Inval));
    let none = dm::ModifiedMemory { nr_extents: 0, opaque: 0 };
    assert_eq!(dm_sized(&mut world, dm::MODIFIED_MEMORY, none.as_bytes(), [16, 0]), 0);
    let beyond = dm::ModifiedMemory { nr_extents: 1, opaque: 2 };
    assert_eq!(dm_sized(&mut world, dm::MODIFIED_MEMORY, beyond.as_bytes(), [16, 64]), code(Errno::Inval));
    let vast = dm::ModifiedMemory { nr_extents: u32::MAX, opaque: 0 };
    let answer = dm_sized(&mut world, dm::MODIFIED_MEMORY, vast.as_bytes(), [16, u64::MAX]);
    assert_eq!(answer, code(Errno::Inval));
    world.poke(D0, SECOND, dm::Extent { nr: 2, pad: 0, first_pfn: 0x20 }.as_bytes());
    let one = dm::ModifiedMemory { nr_extents: 1, opaque: 0 };
    assert_eq!(dm(&mut world, dm::MODIFIED_MEMORY, &one), 0);
    for extent in [
        dm::Extent { nr: 0, pad: 0, first_pfn: 0x20 },
        dm::Extent { nr: 1, pad: 1, first_pfn: 0x20 },
        dm::Extent { nr: 1, pad: 0, first_pfn: u64::MAX },
        dm::Extent { nr: 1, pad: 0, first_pfn: 1 << 30 },
    ] {
        world.poke(D0, SECOND, extent.as_bytes());
        assert_eq!(dm(&mut world, dm::MODIFIED_MEMORY, &one), code(Errno::Inval), "{extent:?}");
    }
    // A bitmap for more pages than the buffer has bits.
    let vram = |nr| dm::TrackVram { nr, pad: 0, first_pfn: 0 };
    world.poke(D0, SECOND, &[0xff; 16]);
    assert_eq!(dm_sized(&mut world, dm::TRACK_DIRTY_VRAM, vram(65).as_bytes(), [24, 8]), code(Errno::Inval));
    assert_eq!(dm_sized(&mut world, dm::TRACK_DIRTY_VRAM, vram(64).as_bytes(), [24, 8]), 0);
    assert_eq!(world.peek::<[u8; 9]>(D0, SECOND), [0, 0, 0, 0, 0, 0, 0, 0, 0xff]);
    assert_eq!(dm(&mut world, dm::TRACK_DIRTY_VRAM, &vram((1 << 18) + 1)), code(Errno::Inval));
}

#[test]
fn servers_belong_to_their_maker() {
    let mut world = World::with_control("");
    let (inval, noent) = (code(Errno::Inval), code(Errno::Noent));
    let create = |handle_bufioreq| dm::CreateServer { handle_bufioreq, ..Default::default() };
    assert_eq!(dm(&mut world, dm::CREATE_IOREQ_SERVER, &create(3)), inval);
    let mut ids = BTreeSet::new();
    for _ in 0..8 {
        assert_eq!(dm(&mut world, dm::CREATE_IOREQ_SERVER, &create(2)), 0);
        ids.insert(world.peek::<dm::CreateServer>(D0, FIRST + 8).id);
    }
    assert_eq!(ids, (0..8).collect());
    assert_eq!(dm(&mut world, dm::CREATE_IOREQ_SERVER, &create(0)), code(Errno::Nospc));
    let info = |id, flags| dm::ServerInfo { id, flags, ..Default::default() };
    assert_eq!(dm(&mut world, dm::GET_IOREQ_SERVER_INFO, &info(9, 1)), noent);
    assert_eq!(dm(&mut world, dm::GET_IOREQ_SERVER_INFO, &info(0, 2)), inval);
    assert_eq!(dm(&mut world, dm::GET_IOREQ_SERVER_INFO, &info(0, 1)), 0);
    assert_eq!(world.peek::<dm::ServerInfo>(D0, FIRST + 8).ioreq_gfn, u64::MAX);
    // Its pages are where the parameters say, and exist only there.
    assert_eq!(dm(&mut world, dm::GET_IOREQ_SERVER_INFO, &info(1, 0)), code(Errno::Nomem));
    assert_eq!(set(&mut world, D0, 1, param::IOREQ_SERVER_PFN, 0x20), 0);
    assert_eq!(set(&mut world, D0, 1, param::NR_IOREQ_SERVER_PAGES, 4), 0);
    assert_eq!(dm(&mut world, dm::GET_IOREQ_SERVER_INFO, &info(1, 0)), 0);
    let found: dm::ServerInfo = world.peek(D0, FIRST + 8);
    assert_eq!((found.ioreq_gfn, found.bufioreq_gfn), (0x22, 0x23));
    assert_eq!(dm(&mut world, dm::GET_IOREQ_SERVER_INFO, &info(2, 0)), code(Errno::Nomem));
    let range = |id, kind, start, end| dm::Range { id, pad: 0, kind, start, end };
    assert_eq!(dm(&mut world, dm::MAP_IO_RANGE, &range(9, 0, 1, 2)), noent);
    assert_eq!(dm(&mut world, dm::MAP_IO_RANGE, &range(0, 3, 1, 2)), inval);
    assert_eq!(dm(&mut world, dm::MAP_IO_RANGE, &range(0, 1, 3, 2)), inval);
    assert_eq!(dm(&mut world, dm::MAP_IO_RANGE, &range(0, 1, 0, u64::MAX)), 0);
    assert_eq!(dm(&mut world, dm::MAP_IO_RANGE, &range(0, 1, 5, 5)), code(Errno::Exist));
    assert_eq!(dm(&mut world, dm::UNMAP_IO_RANGE, &range(0, 1, 5, 5)), 0);
    assert_eq!(dm(&mut world, dm::UNMAP_IO_RANGE, &range(0, 1, 5, 6)), noent);
    let state = dm::ServerState { id: 0, enabled: 1, pad: 0 };
    assert_eq!(dm(&mut world, dm::SET_IOREQ_SERVER_STATE, &state), 0);
    assert_eq!(dm(&mut world, dm::SET_IOREQ_SERVER_STATE, &dm::ServerState { pad: 1, ..state }), inval);
    let gone = dm::DestroyServer { id: 0, pad: 0 };
    assert_eq!(dm(&mut world, dm::DESTROY_IOREQ_SERVER, &gone), 0);
    assert_eq!(dm(&mut world, dm::DESTROY_IOREQ_SERVER, &gone), noent);
    assert_eq!(dm(&mut world, dm::SET_IOREQ_SERVER_STATE, &state), noent);
}

#[test]
fn a_device_model_changes_its_domain() {
    let mut world = World::with_control("");
    let inval = code(Errno::Inval);
    let set = |nr, mem_type, first_pfn| dm::SetMemType { nr, mem_type, pad: 0, first_pfn };
    assert_eq!(dm(&mut world, dm::SET_MEM_TYPE, &set(2, hvm::memory::RAM_RO, 0x20)), 0);
    let (gfn, writable) = (Gfn(0x21), |world: &World, gfn| world.hypervisor.lookup(1, gfn).unwrap().writable);
    assert!(!writable(&world, gfn) && writable(&world, Gfn(0x22)));
    let version = u64::from(xen_abi::version::EXTRAVERSION);
    assert_eq!(world.call(hypercall::XEN_VERSION, &[version, 0x21000]), code(Errno::Fault));
    assert_eq!(dm(&mut world, dm::SET_MEM_TYPE, &set(2, hvm::memory::RAM_RW, 0x20)), 0);
    assert!(writable(&world, gfn));
    for (nr, kind, first) in [(1, 2, 0x20), (1, 3, 0x20), (1, 9, 0x20), (1, 1, u64::MAX), (1, 1, 1 << 30)] {
        assert_eq!(dm(&mut world, dm::SET_MEM_TYPE, &set(nr, kind, first)), inval);
    }
    assert_eq!(dm(&mut world, dm::SET_MEM_TYPE, &set(1, 1, 0x1_0000)), inval);
    // Beyond the bound the request says where to go on.
    let all = world.hypervisor.domain(1).unwrap().pages as u32;
    assert_eq!(dm(&mut world, dm::SET_MEM_TYPE, &set(all, 0, 0)), 0);
    assert_eq!(dm(&mut world, dm::SET_MEM_TYPE, &set(600, 0, 0)), inval);
    let event = |vcpuid| dm::InjectEvent { vcpuid, vector: 14, ..Default::default() };
    assert_eq!(dm(&mut world, dm::INJECT_EVENT, &event(9)), inval);
    assert_eq!(dm(&mut world, dm::INJECT_EVENT, &event(1)), 0);
    assert_eq!(dm(&mut world, dm::INJECT_EVENT, &event(1)), code(Errno::Busy));
    let level = |isa_irq, level| dm::IsaLevel { isa_irq, level };
    assert_eq!(dm(&mut world, dm::SET_ISA_IRQ_LEVEL, &level(15, 1)), 0);
    assert_eq!(dm(&mut world, dm::SET_ISA_IRQ_LEVEL, &level(16, 1)), inval);
    assert_eq!(dm(&mut world, dm::SET_ISA_IRQ_LEVEL, &level(1, 2)), inval);
    let intx = |device, intx| dm::IntxLevel { device, intx, level: 1, ..Default::default() };
    assert_eq!(dm(&mut world, dm::SET_PCI_INTX_LEVEL, &intx(31, 3)), 0);
    assert_eq!(dm(&mut world, dm::SET_PCI_INTX_LEVEL, &intx(32, 3)), inval);
    assert_eq!(dm(&mut world, dm::SET_PCI_INTX_LEVEL, &intx(31, 4)), inval);
    assert_eq!(dm(&mut world, dm::SET_PCI_LINK_ROUTE, &dm::LinkRoute { link: 3, isa_irq: 15 }), 0);
    assert_eq!(dm(&mut world, dm::SET_PCI_LINK_ROUTE, &dm::LinkRoute { link: 4, isa_irq: 1 }), inval);
    assert_eq!(dm(&mut world, dm::NR_VCPUS, &dm::NrVcpus::default()), 0);
    assert_eq!(world.peek::<u32>(D0, FIRST + 8), 2);
    assert_eq!(dm(&mut world, dm::REMOTE_SHUTDOWN, &dm::RemoteShutdown { reason: 3 }), 0);
    assert_eq!(world.hypervisor.domain(1).unwrap().shutdown, Some(sched::SHUTDOWN_CRASH));
    assert_eq!(world.hypervisor.audit(), Ok(()));
}

fn sysctl_as<T: IntoBytes + Immutable>(
    world: &mut World,
    id: VcpuId,
    cmd: u32,
    version: u32,
    body: &T,
) -> (i64, sysctl::Sysctl) {
    let mut request = sysctl::Sysctl { cmd, interface_version: version, u: [0; 128] };
    request.u[..size_of::<T>()].copy_from_slice(body.as_bytes());
    world.poke(id, ARENA, request.as_bytes());
    let value = world.call_as(id, hypercall::SYSCTL, &[ARENA]);
    (value, world.peek(id, ARENA))
}

#[test]
fn the_control_domain_sees_the_machine() {
    let mut world = World::with_control("");
    let version = sysctl::INTERFACE_VERSION;
    let mut ask = |id, cmd, version| sysctl_as(&mut world, id, cmd, version, &0u64).0;
    assert_eq!(ask(D1, sysctl::PHYSINFO, version), code(Errno::Perm));
    assert_eq!(ask(D1, sysctl::PHYSINFO, 0), code(Errno::Acces));
    assert_eq!(ask(D0, 99, version), code(Errno::Nosys));
    let (value, answer) = sysctl_as(&mut world, D0, sysctl::PHYSINFO, version, &0u64);
    let info = sysctl::Physinfo::read_from_prefix(&answer.u).unwrap().0;
    assert_eq!((value, info.nr_cpus, info.cpu_khz), (0, 1, 1_000_000));
    let all = MACHINE as u64 / 4096 - 0x100;
    assert!(info.total_pages == all && info.free_pages < all && info.max_mfn >= all, "{info:?}");
    let list =
        sysctl::GetDomainInfoList { first_domain: 1, max_domains: 9, buffer: FIRST, ..Default::default() };
    let (value, answer) = sysctl_as(&mut world, D0, sysctl::GET_DOMAIN_INFO_LIST, version, &list);
    let told = sysctl::GetDomainInfoList::read_from_prefix(&answer.u).unwrap().0;
    assert_eq!((value, told.num_domains), (0, 2));
    let infos: [GetDomainInfo; 2] = world.peek(D0, FIRST);
    assert_eq!(infos.map(|info| info.domain), [1, 2]);
    let list = sysctl::GetDomainInfoList { buffer: 0xffff_f000, ..list };
    let (value, _) = sysctl_as(&mut world, D0, sysctl::GET_DOMAIN_INFO_LIST, version, &list);
    assert_eq!(value, code(Errno::Fault));
    let mut coverage = |cmd, size| {
        let request = sysctl::CoverageOp { cmd, size, buffer: FIRST };
        let (value, answer) = sysctl_as(&mut world, D0, sysctl::COVERAGE_OP, version, &request);
        (value, sysctl::CoverageOp::read_from_prefix(&answer.u).unwrap().0.size)
    };
    assert_eq!(coverage(sysctl::coverage::GET_SIZE, 0), (0, 100));
    assert_eq!(coverage(sysctl::coverage::READ, 99), (code(Errno::Nobufs), 99));
    assert_eq!(coverage(sysctl::coverage::READ, 4096), (0, 100));
    assert_eq!(coverage(sysctl::coverage::RESET, 0), (0, 0));
    assert_eq!(coverage(3, 0).0, code(Errno::Opnotsupp));
    assert_eq!(world.peek::<[u8; 101]>(D0, FIRST)[99], 7);
}
