//! What the agent does to grant something, against a hypervisor that notes it.
#![expect(unsafe_code, reason = "hypercalls pass addresses of structures")]

use std::ptr;

use coverage_hypercall::{channel::GRANT_TABLE_GFN, program::agent_op};
use xen_abi::{
    errno::Errno,
    grant,
    hypercall::{GRANT_TABLE_OP, MEMORY_OP},
    memory::{self, AddToPhysmap},
};
use xtf_agent::{Exception, Platform, grant::Operation, grant::run};

/// A hypervisor whose table has a version, and that may refuse calls.
struct Hypervisor {
    version: u32,
    refuse: Option<(u64, u32)>,
    mapped: Vec<(u64, u64)>,
    written: Vec<(u64, u64)>,
    faults: bool,
}

impl Hypervisor {
    fn new(version: u32) -> Self {
        Self { version, refuse: None, mapped: Vec::new(), written: Vec::new(), faults: false }
    }

    fn grant(&mut self, number: u32, args: &[u64]) -> Result<i64, Exception> {
        let mut all = [0; 6];
        all[..args.len()].copy_from_slice(args);
        run(self, Operation::from_number(number).expect("a grant"), &all)
    }
}

impl Platform for Hypervisor {
    fn channel_read(&self, _at: usize, _out: &mut [u8]) {}
    fn channel_write(&mut self, _at: usize, _data: &[u8]) {}
    fn arena_read(&self, _at: u32, _out: &mut [u8]) {}
    fn arena_write(&mut self, _at: u32, _data: &[u8]) {}
    fn arena_fill(&mut self, _at: u32, _len: u32, _byte: u8) {}

    fn hypercall(&mut self, number: u64, args: &[u64; 6]) -> Result<i64, Exception> {
        if self.refuse == Some((number, args[0] as u32)) {
            return Ok(Errno::Busy.code());
        }
        let at = args[1] as usize;
        match (number, args[0] as u32) {
            (GRANT_TABLE_OP, grant::GET_VERSION) => {
                // SAFETY: the caller passed the address of a `GetVersion` of its own, which is exposed.
                unsafe {
                    (*ptr::with_exposed_provenance_mut::<grant::GetVersion>(at)).version = self.version
                };
            }
            (GRANT_TABLE_OP, grant::SET_VERSION) => {
                // SAFETY: as above, of a `SetVersion`.
                self.version = unsafe { (*ptr::with_exposed_provenance::<grant::SetVersion>(at)).version };
            }
            (MEMORY_OP, memory::ADD_TO_PHYSMAP) => {
                // SAFETY: as above, of an `AddToPhysmap`.
                let request = unsafe { *ptr::with_exposed_provenance::<AddToPhysmap>(at) };
                assert_eq!(request.space, memory::MAPSPACE_GRANT_TABLE);
                self.mapped.push((request.idx, request.gpfn));
            }
            other => panic!("{other:?}"),
        }
        Ok(0)
    }

    fn operate(&mut self, operation: xtf_agent::Operation, args: &[u64; 6]) -> Result<i64, Exception> {
        assert_eq!(operation, xtf_agent::Operation::Write);
        if self.faults {
            return Err(Exception { vector: 14, address: args[0], ..Exception::default() });
        }
        self.written.push((args[0], args[1]));
        Ok(0)
    }
}

const TABLE: u64 = GRANT_TABLE_GFN << 12;

#[test]
fn entries_have_the_form_of_the_version() {
    let mut first = Hypervisor::new(0);
    assert_eq!(first.grant(agent_op::GRANT_ACCESS, &[9, 2, 0x280, 4]), Ok(9));
    assert_eq!(first.mapped, [(0, GRANT_TABLE_GFN)]);
    assert_eq!(first.written, [(TABLE + 72, 0x280_0002_0005)]);
    let mut second = Hypervisor::new(2);
    assert_eq!(second.grant(agent_op::GRANT_ACCESS, &[300, 2, 0x1_0000_0280, 0]), Ok(300));
    assert_eq!(second.mapped, [(1, GRANT_TABLE_GFN + 1)]);
    assert_eq!(second.written, [(TABLE + 4808, 0x1_0000_0280), (TABLE + 4800, 0x2_0001)]);
    assert_eq!(second.grant(agent_op::GRANT_REVOKE, &[1]), Ok(1));
    assert_eq!(second.written[2..], [(TABLE + 24, 0), (TABLE + 16, 0)]);
}

#[test]
fn what_needs_version_2_asks_for_it() {
    let mut machine = Hypervisor::new(1);
    assert_eq!(machine.grant(agent_op::GRANT_SUB_PAGE, &[0, 2, 0x280, 16, 32, 0]), Ok(0));
    assert_eq!(machine.version, 2);
    assert_eq!(machine.written, [(TABLE + 8, 0x280), (TABLE, 0x20_0010_0002_0101)]);
    assert_eq!(machine.grant(agent_op::GRANT_TRANSITIVE, &[1, 2, 7, 0xffff_ffff_0000_0009, 0]), Ok(1));
    assert_eq!(machine.written[2..], [(TABLE + 24, 9), (TABLE + 16, 0x7_0002_0003)]);
}

#[test]
fn errors_of_the_set_up_are_the_answer() {
    let calls = [
        (GRANT_TABLE_OP, grant::GET_VERSION),
        (GRANT_TABLE_OP, grant::SET_VERSION),
        (MEMORY_OP, memory::ADD_TO_PHYSMAP),
    ];
    for call in calls {
        let mut machine = Hypervisor::new(1);
        machine.refuse = Some(call);
        assert_eq!(machine.grant(agent_op::GRANT_SUB_PAGE, &[0; 6]), Ok(Errno::Busy.code()));
        assert!(machine.written.is_empty());
    }
    let mut machine = Hypervisor::new(1);
    assert_eq!(machine.grant(agent_op::GRANT_ACCESS, &[8192, 2, 0, 0]), Ok(Errno::Inval.code()));
    assert_eq!(machine.grant(agent_op::GRANT_ACCESS, &[u64::MAX, 2, 0, 0]), Ok(Errno::Inval.code()));
    machine.faults = true;
    assert_eq!(machine.grant(agent_op::GRANT_ACCESS, &[0; 6]).unwrap_err().address, TABLE);
}

#[test]
fn other_numbers_are_no_grants() {
    assert_eq!(Operation::from_number(agent_op::GRANT_ACCESS - 1), None);
    assert_eq!(Operation::from_number(agent_op::GRANT_REVOKE + 1), None);
}
