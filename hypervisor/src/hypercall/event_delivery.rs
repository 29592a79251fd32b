//! Delivery of events: pending and mask bits in the two-level ABI, notification of vCPUs, waking of those that poll.

use crate::{
    address::{Maddr, Mfn},
    event::{Binding, MAX_PORTS},
    hypervisor::{Hypervisor, VcpuId},
    vcpu::State,
};
use alloc::vec::Vec;
use xen_abi::{DomId, errno::Errno, event, shared_info};

impl Hypervisor {
    /// The shared-info page of a domain.
    fn shared_info(&self, id: DomId) -> Option<Mfn> {
        Some(self.domain(id)?.shared_info)
    }

    fn word_of(&self, id: DomId, array: usize, port: u32) -> Option<Maddr> {
        if port >= MAX_PORTS {
            return None;
        }
        Some(Maddr(self.shared_info(id)?.address().0 + array as u64 + u64::from(port / 64) * 8))
    }

    fn bit(&self, id: DomId, array: usize, port: u32) -> bool {
        self.word_of(id, array, port)
            .is_some_and(|at| self.memory.machine.read_u64(at) >> (port % 64) & 1 == 1)
    }

    /// Changes a bit of the shared-info page and tells what it was.
    fn change_bit(&mut self, id: DomId, array: usize, port: u32, set: bool) -> bool {
        let Some(at) = self.word_of(id, array, port) else { return false };
        let word = self.memory.machine.read_u64(at);
        let bit = 1 << (port % 64);
        let new = if set { word | bit } else { word & !bit };
        if new != word {
            self.memory.machine.write_u64(at, new);
        }
        word & bit != 0
    }

    /// An event happens on a port.
    pub(crate) fn set_pending(&mut self, id: DomId, port: u32) {
        let Ok(channel) = self.port(id, port) else { return };
        let was_pending = if self.uses_fifo(id) {
            self.queue_event(id, port, channel)
        } else {
            let was_pending = self.change_bit(id, shared_info::PENDING, port, true);
            if !was_pending && !self.bit(id, shared_info::MASK, port) {
                self.notify(VcpuId { domain: id, vcpu: channel.vcpu }, port);
            }
            was_pending
        };
        if !was_pending {
            self.wake_pollers(id, port);
        }
    }

    /// An event is pending on a port.
    pub(crate) fn is_pending(&self, id: DomId, port: u32) -> bool {
        if self.uses_fifo(id) {
            self.event_word(id, port).is_some_and(|(_, word)| word >> event::FIFO_PENDING & 1 == 1)
        } else {
            self.bit(id, shared_info::PENDING, port)
        }
    }

    /// Takes a pending event back.
    pub(crate) fn clear_pending(&mut self, id: DomId, port: u32) {
        if self.uses_fifo(id) {
            self.unqueue_event(id, port);
        } else {
            self.change_bit(id, shared_info::PENDING, port, false);
        }
    }

    /// Lets events of a port through, and delivers the one that is pending.
    pub(crate) fn unmask(&mut self, id: DomId, port: u32) -> Result<(), Errno> {
        let channel = self.port(id, port)?;
        if channel.binding == Binding::Closed {
            return Ok(());
        }
        if self.uses_fifo(id) {
            self.unmask_word(id, port, channel);
        } else {
            let was_masked = self.change_bit(id, shared_info::MASK, port, false);
            if was_masked && self.bit(id, shared_info::PENDING, port) {
                self.notify(VcpuId { domain: id, vcpu: channel.vcpu }, port);
            }
        }
        Ok(())
    }

    /// A virtual interrupt happens: on the vCPU's own port, or on the domain's if it is a global one.
    pub(crate) fn raise_virq(&mut self, id: VcpuId, virq: u32) {
        let port =
            self.domain(id.domain).and_then(|domain| domain.events.virqs.get(&(id.vcpu, virq)).copied());
        if let Some(port) = port {
            self.set_pending(id.domain, port);
        }
    }

    /// Tells a vCPU that an event is pending, unless it knows.
    fn notify(&mut self, id: VcpuId, port: u32) {
        let Some(Maddr(info)) = self.vcpu_info(id) else { return };
        let selector = Maddr(info + shared_info::PENDING_SEL as u64);
        let word = self.memory.machine.read_u64(selector);
        let bit = 1 << (port / 64);
        if word & bit != 0 {
            return;
        }
        self.memory.machine.write_u64(selector, word | bit);
        self.upcall(id);
    }

    /// Tells a vCPU to look for events.
    pub(crate) fn upcall(&mut self, id: VcpuId) {
        let Some(Maddr(info)) = self.vcpu_info(id) else { return };
        self.memory.machine.write(Maddr(info + shared_info::UPCALL_PENDING as u64), &[1]);
        self.wake(id);
    }

    fn wake_pollers(&mut self, id: DomId, port: u32) {
        let Some(domain) = self.domain(id) else { return };
        let waiting: Vec<VcpuId> = domain
            .vcpus
            .iter()
            .enumerate()
            .filter(|(_, vcpu)| vcpu.state == State::Polling && vcpu.poll.contains(&port))
            .map(|(n, _)| VcpuId { domain: id, vcpu: n as u8 })
            .collect();
        for vcpu in waiting {
            self.wake(vcpu);
        }
    }
}
