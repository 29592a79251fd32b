//! `vcpu_op`, `set_timer_op`, `vm_assist`: vCPUs, timers, areas.

use super::*;
use crate::vcpu::State;
use proptest::prelude::*;
use xen_abi::{
    event, hypercall, memory, sched, shared_info,
    vcpu::{self, Area, Hvm32, Hvm64, HvmContext, RunstateInfo, TimeInfo},
    vm_assist,
};

const D1V1: VcpuId = VcpuId { domain: 1, vcpu: 1 };
/// Second place for structures.
const OTHER: u64 = 0x9000;

fn long() -> Hvm64 {
    Hvm64 { rip: 0x2000, cr0: 0x8001_0033, cr4: 0x620, efer: 0x500, ..Hvm64::default() }
}

fn protected() -> Hvm32 {
    Hvm32 {
        eip: 0x2000,
        cr0: 0x11,
        cs_limit: u32::MAX,
        ss_limit: u32::MAX,
        cs_ar: 0xc9b,
        ss_ar: 0xc93,
        tr_ar: 0x8b,
        ..Hvm32::default()
    }
}

/// A `vcpu_op` of d1's first vCPU about vCPU `number`.
fn op(world: &mut World, cmd: u32, number: u64, arg: u64) -> i64 {
    world.call(hypercall::VCPU_OP, &[u64::from(cmd), number, arg])
}

fn op_with<T: IntoBytes + Immutable>(world: &mut World, cmd: u32, number: u64, arg: T) -> i64 {
    world.poke(D1, ARENA, arg.as_bytes());
    op(world, cmd, number, ARENA)
}

/// A world in which d1's second vCPU is up.
fn two() -> World {
    let mut world = World::new();
    assert_eq!(op_with(&mut world, vcpu::INITIALISE, 1, HvmContext::protected(&protected())), 0);
    assert_eq!(op(&mut world, vcpu::UP, 1, 0), 0);
    world
}

/// Binds the timer interrupt of a vCPU of d1, and returns the port.
fn bind_timer(world: &mut World, vcpu: u32) -> u32 {
    let request = event::BindVirq { virq: event::VIRQ_TIMER, vcpu, port: 0 };
    let (value, bound) = world.call_with(D1, hypercall::EVENT_CHANNEL_OP, event::BIND_VIRQ, request);
    assert_eq!(value, 0);
    bound.port
}

/// Whether a port of d1 is pending; it is not afterwards.
fn take_event(world: &mut World, port: u32) -> bool {
    let page = world.hypervisor.domain(1).unwrap().shared_info.address().0 as usize;
    let at = page + shared_info::PENDING + port as usize / 8;
    let mut ram = world.ram.borrow_mut();
    let pending = ram[at] >> (port % 8) & 1 == 1;
    ram[at] &= !(1 << (port % 8));
    for vcpu in 0..2 {
        let info = page + vcpu * shared_info::VCPU_INFO_LEN;
        ram[info + shared_info::UPCALL_PENDING] = 0;
        ram[info + shared_info::PENDING_SEL..info + shared_info::PENDING_SEL + 8].fill(0);
    }
    pending
}

fn block(world: &mut World, id: VcpuId) -> Disposition {
    world.raw(id, hypercall::SCHED_OP, &[u64::from(sched::BLOCK)])
}

#[test]
fn a_vcpu_is_initialised_once_and_runs_when_it_is_up() {
    let mut world = World::new();
    let context = HvmContext::long(&long());
    assert_eq!(op(&mut world, vcpu::UP, 1, 0), code(Errno::Inval));
    assert_eq!(op(&mut world, vcpu::IS_UP, 1, 0), 0);
    assert_eq!(op(&mut world, vcpu::INITIALISE, 1, 0x200_0000), code(Errno::Fault));
    assert_eq!(op_with(&mut world, vcpu::INITIALISE, 2, context), code(Errno::Noent));
    assert_eq!(op_with(&mut world, vcpu::INITIALISE, 0, context), code(Errno::Exist));
    assert_eq!(op_with(&mut world, vcpu::INITIALISE, 1, context), 0);
    assert_eq!(op_with(&mut world, vcpu::INITIALISE, 1, context), code(Errno::Exist));
    let start = world.hypervisor.entry(D1V1).start;
    assert_eq!((start.rip, start.cr0, start.efer, start.privilege()), (0x2000, 0x8001_0033, 0x500, 0));
    assert_eq!(start.context().paging, PagingMode::Long);
    let switch = [harness::HARNESS_SWITCH, 1 << 16 | 1];
    assert_eq!(world.raw(D1, harness::HARNESS_OP, &switch), Disposition::Return(code(Errno::Again)));
    assert_eq!(op(&mut world, vcpu::UP, 1, 0), 0);
    assert_eq!(op(&mut world, vcpu::UP, 1, 0), 0);
    assert_eq!(op(&mut world, vcpu::IS_UP, 1, 0), 1);
    assert_eq!(world.raw(D1, harness::HARNESS_OP, &switch), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D1V1));
    assert_eq!(world.hypervisor.resume_value(D1V1), None, "it has made no call yet");
}

#[test]
fn states_that_cannot_be_are_refused() {
    let refused = |context: HvmContext| {
        let mut world = World::new();
        op_with(&mut world, vcpu::INITIALISE, 1, context) == code(Errno::Inval)
    };
    assert!(!refused(HvmContext::long(&long())) && !refused(HvmContext::protected(&protected())));
    for bad in [
        Hvm64 { rip: 1 << 47, ..long() },
        Hvm64 { cr0: 0x11, ..long() },
        Hvm64 { cr4: 0, ..long() },
        Hvm64 { cr4: 0x620 | 1 << 13, ..long() },
        Hvm64 { efer: 0, ..long() },
        Hvm64 { efer: 0x1500, ..long() },
    ] {
        assert!(refused(HvmContext::long(&bad)), "{bad:?}");
    }
    for bad in [
        Hvm32 { cs_ar: 0, ..protected() },
        Hvm32 { cs_ar: 0xc93, ..protected() },
        Hvm32 { cs_ar: 0x1c9b, ..protected() },
        Hvm32 { cs_ar: 0xc1b, ..protected() },
        Hvm32 { ss_ar: 0xc91, ..protected() },
        Hvm32 { ss_ar: 0xcf3, ..protected() },
        Hvm32 { ds_ar: 0xc99, ..protected() },
        Hvm32 { es_ar: 0xcf3, ..protected() },
        Hvm32 { tr_ar: 0x83, ..protected() },
        Hvm32 { tr_ar: 0, ..protected() },
        Hvm32 { cs_ar: 0x49b, cs_limit: 0x1fff, ..protected() },
        Hvm32 { efer: 0x400, ..protected() },
        Hvm32 { pad1: 1, ..protected() },
        Hvm32 { pad2: [0, 0, 1], ..protected() },
    ] {
        assert!(refused(HvmContext::protected(&bad)), "{bad:?}");
    }
    assert!(refused(HvmContext { mode: 2, ..HvmContext::long(&long()) }));
    assert!(refused(HvmContext { pad: 1, ..HvmContext::long(&long()) }));
    // A task that is not busy becomes so; long mode that is enabled is active.
    let mut world = World::new();
    let context = Hvm32 { tr_ar: 0x89, cr0: 0x8000_0011, cr4: 0x20, efer: 0x100, ..protected() };
    assert_eq!(op_with(&mut world, vcpu::INITIALISE, 1, HvmContext::protected(&context)), 0);
    let start = world.hypervisor.entry(D1V1).start;
    assert_eq!((start.tr.attributes, start.efer), (0x8b, 0x500));
}

#[test]
fn the_last_vcpu_that_goes_down_ends_its_domain() {
    let mut world = two();
    assert_eq!(op(&mut world, vcpu::DOWN, 1, 0), 0);
    assert_eq!(op(&mut world, vcpu::IS_UP, 1, 0), 0);
    assert_eq!(op(&mut world, vcpu::DOWN, 1, 0), 0);
    assert_eq!(op(&mut world, vcpu::DOWN, 2, 0), code(Errno::Noent));
    let down = [u64::from(vcpu::DOWN), 0];
    assert_eq!(world.raw(D1, hypercall::VCPU_OP, &down), Disposition::Reschedule);
    assert_eq!(world.hypervisor.domain(1).unwrap().shutdown, Some(sched::SHUTDOWN_POWEROFF));
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D2));
}

#[test]
fn who_went_down_goes_on_when_another_brings_it_up() {
    let mut world = two();
    assert_eq!(world.raw(D1, hypercall::VCPU_OP, &[u64::from(vcpu::DOWN), 0]), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D1V1), "it can run by itself, d2 is parked");
    let up = [u64::from(vcpu::UP), 0];
    assert_eq!(world.call_as(D1V1, hypercall::VCPU_OP, &up), 0);
    assert_eq!(block(&mut world, D1V1), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D1));
    assert_eq!(world.hypervisor.resume_value(D1), Some(0));
}

#[test]
fn yield_goes_to_who_can_run_by_itself() {
    let mut world = two();
    let give_up = [u64::from(sched::YIELD)];
    assert_eq!(world.raw(D1, hypercall::SCHED_OP, &give_up), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D1V1));
    assert_eq!(world.raw(D1V1, hypercall::SCHED_OP, &give_up), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D1));
    assert_eq!(world.hypervisor.resume_value(D1), Some(0));
    assert_eq!(op(&mut world, vcpu::DOWN, 1, 0), 0);
    assert_eq!(world.raw(D1, hypercall::SCHED_OP, &give_up), Disposition::Return(0), "d2 is parked");
}

#[test]
fn run_states_add_up_to_the_time() {
    let mut world = two();
    let info = |world: &mut World, number| {
        assert_eq!(op(world, vcpu::GET_RUNSTATE_INFO, number, ARENA), 0);
        world.peek::<RunstateInfo>(D1, ARENA)
    };
    let own = info(&mut world, 0);
    assert_eq!(own.state, vcpu::RUNSTATE_RUNNING);
    assert_eq!(own.time.iter().sum::<u64>(), world.hypervisor.time);
    let other = info(&mut world, 1);
    assert_eq!(other.state, vcpu::RUNSTATE_RUNNABLE);
    assert_eq!(other.time.iter().sum::<u64>(), world.hypervisor.time);
    assert!(other.time[vcpu::RUNSTATE_OFFLINE as usize] > 0);
    assert_eq!(op(&mut world, vcpu::DOWN, 1, 0), 0);
    assert_eq!(info(&mut world, 1).state, vcpu::RUNSTATE_OFFLINE);
    assert_eq!(op(&mut world, vcpu::GET_RUNSTATE_INFO, 0, 0x200_0000), code(Errno::Fault));
    assert_eq!(op(&mut world, 99, 0, 0), code(Errno::Nosys));
    assert_eq!(op(&mut world, vcpu::GET_PHYSID, 0, ARENA), code(Errno::Inval));
}

#[test]
fn a_singleshot_timer_raises_its_event_once() {
    let mut world = World::new();
    let port = bind_timer(&mut world, 0);
    let soon = world.hypervisor.time + 5000;
    assert_eq!(world.call(hypercall::SET_TIMER_OP, &[soon]), 0);
    assert!(!take_event(&mut world, port));
    // Time passes by calls.
    while world.hypervisor.time < soon {
        assert!(!take_event(&mut world, port));
        world.call(hypercall::XEN_VERSION, &[0]);
    }
    assert!(take_event(&mut world, port));
    world.call(hypercall::XEN_VERSION, &[0]);
    assert!(!take_event(&mut world, port));
    // Zero stops it; what has passed expires at once; what is too far away, soon.
    assert_eq!(world.call(hypercall::SET_TIMER_OP, &[world.hypervisor.time + 2000]), 0);
    assert_eq!(world.call(hypercall::SET_TIMER_OP, &[0]), 0);
    for _ in 0..5 {
        world.call(hypercall::XEN_VERSION, &[0]);
    }
    assert!(!take_event(&mut world, port));
    assert_eq!(world.call(hypercall::SET_TIMER_OP, &[1]), 0);
    assert!(take_event(&mut world, port));
    for far in [u64::MAX, 1 << 63, world.hypervisor.time + (1 << 51)] {
        assert_eq!(world.call(hypercall::SET_TIMER_OP, &[far]), 0);
        let at = world.hypervisor.vcpu(D1).unwrap().timers.singleshot.unwrap();
        assert!(at <= world.hypervisor.time + 100_000_000 && at > world.hypervisor.time);
    }
}

#[test]
fn the_singleshot_timer_is_its_own_vcpus() {
    let mut world = two();
    let port = bind_timer(&mut world, 0);
    let timer = |timeout_abs_ns| vcpu::SingleshotTimer { timeout_abs_ns, flags: 1, reserved: 0 };
    assert_eq!(op_with(&mut world, vcpu::SET_SINGLESHOT_TIMER, 1, timer(1)), code(Errno::Inval));
    assert_eq!(op(&mut world, vcpu::STOP_SINGLESHOT_TIMER, 1, 0), code(Errno::Inval));
    assert_eq!(op(&mut world, vcpu::SET_SINGLESHOT_TIMER, 0, 0x200_0000), code(Errno::Fault));
    assert_eq!(op_with(&mut world, vcpu::SET_SINGLESHOT_TIMER, 0, timer(1)), 0);
    assert!(take_event(&mut world, port), "it has passed already");
    let later = world.hypervisor.time + 10_000_000;
    assert_eq!(op_with(&mut world, vcpu::SET_SINGLESHOT_TIMER, 0, timer(later)), 0);
    assert_eq!(op(&mut world, vcpu::STOP_SINGLESHOT_TIMER, 0, 0), 0);
    assert_eq!(world.hypervisor.vcpu(D1).unwrap().timers.singleshot, None);
}

#[test]
fn who_blocks_with_a_timer_sleeps_until_it_expires() {
    let mut world = two();
    let port = bind_timer(&mut world, 0);
    let deadline = world.hypervisor.time + 50_000_000;
    assert_eq!(world.call(hypercall::SET_TIMER_OP, &[deadline]), 0);
    assert_eq!(block(&mut world, D1), Disposition::Reschedule);
    // The other vCPU can run, so no time passes.
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D1V1));
    assert!(world.hypervisor.time < deadline);
    assert_eq!(block(&mut world, D1V1), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D1));
    assert_eq!((world.hypervisor.time, world.hypervisor.resume_value(D1)), (deadline, Some(0)));
    assert!(take_event(&mut world, port));
    // A timer that nobody hears wakes nobody: who is parked goes on, and the time stays.
    assert_eq!(world.hypervisor.close_port(1, port), Ok(()));
    assert_eq!(world.call(hypercall::SET_TIMER_OP, &[deadline + 50_000_000]), 0);
    assert_eq!(block(&mut world, D1), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D2));
}

#[test]
fn a_poll_ends_with_the_callers_timer() {
    let mut world = World::new();
    let port = bind_timer(&mut world, 0);
    let start = world.hypervisor.time;
    assert_eq!(world.call(hypercall::SET_TIMER_OP, &[start + 40_000_000]), 0);
    let request = sched::Poll { timeout: start + 90_000_000, ..sched::Poll::default() };
    assert_eq!(world.call_with(D1, hypercall::SCHED_OP, sched::POLL, request).0, 0);
    assert_eq!(world.hypervisor.time, start + 40_000_000);
    assert_eq!(world.hypervisor.resume_value(D1), None);
    assert_eq!(world.hypervisor.state(D1), Some(State::Runnable));
    assert!(take_event(&mut world, port));
    // The next one has nothing but its deadline.
    assert_eq!(world.call_with(D1, hypercall::SCHED_OP, sched::POLL, request).0, 0);
    assert_eq!(world.hypervisor.time, start + 90_000_000);
}

#[test]
fn a_periodic_timer_makes_up_for_what_it_missed_with_one_event() {
    let mut world = World::new();
    let port = bind_timer(&mut world, 0);
    let period = |period_ns| vcpu::PeriodicTimer { period_ns };
    for bad in [0, 999_999, (u64::MAX >> 2) + 1, 1 << 63, u64::MAX] {
        assert_eq!(op_with(&mut world, vcpu::SET_PERIODIC_TIMER, 0, period(bad)), code(Errno::Inval));
    }
    assert_eq!(op(&mut world, vcpu::SET_PERIODIC_TIMER, 0, 0x200_0000), code(Errno::Fault));
    assert_eq!(op_with(&mut world, vcpu::SET_PERIODIC_TIMER, 0, period(1_000_000)), 0);
    assert!(!take_event(&mut world, port));
    let poll = |world: &mut World, timeout| {
        let request = sched::Poll { timeout, ..sched::Poll::default() };
        assert_eq!(world.call_with(D1, hypercall::SCHED_OP, sched::POLL, request).0, 0);
    };
    let later = world.hypervisor.time + 3_600_000_000_000;
    poll(&mut world, later);
    assert!(take_event(&mut world, port));
    world.call(hypercall::XEN_VERSION, &[0]);
    assert!(!take_event(&mut world, port));
    // To the end of time, and nothing beyond it.
    poll(&mut world, u64::MAX);
    assert!(take_event(&mut world, port));
    world.call(hypercall::XEN_VERSION, &[0]);
    assert!(!take_event(&mut world, port));
    assert_eq!(op_with(&mut world, vcpu::SET_PERIODIC_TIMER, 0, period(u64::MAX >> 2)), 0);
    assert_eq!(op(&mut world, vcpu::STOP_PERIODIC_TIMER, 0, 0), 0);
    assert_eq!(world.hypervisor.vcpu(D1).unwrap().timers.periodic, None);
}

#[test]
fn a_periodic_timer_waits_for_its_vcpu() {
    let mut world = two();
    let port = bind_timer(&mut world, 1);
    let request = vcpu::PeriodicTimer { period_ns: 1_000_000 };
    assert_eq!(op_with(&mut world, vcpu::SET_PERIODIC_TIMER, 1, request), 0);
    world.hypervisor.time += 10_000_000;
    world.call(hypercall::XEN_VERSION, &[0]);
    assert!(!take_event(&mut world, port));
    assert_eq!(world.raw(D1, hypercall::SCHED_OP, &[0]), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D1V1));
    assert!(take_event(&mut world, port));
}

#[test]
fn an_nmi_is_taken_once_and_ends_waiting() {
    let mut world = two();
    assert_eq!(op(&mut world, vcpu::SEND_NMI, 1, ARENA), code(Errno::Inval));
    assert_eq!(op(&mut world, vcpu::SEND_NMI, 2, 0), code(Errno::Noent));
    assert_eq!(world.raw(D1, hypercall::SCHED_OP, &[0]), Disposition::Reschedule);
    assert_eq!(block(&mut world, D1V1), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D1));
    assert_eq!(op(&mut world, vcpu::SEND_NMI, 1, 0), 0);
    assert_eq!(world.hypervisor.state(D1V1), Some(State::Runnable));
    assert!(world.hypervisor.take_nmi(D1V1) && !world.hypervisor.take_nmi(D1V1));
    let own = [u64::from(vcpu::SEND_NMI), 0, 0];
    assert_eq!(world.raw(D1, hypercall::VCPU_OP, &own), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D1));
    assert_eq!(world.hypervisor.resume_value(D1), Some(0));
    assert!(world.hypervisor.take_nmi(D1));
}

fn register_info(world: &mut World, number: u64, mfn: u64, offset: u32) -> i64 {
    op_with(world, vcpu::REGISTER_VCPU_INFO, number, vcpu::RegisterVcpuInfo { mfn, offset, rsvd: 0 })
}

#[test]
fn vcpu_info_moves_once_and_takes_its_events_along() {
    let mut world = two();
    let port = bind_timer(&mut world, 1);
    for (mfn, offset, error) in [
        (0x20, 4040, Errno::Nxio),
        (0x20, 4, Errno::Nxio),
        (0x20, 4096, Errno::Inval),
        (u64::MAX, 0, Errno::Inval),
        (0x4000, 0, Errno::Inval),
        (0x1_0000, 0, Errno::Inval),
    ] {
        assert_eq!(register_info(&mut world, 1, mfn, offset), code(error), "{mfn:#x} {offset}");
    }
    let references = |world: &World| {
        let mfn = world.hypervisor.lookup(1, Gfn(0x20)).unwrap().mfn;
        world.hypervisor.memory.frames.references(mfn)
    };
    assert_eq!(references(&world), 2);
    assert_eq!(register_info(&mut world, 1, 0x20, 4032), 0);
    assert_eq!(references(&world), 3);
    assert_eq!(world.peek::<u8>(D1, 0x20fc0), 1, "an upcall is pending");
    assert_eq!(world.peek::<u64>(D1, 0x20fc8), u64::MAX);
    assert_eq!(register_info(&mut world, 1, 0x20, 0), code(Errno::Busy));
    assert_eq!(references(&world), 3);
    // Events arrive at the new place.
    world.poke(D1, 0x20fc0, &[0; 16]);
    world.hypervisor.set_pending(1, port);
    assert_eq!(world.peek::<u8>(D1, 0x20fc0), 1);
    assert_eq!(world.peek::<u64>(D1, 0x20fc8), 1);
    // And are looked for there.
    assert_eq!(world.raw(D1, hypercall::SCHED_OP, &[0]), Disposition::Reschedule);
    assert_eq!(block(&mut world, D1V1), Disposition::Return(0));
}

#[test]
fn copies_are_kept_where_the_guest_wants_them() {
    let mut world = two();
    let area = |addr| Area { addr };
    // By virtual address: what cannot be written is the guest's affair.
    assert_eq!(op_with(&mut world, vcpu::REGISTER_RUNSTATE_MEMORY_AREA, 0, area(u64::MAX - 7)), 0);
    assert_eq!(op_with(&mut world, vcpu::REGISTER_RUNSTATE_MEMORY_AREA, 0, area(OTHER)), 0);
    let info: RunstateInfo = world.peek(D1, OTHER);
    assert_eq!((info.state, info.time.iter().sum::<u64>()), (vcpu::RUNSTATE_RUNNING, world.hypervisor.time));
    assert_eq!(op(&mut world, vcpu::REGISTER_RUNSTATE_MEMORY_AREA, 0, 0x200_0000), code(Errno::Fault));
    assert_eq!(op_with(&mut world, vcpu::REGISTER_VCPU_TIME_MEMORY_AREA, 0, area(OTHER + 64)), 0);
    let time: TimeInfo = world.peek(D1, OTHER + 64);
    assert_eq!((time.system_time, time.tsc_shift, time.version), (world.hypervisor.time, 1, 2));
    assert_eq!(
        world.call(hypercall::VM_ASSIST, &[vm_assist::ENABLE, vm_assist::TYPE_RUNSTATE_UPDATE_FLAG]),
        0
    );
    // Giving the processor up brings them up to date.
    assert_eq!(world.raw(D1, hypercall::SCHED_OP, &[0]), Disposition::Reschedule);
    let info: RunstateInfo = world.peek(D1, OTHER);
    assert_eq!(info.state, vcpu::RUNSTATE_RUNNABLE);
    assert_eq!(info.state_entry_time, world.hypervisor.time, "no update is under way");
    assert_eq!(world.peek::<TimeInfo>(D1, OTHER + 64).version, 4);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D1V1));
    assert_eq!(world.raw(D1V1, hypercall::SCHED_OP, &[0]), Disposition::Reschedule);
    assert_eq!(world.peek::<RunstateInfo>(D1, OTHER).state, vcpu::RUNSTATE_RUNNING);
}

#[test]
fn areas_by_frame_keep_it_until_they_are_unregistered() {
    let mut world = World::new();
    let area = |addr| Area { addr };
    let at = 0x20 << 12;
    for (addr, error) in [
        (at + 4, Errno::Nxio),
        (at + 4096 - 40, Errno::Nxio),
        (u64::MAX - 7, Errno::Nxio),
        (0x400_0000, Errno::Inval),
        (0x1000_0000, Errno::Inval),
    ] {
        assert_eq!(op_with(&mut world, vcpu::REGISTER_RUNSTATE_PHYS_AREA, 0, area(addr)), code(error));
    }
    let mfn = world.hypervisor.lookup(1, Gfn(0x20)).unwrap().mfn;
    let references = |world: &World| world.hypervisor.memory.frames.references(mfn);
    assert_eq!(op_with(&mut world, vcpu::REGISTER_RUNSTATE_PHYS_AREA, 0, area(at)), 0);
    assert_eq!(op_with(&mut world, vcpu::REGISTER_VCPU_TIME_PHYS_AREA, 0, area(at + 4096 - 32)), 0);
    assert_eq!(references(&world), 4);
    assert_eq!(world.peek::<RunstateInfo>(D1, at).state, vcpu::RUNSTATE_RUNNING);
    assert_eq!(world.peek::<TimeInfo>(D1, at + 4096 - 32).tsc_to_system_mul, 1 << 31);
    // Another place gives the first one back.
    assert_eq!(op_with(&mut world, vcpu::REGISTER_RUNSTATE_PHYS_AREA, 0, area(0x21 << 12)), 0);
    assert_eq!(references(&world), 3);
    // The guest gives the frame away; it is not free before the area is gone.
    world.poke_words(D1, ARENA + 0x100, &[0x20]);
    let request =
        memory::Reservation { extent_start: ARENA + 0x100, nr_extents: 1, domid: 1, ..Default::default() };
    let pages = world.hypervisor.domain(1).unwrap().pages;
    assert_eq!(world.call_with(D1, hypercall::MEMORY_OP, memory::DECREASE_RESERVATION, request).0, 1);
    assert_eq!((references(&world), world.hypervisor.domain(1).unwrap().pages), (1, pages));
    assert_eq!(op_with(&mut world, vcpu::REGISTER_VCPU_TIME_PHYS_AREA, 0, area(u64::MAX)), 0);
    assert_eq!((references(&world), world.hypervisor.domain(1).unwrap().pages), (0, pages - 1));
    world.hypervisor.forget_areas(1);
    let other = world.hypervisor.lookup(1, Gfn(0x21)).unwrap().mfn;
    assert_eq!(world.hypervisor.memory.frames.references(other), 2);
}

#[test]
fn assistance_is_for_those_who_can_have_it() {
    let mut world = World::new();
    let mut assist = |command, kind| world.call(hypercall::VM_ASSIST, &[command, kind]);
    assert_eq!(assist(vm_assist::ENABLE, vm_assist::TYPE_RUNSTATE_UPDATE_FLAG), 0);
    assert_eq!(assist(vm_assist::DISABLE, vm_assist::TYPE_RUNSTATE_UPDATE_FLAG), 0);
    assert_eq!(assist(2, vm_assist::TYPE_RUNSTATE_UPDATE_FLAG), code(Errno::Nosys));
    for kind in [vm_assist::TYPE_4GB_SEGMENTS, vm_assist::TYPE_M2P_STRICT, 6, 64, u64::MAX] {
        assert_eq!(assist(vm_assist::ENABLE, kind), code(Errno::Inval), "{kind}");
    }
}

/// Whether the other domain's turn comes first, the vCPU of d1 to issue from, hypercall, operation, words.
fn any_call() -> impl Strategy<Value = (bool, u64, u64, Vec<u64>)> {
    let number = prop::sample::select(vec![
        hypercall::VCPU_OP,
        hypercall::VCPU_OP,
        hypercall::VCPU_OP,
        hypercall::SET_TIMER_OP,
        hypercall::VM_ASSIST,
        hypercall::SCHED_OP,
        hypercall::EVENT_CHANNEL_OP,
        hypercall::MEMORY_OP,
    ]);
    let word = prop_oneof![
        4 => 0u64..4,
        2 => Just(1_000_000u64),
        3 => (0u64..12).prop_map(|n| OTHER + n * 8),
        2 => (0x20u64..0x24).prop_map(|n| n << 12),
        2 => 0x20u64..0x24,
        1 => any::<u64>(),
        1 => Just(u64::MAX),
    ];
    (any::<bool>(), number, 0u64..18, prop::collection::vec(word, 12))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// No oracle fires, nothing panics and nothing runs on for ever, whatever vCPUs ask for.
    #[test]
    fn arbitrary_calls_violate_nothing(calls in prop::collection::vec(any_call(), 1..60)) {
        let mut world = two();
        bind_timer(&mut world, 0);
        for (turn, number, cmd, words) in calls {
            if turn && let Some(id) = world.hypervisor.current() {
                let to = if id == D1 { 1 << 16 | 1 } else { 1 };
                let _ = world.raw(id, harness::HARNESS_OP, &[harness::HARNESS_SWITCH, to]);
            }
            let Some(id) = world.hypervisor.vcpu_to_run() else { break };
            let _ = world.hypervisor.resume_value(id);
            let there = world.hypervisor.lookup(id.domain, Gfn(ARENA >> 12));
            if there.is_some_and(|there| there.writable) {
                world.poke_words(id, ARENA, &words);
            }
            let args = match number {
                hypercall::VCPU_OP => vec![cmd, words[11] % 3, ARENA],
                hypercall::SET_TIMER_OP => vec![words[0]],
                hypercall::VM_ASSIST => vec![cmd % 3, 5],
                _ => vec![cmd, ARENA],
            };
            let _ = world.raw(id, number, &args);
        }
    }
}
