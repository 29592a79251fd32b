//! The client against [`handle`] over the memory of this process: guest-virtual addresses are ours.
#![expect(unsafe_code, reason = "the mock hypervisor reads and writes the addresses that the client passes")]

use coverage_hypercall::{
    client::{Client, Error},
    coverage::{
        Caller, DomainCoverage, Errno, Fault, Features, Instrumentation, Mapped, VERSION, VcpuState, handle,
    },
};

struct Mock;

impl Instrumentation for Mock {
    fn features(&self) -> Features {
        Features::RECORDABLE | Features::MAPPING
    }
    fn counters(&self) -> u32 {
        9000
    }
    fn read(&self, first: u32, out: &mut [u8]) {
        for (n, byte) in (first..).zip(out) {
            *byte = (n % 253) as u8;
        }
    }
    fn reset(&mut self) {}
    fn set_comparisons(&mut self, _: bool) {}
    fn comparison_capacity(&self) -> u32 {
        1
    }
    fn build_id(&self) -> [u8; 32] {
        [9; 32]
    }
    fn pages(&self, _: Mapped) -> u32 {
        3
    }
}

#[derive(Default)]
struct Process {
    mapped: Vec<(u32, u64)>,
    released: bool,
}

impl Caller for Process {
    fn vcpu(&self) -> u32 {
        0
    }
    fn permitted(&self) -> bool {
        !self.released
    }
    fn copy_from_guest(&self, addr: u64, out: &mut [u8]) -> Result<(), Fault> {
        // SAFETY: the client passes the address of a structure of its own, alive during the call, whose size is
        // what the operation reads; its provenance was exposed.
        let from = unsafe {
            core::slice::from_raw_parts(core::ptr::with_exposed_provenance::<u8>(addr as usize), out.len())
        };
        out.copy_from_slice(from);
        Ok(())
    }
    fn copy_to_guest(&mut self, addr: u64, data: &[u8]) -> Result<(), Fault> {
        // SAFETY: as above; the client borrows the buffer mutably for the call.
        let to = unsafe {
            core::slice::from_raw_parts_mut(
                core::ptr::with_exposed_provenance_mut::<u8>(addr as usize),
                data.len(),
            )
        };
        to.copy_from_slice(data);
        Ok(())
    }
    fn map(&mut self, _: Mapped, page: u32, gfn: u64) -> Result<(), Errno> {
        self.mapped.push((page, gfn));
        Ok(())
    }
    fn unmap(&mut self, _: Mapped, page: u32, gfn: u64) -> Result<(), Errno> {
        self.mapped.retain(|m| *m != (page, gfn));
        Ok(())
    }
    fn release(&mut self) {
        self.released = true;
    }
}

#[test]
fn a_session() {
    let (mut state, mut process) = (DomainCoverage::new(), Process::default());
    let mut client = Client::new(|cmd, arg| handle(&mut state, &mut Mock, &mut process, cmd, arg));
    let info = client.info().unwrap();
    assert_eq!((info.version, info.counters, info.build_id), (VERSION, 9000, [9; 32]));
    assert_eq!(client.disable(), Err(Error::Refused(Errno::EINVAL)));
    client.enable(Features::EDGES).unwrap();
    assert_eq!(client.enable(Features::EDGES), Err(Error::Refused(Errno::EBUSY)));
    client.reset().unwrap();
    let mut counters = vec![0; 10_000];
    assert_eq!(client.read(10, &mut counters), Ok(8990));
    assert!(counters[..8990].iter().enumerate().all(|(n, c)| *c == ((n + 10) % 253) as u8));
    assert_eq!(client.read(9001, &mut counters), Err(Error::Refused(Errno::EINVAL)));
    client.map(Mapped::Counters, 1, 2, 0x700).unwrap();
    assert_eq!(client.unmap(1, 0x700), Err(Error::Refused(Errno::ENOENT)));
    client.unmap(2, 0x700).unwrap();
    client.disable().unwrap();
    client.release().unwrap();
    assert_eq!(client.info(), Err(Error::Refused(Errno::EPERM)));
    assert!(process.mapped.is_empty() && process.released);
    assert_eq!(state.vcpu(0), VcpuState::Off);
}

#[test]
fn answers_outside_the_contract_are_errors() {
    assert_eq!(Client::new(|_, _| -5).info(), Err(Error::Contract(-5)));
    assert_eq!(Client::new(|_, _| 1).disable(), Err(Error::Contract(1)));
    assert_eq!(Client::new(|_, _| 1 << 40).info(), Err(Error::Contract(1 << 40)));
    assert_eq!(Client::new(|_, _| 11).read(0, &mut [0; 10]), Err(Error::Contract(11)));
    assert_eq!(Client::new(|_, _| 0).read(0, &mut [0; 10]), Ok(0));
}
