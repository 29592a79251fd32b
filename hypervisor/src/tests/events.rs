//! `event_channel_op`.

use super::*;
use xen_abi::{event, hypercall, shared_info};

pub(super) fn op<T: FromBytes + FromZeros + IntoBytes + Immutable>(
    world: &mut World,
    id: VcpuId,
    cmd: u32,
    arg: T,
) -> (i64, T) {
    world.call_with(id, hypercall::EVENT_CHANNEL_OP, cmd, arg)
}

pub(super) fn unbound(world: &mut World, id: VcpuId, remote_dom: u16) -> u32 {
    let request = event::AllocUnbound { dom: 0x7ff0, remote_dom, port: 0 };
    let (value, answer) = op(world, id, event::ALLOC_UNBOUND, request);
    assert_eq!(value, 0);
    answer.port
}

pub(super) fn connect(world: &mut World, id: VcpuId, remote_dom: u16, remote_port: u32) -> (i64, u32) {
    let request = event::BindInterdomain { remote_dom, remote_port, ..Default::default() };
    let (value, answer) = op(world, id, event::BIND_INTERDOMAIN, request);
    (value, answer.local_port)
}

pub(super) fn on_port(world: &mut World, id: VcpuId, cmd: u32, port: u32) -> i64 {
    op(world, id, cmd, event::Port { port }).0
}

pub(super) fn status(world: &mut World, id: VcpuId, port: u32) -> event::Status {
    let (value, answer) =
        op(world, id, event::STATUS, event::Status { dom: 0x7ff0, port, ..Default::default() });
    assert_eq!(value, 0);
    answer
}

pub(super) fn word(world: &World, domain: u16, at: usize) -> u64 {
    let page = world.hypervisor.domain(domain).unwrap().shared_info.address().0 as usize;
    u64::read_from_prefix(&world.ram.borrow()[page + at..]).unwrap().0
}

pub(super) fn set_word(world: &World, domain: u16, at: usize, value: u64) {
    let page = world.hypervisor.domain(domain).unwrap().shared_info.address().0 as usize;
    world.ram.borrow_mut()[page + at..page + at + 8].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn two_domains_connect_and_signal() {
    let mut world = World::new();
    let waiting = unbound(&mut world, D1, 2);
    assert_eq!(waiting, 1);
    let seen = status(&mut world, D1, waiting);
    assert_eq!((seen.status, seen.detail), (event::STATUS_UNBOUND, 2));
    // An event for nobody is dropped.
    assert_eq!(on_port(&mut world, D1, event::SEND, waiting), 0);
    let (value, local) = connect(&mut world, D2, 1, waiting);
    assert_eq!((value, local), (0, 1));
    // Connecting raises an event on the side that connects.
    assert_eq!(word(&world, 2, shared_info::PENDING), 2);
    assert_eq!(word(&world, 1, shared_info::PENDING), 0);
    let seen = status(&mut world, D1, waiting);
    assert_eq!((seen.status, seen.detail, seen.remote_port), (event::STATUS_INTERDOMAIN, 2, 1));
    assert_eq!(on_port(&mut world, D2, event::SEND, local), 0);
    assert_eq!(word(&world, 1, shared_info::PENDING), 2);
    assert_eq!(word(&world, 1, shared_info::PENDING_SEL), 1);
    assert_eq!(word(&world, 1, shared_info::UPCALL_PENDING) & 0xff, 1);
    // Closing one side lets the other wait again, and takes the pending event along.
    assert_eq!(on_port(&mut world, D1, event::CLOSE, waiting), 0);
    assert_eq!(word(&world, 1, shared_info::PENDING), 0);
    let seen = status(&mut world, D2, local);
    assert_eq!((seen.status, seen.detail), (event::STATUS_UNBOUND, 1));
    assert_eq!(status(&mut world, D1, waiting).status, event::STATUS_CLOSED);
}

#[test]
fn connecting_needs_a_port_that_waits_for_the_caller() {
    let mut world = World::new();
    let waiting = unbound(&mut world, D1, 2);
    let refused = |error| (code(error), 0);
    assert_eq!(connect(&mut world, D1, 1, waiting), refused(Errno::Inval));
    assert_eq!(connect(&mut world, D2, 5, waiting), refused(Errno::Srch));
    assert_eq!(connect(&mut world, D2, 1, waiting + 1), refused(Errno::Inval));
    assert_eq!(connect(&mut world, D2, 1, 4096), refused(Errno::Inval));
    assert_eq!(connect(&mut world, D2, 1, waiting).0, 0);
    assert_eq!(connect(&mut world, D2, 1, waiting), refused(Errno::Inval));
    let foreign = event::AllocUnbound { dom: 2, remote_dom: 1, port: 0 };
    assert_eq!(op(&mut world, D1, event::ALLOC_UNBOUND, foreign).0, code(Errno::Perm));
    let nobody = event::AllocUnbound { dom: 7, remote_dom: 1, port: 0 };
    assert_eq!(op(&mut world, D1, event::ALLOC_UNBOUND, nobody).0, code(Errno::Srch));
}

#[test]
fn a_masked_event_is_delivered_when_it_is_unmasked() {
    let mut world = World::new();
    let (value, ipi) = {
        let (value, answer) = op(&mut world, D1, event::BIND_IPI, event::BindIpi { vcpu: 1, port: 0 });
        (value, answer.port)
    };
    assert_eq!(value, 0);
    assert_eq!(status(&mut world, D1, ipi).vcpu, 1);
    set_word(&world, 1, shared_info::MASK, 1 << ipi);
    assert_eq!(on_port(&mut world, D1, event::SEND, ipi), 0);
    assert_eq!(word(&world, 1, shared_info::PENDING), 1 << ipi);
    let selector = shared_info::VCPU_INFO_LEN + shared_info::PENDING_SEL;
    assert_eq!(word(&world, 1, selector), 0);
    assert_eq!(on_port(&mut world, D1, event::UNMASK, ipi), 0);
    assert_eq!(word(&world, 1, shared_info::MASK), 0);
    assert_eq!(word(&world, 1, selector), 1);
    assert_eq!(on_port(&mut world, D1, event::UNMASK, 2000), code(Errno::Inval));
}

#[test]
fn virtual_interrupts_are_bound_once() {
    let mut world = World::new();
    let mut bind = |virq, vcpu| op(&mut world, D1, event::BIND_VIRQ, event::BindVirq { virq, vcpu, port: 0 });
    assert_eq!(bind(event::VIRQ_TIMER, 0).0, 0);
    assert_eq!(bind(event::VIRQ_TIMER, 0).0, code(Errno::Exist));
    let (value, timer) = bind(event::VIRQ_TIMER, 1);
    assert_eq!(value, 0);
    assert_eq!(bind(event::VIRQ_TIMER, 2).0, code(Errno::Noent));
    assert_eq!(bind(event::VIRQ_ARGO, 1).0, code(Errno::Inval));
    assert_eq!(bind(event::NR_VIRQS, 0).0, code(Errno::Inval));
    let (_, global) = bind(event::VIRQ_ARGO, 0);
    let seen = status(&mut world, D1, global.port);
    assert_eq!((seen.status, seen.detail), (event::STATUS_VIRQ, event::VIRQ_ARGO));
    let mut move_to = |port, vcpu| op(&mut world, D1, event::BIND_VCPU, event::BindVcpu { port, vcpu }).0;
    assert_eq!(move_to(global.port, 1), 0);
    assert_eq!(move_to(timer.port, 0), code(Errno::Inval));
    assert_eq!(move_to(global.port, 2), code(Errno::Noent));
    assert_eq!(move_to(900, 0), code(Errno::Inval));
    assert_eq!(status(&mut world, D1, global.port).vcpu, 1);
    assert_eq!(on_port(&mut world, D1, event::SEND, global.port), code(Errno::Inval));
    assert_eq!(on_port(&mut world, D1, event::CLOSE, global.port), 0);
    let again = event::BindVirq { virq: event::VIRQ_ARGO, vcpu: 0, port: 0 };
    assert_eq!(op(&mut world, D1, event::BIND_VIRQ, again).0, 0);
}

#[test]
fn ports_run_out_and_reset_frees_them() {
    let mut world = World::new();
    for expected in 1..1024 {
        assert_eq!(unbound(&mut world, D1, 2), expected);
    }
    let request = event::AllocUnbound { dom: 0x7ff0, remote_dom: 2, port: 0 };
    assert_eq!(op(&mut world, D1, event::ALLOC_UNBOUND, request).0, code(Errno::Nospc));
    assert_eq!(op(&mut world, D1, event::RESET, event::Reset { dom: 2 }).0, code(Errno::Perm));
    assert_eq!(op(&mut world, D1, event::RESET, event::Reset { dom: 9 }).0, code(Errno::Srch));
    assert_eq!(op(&mut world, D1, event::RESET, event::Reset { dom: 0x7ff0 }).0, 0);
    assert_eq!(unbound(&mut world, D1, 0x7ff0), 1);
    let (value, other) = connect(&mut world, D1, 0x7ff0, 1);
    assert_eq!((value, other), (0, 2));
    assert_eq!(op(&mut world, D1, event::RESET, event::Reset { dom: 1 }).0, 0);
    assert_eq!(status(&mut world, D1, 1).status, event::STATUS_CLOSED);
    assert_eq!(status(&mut world, D1, 2).status, event::STATUS_CLOSED);
}

#[test]
fn what_is_not_there_is_refused() {
    let mut world = World::new();
    for cmd in [14u32, 99] {
        let args = [u64::from(cmd), ARENA];
        assert_eq!(world.call(hypercall::EVENT_CHANNEL_OP, &args), code(Errno::Nosys), "{cmd}");
    }
    for cmd in 0..14 {
        let args = [cmd, 0x200_0000];
        assert_eq!(world.call(hypercall::EVENT_CHANNEL_OP, &args), code(Errno::Fault), "{cmd}");
    }
    for cmd in [event::CLOSE, event::SEND] {
        for port in [0, 5, 1024, u32::MAX] {
            assert_eq!(on_port(&mut world, D1, cmd, port), code(Errno::Inval));
        }
    }
    let pirq = |pirq| event::BindPirq { pirq, flags: 0, port: 0 };
    assert_eq!(op(&mut world, D1, event::BIND_PIRQ, pirq(3)).0, code(Errno::Perm));
    assert_eq!(op(&mut world, D1, event::BIND_PIRQ, pirq(256)).0, code(Errno::Inval));
    let foreign = event::Status { dom: 2, port: 1, ..Default::default() };
    assert_eq!(op(&mut world, D1, event::STATUS, foreign).0, code(Errno::Perm));
}
