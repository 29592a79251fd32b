//! `domctl`: domains that come, stop, go on and go.

use super::*;
use crate::mem::frames::Owner;
use planted_bugs::Bug;
use std::{format, sync::mpsc, thread, time::Duration};
use xen_abi::{domctl as abi, event, hypercall, memory, sched};

/// The argument of an operation without a structure.
fn request(cmd: u32, domain: u16) -> abi::Domctl {
    abi::Domctl { cmd, interface_version: abi::INTERFACE_VERSION, domain, pad: [0; 3], u: [0; 128] }
}

fn with<T: IntoBytes + Immutable>(cmd: u32, domain: u16, body: &T) -> abi::Domctl {
    let mut request = request(cmd, domain);
    request.u[..size_of::<T>()].copy_from_slice(body.as_bytes());
    request
}

fn domctl_as(world: &mut World, id: VcpuId, request: abi::Domctl) -> (i64, abi::Domctl) {
    world.poke(id, ARENA, request.as_bytes());
    let value = world.call_as(id, hypercall::DOMCTL, &[ARENA]);
    (value, world.peek(id, ARENA))
}

fn domctl(world: &mut World, request: abi::Domctl) -> i64 {
    domctl_as(world, D0, request).0
}

const CONFIG: abi::CreateDomain = abi::CreateDomain {
    ssidref: 7,
    handle: [0x5a; 16],
    flags: abi::CDF_HVM | abi::CDF_HAP,
    iommu_opts: 0,
    max_vcpus: 2,
    max_evtchn_port: 1023,
    max_grant_frames: 4,
    max_maptrack_frames: 4,
    grant_opts: 1,
    vmtrace_size: 0,
    cpupool_id: 0,
    arch: abi::ArchConfig { emulation_flags: 0, misc_flags: 0 },
};

fn create(world: &mut World, wanted: u16) -> Result<u16, i64> {
    let (value, answer) = domctl_as(world, D0, with(abi::CREATE_DOMAIN, wanted, &CONFIG));
    if value == 0 { Ok(answer.domain) } else { Err(value) }
}

fn info(world: &mut World, id: u16) -> abi::GetDomainInfo {
    let (value, answer) = domctl_as(world, D0, request(abi::GET_DOMAIN_INFO, id));
    assert_eq!(value, 0);
    abi::GetDomainInfo::read_from_prefix(&answer.u).unwrap().0
}

/// Destroys a domain however many calls it takes; tells how many.
fn destroy(world: &mut World, id: u16) -> usize {
    for n in 1..100 {
        match domctl(world, request(abi::DESTROY_DOMAIN, id)) {
            0 => return n,
            value => assert_eq!(value, code(Errno::Again)),
        }
        let flags = info(world, id).flags;
        assert!(flags & abi::DOMINF_DYING != 0, "{flags:#x}");
    }
    unreachable!("no end");
}

/// Gives a created domain memory, one page at each of these frames.
fn populate(world: &mut World, id: u16, gfns: &[u64]) -> i64 {
    world.poke_words(D0, 0x9000, gfns);
    let request = memory::Reservation {
        extent_start: 0x9000,
        nr_extents: gfns.len() as u64,
        domid: id,
        ..Default::default()
    };
    world.call_with(D0, hypercall::MEMORY_OP, memory::POPULATE_PHYSMAP, request).0
}

fn free_frames(world: &World) -> usize {
    let frames = &world.hypervisor.memory.frames;
    (0..MACHINE as u64 >> 12).filter(|mfn| frames.owner(Mfn(*mfn)) == Owner::Free).count()
}

#[test]
fn only_the_control_domain_may() {
    let mut world = World::with_control("");
    let mut ask = |id, request| domctl_as(&mut world, id, request).0;
    assert_eq!(ask(D1, request(abi::PAUSE_DOMAIN, 2)), code(Errno::Perm));
    assert_eq!(ask(D1, with(abi::CREATE_DOMAIN, 0, &CONFIG)), code(Errno::Perm));
    assert_eq!(ask(D1, request(abi::GET_DOMAIN_INFO, 1)), code(Errno::Perm));
    // The version comes before the domain, the domain before the right.
    assert_eq!(ask(D1, request(abi::PAUSE_DOMAIN, 9)), code(Errno::Srch));
    for id in [D0, D1] {
        let old = abi::Domctl { interface_version: 0x14, ..request(abi::PAUSE_DOMAIN, 9) };
        assert_eq!(ask(id, old), code(Errno::Acces));
    }
    assert_eq!(ask(D0, request(abi::PAUSE_DOMAIN, 9)), code(Errno::Srch));
    assert_eq!(ask(D0, request(99, 1)), code(Errno::Nosys));
    assert_eq!(world.call_as(D0, hypercall::DOMCTL, &[0x9000_0000]), code(Errno::Fault));
    let end = world.hypervisor.domain(0).unwrap().pages * 4096;
    assert_eq!(world.call_as(D0, hypercall::DOMCTL, &[end - 143]), code(Errno::Fault));
}

#[test]
fn a_created_domain_is_empty_and_paused() {
    let mut world = World::with_control("");
    assert_eq!(create(&mut world, 0), Ok(3));
    assert_eq!(create(&mut world, 9), Ok(9));
    assert_eq!(create(&mut world, 9), Err(code(Errno::Exist)));
    assert_eq!(create(&mut world, 500), Err(code(Errno::Nomem)));
    assert_eq!(create(&mut world, 0x7ff1), Ok(4));
    let new = info(&mut world, 3);
    assert_eq!((new.domain, new.tot_pages, new.max_pages, new.ssidref), (3, 0, 0, 7));
    assert_eq!((new.nr_online_vcpus, new.max_vcpu_id, new.handle), (0, abi::INVALID_MAX_VCPU_ID, [0x5a; 16]));
    assert_eq!(new.flags & 0x1ff, abi::DOMINF_PAUSED | abi::DOMINF_HVM_GUEST | abi::DOMINF_HAP);
    let vcpus = |max| with(abi::MAX_VCPUS, 3, &abi::MaxVcpus { max });
    assert_eq!(domctl(&mut world, vcpus(1)), code(Errno::Inval));
    let asked = |vcpu| with(abi::GET_VCPU_INFO, 3, &abi::GetVcpuInfo { vcpu, ..Default::default() });
    assert_eq!(domctl(&mut world, asked(0)), code(Errno::Srch));
    assert_eq!(domctl(&mut world, asked(2)), code(Errno::Inval));
    assert_eq!(domctl(&mut world, vcpus(2)), 0);
    assert_eq!(domctl(&mut world, vcpus(2)), 0);
    assert_eq!(domctl(&mut world, asked(1)), 0);
    assert_eq!(info(&mut world, 3).max_vcpu_id, 1);
    // Unpaused, its vCPUs still have nothing to run.
    assert_eq!(domctl(&mut world, request(abi::UNPAUSE_DOMAIN, 3)), 0);
    assert_eq!(domctl(&mut world, request(abi::UNPAUSE_DOMAIN, 3)), code(Errno::Inval));
    world.raw(D1, hypercall::SCHED_OP, &[sched::BLOCK.into()]);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D2));
}

#[test]
fn what_no_domain_can_be_is_refused() {
    let mut world = World::with_control("");
    let arch = |emulation_flags, misc_flags| abi::ArchConfig { emulation_flags, misc_flags };
    let hvm = CONFIG.flags;
    let cases = [
        (abi::CreateDomain { flags: 0, ..CONFIG }, Errno::Inval),
        (abi::CreateDomain { flags: abi::CDF_HVM, ..CONFIG }, Errno::Inval),
        (abi::CreateDomain { flags: hvm | abi::CDF_IOMMU, ..CONFIG }, Errno::Inval),
        (abi::CreateDomain { flags: hvm | 1 << 8, ..CONFIG }, Errno::Inval),
        (abi::CreateDomain { iommu_opts: 1, ..CONFIG }, Errno::Inval),
        (abi::CreateDomain { max_vcpus: 0, ..CONFIG }, Errno::Inval),
        (abi::CreateDomain { max_vcpus: 9, ..CONFIG }, Errno::Inval),
        (abi::CreateDomain { grant_opts: 0x10, ..CONFIG }, Errno::Inval),
        (abi::CreateDomain { vmtrace_size: 4096, ..CONFIG }, Errno::Inval),
        (abi::CreateDomain { cpupool_id: 1, ..CONFIG }, Errno::Nodev),
        (abi::CreateDomain { arch: arch(1 << 11, 0), ..CONFIG }, Errno::Inval),
        (abi::CreateDomain { arch: arch(0, 2), ..CONFIG }, Errno::Inval),
        (abi::CreateDomain { arch: arch(abi::EMU_ALL, 0), ..CONFIG }, Errno::Opnotsupp),
    ];
    let before = free_frames(&world);
    for (config, error) in cases {
        assert_eq!(domctl(&mut world, with(abi::CREATE_DOMAIN, 0, &config)), code(error), "{config:?}");
    }
    assert_eq!(free_frames(&world), before);
}

#[test]
fn domains_end_when_the_table_or_the_memory_is_full() {
    let mut world = World::with_control("");
    let before = free_frames(&world);
    let made: Vec<u16> = core::iter::from_fn(|| create(&mut world, 0).ok()).collect();
    assert_eq!(made, (3..16).collect::<Vec<u16>>());
    assert_eq!(create(&mut world, 0), Err(code(Errno::Nomem)));
    for id in made {
        assert_eq!(destroy(&mut world, id), 1);
    }
    assert_eq!(free_frames(&world), before);
    // Without a free frame there is no domain, and what was begun is given back.
    while world.hypervisor.memory.allocate(Owner::Hypervisor).is_some() {
        if free_frames(&world) == 1 {
            break;
        }
    }
    assert_eq!(create(&mut world, 0), Err(code(Errno::Nomem)));
    assert_eq!(free_frames(&world), 1);
}

#[test]
fn a_paused_domain_does_not_run() {
    let mut world = World::with_control("");
    let mut pause = |id| domctl(&mut world, request(abi::PAUSE_DOMAIN, id));
    assert_eq!(pause(0), code(Errno::Inval));
    assert_eq!((pause(2), pause(2)), (0, 0));
    let switch = [harness::HARNESS_SWITCH, 2];
    assert_eq!(world.call_as(D1, harness::HARNESS_OP, &switch), code(Errno::Again));
    assert!(info(&mut world, 2).flags & abi::DOMINF_PAUSED != 0);
    assert_eq!(domctl(&mut world, request(abi::UNPAUSE_DOMAIN, 2)), 0);
    assert_eq!(world.call_as(D1, harness::HARNESS_OP, &switch), code(Errno::Again));
    assert_eq!(domctl(&mut world, request(abi::UNPAUSE_DOMAIN, 2)), 0);
    assert_eq!(domctl(&mut world, request(abi::UNPAUSE_DOMAIN, 2)), code(Errno::Inval));
    assert_eq!(world.raw(D1, harness::HARNESS_OP, &switch), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D2));
    for _ in 0..255 {
        assert_eq!(domctl(&mut world, request(abi::PAUSE_DOMAIN, 1)), 0);
    }
    assert_eq!(domctl(&mut world, request(abi::PAUSE_DOMAIN, 1)), code(Errno::Overflow));
    // The current vCPU goes on only if its domain is not paused.
    assert_eq!(domctl(&mut world, request(abi::PAUSE_DOMAIN, 2)), 0);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D0));
}

#[test]
fn a_domain_that_shut_down_can_go_on() {
    let mut world = World::with_control("");
    let stop = sched::RemoteShutdown { domain_id: 2, reserved: 0, reason: sched::SHUTDOWN_SUSPEND };
    let (value, _) = world.call_with(D1, hypercall::SCHED_OP, sched::REMOTE_SHUTDOWN, stop);
    assert_eq!(value, code(Errno::Perm));
    let own = sched::RemoteShutdown { domain_id: 0, ..stop };
    assert_eq!(world.call_with(D0, hypercall::SCHED_OP, sched::REMOTE_SHUTDOWN, own).0, code(Errno::Perm));
    assert_eq!(world.call_with(D0, hypercall::SCHED_OP, sched::REMOTE_SHUTDOWN, stop).0, 0);
    let flags = info(&mut world, 2).flags;
    assert_eq!(flags >> abi::DOMINF_SHUTDOWN_SHIFT, sched::SHUTDOWN_SUSPEND);
    assert!(flags & abi::DOMINF_SHUTDOWN != 0);
    let switch = [harness::HARNESS_SWITCH, 2];
    assert_eq!(world.call_as(D1, harness::HARNESS_OP, &switch), code(Errno::Again));
    assert_eq!(domctl(&mut world, request(abi::RESUME_DOMAIN, 0)), code(Errno::Inval));
    assert_eq!(domctl(&mut world, request(abi::RESUME_DOMAIN, 2)), 0);
    assert_eq!(world.raw(D1, harness::HARNESS_OP, &switch), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D2));
    // A second vCPU that was never started stays down.
    let stop = sched::RemoteShutdown { domain_id: 1, ..stop };
    assert_eq!(world.call_with(D0, hypercall::SCHED_OP, sched::REMOTE_SHUTDOWN, stop).0, 0);
    assert_eq!(domctl(&mut world, request(abi::RESUME_DOMAIN, 1)), 0);
    let second = [harness::HARNESS_SWITCH, 1 | 1 << 16];
    assert_eq!(world.call_as(D2, harness::HARNESS_OP, &second), code(Errno::Again));
}

#[test]
fn small_settings_are_kept() {
    let mut world = World::with_control("");
    let handle = abi::DomainHandle { handle: [9; 16] };
    assert_eq!(domctl(&mut world, with(abi::SET_DOMAIN_HANDLE, 1, &handle)), 0);
    assert_eq!(domctl(&mut world, with(abi::SET_DEBUGGING, 1, &abi::SetDebugging { enable: 3 })), 0);
    let own = with(abi::SET_DEBUGGING, 0, &abi::SetDebugging { enable: 1 });
    assert_eq!(domctl(&mut world, own), code(Errno::Inval));
    assert_eq!(domctl(&mut world, with(abi::MAX_MEM, 1, &abi::MaxMem { max_memkb: u64::MAX })), 0);
    let offset = abi::SetTimeOffset { time_offset_seconds: -5 };
    assert_eq!(domctl(&mut world, with(abi::SET_TIME_OFFSET, 1, &offset)), 0);
    assert_eq!(world.hypervisor.domain(1).unwrap().control.time_offset, -5);
    let known = info(&mut world, 1);
    assert_eq!((known.handle, known.max_pages, known.gpaddr_bits), ([9; 16], u32::MAX.into(), 47));
    assert!(known.flags & abi::DOMINF_DEBUGGED != 0);
    assert_eq!(domctl(&mut world, with(abi::MAX_MEM, 1, &abi::MaxMem { max_memkb: 7 })), 0);
    assert_eq!(info(&mut world, 1).max_pages, 1);
    let size = with(abi::SET_ADDRESS_SIZE, 1, &abi::AddressSize { size: 32 });
    assert_eq!(domctl(&mut world, size), code(Errno::Opnotsupp));
    let (value, answer) = domctl_as(&mut world, D0, request(abi::GET_ADDRESS_SIZE, 1));
    assert_eq!((value, answer.u[0]), (0, 64));
    let page = |gmfn| with(abi::HYPERCALL_INIT, 1, &abi::HypercallInit { gmfn });
    assert_eq!(domctl(&mut world, page(0x20)), 0);
    assert_eq!(world.peek::<[u8; 6]>(D1, 0x20020), [0xb8, 1, 0, 0, 0, 0x0f]);
    for gmfn in [0x4000, 1 << 35, 1 << 52, u64::MAX] {
        assert_eq!(domctl(&mut world, page(gmfn)), code(Errno::Acces), "{gmfn:#x}");
    }
    // Whoever is not there has somebody behind it, or nobody.
    let (_, answer) = domctl_as(&mut world, D0, request(abi::GET_DOMAIN_INFO, 2));
    assert_eq!(answer.domain, 2);
    assert_eq!(domctl(&mut world, request(abi::GET_DOMAIN_INFO, 3)), code(Errno::Srch));
    assert_eq!(create(&mut world, 9), Ok(9));
    let (_, answer) = domctl_as(&mut world, D0, request(abi::GET_DOMAIN_INFO, 3));
    assert_eq!(answer.domain, 9);
    assert_eq!(domctl(&mut world, request(abi::GET_DOMAIN_INFO, 0x7ff0)), code(Errno::Inval));
}

#[test]
fn memory_is_given_to_others_and_comes_back() {
    let mut world = World::with_control("");
    let before = free_frames(&world);
    let id = create(&mut world, 0).unwrap();
    assert_eq!(populate(&mut world, id, &[5]), 0);
    assert_eq!(domctl(&mut world, with(abi::MAX_MEM, id, &abi::MaxMem { max_memkb: 64 })), 0);
    assert_eq!(populate(&mut world, id, &[5, 0x1_0000, 0x700_0000]), 3);
    assert_eq!(info(&mut world, id).tot_pages, 3);
    // Memory without a place counts, too.
    let request = memory::Reservation { extent_start: 0, nr_extents: 2, domid: id, ..Default::default() };
    assert_eq!(world.call_with(D0, hypercall::MEMORY_OP, memory::INCREASE_RESERVATION, request).0, 2);
    let request = memory::RemoveFromPhysmap { domid: id, reserved: [0; 3], gpfn: 5 };
    assert_eq!(world.call_with(D0, hypercall::MEMORY_OP, memory::REMOVE_FROM_PHYSMAP, request).0, 0);
    assert_eq!(info(&mut world, id).tot_pages, 5);
    assert_eq!(destroy(&mut world, id), 1);
    assert_eq!(free_frames(&world), before);
    assert_eq!(world.hypervisor.gone(), Some(id));
    assert_eq!(world.hypervisor.gone(), None);
    // Nobody else may do that, and nobody to a domain that is not there.
    let request = memory::Reservation { extent_start: 0, nr_extents: 1, domid: 1, ..Default::default() };
    assert_eq!(world.call_with(D2, hypercall::MEMORY_OP, memory::INCREASE_RESERVATION, request).0, 0);
    assert_eq!(populate(&mut world, id, &[5]), 0);
}

#[test]
fn destruction_is_bounded_and_goes_on_where_it_was() {
    let mut world = World::with_control("");
    let before = free_frames(&world);
    let pages = world.hypervisor.domain(1).unwrap().pages as usize;
    let first = info(&mut world, 1);
    assert_eq!(first.tot_pages as usize, pages);
    assert_eq!(domctl(&mut world, request(abi::DESTROY_DOMAIN, 0)), code(Errno::Inval));
    let open = event::AllocUnbound { dom: 1, remote_dom: 2, port: 0 };
    let (_, answer) = world.call_with(D1, hypercall::EVENT_CHANNEL_OP, event::ALLOC_UNBOUND, open);
    let connect =
        event::BindInterdomain { remote_dom: 1, reserved: 0, remote_port: answer.port, local_port: 0 };
    let (value, connected) =
        world.call_with(D2, hypercall::EVENT_CHANNEL_OP, event::BIND_INTERDOMAIN, connect);
    assert_eq!(value, 0);
    for _ in 0..300 {
        let open = event::AllocUnbound { dom: 1, remote_dom: 2, port: 0 };
        assert_eq!(world.call_with(D1, hypercall::EVENT_CHANNEL_OP, event::ALLOC_UNBOUND, open).0, 0);
    }
    // More pages than one call frees, half of them without a place.
    assert_eq!(domctl(&mut world, with(abi::MAX_MEM, 1, &abi::MaxMem { max_memkb: 1 << 20 })), 0);
    let more = memory::Reservation { nr_extents: 300, domid: 1, ..Default::default() };
    assert_eq!(world.call_with(D1, hypercall::MEMORY_OP, memory::INCREASE_RESERVATION, more).0, 300);
    assert_eq!(domctl(&mut world, request(abi::DESTROY_DOMAIN, 1)), code(Errno::Again));
    assert_eq!(world.hypervisor.audit(), Ok(()));
    // In between it is there for its destruction only.
    assert_eq!(populate(&mut world, 1, &[0x4000]), 0);
    assert_eq!(domctl(&mut world, request(abi::RESUME_DOMAIN, 1)), 0);
    assert_eq!(domctl(&mut world, with(abi::MAX_VCPUS, 1, &abi::MaxVcpus { max: 2 })), code(Errno::Nomem));
    let switch = [harness::HARNESS_SWITCH, 1];
    assert_eq!(world.call_as(D2, harness::HARNESS_OP, &switch), code(Errno::Again));
    assert!(destroy(&mut world, 1) > 0);
    assert_eq!(world.call_as(D2, harness::HARNESS_OP, &switch), code(Errno::Noent));
    assert!(free_frames(&world) >= before + pages);
    // Its peer's port waits for somebody new.
    let status = event::Status { dom: 2, port: connected.local_port, ..FromZeros::new_zeroed() };
    let (_, status) = world.call_with(D2, hypercall::EVENT_CHANNEL_OP, event::STATUS, status);
    assert_eq!(status.status, event::STATUS_UNBOUND);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D2));
    // What both shared is still there for the other.
    world.poke(D2, 0x1000_0000, b"still here");
    // The number is free again.
    assert_eq!(create(&mut world, 0), Ok(1));
    assert_eq!(world.hypervisor.lookup(1, Gfn(0)), None);
}

#[test]
fn the_leader_can_go_and_the_rest_goes_on() {
    let mut world = World::with_control("");
    assert_eq!(world.hypervisor.current(), Some(D1));
    assert!(destroy(&mut world, 1) > 0);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D2));
    assert!(destroy(&mut world, 2) > 0);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D0));
}

fn pause_self(world: &mut World) -> i64 {
    domctl(world, request(abi::PAUSE_DOMAIN, 0))
}

#[test]
fn self_deadlock_waits_for_ever() {
    let mut world = World::with_control("");
    assert_eq!(pause_self(&mut world), code(Errno::Inval));
    assert_eq!(domctl(&mut world, request(abi::PAUSE_DOMAIN, 1)), 0);
    let canary = world.hypervisor.canaries()[Bug::SelfDeadlock as usize];
    assert_eq!((canary.reached, canary.triggered), (2, 0));
    let line = format!("plant={}", Bug::SelfDeadlock.name());
    let mut world = World::with_control(&line);
    assert_eq!(domctl(&mut world, request(abi::PAUSE_DOMAIN, 1)), 0);
    assert_eq!(world.hypervisor.canaries()[Bug::SelfDeadlock as usize].triggered, 0);
    let (sender, receiver) = mpsc::channel();
    // The thread stays behind until the test process ends.
    thread::spawn(move || {
        let mut world = World::with_control(&line);
        // The test's calls say who the caller is; the machine would have made it the current one.
        world.hypervisor.switch_to(D0);
        pause_self(&mut world);
        let _ = sender.send(());
    });
    assert_eq!(receiver.recv_timeout(Duration::from_millis(300)), Err(mpsc::RecvTimeoutError::Timeout));
}
