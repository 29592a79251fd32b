//! `vm_assist`: what the hypervisor does for guests that ask for it.

use crate::{hypervisor::Hypervisor, mem::guest::Call, options::Mode};
use xen_abi::{errno::Errno, vm_assist as abi};

/// Types that hvm guests can have, one bit each.
const HVM: u64 = 1 << abi::TYPE_RUNSTATE_UPDATE_FLAG;
/// Types that 64-bit pv guests can have. Most of them mean nothing there, but are not refused.
const PV: u64 = 1 << abi::TYPE_4GB_SEGMENTS
    | 1 << abi::TYPE_4GB_SEGMENTS_NOTIFY
    | 1 << abi::TYPE_WRITABLE_PAGETABLES
    | 1 << abi::TYPE_PAE_EXTENDED_CR3
    | 1 << abi::TYPE_ARCHITECTURAL_IOPL
    | 1 << abi::TYPE_RUNSTATE_UPDATE_FLAG
    | 1 << abi::TYPE_M2P_STRICT;

impl Hypervisor {
    pub(crate) fn vm_assist(&mut self, call: Call, args: [u64; 6]) -> Result<i64, Errno> {
        // Commands and types are 32 bits wide.
        let (command, kind) = (args[0] & u64::from(u32::MAX), args[1] & u64::from(u32::MAX));
        let valid = match self.options.mode {
            Mode::Hvm => HVM,
            Mode::Pv => PV,
        };
        let domain = self.domain_mut(call.caller.domain).ok_or(Errno::Srch)?;
        if kind >= u64::from(u64::BITS) || valid >> kind & 1 == 0 {
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
