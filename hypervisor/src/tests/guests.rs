//! Guest memory: translation by the guest's tables, pages that cannot be written, nested faults.

use super::*;
use crate::{FaultAction, NestedFault, address::Gva, mem::guest::Call};
use xen_abi::{hypercall, version};

const LONG: GuestContext = GuestContext { cr3: 0x10000, cpl: 0, paging: PagingMode::Long };

/// Tables at 0x10000: 0..2 MiB by 4 KiB pages (0x5000 read-only, 0x6000 absent), then one 2 MiB page that is not
/// there and one at 1 GiB that leads to 0, and the upper half at 0xffff_8000_0000_0000 as the lower.
fn paged() -> World {
    let mut world = World::new();
    let mut set = |table: u64, index: u64, value: u64| world.poke_words(D1, table + index * 8, &[value]);
    set(0x10000, 0, 0x11007);
    set(0x10000, 256, 0x11007);
    set(0x11000, 0, 0x12007);
    set(0x11000, 1, 0x83);
    set(0x12000, 0, 0x13007);
    set(0x12000, 1, 0x20_0087);
    for page in 0..256 {
        let flags = match page {
            5 => 5,
            6 => 0,
            _ => 7,
        };
        set(0x13000, page, page << 12 | flags);
    }
    world
}

fn call(context: GuestContext) -> Call {
    Call { caller: D1, context }
}

#[test]
fn copies_follow_the_guests_tables_across_pages() {
    let mut world = paged();
    let data: Vec<u8> = (0..100).collect();
    world.hypervisor.write_guest(&call(LONG), Gva(0x7fd0), &data).unwrap();
    let mut back = [0; 100];
    world.hypervisor.read_guest(&call(LONG), Gva(0x7fd0), &mut back).unwrap();
    assert_eq!(back[..], data[..]);
    world.hypervisor.read_guest(&call(FLAT), Gva(0x7fd0), &mut back).unwrap();
    assert_eq!(back[..], data[..]);
    for alias in [0x4000_7fd0, 0xffff_8000_0000_7fd0] {
        back = [0; 100];
        world.hypervisor.read_guest(&call(LONG), Gva(alias), &mut back).unwrap();
        assert_eq!(back[..], data[..], "{alias:#x}");
    }
}

#[test]
fn copies_end_at_the_first_bad_byte() {
    let mut world = paged();
    let mut byte = [0; 8];
    let fault = Err(Errno::Fault);
    for bad in [0x6000, 0x5ffc, 0x20_0000, 0x80_0000_0000, 0x8000_0000_0000, u64::MAX - 3] {
        assert_eq!(world.hypervisor.read_guest(&call(LONG), Gva(bad), &mut byte), fault, "{bad:#x}");
    }
    assert_eq!(world.hypervisor.read_guest(&call(LONG), Gva(0x5000), &mut byte), Ok(()));
    assert_eq!(world.hypervisor.write_guest(&call(LONG), Gva(0x5000), &byte), fault);
    assert_eq!(world.hypervisor.write_guest(&call(LONG), Gva(0x4ffc), &[9; 8]), fault);
    assert_eq!(world.peek::<[u8; 4]>(D1, 0x4ffc), [9; 4]);
    // User code sees user pages only.
    let user = GuestContext { cpl: 3, ..LONG };
    assert_eq!(world.hypervisor.read_guest(&call(user), Gva(0x7000), &mut byte), Ok(()));
    assert_eq!(world.hypervisor.read_guest(&call(user), Gva(0x4000_7000), &mut byte), fault);
    let other = GuestContext { paging: PagingMode::Other, ..LONG };
    assert_eq!(world.hypervisor.read_guest(&call(other), Gva(0x7000), &mut byte), fault);
    assert_eq!(world.hypervisor.read_guest(&call(FLAT), Gva(1 << 32), &mut byte), fault);
    let nowhere = GuestContext { cr3: 0x7000_0000, ..LONG };
    let answer = world.hypervisor.hypercall(
        D1,
        hypercall::XEN_VERSION,
        [u64::from(version::EXTRAVERSION), 0x7000, 0, 0, 0, 0],
        &nowhere,
    );
    assert_eq!(answer, Disposition::Return(code(Errno::Fault)));
}

#[test]
fn nested_faults_are_retried_injected_or_fatal() {
    let mut world = World::new();
    let mut ask = |gpa, bits| world.hypervisor.nested_fault(D1, Gpa(gpa), NestedFault(bits));
    assert_eq!(ask(0x7000, 1 << 1), FaultAction::Retry);
    assert_eq!(ask(0x200_0000, 1 << 32), FaultAction::InjectPageFault);
    assert_eq!(ask(0x200_0000, 1 << 33), FaultAction::Kill);
    let nobody = VcpuId { domain: 9, vcpu: 0 };
    assert_eq!(world.hypervisor.nested_fault(nobody, Gpa(0), NestedFault(0)), FaultAction::Kill);
}
