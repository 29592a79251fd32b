//! `vm_assist`: what the hypervisor does for guests that ask for it.

use crate::{hypervisor::Hypervisor, mem::guest::Call};
use xen_abi::{errno::Errno, vm_assist as abi};

impl Hypervisor {
    pub(crate) fn vm_assist(&mut self, call: Call, args: [u64; 6]) -> Result<i64, Errno> {
        // Commands and types are 32 bits wide.
        let (command, kind) = (args[0] & u64::from(u32::MAX), args[1] & u64::from(u32::MAX));
        let domain = self.domain_mut(call.caller.domain).ok_or(Errno::Srch)?;
        if kind != abi::TYPE_RUNSTATE_UPDATE_FLAG {
            return Err(Errno::Inval);
        }
        match command {
            abi::ENABLE => domain.assists |= 1 << kind,
            abi::DISABLE => domain.assists &= !(1 << kind),
            _ => return Err(Errno::Nosys),
        }
        Ok(0)
    }
}
