//! Planted bugs of `vcpu_op`.

use super::*;
use planted_bugs::Bug;
use std::{sync::mpsc, thread, time::Duration};
use xen_abi::{hypercall, vcpu};

fn periodic(world: &mut World, period_ns: u64) -> i64 {
    world.poke(D1, ARENA, vcpu::PeriodicTimer { period_ns }.as_bytes());
    world.call(hypercall::VCPU_OP, &[u64::from(vcpu::SET_PERIODIC_TIMER), 0, ARENA])
}

#[test]
fn timer_overflow_never_ends() {
    let mut world = World::new();
    assert_eq!(periodic(&mut world, 1 << 63), code(Errno::Inval));
    let canary = world.hypervisor.canaries()[Bug::TimerOverflow as usize];
    assert!(canary.reached > 0 && canary.triggered == 0, "{canary:?}");
    let (sender, receiver) = mpsc::channel();
    // The thread stays behind until the test process ends.
    thread::spawn(move || {
        let mut world = World::with("plant=timer-overflow");
        periodic(&mut world, 1 << 63);
        let _ = sender.send(());
    });
    assert_eq!(receiver.recv_timeout(Duration::from_millis(300)), Err(mpsc::RecvTimeoutError::Timeout));
}

#[test]
fn timer_overflow_spares_periods_that_fit() {
    let mut world = World::with("plant=timer-overflow");
    for period in [1_000_000, u64::MAX >> 2] {
        assert_eq!(periodic(&mut world, period), 0);
    }
    // The bug lets it pass, but nothing wraps around.
    assert_eq!(periodic(&mut world, 1 << 62), 0);
    assert_eq!(periodic(&mut world, 999_999), code(Errno::Inval));
    let canary = world.hypervisor.canaries()[Bug::TimerOverflow as usize];
    assert!(canary.reached > 0 && canary.triggered == 0, "{canary:?}");
}
