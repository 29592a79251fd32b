//! `argo_op`: messages between domains through rings in the memory of the receiver.

use crate::{
    address::{Gva, PAGE_SIZE},
    argo::{HEADER, MAX_PAGES, MAX_RINGS, MAX_WAITING, Ring, RingId, pages, round_up},
    hypervisor::{Hypervisor, VcpuId},
    mem::guest::Call,
};
use alloc::{collections::BTreeMap, vec::Vec};
use xen_abi::{DomId, argo, errno::Errno, event};
use zerocopy::IntoBytes;

/// Most questions of one [`argo::NOTIFY`].
const MAX_NOTIFY: u32 = 256;
/// Bytes that are copied at once.
const PIECE: usize = 512;

impl Hypervisor {
    pub(crate) fn argo_op(&mut self, call: Call, args: [u64; 6]) -> Result<i64, Errno> {
        let [cmd, first, second, third, fourth, _] = args;
        let (Ok(third), Ok(fourth)) = (u32::try_from(third), u32::try_from(fourth)) else {
            return Err(Errno::Inval);
        };
        let alone = second == 0 && third == 0 && fourth == 0;
        match cmd as u32 {
            argo::REGISTER_RING if fourth & !argo::REGISTER_FLAG_FAIL_EXIST != 0 => Err(Errno::Inval),
            argo::REGISTER_RING => self.register_ring(&call, first, second, third, fourth).map(|()| 0),
            argo::UNREGISTER_RING if !alone => Err(Errno::Inval),
            argo::UNREGISTER_RING => self.unregister_ring(&call, first).map(|()| 0),
            argo::SENDV => self.sendv(&call, first, second, third, fourth).map(i64::from),
            argo::NOTIFY if !alone => Err(Errno::Inval),
            argo::NOTIFY => self.notify_rings(&call, first).map(|()| 0),
            _ => Err(Errno::Opnotsupp),
        }
    }

    fn ring(&self, id: DomId, ring: RingId) -> Option<&Ring> {
        self.domain(id)?.argo.rings.get(&ring)
    }

    fn ring_mut(&mut self, id: DomId, ring: RingId) -> Option<&mut Ring> {
        self.domain_mut(id)?.argo.rings.get_mut(&ring)
    }

    /// Where the domain of a ring reads on.
    fn rx(&self, ring: &Ring) -> u32 {
        ring.byte(argo::RING_RX_PTR as u32).map_or(0, |at| ring.sanitize(self.memory.machine.read_u32(at)))
    }

    fn register_ring(
        &mut self,
        call: &Call,
        request: u64,
        gfns: u64,
        count: u32,
        flags: u32,
    ) -> Result<(), Errno> {
        let request: argo::RegisterRing = self.read_struct(call, request)?;
        let len = request.len;
        let smallest = HEADER + 2 * argo::MSG_SLOT_SIZE;
        if request.pad != 0
            || !(smallest..=argo::MAX_RING_SIZE).contains(&len)
            || round_up(len) != len
            || pages(len) != count
        {
            return Err(Errno::Inval);
        }
        if request.partner_id != argo::DOMID_ANY && self.domain(request.partner_id).is_none() {
            return Err(Errno::Srch);
        }
        let (id, ring) = (call.caller.domain, (request.aport, request.partner_id));
        let own = &self.domain(id).ok_or(Errno::Nodev)?.argo;
        match own.rings.get(&ring) {
            Some(_) if flags & argo::REGISTER_FLAG_FAIL_EXIST != 0 => return Err(Errno::Exist),
            Some(old) if old.len != len => return Err(Errno::Inval),
            None if own.rings.len() >= MAX_RINGS => return Err(Errno::Nospc),
            _ => {}
        }
        let other = own.pages() - own.rings.get(&ring).map_or(0, |ring| ring.pages.len());
        if other + count as usize > MAX_PAGES {
            return Err(Errno::Nomem);
        }
        self.spend(u64::from(count) + 1)?;
        // Where messages were already, the new pages take their place.
        self.drop_ring(id, ring);
        let mut new = Ring { pages: Vec::new(), len, tx: 0, waiting: BTreeMap::new() };
        for index in 0..u64::from(count) {
            match self.read_word(call, gfns, index).and_then(|gfn| self.pin(id, gfn)) {
                Ok(mfn) => new.pages.push(mfn),
                Err(error) => {
                    for mfn in new.pages {
                        self.put_page(mfn);
                    }
                    return Err(error);
                }
            }
        }
        if let Some(at) = new.byte(argo::RING_TX_PTR as u32) {
            let tx = self.memory.machine.read_u32(at);
            new.tx = tx;
            if tx >= len || round_up(tx) != tx {
                // What is in the ring makes no sense, so that it is taken for read.
                new.tx = self.rx(&new);
                self.memory.machine.write_u32(at, new.tx);
            }
        }
        if let Some(domain) = self.domain_mut(id) {
            domain.argo.rings.insert(ring, new);
        }
        Ok(())
    }

    fn unregister_ring(&mut self, call: &Call, request: u64) -> Result<(), Errno> {
        let request: argo::UnregisterRing = self.read_struct(call, request)?;
        if request.pad != 0 {
            return Err(Errno::Inval);
        }
        if self.drop_ring(call.caller.domain, (request.aport, request.partner_id)) {
            Ok(())
        } else {
            Err(Errno::Noent)
        }
    }

    /// Gives the pages of a ring back, if there is such a ring.
    fn drop_ring(&mut self, id: DomId, ring: RingId) -> bool {
        let Some(ring) = self.domain_mut(id).and_then(|domain| domain.argo.rings.remove(&ring)) else {
            return false;
        };
        for mfn in ring.pages {
            self.put_page(mfn);
        }
        true
    }

    /// A domain ends: its rings go, those that were for it alone, and its waiting.
    pub(crate) fn end_argo(&mut self, id: DomId) {
        for owner in 0..crate::domains::MAX_DOMAINS as DomId {
            let Some(domain) = self.domain_mut(owner) else { continue };
            for ring in domain.argo.rings.values_mut() {
                ring.waiting.remove(&id);
            }
            let all = domain.argo.rings.keys().copied();
            let gone: Vec<RingId> = all.filter(|(_, partner)| owner == id || *partner == id).collect();
            for ring in gone {
                self.drop_ring(owner, ring);
            }
        }
    }

    fn sendv(&mut self, call: &Call, addr: u64, iovs: u64, count: u32, kind: u32) -> Result<u32, Errno> {
        let addr: argo::SendAddr = self.read_struct(call, addr)?;
        if count > argo::MAXIOV {
            return Err(Errno::Inval);
        }
        let mut pieces = Vec::with_capacity(count as usize);
        for index in 0..u64::from(count) {
            let at = iovs.checked_add(index * size_of::<argo::Iov>() as u64).ok_or(Errno::Fault)?;
            pieces.push(self.read_struct::<argo::Iov>(call, at)?);
        }
        let sender = call.caller.domain;
        if addr.src.pad != 0 || addr.dst.pad != 0 {
            return Err(Errno::Inval);
        }
        if addr.src.domain_id != argo::DOMID_ANY && addr.src.domain_id != sender {
            return Err(Errno::Perm);
        }
        let to = addr.dst.domain_id;
        let ring = self.domain(to).ok_or(Errno::Srch)?.argo.find(addr.dst.aport, sender);
        let ring = ring.ok_or(Errno::Connrefused)?;
        let mut len = 0u32;
        for piece in &pieces {
            if piece.pad != 0 {
                return Err(Errno::Inval);
            }
            len = len
                .checked_add(piece.iov_len)
                .filter(|len| *len <= argo::MAX_RING_SIZE)
                .ok_or(Errno::Msgsize)?;
        }
        let source = argo::Addr { aport: addr.src.aport, domain_id: sender, pad: 0 };
        match self.insert(call, (to, ring), source, &pieces, (len, kind)) {
            Ok(()) => {
                self.raise_virq(VcpuId { domain: to, vcpu: 0 }, event::VIRQ_ARGO);
                Ok(len)
            }
            Err(Errno::Again) => Err(self.wait_for_space((to, ring), sender, len)),
            Err(error) => Err(error),
        }
    }

    /// Lets a sender wait until there is space. Returns what the sender is told.
    fn wait_for_space(&mut self, (to, ring): (DomId, RingId), sender: DomId, len: u32) -> Errno {
        match self.ring_mut(to, ring) {
            Some(ring) if ring.waiting.len() < MAX_WAITING || ring.waiting.contains_key(&sender) => {
                let waits = ring.waiting.entry(sender).or_default();
                *waits = len.max(*waits);
                Errno::Again
            }
            _ => Errno::Busy,
        }
    }

    /// Puts a message into a ring; it appears there only as a whole.
    fn insert(
        &mut self,
        call: &Call,
        (to, id): (DomId, RingId),
        source: argo::Addr,
        pieces: &[argo::Iov],
        (len, message_type): (u32, u32),
    ) -> Result<(), Errno> {
        let ring = self.ring(to, id).ok_or(Errno::Connrefused)?;
        let needed = round_up(len) + HEADER;
        if needed >= ring.len {
            return Err(Errno::Msgsize);
        }
        if needed >= ring.free(self.rx(ring)) {
            return Err(Errno::Again);
        }
        let (end, mut tx) = (ring.len, ring.tx);
        // No page is given back as long as the ring is there, and no call changes it before this one ends.
        let header = argo::MessageHeader { len: len + HEADER, source, message_type };
        self.spend(u64::from(len).div_ceil(PAGE_SIZE) + 1).map_err(|_| Errno::TooBig)?;
        tx = self.put_bytes(to, id, tx, header.as_bytes());
        let mut buffer = [0; PIECE];
        for piece in pieces {
            let mut done = 0;
            while done < piece.iov_len {
                let count = (piece.iov_len - done).min(PIECE as u32) as usize;
                let from = piece.iov_hnd.checked_add(done.into()).ok_or(Errno::Fault)?;
                self.read_guest(call, Gva(from), &mut buffer[..count])?;
                tx = self.put_bytes(to, id, tx, &buffer[..count]);
                done += count as u32;
            }
        }
        tx = round_up(tx);
        let Some(ring) = self.ring_mut(to, id) else { return Err(Errno::Connrefused) };
        ring.tx = if tx >= end { 0 } else { tx };
        let (at, tx) = (ring.byte(argo::RING_TX_PTR as u32), ring.tx);
        if let Some(at) = at {
            self.memory.machine.write_u32(at, tx);
        }
        Ok(())
    }

    /// Writes bytes into a ring, from `tx` on and around its end. Returns where the next ones go.
    fn put_bytes(&mut self, to: DomId, id: RingId, mut tx: u32, mut bytes: &[u8]) -> u32 {
        while !bytes.is_empty() {
            let Some(ring) = self.ring(to, id) else { break };
            let at = tx + argo::RING_HEADER_LEN as u32;
            let in_page = PAGE_SIZE as u32 - at % PAGE_SIZE as u32;
            let count = (bytes.len() as u32).min(in_page).min(ring.len - tx);
            let (now, later) = bytes.split_at(count as usize);
            let (place, end) = (ring.byte(at), ring.len);
            if let Some(place) = place {
                self.memory.machine.write(place, now);
            }
            bytes = later;
            tx += count;
            if tx >= end {
                tx = 0;
            }
        }
        tx
    }

    fn notify_rings(&mut self, call: &Call, data: u64) -> Result<(), Errno> {
        let id = call.caller.domain;
        self.serve_waiting(id);
        if data == 0 {
            return Ok(());
        }
        let header: argo::RingData = self.read_struct(call, data)?;
        if header.pad != 0 {
            return Err(Errno::Inval);
        }
        if header.nent > MAX_NOTIFY {
            return Err(Errno::Acces);
        }
        for index in 0..u64::from(header.nent) {
            let offset = size_of::<argo::RingData>() as u64 + index * size_of::<argo::RingDataEnt>() as u64;
            let at = data.checked_add(offset).ok_or(Errno::Fault)?;
            self.spend(1)?;
            let mut entry: argo::RingDataEnt = self.read_struct(call, at)?;
            if entry.pad != 0 || entry.ring.pad != 0 {
                return Err(Errno::Inval);
            }
            self.describe_ring(id, &mut entry);
            self.write_struct(call, at, &entry)?;
        }
        Ok(())
    }

    /// Tells those that wait for space in a domain's rings, where there is space now.
    fn serve_waiting(&mut self, id: DomId) {
        let Some(domain) = self.domains.get_mut(id) else { return };
        let machine = &self.memory.machine;
        let served = domain.argo.take_served(|ring| {
            ring.byte(argo::RING_RX_PTR as u32).map_or(0, |at| ring.sanitize(machine.read_u32(at)))
        });
        for domain in served {
            self.raise_virq(VcpuId { domain, vcpu: 0 }, event::VIRQ_ARGO);
        }
    }

    /// Answers a question about a ring. Who asks for more space than there is waits for it.
    fn describe_ring(&mut self, asker: DomId, entry: &mut argo::RingDataEnt) {
        entry.flags = 0;
        let to = entry.ring.domain_id;
        let Some(id) = self.domain(to).and_then(|domain| domain.argo.find(entry.ring.aport, asker)) else {
            return;
        };
        let Some(ring) = self.ring(to, id) else { return };
        let space = ring.space(self.rx(ring));
        entry.flags |= argo::RING_EXISTS;
        if id.1 == argo::DOMID_ANY {
            entry.flags |= argo::RING_SHARED;
        }
        entry.max_message_size = ring.len - HEADER - argo::MSG_SLOT_SIZE;
        if space == entry.max_message_size {
            entry.flags |= argo::RING_EMPTY;
        }
        if entry.space_required > entry.max_message_size {
            entry.flags |= argo::RING_EMSGSIZE;
        } else if entry.space_required <= space {
            entry.flags |= argo::RING_SUFFICIENT;
            if let Some(ring) = self.ring_mut(to, id) {
                ring.waiting.remove(&asker);
            }
        } else if self.wait_for_space((to, id), asker, entry.space_required) == Errno::Busy {
            entry.flags |= argo::RING_EBUSY;
        }
    }
}
