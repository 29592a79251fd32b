//! The planted bugs of event channels.

use super::{
    planted::{harmful, harmless},
    *,
};
use planted_bugs::Bug;
use xen_abi::{event, hypercall};

fn op<T: FromBytes + FromZeros + IntoBytes + Immutable>(world: &mut World, cmd: u32, arg: T) -> (i64, T) {
    world.call_with(D1, hypercall::EVENT_CHANNEL_OP, cmd, arg)
}

/// A port is moved to a vCPU that has no control block, and an event happens on it.
fn no_control_block(world: &mut World) -> i64 {
    let request = event::InitControl { control_gfn: 0x90, ..Default::default() };
    assert_eq!(op(world, event::INIT_CONTROL, request).0, 0);
    assert_eq!(op(world, event::EXPAND_ARRAY, event::ExpandArray { array_gfn: 0x91 }).0, 0);
    let request = event::AllocUnbound { dom: 1, remote_dom: 1, port: 0 };
    let (_, first) = op(world, event::ALLOC_UNBOUND, request);
    let request = event::BindInterdomain { remote_dom: 1, remote_port: first.port, ..Default::default() };
    let (_, second) = op(world, event::BIND_INTERDOMAIN, request);
    assert_eq!(op(world, event::BIND_VCPU, event::BindVcpu { port: first.port, vcpu: 1 }).0, 0);
    op(world, event::SEND, event::Port { port: second.local_port }).0
}

#[test]
fn fifo_nocontrol_writes_through_a_null_pointer() {
    assert_eq!(harmless(Bug::FifoNocontrol, no_control_block), 0);
    // The head of the queue with the default priority, in a control block that is nowhere.
    assert_eq!(harmful(Bug::FifoNocontrol, no_control_block), "wild write at 0x24");
}

/// Many ports, closed at once.
fn reset_of_many(world: &mut World) -> i64 {
    let request = event::AllocUnbound { dom: 1, remote_dom: 2, port: 0 };
    for _ in 0..40 {
        assert_eq!(op(world, event::ALLOC_UNBOUND, request).0, 0);
    }
    op(world, event::RESET, event::Reset { dom: 1 }).0
}

#[test]
fn reset_nonpreempt_takes_too_long() {
    assert_eq!(harmless(Bug::ResetNonpreempt, reset_of_many), 0);
    assert!(harmful(Bug::ResetNonpreempt, reset_of_many).starts_with("oracle latency"));
}

#[test]
fn reset_nonpreempt_does_no_harm_to_a_few_ports() {
    let mut world = World::with("plant=reset-nonpreempt");
    for _ in 0..10 {
        op(&mut world, event::ALLOC_UNBOUND, event::AllocUnbound { dom: 1, remote_dom: 2, port: 0 });
    }
    assert_eq!(op(&mut world, event::RESET, event::Reset { dom: 1 }).0, 0);
    assert_eq!(world.hypervisor.canaries()[Bug::ResetNonpreempt as usize].triggered, 0);
    assert_eq!(op(&mut world, event::CLOSE, event::Port { port: 1 }).0, code(Errno::Inval));
}
