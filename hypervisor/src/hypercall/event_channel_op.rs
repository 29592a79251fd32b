//! `event_channel_op`: ports, in the two-level ABI.

use crate::{
    address::{Maddr, Mfn},
    event::{Binding, Channel, MAX_PORTS},
    hypervisor::{Hypervisor, VcpuId},
    mem::guest::Call,
    vcpu::State,
};
use alloc::vec::Vec;
use xen_abi::{DOMID_SELF, DomId, errno::Errno, event, shared_info};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Physical interrupts are numbered below this.
const PIRQS: u32 = 256;

/// Interrupts of which each vCPU has its own; all others belong to the domain.
const fn is_per_vcpu(virq: u32) -> bool {
    matches!(virq, event::VIRQ_TIMER | event::VIRQ_DEBUG | event::VIRQ_XENOPROF | event::VIRQ_XENPMU)
}

impl Hypervisor {
    pub(crate) fn event_channel_op(&mut self, call: Call, args: [u64; 6]) -> Result<i64, Errno> {
        let arg = args[1];
        match args[0] as u32 {
            event::ALLOC_UNBOUND => self.with_answer(&call, arg, Self::alloc_unbound),
            event::BIND_INTERDOMAIN => self.with_answer(&call, arg, Self::bind_interdomain),
            event::BIND_VIRQ => self.with_answer(&call, arg, Self::bind_virq),
            event::BIND_IPI => self.with_answer(&call, arg, Self::bind_ipi),
            event::STATUS => self.with_answer(&call, arg, Self::port_status),
            event::BIND_PIRQ => {
                let request: event::BindPirq = self.read_struct(&call, arg)?;
                Err(if request.pirq >= PIRQS { Errno::Inval } else { Errno::Perm })
            }
            event::CLOSE => {
                let request: event::Port = self.read_struct(&call, arg)?;
                self.close_port(call.caller.domain, request.port).map(|()| 0)
            }
            event::SEND => {
                let request: event::Port = self.read_struct(&call, arg)?;
                self.send(call.caller.domain, request.port).map(|()| 0)
            }
            event::BIND_VCPU => {
                let request: event::BindVcpu = self.read_struct(&call, arg)?;
                self.bind_vcpu(call.caller.domain, request).map(|()| 0)
            }
            event::UNMASK => {
                let request: event::Port = self.read_struct(&call, arg)?;
                self.unmask(call.caller.domain, request.port).map(|()| 0)
            }
            event::RESET => {
                let request: event::Reset = self.read_struct(&call, arg)?;
                let id = self.own_domain(&call, request.dom)?;
                self.reset_ports(id);
                Ok(0)
            }
            // Of the FIFO ABI there is nothing.
            _ => Err(Errno::Nosys),
        }
    }

    /// An operation whose structure is copied in, filled, and copied out again.
    fn with_answer<T: FromBytes + IntoBytes + Immutable>(
        &mut self,
        call: &Call,
        arg: u64,
        operation: fn(&mut Self, &Call, &mut T) -> Result<(), Errno>,
    ) -> Result<i64, Errno> {
        let mut request: T = self.read_struct(call, arg)?;
        operation(self, call, &mut request)?;
        // A port that was made stays, even if the guest cannot be told.
        self.write_struct(call, arg, &request)?;
        Ok(0)
    }

    /// A port in use or closed, but one that exists.
    fn port(&self, id: DomId, port: u32) -> Result<Channel, Errno> {
        self.domain(id).and_then(|domain| domain.events.get(port)).ok_or(Errno::Inval)
    }

    fn set_port(&mut self, id: DomId, port: u32, channel: Channel) {
        if let Some(domain) = self.domain_mut(id) {
            domain.events.set(port, channel);
        }
    }

    fn new_port(&mut self, id: DomId, binding: Binding, vcpu: u8) -> Result<u32, Errno> {
        let events = &mut self.domain_mut(id).ok_or(Errno::Srch)?.events;
        let port = events.allocate()?;
        events.set(port, Channel { binding, vcpu });
        Ok(port)
    }

    fn vcpu_number(&self, id: DomId, vcpu: u32) -> Result<u8, Errno> {
        let domain = self.domain(id).ok_or(Errno::Srch)?;
        if (vcpu as usize) < domain.vcpus.len() { Ok(vcpu as u8) } else { Err(Errno::Noent) }
    }

    fn alloc_unbound(&mut self, call: &Call, request: &mut event::AllocUnbound) -> Result<(), Errno> {
        let id = self.own_domain(call, request.dom)?;
        let remote = if request.remote_dom == DOMID_SELF { id } else { request.remote_dom };
        request.port = self.new_port(id, Binding::Unbound(remote), 0)?;
        Ok(())
    }

    fn bind_interdomain(&mut self, call: &Call, request: &mut event::BindInterdomain) -> Result<(), Errno> {
        let local = call.caller.domain;
        let remote = if request.remote_dom == DOMID_SELF { local } else { request.remote_dom };
        if self.domain(remote).is_none() {
            return Err(Errno::Srch);
        }
        let channel = self.port(remote, request.remote_port)?;
        if channel.binding != Binding::Unbound(local) {
            return Err(Errno::Inval);
        }
        let port = self.new_port(local, Binding::Interdomain(remote, request.remote_port), 0)?;
        let connected = Channel { binding: Binding::Interdomain(local, port), ..channel };
        self.set_port(remote, request.remote_port, connected);
        self.set_pending(local, port);
        request.local_port = port;
        Ok(())
    }

    fn bind_virq(&mut self, call: &Call, request: &mut event::BindVirq) -> Result<(), Errno> {
        let id = call.caller.domain;
        if request.virq >= event::NR_VIRQS || (!is_per_vcpu(request.virq) && request.vcpu != 0) {
            return Err(Errno::Inval);
        }
        let vcpu = self.vcpu_number(id, request.vcpu)?;
        let key = (vcpu, request.virq);
        if self.domain(id).is_some_and(|domain| domain.events.virqs.contains_key(&key)) {
            return Err(Errno::Exist);
        }
        request.port = self.new_port(id, Binding::Virq(request.virq), vcpu)?;
        if let Some(domain) = self.domain_mut(id) {
            domain.events.virqs.insert(key, request.port);
        }
        Ok(())
    }

    fn bind_ipi(&mut self, call: &Call, request: &mut event::BindIpi) -> Result<(), Errno> {
        let vcpu = self.vcpu_number(call.caller.domain, request.vcpu)?;
        request.port = self.new_port(call.caller.domain, Binding::Ipi, vcpu)?;
        Ok(())
    }

    fn port_status(&mut self, call: &Call, request: &mut event::Status) -> Result<(), Errno> {
        let id = self.own_domain(call, request.dom)?;
        let channel = self.port(id, request.port)?;
        request.vcpu = u32::from(channel.vcpu);
        request.status = match channel.binding {
            Binding::Closed => event::STATUS_CLOSED,
            Binding::Unbound(remote) => {
                request.detail = u32::from(remote);
                event::STATUS_UNBOUND
            }
            Binding::Interdomain(remote, port) => {
                request.detail = u32::from(remote);
                request.remote_port = port;
                event::STATUS_INTERDOMAIN
            }
            Binding::Virq(virq) => {
                request.detail = virq;
                event::STATUS_VIRQ
            }
            Binding::Ipi => event::STATUS_IPI,
        };
        Ok(())
    }

    pub(crate) fn close_port(&mut self, id: DomId, port: u32) -> Result<(), Errno> {
        let channel = self.port(id, port)?;
        match channel.binding {
            Binding::Closed => return Err(Errno::Inval),
            Binding::Interdomain(remote, remote_port) => {
                let other = self.port(remote, remote_port)?;
                self.set_port(remote, remote_port, Channel { binding: Binding::Unbound(id), ..other });
            }
            Binding::Virq(_) => {
                if let Some(domain) = self.domain_mut(id) {
                    domain.events.virqs.retain(|_, bound| *bound != port);
                }
            }
            Binding::Unbound(_) | Binding::Ipi => {}
        }
        self.set_port(id, port, Channel::default());
        self.change_bit(id, shared_info::PENDING, port, false);
        Ok(())
    }

    fn reset_ports(&mut self, id: DomId) {
        let ports: Vec<u32> = self.domain(id).map(|domain| domain.events.in_use()).unwrap_or_default();
        for port in ports {
            // The other end of a loopback may have gone with it, but each port in the list is still in use.
            let _ = self.close_port(id, port);
        }
    }

    fn send(&mut self, id: DomId, port: u32) -> Result<(), Errno> {
        match self.port(id, port)?.binding {
            Binding::Interdomain(remote, remote_port) => self.set_pending(remote, remote_port),
            Binding::Ipi => self.set_pending(id, port),
            // Nobody is there to hear it.
            Binding::Unbound(_) => {}
            Binding::Closed | Binding::Virq(_) => return Err(Errno::Inval),
        }
        Ok(())
    }

    fn bind_vcpu(&mut self, id: DomId, request: event::BindVcpu) -> Result<(), Errno> {
        let vcpu = self.vcpu_number(id, request.vcpu)?;
        let channel = self.port(id, request.port)?;
        match channel.binding {
            Binding::Unbound(_) | Binding::Interdomain(..) => {}
            Binding::Virq(virq) if !is_per_vcpu(virq) => {}
            _ => return Err(Errno::Inval),
        }
        self.set_port(id, request.port, Channel { vcpu, ..channel });
        Ok(())
    }

    fn unmask(&mut self, id: DomId, port: u32) -> Result<(), Errno> {
        let channel = self.port(id, port)?;
        let was_masked = self.change_bit(id, shared_info::MASK, port, false);
        if was_masked && self.bit(id, shared_info::PENDING, port) {
            self.notify(VcpuId { domain: id, vcpu: channel.vcpu }, port);
        }
        Ok(())
    }

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
        if self.change_bit(id, shared_info::PENDING, port, true) {
            return;
        }
        if !self.bit(id, shared_info::MASK, port) {
            self.notify(VcpuId { domain: id, vcpu: channel.vcpu }, port);
        }
        self.wake_pollers(id, port);
    }

    /// Tells a vCPU that an event is pending, unless it knows.
    fn notify(&mut self, id: VcpuId, port: u32) {
        let Some(page) = self.shared_info(id.domain) else { return };
        let info = shared_info::VCPU_INFO + usize::from(id.vcpu) * shared_info::VCPU_INFO_LEN;
        let info = page.address().0 + info as u64;
        let selector = Maddr(info + shared_info::PENDING_SEL as u64);
        let word = self.memory.machine.read_u64(selector);
        let bit = 1 << (port / 64);
        if word & bit != 0 {
            return;
        }
        self.memory.machine.write_u64(selector, word | bit);
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
