//! `set_timer_op`: the singleshot timer of the calling vCPU.

use crate::{hypervisor::Hypervisor, mem::guest::Call};
use xen_abi::errno::Errno;

/// A deadline so far away, in nanoseconds (2⁵⁰, 13 days), is taken for one that wrapped around.
const FAR: u64 = 1 << 50;
/// When a timer with such a deadline expires, in nanoseconds from now.
const SOON: u64 = 100_000_000;

impl Hypervisor {
    pub(crate) fn set_timer_op(&mut self, call: Call, args: [u64; 6]) -> Result<i64, Errno> {
        let (now, deadline) = (self.time, args[0]);
        let far = deadline > i64::MAX as u64 || deadline.saturating_sub(now) >= FAR;
        let at = match deadline {
            0 => None,
            _ if far => Some(now.saturating_add(SOON)),
            _ => Some(deadline),
        };
        self.set_timers(call.caller, |timers| timers.singleshot = at);
        Ok(0)
    }
}
