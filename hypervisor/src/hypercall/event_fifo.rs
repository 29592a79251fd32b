//! The FIFO ABI of event channels: control blocks, the event array, priorities, and the queues.
//!
//! Each vCPU has sixteen queues, linked through the words of the event array: the head of a queue stands in the vCPU's control
//! block, the link to the next port in each word. The guest takes events off a queue, the hypervisor appends to it. What the
//! guest makes of words and heads harms nobody but itself: the hypervisor remembers the last port of each queue and changes
//! bits of that port's word and of the word of the event, both of which lie in pages that it holds references to.

use super::event_channel_op::BUCKET_COST;
use crate::{
    address::{Gfn, Maddr, Mfn, PAGE_SIZE},
    event::{BUCKET, Binding, Channel, MAX_PORTS},
    fifo::{Fifo, MAX_PAGES, Queues, WORDS},
    hypervisor::{Hypervisor, VcpuId},
    mem::{frames::Owner, guest::Call, p2m::Kind},
};
use alloc::boxed::Box;
use xen_abi::{DomId, errno::Errno, event};

const PENDING: u32 = 1 << event::FIFO_PENDING;
const MASKED: u32 = 1 << event::FIFO_MASKED;
const LINKED: u32 = 1 << event::FIFO_LINKED;
const BUSY: u32 = 1 << event::FIFO_BUSY;

impl Hypervisor {
    /// The domain uses the FIFO ABI.
    pub(crate) fn uses_fifo(&self, id: DomId) -> bool {
        self.domain(id).is_some_and(|domain| domain.events.fifo.is_some())
    }

    fn fifo(&self, id: DomId) -> Option<&Fifo> {
        self.domain(id)?.events.fifo.as_deref()
    }

    fn fifo_mut(&mut self, id: DomId) -> Option<&mut Fifo> {
        self.domain_mut(id)?.events.fifo.as_deref_mut()
    }

    /// Takes a reference to a frame that is to be shared with the hypervisor: memory of the domain itself, writable.
    pub(super) fn pin(&mut self, id: DomId, gfn: u64) -> Result<Mfn, Errno> {
        let mapping = self.lookup(id, Gfn(gfn)).ok_or(Errno::Inval)?;
        let own = self.memory.frames.owner(mapping.mfn) == Owner::Domain(id);
        if mapping.kind != Kind::Ram || !mapping.writable || !own {
            return Err(Errno::Inval);
        }
        self.memory.get(mapping.mfn);
        self.memory.touched.push((id, Gfn(gfn)));
        Ok(mapping.mfn)
    }

    pub(super) fn init_control(
        &mut self,
        call: &Call,
        request: &mut event::InitControl,
    ) -> Result<(), Errno> {
        let id = call.caller.domain;
        request.link_bits = event::FIFO_LINK_BITS as u8;
        let vcpu = self.vcpu_number(id, request.vcpu)?;
        let offset = u64::from(request.offset);
        if offset > PAGE_SIZE - event::FIFO_BLOCK_LEN as u64 || !offset.is_multiple_of(8) {
            return Err(Errno::Inval);
        }
        if self.fifo(id).is_some_and(|fifo| fifo.queues(vcpu).is_some()) {
            return Err(Errno::Inval);
        }
        if !self.uses_fifo(id) {
            self.spend(u64::from(MAX_PORTS / BUCKET) * BUCKET_COST)?;
        }
        let mfn = self.pin(id, request.control_gfn)?;
        if !self.uses_fifo(id) {
            self.begin_fifo(id);
        }
        if let Some(fifo) = self.fifo_mut(id) {
            fifo.set_block(vcpu, Maddr(mfn.address().0 + offset));
        }
        Ok(())
    }

    /// Goes over to the FIFO ABI. Events that are pending will be raised once their words are there.
    fn begin_fifo(&mut self, id: DomId) {
        let changed = self.domain(id).map(|domain| domain.events.changed()).unwrap_or_default();
        for port in changed {
            let Ok(channel) = self.port(id, port) else { continue };
            let pending = channel.binding != Binding::Closed && self.is_pending(id, port);
            let fresh = Channel { binding: channel.binding, vcpu: channel.vcpu, ..Channel::default() };
            self.set_port(id, port, Channel { pending, ..fresh });
        }
        if let Some(domain) = self.domain_mut(id) {
            domain.events.fifo = Some(Box::new(Fifo::new(domain.vcpus.len())));
        }
    }

    /// Goes back to the two-level ABI. All ports are closed.
    pub(crate) fn end_fifo(&mut self, id: DomId) {
        let Some(fifo) = self.domain_mut(id).and_then(|domain| domain.events.fifo.take()) else { return };
        for mfn in fifo.frames() {
            self.put_page(mfn);
        }
    }

    pub(super) fn expand_array(&mut self, id: DomId, request: event::ExpandArray) -> Result<(), Errno> {
        let pages = self.fifo(id).ok_or(Errno::Opnotsupp)?.array.len();
        if pages >= MAX_PAGES {
            return Err(Errno::Nospc);
        }
        self.spend(u64::from(WORDS / BUCKET) * BUCKET_COST)?;
        let mfn = self.pin(id, request.array_gfn)?;
        if let Some(fifo) = self.fifo_mut(id) {
            fifo.array.push(mfn);
        }
        let first = pages as u32 * WORDS;
        for port in first..first + WORDS {
            let Ok(channel) = self.port(id, port) else { continue };
            if channel.pending {
                self.set_port(id, port, Channel { pending: false, ..channel });
                self.set_pending(id, port);
            }
        }
        Ok(())
    }

    pub(super) fn set_priority(&mut self, id: DomId, request: event::SetPriority) -> Result<(), Errno> {
        let channel = self.port(id, request.port)?;
        if !self.uses_fifo(id) {
            return Err(Errno::Nosys);
        }
        if request.priority > event::FIFO_PRIORITY_MIN {
            return Err(Errno::Inval);
        }
        self.set_port(id, request.port, Channel { priority: request.priority as u8, ..channel });
        Ok(())
    }

    /// The word of a port: where it is and what is in it at the moment.
    pub(crate) fn event_word(&self, id: DomId, port: u32) -> Option<(Maddr, u32)> {
        let at = self.fifo(id)?.word(port)?;
        Some((at, self.memory.machine.read_u32(at)))
    }

    /// Makes an event pending and, unless it is masked or in a queue already, appends it to its queue. Says whether it was
    /// pending before.
    pub(crate) fn queue_event(&mut self, id: DomId, port: u32, channel: Channel) -> bool {
        let Some((at, word)) = self.event_word(id, port) else {
            self.set_port(id, port, Channel { pending: true, ..channel });
            return channel.pending;
        };
        self.memory.machine.write_u32(at, word | PENDING);
        if word & (MASKED | LINKED) == 0 {
            self.append(id, port, channel);
        }
        word & PENDING != 0
    }

    fn append(&mut self, id: DomId, port: u32, channel: Channel) {
        let (vcpu, priority) = (channel.vcpu, channel.priority);
        let queues = self.fifo(id).and_then(|fifo| fifo.queues(vcpu).copied());
        if !self.plants.has_queues(queues.is_some()) {
            // Nobody can be told. The guest has to give the vCPU a control block first.
            return;
        }
        let Some(queues) = queues else {
            let slot = Queues { block: Maddr(0), tails: Default::default() }.head(priority);
            self.memory.machine.wild_write(slot.0, port.into());
            return;
        };
        self.leave_queue(id, port, channel.last);
        self.leave_queue(id, port, (vcpu, priority));
        let Some((at, word)) = self.event_word(id, port) else { return };
        self.memory.machine.write_u32(at, word | LINKED);
        let tail = self
            .fifo(id)
            .and_then(|fifo| fifo.queues(vcpu))
            .map_or(0, |queues| queues.tails[usize::from(priority)]);
        // If the guest has taken the last event off, the queue is empty.
        let last = if tail == 0 { None } else { self.event_word(id, tail) };
        let linked = last.filter(|(_, word)| word & LINKED != 0);
        match linked {
            Some((last, word)) => {
                let word = word & !(BUSY | event::FIFO_LINK_MASK) | port;
                self.memory.machine.write_u32(last, word);
            }
            None => self.memory.machine.write_u32(queues.head(priority), port),
        }
        if let Some(queues) = self.fifo_mut(id).and_then(|fifo| fifo.queues_mut(vcpu)) {
            queues.tails[usize::from(priority)] = port;
        }
        self.set_port(id, port, Channel { last: (vcpu, priority), ..channel });
        if linked.is_none() {
            let ready = self.memory.machine.read_u32(queues.ready());
            if ready >> priority & 1 == 0 {
                self.memory.machine.write_u32(queues.ready(), ready | 1 << priority);
                self.upcall(VcpuId { domain: id, vcpu });
            }
        }
    }

    /// If a port that is in no queue was the last one of this queue, nothing is to be appended to it there.
    fn leave_queue(&mut self, id: DomId, port: u32, (vcpu, priority): (u8, u8)) {
        if let Some(queues) = self.fifo_mut(id).and_then(|fifo| fifo.queues_mut(vcpu))
            && let Some(tail) = queues.tails.get_mut(usize::from(priority))
            && *tail == port
        {
            *tail = 0;
        }
    }

    /// An event is no longer pending. It stays in its queue, from which only the guest takes it.
    pub(crate) fn unqueue_event(&mut self, id: DomId, port: u32) {
        if let Some((at, word)) = self.event_word(id, port) {
            self.memory.machine.write_u32(at, word & !PENDING);
        }
    }

    /// Lets events of a port through, and queues the one that is pending.
    pub(crate) fn unmask_word(&mut self, id: DomId, port: u32, channel: Channel) {
        let Some((at, word)) = self.event_word(id, port) else { return };
        self.memory.machine.write_u32(at, word & !MASKED);
        if word & PENDING != 0 {
            self.queue_event(id, port, channel);
        }
    }
}
