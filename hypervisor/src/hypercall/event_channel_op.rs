//! `event_channel_op`: ports. How events are delivered stands in `event_delivery`, the FIFO ABI in `event_fifo`.

use crate::{
    event::{Binding, Channel},
    hypervisor::Hypervisor,
    mem::guest::Call,
};
use xen_abi::{DOMID_SELF, DomId, errno::Errno, event};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Physical interrupts are numbered below this.
const PIRQS: u32 = 256;

/// What it costs to look through a bucket of ports, in pages.
pub(crate) const BUCKET_COST: u64 = 2;
/// Ports that are closed for the price of a page.
const CLOSES_PER_PAGE: u64 = 8;

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
                self.reset_ports(id).map(|()| 0)
            }
            event::INIT_CONTROL => self.with_answer(&call, arg, Self::init_control),
            event::EXPAND_ARRAY => {
                let request: event::ExpandArray = self.read_struct(&call, arg)?;
                self.expand_array(call.caller.domain, request).map(|()| 0)
            }
            event::SET_PRIORITY => {
                let request: event::SetPriority = self.read_struct(&call, arg)?;
                self.set_priority(call.caller.domain, request).map(|()| 0)
            }
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

    /// Takes from the credit of the call.
    ///
    /// # Errors
    /// `EAGAIN` when it does not suffice.
    pub(crate) fn spend(&mut self, pages: u64) -> Result<(), Errno> {
        self.credit = self.credit.checked_sub(pages).ok_or(Errno::Again)?;
        Ok(())
    }

    /// A port in use or closed, but one that exists.
    pub(crate) fn port(&self, id: DomId, port: u32) -> Result<Channel, Errno> {
        self.domain(id).and_then(|domain| domain.events.get(port)).ok_or(Errno::Inval)
    }

    pub(crate) fn set_port(&mut self, id: DomId, port: u32, channel: Channel) {
        if let Some(domain) = self.domain_mut(id) {
            domain.events.set(port, channel);
        }
    }

    fn new_port(&mut self, id: DomId, binding: Binding, vcpu: u8) -> Result<u32, Errno> {
        let port = self.free_port(id)?;
        let events = &mut self.domain_mut(id).ok_or(Errno::Srch)?.events;
        // Which queue it was in last outlives its closing, as the tail of that queue does.
        let last = events.get(port).unwrap_or_default().last;
        events.set(port, Channel { binding, vcpu, last, ..Channel::default() });
        Ok(port)
    }

    /// The port that the next binding gets. One that the guest still has in a queue is not used again.
    fn free_port(&mut self, id: DomId) -> Result<u32, Errno> {
        let domain = self.domains.get_mut(id).ok_or(Errno::Srch)?;
        let machine = &self.memory.machine;
        domain.events.allocate(|fifo, port| {
            fifo.word(port).is_some_and(|at| machine.read_u32(at) >> event::FIFO_LINKED & 1 == 1)
        })
    }

    pub(crate) fn vcpu_number(&self, id: DomId, vcpu: u32) -> Result<u8, Errno> {
        let domain = self.domain(id).ok_or(Errno::Srch)?;
        if (vcpu as usize) < domain.vcpus.len() { Ok(vcpu as u8) } else { Err(Errno::Noent) }
    }

    fn alloc_unbound(&mut self, call: &Call, request: &mut event::AllocUnbound) -> Result<(), Errno> {
        let id = self.own_domain(call, request.dom)?;
        let remote = if request.remote_dom == DOMID_SELF { call.caller.domain } else { request.remote_dom };
        request.port = self.new_port(id, Binding::Unbound(remote), 0)?;
        Ok(())
    }

    fn bind_interdomain(&mut self, call: &Call, request: &mut event::BindInterdomain) -> Result<(), Errno> {
        let local = call.caller.domain;
        let remote = if request.remote_dom == DOMID_SELF { local } else { request.remote_dom };
        if self.domain(remote).is_none() {
            return Err(Errno::Srch);
        }
        self.free_port(local)?;
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
        self.clear_pending(id, port);
        self.set_port(id, port, Channel { last: channel.last, ..Channel::default() });
        Ok(())
    }

    /// Closes all ports of a domain and takes it back to the two-level ABI.
    ///
    /// # Errors
    /// `EAGAIN` when the credit of the call does not suffice: what was closed stays so, and the next call goes on.
    fn reset_ports(&mut self, id: DomId) -> Result<(), Errno> {
        self.close_all(id)?;
        self.end_fifo(id);
        Ok(())
    }

    /// Closes all ports of a domain.
    ///
    /// # Errors
    /// `EAGAIN` when the credit of the call does not suffice: what was closed stays so.
    pub(crate) fn close_all(&mut self, id: DomId) -> Result<(), Errno> {
        let events = &self.domain(id).ok_or(Errno::Srch)?.events;
        // To look through the table costs as much as to fill a page or two for each bucket.
        let (buckets, all) = (events.buckets(), events.max_ports());
        self.spend(buckets * BUCKET_COST)?;
        let mut from = 1;
        let mut closed = 0u64;
        while let Some(port) = self.next_in_use(id, from) {
            let price = u64::from(closed.is_multiple_of(CLOSES_PER_PAGE));
            let price = self.plants.price_of_close(price);
            self.spend(price)?;
            self.close_port(id, port)?;
            closed += 1;
            from = port + 1;
            let too_much = self.memory.is_too_much(all.into());
            for again in 0..self.plants.ports_to_look_at(all, too_much) {
                self.memory.work(1);
                if self.port(id, again).is_ok_and(|channel| channel.binding != Binding::Closed) {
                    from = from.min(again);
                }
            }
        }
        Ok(())
    }

    fn next_in_use(&self, id: DomId, from: u32) -> Option<u32> {
        self.domain(id)?.events.next_in_use(from)
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
}
