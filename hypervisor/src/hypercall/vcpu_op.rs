//! `vcpu_op`: the vCPUs of the caller's own domain.

use crate::{
    areas::Held,
    hypervisor::{Disposition, Hypervisor, VcpuId},
    mem::guest::Call,
    start::StartState,
    timer::{LONGEST, Periodic, SHORTEST},
};
use xen_abi::{errno::Errno, sched, vcpu as abi};

impl Hypervisor {
    pub(crate) fn vcpu_op(&mut self, call: Call, args: [u64; 6]) -> Result<Disposition, Errno> {
        let (number, arg) = (args[1] as u32, args[2]);
        let domain = self.domain(call.caller.domain).ok_or(Errno::Srch)?;
        if number as usize >= domain.vcpus.len() {
            return Err(Errno::Noent);
        }
        let id = VcpuId { domain: call.caller.domain, vcpu: number as u8 };
        let value = match args[0] as u32 {
            abi::INITIALISE => self.initialise(&call, id, arg)?,
            abi::UP => self.bring_up(id)?,
            abi::DOWN => return Ok(self.take_down(&call, id)),
            abi::IS_UP => i64::from(self.vcpu(id).is_some_and(|vcpu| !vcpu.down)),
            abi::SEND_NMI => return self.send_nmi(&call, id, arg),
            abi::GET_RUNSTATE_INFO => {
                let info = self.vcpu(id).ok_or(Errno::Noent)?.runstate.until(self.time);
                self.write_struct(&call, arg, &info)?;
                0
            }
            abi::SET_PERIODIC_TIMER
            | abi::STOP_PERIODIC_TIMER
            | abi::SET_SINGLESHOT_TIMER
            | abi::STOP_SINGLESHOT_TIMER => self.vcpu_timer(&call, id, args[0] as u32, arg)?,
            abi::REGISTER_RUNSTATE_MEMORY_AREA => {
                let area: abi::Area = self.read_struct(&call, arg)?;
                self.register_runstate(id, &call, area.addr);
                0
            }
            abi::REGISTER_VCPU_TIME_MEMORY_AREA => {
                let area: abi::Area = self.read_struct(&call, arg)?;
                self.register_time(id, &call, area.addr);
                0
            }
            abi::REGISTER_RUNSTATE_PHYS_AREA => {
                let area: abi::Area = self.read_struct(&call, arg)?;
                self.register_frame(id, Held::Runstate, area.addr).map(|()| 0)?
            }
            abi::REGISTER_VCPU_TIME_PHYS_AREA => {
                let area: abi::Area = self.read_struct(&call, arg)?;
                self.register_frame(id, Held::Time, area.addr).map(|()| 0)?
            }
            abi::REGISTER_VCPU_INFO => {
                let request: abi::RegisterVcpuInfo = self.read_struct(&call, arg)?;
                let at = Self::frame_address(request.mfn, request.offset)?;
                self.move_vcpu_info(id, at).map(|()| 0)?
            }
            // Nobody's vCPUs are pinned to processors.
            abi::GET_PHYSID => return Err(Errno::Inval),
            _ => return Err(Errno::Nosys),
        };
        Ok(Disposition::Return(value))
    }

    fn vcpu_timer(&mut self, call: &Call, id: VcpuId, operation: u32, arg: u64) -> Result<i64, Errno> {
        let own = id == call.caller;
        match operation {
            abi::SET_PERIODIC_TIMER => {
                let request: abi::PeriodicTimer = self.read_struct(call, arg)?;
                let period = request.period_ns;
                let right = (SHORTEST..=LONGEST).contains(&period);
                if !self.plants.period_is_valid(right, period, [SHORTEST, LONGEST], self.time) {
                    return Err(Errno::Inval);
                }
                let next = self.next_tick(period);
                self.set_timers(id, |timers| timers.periodic = Some(Periodic { period, next }));
            }
            abi::STOP_PERIODIC_TIMER => self.set_timers(id, |timers| timers.periodic = None),
            // The singleshot timer is the caller's own.
            _ if !own => return Err(Errno::Inval),
            abi::SET_SINGLESHOT_TIMER => {
                let request: abi::SingleshotTimer = self.read_struct(call, arg)?;
                let at = request.timeout_abs_ns;
                if at < self.time {
                    self.set_timers(id, |timers| timers.singleshot = None);
                    self.timer_event(id);
                } else {
                    self.set_timers(id, |timers| timers.singleshot = Some(at));
                }
            }
            _ => self.set_timers(id, |timers| timers.singleshot = None),
        }
        Ok(0)
    }

    /// Raises an NMI when the vCPU goes on. It waits for nothing any more then.
    fn send_nmi(&mut self, call: &Call, id: VcpuId, arg: u64) -> Result<Disposition, Errno> {
        if arg != 0 {
            return Err(Errno::Inval);
        }
        let own = id == call.caller;
        if let Some(vcpu) = self.vcpu_mut(id) {
            vcpu.nmi = true;
            if own {
                vcpu.resume = Some(0);
            }
        }
        self.wake(id);
        Ok(if own { Disposition::Reschedule } else { Disposition::Return(0) })
    }

    fn initialise(&mut self, call: &Call, id: VcpuId, arg: u64) -> Result<i64, Errno> {
        if self.memory.pv {
            return self.initialise_pv(call, id, arg);
        }
        let context: abi::HvmContext = self.read_struct(call, arg)?;
        let vcpu = self.vcpu_mut(id).ok_or(Errno::Noent)?;
        if vcpu.start.is_some() {
            return Err(Errno::Exist);
        }
        let start = StartState::from_context(&context)?;
        vcpu.start = Some(start);
        vcpu.context = start.context();
        Ok(0)
    }

    fn bring_up(&mut self, id: VcpuId) -> Result<i64, Errno> {
        let vcpu = self.vcpu_mut(id).ok_or(Errno::Noent)?;
        if vcpu.start.is_none() {
            return Err(Errno::Inval);
        }
        vcpu.down = false;
        self.note_runstate(id);
        Ok(0)
    }

    /// Takes a vCPU down; the last one ends the domain.
    fn take_down(&mut self, call: &Call, id: VcpuId) -> Disposition {
        let others = self.domain(id.domain).is_some_and(|domain| {
            let mut vcpus = domain.vcpus.iter().enumerate();
            vcpus.any(|(n, vcpu)| n != usize::from(id.vcpu) && !vcpu.down)
        });
        let own = id == call.caller;
        if !others {
            self.shut_down(id.domain, sched::SHUTDOWN_POWEROFF);
            return Disposition::Reschedule;
        }
        if let Some(vcpu) = self.vcpu_mut(id) {
            vcpu.down = true;
            if own {
                vcpu.resume = Some(0);
            }
        }
        self.note_runstate(id);
        if own { Disposition::Reschedule } else { Disposition::Return(0) }
    }
}
