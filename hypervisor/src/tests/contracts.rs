//! What operations promise is looked at: each family's results, and what its failures leave alone.

use super::*;
use crate::mem::guest::Call;
use coverage_hypercall::coverage::{self, COVERAGE_OP};
use xen_abi::{argo, dm, domctl, event, grant, hvm, hypercall, memory, multicall, sysctl, vcpu};

const CALL: Call = Call { caller: D1, context: FLAT };

/// What the oracle says to a call with this sub-operation and answer, of which something was written before it ended or not.
fn judged(number: u64, cmd: u64, value: i64, writes: bool) -> Option<String> {
    let look = |world: &mut World| {
        world.hypervisor.before_call(D1);
        if writes {
            world.hypervisor.write_struct(&CALL, ARENA, &7u64).unwrap();
        }
        let answer = Ok(Disposition::Return(value));
        world.hypervisor.check_contract(number, &[cmd, ARENA, 0, 0, 0, 0], &answer);
    };
    let mut world = World::new();
    catch_unwind(AssertUnwindSafe(|| look(&mut world)))
        .err()
        .map(|panic| panic.downcast_ref::<String>().cloned().unwrap_or_default())
}

#[track_caller]
fn kept(number: u64, cmd: u64, value: i64, writes: bool) {
    assert_eq!(judged(number, cmd, value, writes), None, "{number} {cmd} {value} {writes}");
}

#[track_caller]
fn broken(number: u64, cmd: u64, value: i64, writes: bool) {
    let message = judged(number, cmd, value, writes).unwrap_or_default();
    assert!(message.starts_with("oracle return-contract:"), "{number} {cmd} {value} {writes}: {message:?}");
}

/// Operations that return zero or an error, and write nothing where they fail.
fn plain() -> Vec<(u64, u64)> {
    let groups: [(u64, Vec<u64>); 9] = [
        (
            hypercall::DOMCTL,
            [domctl::CREATE_DOMAIN, domctl::GET_DOMAIN_INFO, domctl::MAX_MEM].map(u64::from).to_vec(),
        ),
        (hypercall::SYSCTL, [sysctl::PHYSINFO, sysctl::COVERAGE_OP].map(u64::from).to_vec()),
        (
            hypercall::HVM_OP,
            [hvm::SET_PARAM, hvm::GET_PARAM, hvm::FLUSH_TLBS, hvm::GET_TIME, hvm::GET_MEM_TYPE]
                .map(u64::from)
                .to_vec(),
        ),
        (hypercall::EVENT_CHANNEL_OP, (0..=event::SET_PRIORITY).map(u64::from).collect()),
        (hypercall::ARGO_OP, [argo::REGISTER_RING, argo::UNREGISTER_RING].map(u64::from).to_vec()),
        (
            hypercall::GRANT_TABLE_OP,
            [grant::MAP_GRANT_REF, grant::COPY, grant::SETUP_TABLE, grant::GET_VERSION]
                .map(u64::from)
                .to_vec(),
        ),
        (
            hypercall::MEMORY_OP,
            [memory::MEMORY_MAP, memory::REMOVE_FROM_PHYSMAP, memory::ACQUIRE_RESOURCE, memory::CLAIM_PAGES]
                .map(u64::from)
                .to_vec(),
        ),
        (COVERAGE_OP, vec![coverage::cmd::INFO, coverage::cmd::ENABLE, coverage::cmd::MAP]),
        (
            hypercall::VCPU_OP,
            [vcpu::UP, vcpu::GET_RUNSTATE_INFO, vcpu::SET_PERIODIC_TIMER].map(u64::from).to_vec(),
        ),
    ];
    groups.into_iter().flat_map(|(number, cmds)| cmds.into_iter().map(move |cmd| (number, cmd))).collect()
}

#[test]
fn plain_operations_succeed_with_zero_and_fail_in_silence() {
    for (number, cmd) in plain() {
        kept(number, cmd, 0, true);
        kept(number, cmd, -125, false);
        kept(number, cmd, code(Errno::Inval), false);
        kept(number, cmd, code(Errno::Fault), true);
        for value in [1, i64::MAX, -126, i64::MIN] {
            broken(number, cmd, value, false);
        }
        broken(number, cmd, code(Errno::Inval), true);
        broken(number, cmd, code(Errno::Again), true);
    }
}

#[test]
fn what_goes_on_later_may_say_how_far_it_came() {
    // Of these the sub-operation is in a buffer; the first register names a domain.
    for target in [1, u64::from(dm::SET_MEM_TYPE), 77] {
        kept(hypercall::DM_OP, target, 0, true);
        kept(hypercall::DM_OP, target, code(Errno::Again), true);
        broken(hypercall::DM_OP, target, code(Errno::Inval), true);
        broken(hypercall::DM_OP, target, 1, false);
    }
    for (number, cmd) in [
        (hypercall::MEMORY_OP, memory::EXCHANGE),
        (hypercall::MEMORY_OP, memory::ADD_TO_PHYSMAP),
        (hypercall::GRANT_TABLE_OP, grant::SET_VERSION),
        (hypercall::ARGO_OP, argo::NOTIFY),
        (hypercall::MULTICALL, 0),
    ] {
        kept(number, cmd.into(), code(Errno::Inval), true);
        broken(number, cmd.into(), 1, false);
    }
}

#[test]
fn counts_have_limits() {
    let read = coverage::cmd::READ;
    for (number, cmd, most) in [
        (COVERAGE_OP, read, i64::from(coverage::MAX_READ)),
        (hypercall::ARGO_OP, argo::SENDV.into(), argo::MAX_RING_SIZE.into()),
        (hypercall::VCPU_OP, vcpu::IS_UP.into(), 1),
        (hypercall::MEMORY_OP, memory::CURRENT_RESERVATION.into(), i32::MAX.into()),
    ] {
        kept(number, cmd, most, false);
        broken(number, cmd, most + 1, false);
        broken(number, cmd, code(Errno::Inval), true);
    }
    kept(hypercall::MEMORY_OP, memory::MAXIMUM_GPFN.into(), i64::MAX, false);
}

#[test]
fn what_does_not_exist_never_succeeds() {
    for (number, cmd) in [
        (hypercall::EVENT_CHANNEL_OP, u64::from(event::SET_PRIORITY) + 1),
        (hypercall::ARGO_OP, 0),
        (hypercall::PHYSDEV_OP, 0),
        (hypercall::COUNT, 0),
        (u64::MAX, 0),
    ] {
        kept(number, cmd, code(Errno::Nosys), false);
        broken(number, cmd, 0, false);
        broken(number, cmd, code(Errno::Nosys), true);
    }
}

#[test]
fn entries_of_a_multicall_are_looked_at_one_by_one() {
    // The first entry writes; that the second one fails is no fault of it.
    let mut world = World::new();
    let entry =
        |op, first: u64, second: u64| multicall::Entry { op, result: 7, args: [first, second, 0, 0, 0, 0] };
    let entries = [
        entry(hypercall::XEN_VERSION, xen_abi::version::EXTRAVERSION.into(), 0xa000),
        entry(hypercall::HVM_OP, hvm::FLUSH_TLBS.into(), 1),
    ];
    world.poke(D1, ARENA, entries.as_bytes());
    assert_eq!(world.call(hypercall::MULTICALL, &[ARENA, 2]), 0);
    let second: multicall::Entry = world.peek(D1, ARENA + size_of::<multicall::Entry>() as u64);
    assert_eq!(second.result as i64, code(Errno::Inval), "{second:?}");
}
