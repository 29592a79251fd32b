//! `vcpu_op`: the vCPUs of the caller's own domain.

use crate::{
    hypervisor::{Disposition, Hypervisor, VcpuId},
    mem::guest::Call,
    start::StartState,
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
            _ => return Err(Errno::Nosys),
        };
        Ok(Disposition::Return(value))
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
