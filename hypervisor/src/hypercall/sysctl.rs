//! `sysctl`: the machine as the control domain sees it.

use crate::{address::Gva, arch, domains::MAX_DOMAINS, hypervisor::Hypervisor, mem::guest::Call};
use xen_abi::{PAGE_SIZE, domctl::GetDomainInfo, errno::Errno, sysctl as abi};
use zerocopy::{FromBytes, IntoBytes};

/// Bytes of counters that are copied at once.
const PIECE: u32 = 256;

impl Hypervisor {
    pub(crate) fn sysctl(&mut self, call: Call, args: [u64; 6]) -> Result<i64, Errno> {
        let at = args[0];
        let mut request: abi::Sysctl = self.read_struct(&call, at)?;
        if request.interface_version != abi::INTERFACE_VERSION {
            return Err(Errno::Acces);
        }
        if !self.is_privileged(&call) {
            return Err(Errno::Perm);
        }
        match request.cmd {
            abi::PHYSINFO => {
                let info = self.physinfo();
                request.u[..size_of::<abi::Physinfo>()].copy_from_slice(info.as_bytes());
            }
            abi::GET_DOMAIN_INFO_LIST => {
                let mut list = read::<abi::GetDomainInfoList>(&request)?;
                list.num_domains = self.domain_info_list(&call, &list)?;
                request.u[..size_of_val(&list)].copy_from_slice(list.as_bytes());
            }
            abi::COVERAGE_OP => {
                let mut coverage = read::<abi::CoverageOp>(&request)?;
                self.coverage_sysctl(&call, &mut coverage)?;
                request.u[..size_of_val(&coverage)].copy_from_slice(coverage.as_bytes());
            }
            _ => return Err(Errno::Nosys),
        }
        self.write_struct(&call, at, &request).map(|()| 0)
    }

    fn physinfo(&self) -> abi::Physinfo {
        let frames = &self.memory.frames;
        abi::Physinfo {
            threads_per_core: 1,
            cores_per_socket: 1,
            nr_cpus: 1,
            nr_nodes: 1,
            // One tick of the time-stamp counter is one nanosecond.
            cpu_khz: arch::TSC_KHZ,
            capabilities: abi::PHYSCAP_HVM
                | abi::PHYSCAP_HAP
                | abi::PHYSCAP_GNTTAB_V1
                | abi::PHYSCAP_GNTTAB_V2,
            total_pages: frames.total(),
            free_pages: frames.free(),
            max_mfn: frames.highest().0,
            ..Default::default()
        }
    }

    /// Copies what is known of domains to a buffer; tells of how many.
    fn domain_info_list(&mut self, call: &Call, list: &abi::GetDomainInfoList) -> Result<u32, Errno> {
        let mut written = 0;
        for id in list.first_domain..MAX_DOMAINS as u16 {
            if written == list.max_domains {
                break;
            }
            if self.domain(id).is_none() {
                continue;
            }
            let info = self.domain_info(id);
            let offset = u64::from(written) * size_of::<GetDomainInfo>() as u64;
            let at = list.buffer.checked_add(offset).ok_or(Errno::Fault)?;
            self.write_struct(call, at, &info)?;
            written += 1;
        }
        Ok(written)
    }

    /// Size, content or reset of the hypervisor's counters.
    fn coverage_sysctl(&mut self, call: &Call, request: &mut abi::CoverageOp) -> Result<(), Errno> {
        let size = self.instrumentation.counters();
        match request.cmd {
            abi::coverage::GET_SIZE => request.size = size,
            abi::coverage::READ => {
                if request.size < size {
                    return Err(Errno::Nobufs);
                }
                let pages = u64::from(size).div_ceil(PAGE_SIZE as u64);
                self.credit = self.credit.checked_sub(pages).ok_or(Errno::Again)?;
                for first in (0..size).step_by(PIECE as usize) {
                    let mut piece = [0; PIECE as usize];
                    let piece = &mut piece[..(size - first).min(PIECE) as usize];
                    self.instrumentation.read(first, piece);
                    let to = request.buffer.checked_add(first.into()).ok_or(Errno::Fault)?;
                    self.write_guest(call, Gva(to), piece)?;
                }
                request.size = size;
            }
            abi::coverage::RESET => self.instrumentation.reset(),
            _ => return Err(Errno::Opnotsupp),
        }
        Ok(())
    }
}

/// The operation's structure.
fn read<T: FromBytes>(request: &abi::Sysctl) -> Result<T, Errno> {
    T::read_from_prefix(&request.u).map(|(body, _)| body).map_err(|_| Errno::Inval)
}
