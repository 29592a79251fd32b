//! `domctl`: domains come, go, stop and go on, at the control domain's word.
//!
//! The order of the checks is Xen's: the structure, its version, the domain, the right to it, the operation. A created
//! domain is empty: it has no memory until it is given some, and its vCPUs stay down.

use crate::{
    address::{Gfn, Gpa},
    config::MAX_VCPUS,
    control::Control,
    domain::{Domain, WATCHDOGS},
    event::EventChannels,
    grant::Grants,
    hypervisor::{Hypervisor, VcpuId},
    mem::{
        frames::Owner,
        guest::Call,
        p2m::{GFN_LIMIT, P2m},
    },
    platform::Platform,
    vcpu::{State, Vcpu},
};
use alloc::{format, vec::Vec};
use coverage_hypercall::coverage::DomainCoverage;
use xen_abi::{DOMID_FIRST_RESERVED, DomId, PAGE_SIZE, domctl as abi, errno::Errno};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Most pauses of a domain that are counted (`__domain_pause_by_systemcontroller` of Xen).
const MAX_PAUSES: u32 = 255;
/// Work that making a domain is: its tables, its pages and its description.
const CREATION: u64 = 16;
/// First flag that a domain cannot be created with, because it is not known.
const BEYOND_FLAGS: u32 = abi::CDF_VPMU << 1;

/// The operation's structure.
fn body<T: FromBytes>(request: &abi::Domctl) -> Result<T, Errno> {
    T::read_from_prefix(&request.u).map(|(body, _)| body).map_err(|_| Errno::Inval)
}

/// Puts the operation's structure back.
fn answer<T: IntoBytes + Immutable>(request: &mut abi::Domctl, body: &T) {
    let bytes = body.as_bytes();
    request.u[..bytes.len()].copy_from_slice(bytes);
}

impl Hypervisor {
    pub(crate) fn domctl(&mut self, call: Call, args: [u64; 6]) -> Result<i64, Errno> {
        let at = args[0];
        let mut request: abi::Domctl = self.read_struct(&call, at)?;
        if request.interface_version != abi::INTERFACE_VERSION {
            return Err(Errno::Acces);
        }
        let id = request.domain;
        let known = self.domain(id).is_some();
        if !known && !matches!(request.cmd, abi::CREATE_DOMAIN | abi::GET_DOMAIN_INFO) {
            return Err(Errno::Srch);
        }
        if !self.is_privileged(&call) {
            return Err(Errno::Perm);
        }
        let own = id == call.caller.domain;
        match request.cmd {
            abi::CREATE_DOMAIN => {
                request.domain = self.create_domain(id, &body(&request)?)?;
                self.write_struct(&call, at, &request)?;
            }
            abi::DESTROY_DOMAIN if own => return Err(Errno::Inval),
            abi::DESTROY_DOMAIN => self.destroy(id)?,
            abi::PAUSE_DOMAIN => self.pause(&call, id)?,
            abi::UNPAUSE_DOMAIN => {
                let control = self.control(id)?;
                control.pauses = control.pauses.checked_sub(1).ok_or(Errno::Inval)?;
            }
            abi::RESUME_DOMAIN if own => return Err(Errno::Inval),
            abi::RESUME_DOMAIN => self.resume_domain(id)?,
            abi::GET_DOMAIN_INFO => {
                let found = self.info_target(id)?;
                answer(&mut request, &self.domain_info(found));
                request.domain = found;
                self.write_struct(&call, at, &request)?;
            }
            abi::GET_VCPU_INFO => {
                let info = self.known_of_vcpu(id, body(&request)?)?;
                answer(&mut request, &info);
                self.write_struct(&call, at, &request)?;
            }
            abi::MAX_MEM => {
                let limit: abi::MaxMem = body(&request)?;
                let pages = limit.max_memkb / (PAGE_SIZE as u64 / 1024);
                self.domain_mut(id).ok_or(Errno::Srch)?.max_pages = pages.min(u32::MAX.into());
            }
            abi::MAX_VCPUS => self.make_vcpus(own, id, body(&request)?)?,
            abi::SET_DOMAIN_HANDLE => {
                self.control(id)?.handle = body::<abi::DomainHandle>(&request)?.handle;
            }
            abi::SET_DEBUGGING if own => return Err(Errno::Inval),
            abi::SET_DEBUGGING => {
                self.control(id)?.debugged = body::<abi::SetDebugging>(&request)?.enable != 0;
            }
            abi::HYPERCALL_INIT => self.hypercall_init(id, body(&request)?)?,
            abi::SET_TIME_OFFSET => {
                self.control(id)?.time_offset = body::<abi::SetTimeOffset>(&request)?.time_offset_seconds;
            }
            // All guests are fully virtualised: the size is that of the machine, and nobody sets it.
            abi::SET_ADDRESS_SIZE => return Err(Errno::Opnotsupp),
            abi::GET_ADDRESS_SIZE => {
                answer(&mut request, &abi::AddressSize { size: u64::BITS });
                self.write_struct(&call, at, &request)?;
            }
            _ => return Err(Errno::Nosys),
        }
        Ok(0)
    }

    fn control(&mut self, id: DomId) -> Result<&mut Control, Errno> {
        Ok(&mut self.domain_mut(id).ok_or(Errno::Srch)?.control)
    }

    /// Makes an empty, paused domain.
    fn create_domain(&mut self, wanted: DomId, config: &abi::CreateDomain) -> Result<DomId, Errno> {
        let id = if (1..DOMID_FIRST_RESERVED).contains(&wanted) {
            if self.domain(wanted).is_some() {
                return Err(Errno::Exist);
            }
            wanted
        } else {
            self.domains.free_id().ok_or(Errno::Nomem)?
        };
        check_config(config)?;
        self.credit = self.credit.checked_sub(CREATION).ok_or(Errno::Again)?;
        if usize::from(id) >= crate::domains::MAX_DOMAINS {
            return Err(Errno::Nomem);
        }
        let mut p2m = P2m::new(&mut self.memory, id).ok_or(Errno::Nomem)?;
        let Some(shared_info) = self.memory.allocate(Owner::Hypervisor) else {
            p2m.free_tables(&mut self.memory);
            return Err(Errno::Nomem);
        };
        let control = Control {
            privileged: false,
            pauses: 1,
            dying: false,
            handle: config.handle,
            ssidref: config.ssidref,
            flags: config.flags,
            arch: config.arch,
            max_vcpus: config.max_vcpus,
            debugged: false,
            time_offset: 0,
        };
        let domain = Domain {
            id,
            name: format!("d{id}"),
            p2m,
            pages: 0,
            max_pages: 0,
            claim: 0,
            vcpus: Vec::new(),
            control,
            platform: Platform::new(),
            events: EventChannels::new(),
            grants: Grants::new(),
            argo: crate::argo::Argo::new(),
            shared_info,
            may_cover: false,
            coverage: DomainCoverage::new(),
            secret: shared_info,
            assists: 0,
            shutdown: None,
            shutdown_code: None,
            watchdogs: [0; WATCHDOGS],
            memory_map: Vec::new(),
            console: Vec::new(),
        };
        self.domains.insert(domain);
        self.checks.involve(id);
        Ok(id)
    }

    /// Stops a domain. Somebody who stops itself would wait for itself for ever.
    fn pause(&mut self, call: &Call, id: DomId) -> Result<(), Errno> {
        let own = id == call.caller.domain;
        if self.plants.refuse_pause(own) {
            return Err(Errno::Inval);
        }
        let control = self.control(id)?;
        if control.pauses == MAX_PAUSES {
            return Err(Errno::Overflow);
        }
        control.pauses += 1;
        self.wait_until_descheduled(call.caller, id);
        Ok(())
    }

    /// Waits until no vCPU of a domain is on a processor. There is one processor, so only the caller's own can be.
    fn wait_until_descheduled(&self, caller: VcpuId, id: DomId) {
        while core::hint::black_box(self.current == Some(caller) && caller.domain == id) {
            core::hint::spin_loop();
        }
    }

    /// Lets a domain that has shut down go on behind the call in which it was.
    fn resume_domain(&mut self, id: DomId) -> Result<(), Errno> {
        let domain = self.domain_mut(id).ok_or(Errno::Srch)?;
        if domain.control.dying || domain.shutdown.take().is_none() {
            return Ok(());
        }
        domain.watchdogs.fill(0);
        for vcpu in domain.vcpus.iter_mut().filter(|vcpu| vcpu.state == State::Dead) {
            // One that is down stays so, and begins anew if it is brought up.
            vcpu.state = if vcpu.down { State::Runnable } else { State::Parked };
        }
        Ok(())
    }

    /// The domain, or the next one behind it.
    fn info_target(&self, id: DomId) -> Result<DomId, Errno> {
        if id >= DOMID_FIRST_RESERVED {
            return Err(Errno::Inval);
        }
        self.domains.iter().map(|domain| domain.id).find(|found| *found >= id).ok_or(Errno::Srch)
    }

    /// What is known of a domain that exists.
    pub(crate) fn domain_info(&self, id: DomId) -> abi::GetDomainInfo {
        let Some(domain) = self.domain(id) else { return abi::GetDomainInfo::new_zeroed() };
        let control = &domain.control;
        let up = domain.vcpus.iter().filter(|vcpu| is_online(vcpu)).count() as u32;
        let mut flags = abi::DOMINF_HVM_GUEST | abi::DOMINF_HAP;
        if up > 0 && !domain.vcpus.iter().any(Vcpu::can_run) {
            flags |= abi::DOMINF_BLOCKED;
        }
        for (holds, flag) in [
            (self.current.is_some_and(|current| current.domain == id), abi::DOMINF_RUNNING),
            (control.dying, abi::DOMINF_DYING),
            (domain.shutdown.is_some(), abi::DOMINF_SHUTDOWN),
            (control.pauses > 0, abi::DOMINF_PAUSED),
            (control.debugged, abi::DOMINF_DEBUGGED),
            (control.flags & abi::CDF_XS_DOMAIN != 0, abi::DOMINF_XS_DOMAIN),
        ] {
            flags |= if holds { flag } else { 0 };
        }
        // Xen's code for "has not shut down" is all ones.
        flags |= domain.shutdown.unwrap_or(u32::MAX) << abi::DOMINF_SHUTDOWN_SHIFT;
        let shared = self.memory.frames.gfn(domain.shared_info).map_or(u64::MAX, |gfn| gfn.0);
        abi::GetDomainInfo {
            domain: id,
            flags,
            tot_pages: domain.pages,
            max_pages: domain.max_pages,
            shared_info_frame: shared,
            nr_online_vcpus: up,
            max_vcpu_id: (domain.vcpus.len() as u32).wrapping_sub(1),
            ssidref: control.ssidref,
            handle: control.handle,
            gpaddr_bits: (GFN_LIMIT * PAGE_SIZE as u64).trailing_zeros() as u8,
            arch_config: control.arch,
            ..Default::default()
        }
    }

    fn known_of_vcpu(&self, id: DomId, asked: abi::GetVcpuInfo) -> Result<abi::GetVcpuInfo, Errno> {
        let domain = self.domain(id).ok_or(Errno::Srch)?;
        if asked.vcpu >= domain.control.max_vcpus {
            return Err(Errno::Inval);
        }
        let vcpu = domain.vcpus.get(asked.vcpu as usize).ok_or(Errno::Srch)?;
        let this = VcpuId { domain: id, vcpu: asked.vcpu as u8 };
        Ok(abi::GetVcpuInfo {
            vcpu: asked.vcpu,
            online: is_online(vcpu).into(),
            blocked: vcpu.is_waiting().into(),
            running: (self.current == Some(this)).into(),
            ..Default::default()
        })
    }

    /// Makes all vCPUs that a domain was created for. They are down.
    fn make_vcpus(&mut self, own: bool, id: DomId, wanted: abi::MaxVcpus) -> Result<(), Errno> {
        let domain = self.domain_mut(id).ok_or(Errno::Srch)?;
        if own || wanted.max != domain.control.max_vcpus {
            return Err(Errno::Inval);
        }
        if domain.control.dying {
            return Err(Errno::Nomem);
        }
        while domain.vcpus.len() < wanted.max as usize {
            domain.vcpus.push(Vcpu::other());
        }
        Ok(())
    }

    /// Fills a page of a domain with its hypercall page.
    fn hypercall_init(&mut self, id: DomId, request: abi::HypercallInit) -> Result<(), Errno> {
        let gfn = Gfn(request.gmfn);
        if gfn.0 >= GFN_LIMIT {
            return Err(Errno::Acces);
        }
        let caller = VcpuId { domain: id, vcpu: 0 };
        self.write_hypercall_page(caller, Gpa(gfn.address().0)).map_err(|_| Errno::Acces)
    }

    /// The domain was stopped by the control domain.
    pub(crate) fn is_paused(&self, id: DomId) -> bool {
        self.domain(id).is_some_and(|domain| domain.control.pauses > 0)
    }
}

/// A vCPU that is up and has not ended.
fn is_online(vcpu: &Vcpu) -> bool {
    !vcpu.down && vcpu.state != State::Dead
}

/// Whether there can be such a domain (`sanitise_domain_config` of Xen).
fn check_config(config: &abi::CreateDomain) -> Result<(), Errno> {
    let refused = abi::CDF_S3_INTEGRITY | abi::CDF_IOMMU | abi::CDF_NESTED_VIRT | abi::CDF_VPMU;
    let needed = abi::CDF_HVM | abi::CDF_HAP;
    if config.flags >= BEYOND_FLAGS
        || config.flags & refused != 0
        || config.flags & needed != needed
        || config.iommu_opts != 0
        || config.max_vcpus == 0
        || u64::from(config.max_vcpus) > MAX_VCPUS
        || config.grant_opts & !abi::GRANT_VERSION_MASK != 0
        || config.vmtrace_size != 0
        || config.arch.emulation_flags & !abi::EMU_ALL != 0
        || config.arch.misc_flags & !abi::MSR_RELAXED != 0
    {
        return Err(Errno::Inval);
    }
    if config.cpupool_id != 0 {
        return Err(Errno::Nodev);
    }
    if config.arch.emulation_flags & !abi::EMU_LAPIC != 0 {
        return Err(Errno::Opnotsupp);
    }
    Ok(())
}
