//! `sched_op` and the harness hypercall: who runs.

use super::*;
use crate::vcpu::State;
use xen_abi::{event, hypercall, sched};

fn sched<T: FromBytes + FromZeros + IntoBytes + Immutable>(
    world: &mut World,
    cmd: u32,
    arg: T,
) -> Disposition {
    world.poke(D1, ARENA, arg.as_bytes());
    world.raw(D1, hypercall::SCHED_OP, &[u64::from(cmd), ARENA])
}

/// A loopback port of d1, neither end pending.
fn loopback(world: &mut World) -> (u32, u32) {
    let request = event::AllocUnbound { dom: 0x7ff0, remote_dom: 0x7ff0, port: 0 };
    let (_, first) = world.call_with(D1, hypercall::EVENT_CHANNEL_OP, event::ALLOC_UNBOUND, request);
    let request =
        event::BindInterdomain { remote_dom: 0x7ff0, remote_port: first.port, ..Default::default() };
    let (_, second) = world.call_with(D1, hypercall::EVENT_CHANNEL_OP, event::BIND_INTERDOMAIN, request);
    (first.port, second.local_port)
}

fn poll(world: &mut World, ports: &[u32], timeout: u64) -> Disposition {
    world.poke(D1, ARENA + 0x100, ports.as_bytes());
    let request = sched::Poll { ports: ARENA + 0x100, nr_ports: ports.len() as u32, reserved: 0, timeout };
    sched(world, sched::POLL, request)
}

#[test]
fn the_harness_switches_between_parked_vcpus() {
    let mut world = World::new();
    let switch = |world: &mut World, from, to: u64| {
        world.raw(from, harness::HARNESS_OP, &[harness::HARNESS_SWITCH, to])
    };
    assert_eq!(switch(&mut world, D1, 1), Disposition::Return(code(Errno::Inval)));
    assert_eq!(switch(&mut world, D1, 7), Disposition::Return(code(Errno::Noent)));
    assert_eq!(switch(&mut world, D1, 0), Disposition::Return(code(Errno::Noent)));
    assert_eq!(switch(&mut world, D1, 1 << 16 | 1), Disposition::Return(code(Errno::Again)));
    assert_eq!(switch(&mut world, D1, 2), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D2));
    assert_eq!(world.hypervisor.resume_value(D2), Some(0));
    assert_eq!(world.hypervisor.resume_value(D2), None);
    assert_eq!(switch(&mut world, D2, 1), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D1));
    assert_eq!(world.hypervisor.resume_value(D1), Some(0));
    assert_eq!(world.raw(D1, harness::HARNESS_OP, &[harness::HARNESS_DONE]), Disposition::Done);
    assert_eq!(world.raw(D1, harness::HARNESS_OP, &[harness::HARNESS_READY]), Disposition::Return(0));
    assert_eq!(world.raw(D1, harness::HARNESS_OP, &[9]), Disposition::Return(code(Errno::Nosys)));
}

#[test]
fn a_blocked_vcpu_lets_others_run_until_it_is_woken() {
    let mut world = World::new();
    let (first, second) = loopback(&mut world);
    assert_eq!(world.raw(D1, hypercall::SCHED_OP, &[u64::from(sched::BLOCK)]), Disposition::Return(0));
    let info = world.hypervisor.domain(1).unwrap().shared_info.address().0 as usize;
    // The guest takes note of the event that connecting raised.
    world.ram.borrow_mut()[info] = 0;
    world.ram.borrow_mut()[info + 8..info + 16].fill(0);
    world.ram.borrow_mut()[info + 2048..info + 2056].fill(0);
    assert_eq!(world.raw(D1, hypercall::SCHED_OP, &[u64::from(sched::BLOCK)]), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D2));
    let switch = [harness::HARNESS_SWITCH, 1];
    assert_eq!(world.raw(D2, harness::HARNESS_OP, &switch), Disposition::Return(code(Errno::Again)));
    world.hypervisor.set_pending(1, second);
    assert_eq!(world.hypervisor.state(D1), Some(State::Runnable));
    assert_eq!(world.raw(D2, harness::HARNESS_OP, &switch), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D1));
    assert_eq!(world.hypervisor.resume_value(D1), Some(0));
    assert_ne!(first, second);
}

#[test]
fn nobody_runs_when_all_are_blocked_or_dead() {
    let mut world = World::new();
    assert_eq!(poll(&mut world, &[], 0), Disposition::Reschedule);
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D2));
    world.hypervisor.guest_died(D2, "triple fault");
    assert_eq!(world.console(), "d2v0 died: triple fault\n");
    assert_eq!(world.hypervisor.vcpu_to_run(), None);
}

#[test]
fn poll_returns_at_once_blocks_or_lets_time_pass() {
    let mut world = World::new();
    let (first, second) = loopback(&mut world);
    assert_eq!(poll(&mut world, &[first, second], 0), Disposition::Return(0));
    let before = world.hypervisor.time;
    assert_eq!(poll(&mut world, &[first], before + 5_000_000), Disposition::Return(0));
    assert_eq!(world.hypervisor.time, before + 5_000_000);
    assert_eq!(poll(&mut world, &[first], 1), Disposition::Return(0));
    let invalid = Disposition::Return(code(Errno::Inval));
    for bad in [0, second + 1, 70, 1024, u32::MAX] {
        assert_eq!(poll(&mut world, &[bad], 0), invalid, "{bad}");
    }
    assert_eq!(poll(&mut world, &[first; 129], 0), invalid);
    let request = sched::Poll { ports: 0x200_0000, nr_ports: 1, ..Default::default() };
    assert_eq!(sched(&mut world, sched::POLL, request), Disposition::Return(code(Errno::Fault)));
    assert_eq!(poll(&mut world, &[first], u64::MAX), Disposition::Return(0));
    assert_eq!(world.hypervisor.time, u64::MAX);
    assert_eq!(poll(&mut world, &[first], 0), Disposition::Reschedule);
    world.hypervisor.set_pending(1, second);
    assert_eq!(world.hypervisor.state(D1), Some(State::Polling));
    world.hypervisor.set_pending(1, first);
    assert_eq!(world.hypervisor.state(D1), Some(State::Runnable));
}

#[test]
fn shutdown_ends_the_domain_for_a_valid_reason() {
    let mut world = World::new();
    let refuse = |error| Disposition::Return(code(error));
    assert_eq!(sched(&mut world, sched::SHUTDOWN, sched::Shutdown { reason: 6 }), refuse(Errno::Inval));
    assert_eq!(sched(&mut world, sched::SHUTDOWN_CODE, sched::Shutdown { reason: 6 }), refuse(Errno::Inval));
    let latch = sched::Shutdown { reason: sched::SHUTDOWN_REBOOT };
    assert_eq!(sched(&mut world, sched::SHUTDOWN_CODE, latch), Disposition::Return(0));
    assert_eq!(sched(&mut world, sched::SHUTDOWN, sched::Shutdown::default()), Disposition::Reschedule);
    assert_eq!(world.hypervisor.domain(1).unwrap().shutdown, Some(sched::SHUTDOWN_REBOOT));
    assert_eq!(world.hypervisor.vcpu_to_run(), Some(D2));
}

#[test]
fn what_others_may_do_is_refused() {
    let mut world = World::new();
    let refuse = |error| Disposition::Return(code(error));
    let mut remote = |domain_id| {
        let request = sched::RemoteShutdown { domain_id, ..Default::default() };
        sched(&mut world, sched::REMOTE_SHUTDOWN, request)
    };
    assert_eq!(remote(2), refuse(Errno::Perm));
    assert_eq!(remote(5), refuse(Errno::Srch));
    assert_eq!(remote(0x7ff0), refuse(Errno::Srch));
    let pin = sched::PinOverride { pcpu: 0 };
    assert_eq!(sched(&mut world, sched::PIN_OVERRIDE, pin), refuse(Errno::Perm));
    assert_eq!(world.raw(D1, hypercall::SCHED_OP, &[0]), Disposition::Return(0));
    assert_eq!(world.raw(D1, hypercall::SCHED_OP, &[8]), refuse(Errno::Nosys));
}

#[test]
fn a_watchdog_that_is_not_poked_ends_the_domain() {
    let mut world = World::new();
    let mut set = |id, timeout| sched(&mut world, sched::WATCHDOG, sched::Watchdog { id, timeout });
    let refuse = |error| Disposition::Return(code(error));
    assert_eq!(set(0, 0), refuse(Errno::Inval));
    assert_eq!(set(0, 1), Disposition::Return(1));
    assert_eq!(set(0, 9), Disposition::Return(2));
    assert_eq!(set(0, 1), refuse(Errno::Nospc));
    assert_eq!(set(3, 1), refuse(Errno::Inval));
    assert_eq!(set(2, 0), Disposition::Return(0));
    assert_eq!(set(2, 1), refuse(Errno::Inval));
    assert_eq!(set(1, 2), Disposition::Return(0));
    assert_eq!(poll(&mut world, &[], 1_500_000_000), Disposition::Return(0));
    assert_eq!(poll(&mut world, &[], 3_000_000_000), Disposition::Reschedule);
    assert_eq!(world.hypervisor.domain(1).unwrap().shutdown, Some(sched::SHUTDOWN_WATCHDOG));
}
