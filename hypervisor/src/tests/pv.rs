//! Pv guests: what reaches their handlers, what `iret` and the processor's registers may be, and what stays out of reach.

use super::*;
use crate::pv::{CONTEXT, Exception, Privileged, Registers, Segment, guest_flags, is_canonical};
use proptest::prelude::*;
use xen_abi::{
    hypercall, memory,
    pv::{IN_SYSCALL, IretContext, TrapInfo},
};

const STACK: u64 = 0x9008;
const HANDLER: u64 = 0x1234;
const PAGE_FAULT: u8 = 14;

/// A world of pv guests, with handlers of d1 for #UD and #PF.
fn world() -> World {
    let mut world = World::with("mode=pv");
    let trap = |vector, address| TrapInfo { vector, address, ..TrapInfo::default() };
    let table = [trap(6, HANDLER), trap(PAGE_FAULT, HANDLER + 16), trap(200, 1), trap(0, 0)];
    world.poke(D1, ARENA, table.as_bytes());
    assert_eq!(world.call(hypercall::SET_TRAP_TABLE, &[ARENA]), 0);
    world
}

fn registers() -> Registers {
    Registers { rip: 0x1111, rflags: 0x146, rsp: STACK, rax: 1, rcx: 2, r11: 3 }
}

fn exception(vector: u8, error: u64, address: u64) -> Exception {
    Exception { vector, error, address }
}

/// A hypercall with the addresses of a pv guest.
fn call(world: &mut World, number: u64, args: [u64; 6]) -> i64 {
    match world.hypervisor.hypercall(D1, number, args, &CONTEXT) {
        Disposition::Return(value) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pv_guest_needs_its_own_entry() {
    let start = world().hypervisor.entry(D1).start;
    assert!(start.pv && start.rip == 0x1000 && start.context() == CONTEXT);
    let mut world = World::empty("mode=pv");
    let mut file = elf(0x1000, true);
    // The note behind the first one.
    let at = file.len() - 16;
    file[at] = 99;
    let bundle = archive(&[("domains.conf", CONFIG.as_bytes()), ("agent.elf", &file)]);
    assert_eq!(world.hypervisor.build(&bundle), Err(crate::BuildError::NoPvEntry));
}

#[test]
fn exceptions_lie_on_the_guests_stack() {
    let mut world = world();
    let mut r = registers();
    assert_eq!(world.hypervisor.raise(D1, &mut r, exception(6, 0, 0)), Ok(()));
    // No error code: seven words below the stack, aligned; RCX and R11 first.
    assert_eq!((r.rsp, r.rip, r.rflags), (0x9000 - 56, HANDLER, 0x46));
    assert_eq!((r.rax, r.rcx, r.r11), (1, 2, 3));
    assert_eq!(world.peek::<[u64; 7]>(D1, r.rsp), [2, 3, 0x1111, 0xe030, 0x346, STACK, 0xe02b]);

    let mut r = registers();
    let at = 0x7000_0000;
    assert_eq!(world.hypervisor.raise(D1, &mut r, exception(PAGE_FAULT, 6, at)), Ok(()));
    assert_eq!((r.rsp, r.rip), (0x9000 - 64, HANDLER + 16));
    // The guest is kernel, so its faults are the supervisor's.
    assert_eq!(world.peek::<[u64; 4]>(D1, r.rsp), [2, 3, 2, 0x1111]);
    assert_eq!(world.hypervisor.fault_address(D1), at);
    // It does not learn what is mapped where it has nothing.
    for (address, error) in [(0xffff_8000_0010_0000, 0), (8, 0), (0x5000, 1)] {
        let mut r = registers();
        assert_eq!(world.hypervisor.raise(D1, &mut r, exception(PAGE_FAULT, 5, address)), Ok(()));
        assert_eq!(world.peek::<[u64; 3]>(D1, r.rsp)[2], error, "{address:#x}");
    }
}

#[test]
fn what_cannot_be_delivered_ends_the_guest() {
    let mut world = world();
    let mut r = registers();
    assert!(world.hypervisor.raise(D1, &mut r, exception(13, 0, 0)).is_err());
    assert!(world.hypervisor.raise(D2, &mut r, exception(6, 0, 0)).is_err());
    // Nowhere, page 0, the read-only image, below memory, the other half.
    for rsp in [0, 0x800, 0x1800, 0x7000_0000, 1 << 47, u64::MAX, 0xffff_8000_0000_1000] {
        let mut r = Registers { rsp, ..registers() };
        assert!(world.hypervisor.raise(D1, &mut r, exception(6, 0, 0)).is_err(), "{rsp:#x}");
    }
    let far = TrapInfo { vector: 6, address: 1 << 47, ..TrapInfo::default() };
    world.poke(D1, ARENA, [far, TrapInfo::default()].as_bytes());
    assert_eq!(world.call(hypercall::SET_TRAP_TABLE, &[ARENA]), 0);
    assert!(world.hypervisor.raise(D1, &mut registers(), exception(6, 0, 0)).is_err());
    // A null table removes all handlers.
    assert_eq!(world.call(hypercall::SET_TRAP_TABLE, &[0]), 0);
    assert!(world.hypervisor.raise(D1, &mut registers(), exception(PAGE_FAULT, 0, 0)).is_err());
}

#[test]
fn trap_tables_end_somewhere() {
    let mut world = world();
    assert_eq!(
        call(&mut world, hypercall::SET_TRAP_TABLE, [0xffff_8000_0000_0000, 0, 0, 0, 0, 0]),
        code(Errno::Fault)
    );
    assert_eq!(call(&mut world, hypercall::SET_TRAP_TABLE, [u64::MAX, 0, 0, 0, 0, 0]), code(Errno::Fault));
    let endless = TrapInfo { vector: 1, address: 1, ..TrapInfo::default() };
    world.poke(D1, 0x2_0000, [endless; 256].as_bytes());
    world.poke(D1, 0x2_1000, [endless; 256].as_bytes());
    assert_eq!(call(&mut world, hypercall::SET_TRAP_TABLE, [0x2_0000, 0, 0, 0, 0, 0]), code(Errno::TooBig));
    // Hvm guests have no such table.
    let mut hvm = World::new();
    assert_eq!(hvm.call(hypercall::SET_TRAP_TABLE, &[0]), code(Errno::Nosys));
}

#[test]
fn iret_goes_where_the_guest_may_be() {
    let mut world = world();
    let good = IretContext {
        rax: 10,
        r11: 11,
        rcx: 12,
        flags: 0,
        rip: 0x4444,
        cs: 0xe030,
        rflags: u64::MAX,
        rsp: 0x5555,
        ss: 0xe02b,
    };
    let mut iret = |context: IretContext| {
        world.poke(D1, STACK, context.as_bytes());
        let mut r = registers();
        world.hypervisor.iret(D1, &mut r).map(|()| r)
    };
    let all = guest_flags(u64::MAX);
    assert_eq!(
        iret(good),
        Ok(Registers { rip: 0x4444, rflags: all, rsp: 0x5555, rax: 10, rcx: 12, r11: 11 })
    );
    // I/O privilege, virtual interrupts, VM, RF and the interrupt flag are not the guest's.
    assert_eq!(all & (3 << 12 | 7 << 17 & !(1 << 18) | 1 << 16 | 1 << 9), 0);
    let kept = iret(IretContext { flags: IN_SYSCALL, ..good }).unwrap();
    assert_eq!((kept.rcx, kept.r11), (2, 3));
    assert!(iret(IretContext { ss: 0, ..good }).is_ok());
    for (cs, ss) in [(0xe033, 0xe02b), (8, 0xe02b), (0xe030, 8), (0, 0), (0xe030, 0xe033), (u64::MAX, 0)] {
        assert!(iret(IretContext { cs, ss, ..good }).is_err(), "{cs:#x} {ss:#x}");
    }
    for rsp in [0, 8, 1 << 47, u64::MAX - 8, 0x7000_0000] {
        assert!(world.hypervisor.iret(D1, &mut Registers { rsp, ..registers() }).is_err());
    }
}

#[test]
fn privileged_instructions_are_recognised() {
    let mut world = world();
    let mut at = |code: &[u8]| {
        world.poke(D1, ARENA, code);
        world.hypervisor.privileged(D1, ARENA)
    };
    assert_eq!(at(b"\x0f\x0bxen\x0f\xa2"), Some((Privileged::Cpuid, 7)));
    assert_eq!(at(&[0x0f, 0x30]), Some((Privileged::WriteMsr, 2)));
    assert_eq!(at(&[0x0f, 0x32]), Some((Privileged::ReadMsr, 2)));
    assert_eq!(at(&[0x0f, 0x09]), Some((Privileged::FlushCaches, 2)));
    assert_eq!(at(&[0x0f, 0x20, 0xd3]), Some((Privileged::ReadCr2(3), 3)));
    assert_eq!(at(&[0x41, 0x0f, 0x20, 0xd7]), Some((Privileged::ReadCr2(15), 4)));
    assert_eq!(at(&[0x0f, 0x20, 0xd8]), None);
    assert_eq!(at(&[0x0f, 0x22, 0xd0]), None);
    assert_eq!(at(&[0xf4]), None);
    // At the end of memory, and where there is none.
    world.poke(D1, 0xf_fffe, &[0x0f, 0x30]);
    assert_eq!(world.hypervisor.privileged(D1, 0xf_fffe), Some((Privileged::WriteMsr, 2)));
    for rip in [0, 1 << 47, u64::MAX, 0xffff_8000_0000_0000] {
        assert_eq!(world.hypervisor.privileged(D1, rip), None);
    }
}

#[test]
fn bases_are_addresses() {
    let world = world();
    let base = |which, base| world.hypervisor.segment_base(which, base);
    assert_eq!(
        (base(0, 5), base(1, 5), base(2, u64::MAX)),
        (Ok(Segment::Fs), Ok(Segment::GsUser), Ok(Segment::Gs))
    );
    assert_eq!((base(3, 0), base(0, 1 << 47)), (Err(code(Errno::Inval)), Err(code(Errno::Inval))));
}

#[test]
fn page_zero_is_mapped_for_nobody() {
    let mut world = world();
    // It belongs to the domain like any other page, but neither processor nor hypercalls find it.
    assert!(world.is_mapped(0));
    let root = world.hypervisor.entry(D1).nested_cr3;
    let mut table = root.0;
    for _ in 0..3 {
        let entry = u64::from_le_bytes(world.ram.borrow()[table as usize..][..8].try_into().unwrap());
        assert_eq!(entry & 7, 7);
        table = entry & 0x000f_ffff_ffff_f000;
    }
    let word =
        |n: usize| u64::from_le_bytes(world.ram.borrow()[table as usize + n * 8..][..8].try_into().unwrap());
    // Page 1 is the image, which is read-only.
    assert_eq!((word(0) & 1, word(1) & 7, word(2) & 7), (0, 5, 7));
    assert_eq!(call(&mut world, hypercall::XEN_VERSION, [1, 8, 0, 0, 0, 0]), code(Errno::Fault));
    assert_eq!(call(&mut world, hypercall::XEN_VERSION, [1, 0x1800, 0, 0, 0, 0]), code(Errno::Fault));
    assert_eq!(
        call(&mut world, hypercall::XEN_VERSION, [1, 0xffff_ffff_8010_0000, 0, 0, 0, 0]),
        code(Errno::Fault)
    );
    assert_eq!(call(&mut world, hypercall::XEN_VERSION, [1, ARENA, 0, 0, 0, 0]), 0);
}

#[test]
fn changes_of_mappings_are_told() {
    let mut world = world();
    let before = world.hypervisor.mapping_changes();
    assert_eq!(call(&mut world, hypercall::XEN_VERSION, [0; 6]), 4 << 16 | 17);
    assert_eq!(world.hypervisor.mapping_changes(), before);
    world.poke_words(D1, ARENA + 0x100, &[0x20]);
    let (value, _) = world.call_with(
        D1,
        hypercall::MEMORY_OP,
        memory::DECREASE_RESERVATION,
        memory::Reservation {
            extent_start: ARENA + 0x100,
            nr_extents: 1,
            domid: 0x7ff0,
            ..FromZeros::new_zeroed()
        },
    );
    assert_eq!(value, 1);
    assert!(world.hypervisor.mapping_changes() > before);
}

proptest! {
    /// Whatever a guest has in its registers and on its stack: it goes on in ring 3, or not at all.
    #[test]
    fn no_state_of_a_guest_is_too_odd(
        rip: u64, rflags: u64, rsp: u64, words: [u64; 9], vector in 0u8..32, error: u64, near: bool,
    ) {
        let mut world = world();
        let rsp = if near { STACK + rsp % 64 } else { rsp };
        world.poke(D1, STACK, words.as_bytes());
        let mut r = Registers { rip, rflags, rsp, ..registers() };
        if world.hypervisor.raise(D1, &mut r, exception(vector, error, rip)).is_ok() {
            prop_assert!(is_canonical(r.rip) && r.rsp < rsp && r.rsp >= rsp - 80);
        }
        let mut r = Registers { rip, rflags, rsp, ..registers() };
        if world.hypervisor.iret(D1, &mut r).is_ok() {
            prop_assert_eq!(r.rflags, guest_flags(r.rflags));
        }
        let _ = world.hypervisor.privileged(D1, rip);
    }
}
