//! Memory of a guest in which the hypervisor keeps things up to date for a vCPU: its `vcpu_info`, its run state, its time.
//!
//! An area that was registered by guest-physical address holds a reference to its frame: the guest may give the frame away, but
//! nobody else gets it before the area is unregistered or the domain is gone. One that was registered by guest-virtual address
//! is translated anew each time; where that fails, nothing is written.

use crate::{
    address::{Gpa, Gva, Maddr, Mfn, PAGE_SIZE},
    hypervisor::{Hypervisor, VcpuId},
    mem::{
        guest::{self, Call},
        p2m::Kind,
    },
    vcpu::State,
};
use xen_abi::{
    DomId,
    errno::Errno,
    shared_info,
    vcpu::{PVCLOCK_TSC_STABLE, RUNSTATE_UPDATE, RunstateInfo, TimeInfo},
    vm_assist,
};
use zerocopy::IntoBytes;

/// Guest-physical address that stands for no area.
const NOWHERE: u64 = u64::MAX;

/// The registered areas of a vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Areas {
    /// Its `vcpu_info`, where that is not in the shared-info page.
    info: Option<Maddr>,
    /// Its run state, in a frame.
    runstate: Option<Maddr>,
    /// Its run state, where the guest sees it.
    runstate_at: Option<Gva>,
    /// Its time, in a frame.
    time: Option<Maddr>,
    /// Its time, where the guest sees it.
    time_at: Option<Gva>,
    /// Version of its time.
    version: u32,
}

impl Areas {
    const fn has_copies(&self) -> bool {
        self.runstate.is_some() || self.runstate_at.is_some() || self.time.is_some() || self.time_at.is_some()
    }
}

/// An area that holds a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// `vcpu_info`.
    Info,
    /// Run state.
    Runstate,
    /// Time.
    Time,
}

impl Held {
    fn of(self, areas: &mut Areas) -> &mut Option<Maddr> {
        match self {
            Self::Info => &mut areas.info,
            Self::Runstate => &mut areas.runstate,
            Self::Time => &mut areas.time,
        }
    }

    const fn size(self) -> u64 {
        match self {
            Self::Info => shared_info::VCPU_INFO_LEN as u64,
            Self::Runstate => size_of::<RunstateInfo>() as u64,
            Self::Time => size_of::<TimeInfo>() as u64,
        }
    }
}

impl Hypervisor {
    /// Where the `vcpu_info` of a vCPU is.
    pub(crate) fn vcpu_info(&self, id: VcpuId) -> Option<Maddr> {
        let domain = self.domain(id.domain)?;
        let vcpu = domain.vcpus.get(usize::from(id.vcpu))?;
        let offset = shared_info::VCPU_INFO + usize::from(id.vcpu) * shared_info::VCPU_INFO_LEN;
        Some(vcpu.areas.info.unwrap_or(Maddr(domain.shared_info.address().0 + offset as u64)))
    }

    /// References that registered areas of a domain hold to a frame.
    pub(crate) fn area_references(&self, domain: DomId, mfn: Mfn) -> u32 {
        let held = |areas: &Areas| [areas.info, areas.runstate, areas.time];
        let vcpus = self.domain(domain).into_iter().flat_map(|domain| &domain.vcpus);
        vcpus.flat_map(|vcpu| held(&vcpu.areas)).flatten().filter(|at| at.frame() == mfn).count() as u32
    }

    /// Finds the bytes of an area and takes a reference to their frame.
    fn hold(&mut self, id: VcpuId, at: Gpa, size: u64) -> Result<Maddr, Errno> {
        let last = at.0.checked_add(size - 1).ok_or(Errno::Nxio)?;
        if Gpa(last).frame() != at.frame() || !at.0.is_multiple_of(8) {
            return Err(Errno::Nxio);
        }
        let mapping = self.lookup(id.domain, at.frame()).ok_or(Errno::Inval)?;
        if mapping.kind != Kind::Ram {
            return Err(Errno::Inval);
        }
        if !mapping.writable {
            return Err(Errno::Acces);
        }
        self.memory.get(mapping.mfn);
        Ok(Maddr(mapping.mfn.address().0 + at.offset()))
    }

    /// Registers an area by guest-physical address, or unregisters it.
    pub(crate) fn register_frame(&mut self, id: VcpuId, held: Held, at: u64) -> Result<(), Errno> {
        let new = if at == NOWHERE { None } else { Some(self.hold(id, Gpa(at), held.size())?) };
        let old = match self.vcpu_mut(id) {
            Some(vcpu) => core::mem::replace(held.of(&mut vcpu.areas), new),
            None => new,
        };
        if let Some(old) = old {
            self.put_page(old.frame());
        }
        self.publish(id);
        Ok(())
    }

    /// Moves the `vcpu_info` of a vCPU, once, with what it holds, and lets everything in it be pending.
    pub(crate) fn move_vcpu_info(&mut self, id: VcpuId, at: Gpa) -> Result<(), Errno> {
        let vcpu = self.vcpu(id).ok_or(Errno::Noent)?;
        if vcpu.areas.info.is_some() {
            return Err(Errno::Busy);
        }
        let old = self.vcpu_info(id).ok_or(Errno::Noent)?;
        let new = self.hold(id, at, Held::Info.size())?;
        let mut content = [0; shared_info::VCPU_INFO_LEN];
        self.memory.machine.read(old, &mut content);
        content[shared_info::PENDING_SEL..shared_info::PENDING_SEL + 8].fill(0xff);
        let was_pending = core::mem::replace(&mut content[shared_info::UPCALL_PENDING], 1) != 0;
        self.memory.machine.write(new, &content);
        if let Some(vcpu) = self.vcpu_mut(id) {
            vcpu.areas.info = Some(new);
        }
        if !was_pending {
            self.wake(id);
        }
        Ok(())
    }

    /// Registers where the guest sees a copy of its run state.
    pub(crate) fn register_runstate(&mut self, id: VcpuId, call: &Call, at: u64) {
        let now = self.time;
        let Some(vcpu) = self.vcpu_mut(id) else { return };
        vcpu.areas.runstate_at = (at != 0).then_some(Gva(at));
        let info = vcpu.runstate.until(now);
        if at != 0 {
            // As in Xen, the guest learns nothing of a place where nothing can be written.
            let _ = self.write_struct(call, at, &info);
        }
    }

    /// Registers where the guest sees a copy of its time.
    pub(crate) fn register_time(&mut self, id: VcpuId, call: &Call, at: u64) {
        let Some(vcpu) = self.vcpu_mut(id) else { return };
        vcpu.areas.time_at = (at != 0).then_some(Gva(at));
        if at != 0 {
            let info = self.time_info(id);
            let _ = self.write_struct(call, at, &info);
        }
    }

    /// Brings the copies of a vCPU up to date.
    pub(crate) fn publish(&mut self, id: VcpuId) {
        let Some(vcpu) = self.vcpu(id) else { return };
        if !vcpu.areas.has_copies() || vcpu.state == State::Dead {
            return;
        }
        let (areas, info) = (vcpu.areas, vcpu.runstate.published());
        let call = Call { caller: id, context: vcpu.context };
        let during = RunstateInfo { state_entry_time: info.state_entry_time | RUNSTATE_UPDATE, ..info };
        if let Some(at) = areas.runstate {
            // Guests do not run meanwhile, but see the same as if they did.
            let flag = Maddr(at.0 + 8);
            self.memory.machine.write_u64(flag, during.state_entry_time);
            self.memory.machine.write(at, during.as_bytes());
            self.memory.machine.write_u64(flag, info.state_entry_time);
        } else if let Some(at) = areas.runstate_at {
            let marks = self
                .domain(id.domain)
                .is_some_and(|d| d.assists >> vm_assist::TYPE_RUNSTATE_UPDATE_FLAG & 1 == 1);
            let flag = at.0.wrapping_add(8);
            if marks {
                let _ = self.write_struct(&call, flag, &during.state_entry_time);
                let _ = self.write_struct(&call, at.0, &during);
                let _ = self.write_struct(&call, flag, &info.state_entry_time);
            } else {
                let _ = self.write_struct(&call, at.0, &info);
            }
        }
        if areas.time.is_none() && areas.time_at.is_none() {
            return;
        }
        let info = self.time_info(id);
        if let Some(at) = areas.time {
            self.memory.machine.write(at, info.as_bytes());
        }
        if let Some(at) = areas.time_at
            && let Some((memory, p2m)) = self.memory_and_p2m(id.domain)
        {
            let _ = guest::write(memory, p2m, &call, at, info.as_bytes());
        }
    }

    /// System time now, as the next version of a vCPU's time. A tick of the time-stamp counter is a nanosecond.
    fn time_info(&mut self, id: VcpuId) -> TimeInfo {
        let now = self.time;
        let version = self.vcpu_mut(id).map_or(0, |vcpu| {
            vcpu.areas.version = vcpu.areas.version.wrapping_add(2);
            vcpu.areas.version
        });
        TimeInfo {
            version,
            tsc_timestamp: now,
            system_time: now,
            tsc_to_system_mul: 1 << 31,
            tsc_shift: 1,
            flags: PVCLOCK_TSC_STABLE,
            ..TimeInfo::default()
        }
    }

    /// Unregisters all areas of a domain that is going: their frames are nobody's concern any more.
    pub(crate) fn forget_areas(&mut self, domain: DomId) {
        let vcpus = self.domain(domain).map_or(0, |domain| domain.vcpus.len() as u8);
        for vcpu in 0..vcpus {
            let areas = self.vcpu_mut(VcpuId { domain, vcpu }).map(|vcpu| core::mem::take(&mut vcpu.areas));
            let Some(areas) = areas else { continue };
            for held in [areas.info, areas.runstate, areas.time].into_iter().flatten() {
                self.put_page(held.frame());
            }
        }
    }

    /// The guest-physical address of a byte in a frame.
    ///
    /// # Errors
    /// `EINVAL` where the byte lies in another frame, or in none.
    pub(crate) fn frame_address(frame: u64, offset: u32) -> Result<Gpa, Errno> {
        let at =
            frame.checked_mul(PAGE_SIZE).and_then(|at| at.checked_add(offset.into())).ok_or(Errno::Inval)?;
        if at == NOWHERE || Gpa(at).frame().0 != frame { Err(Errno::Inval) } else { Ok(Gpa(at)) }
    }
}
