//! `dm_op`: what a device model does to the domain that it serves.
//!
//! Everything comes in buffers, of which each says how long it is. No byte is read or written outside of them: the length
//! of the first is compared with the operation's structure, that of the second with the number of elements asked for.

use crate::{
    address::{Gfn, Gva},
    hypervisor::Hypervisor,
    mem::{guest::Call, p2m::Kind},
    platform::{Ranges, Server},
};
use xen_abi::{
    DomId, dm as abi,
    errno::Errno,
    hvm::{memory, param},
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

/// Ways to buffer requests (`HVM_IOREQSRV_BUFIOREQ_*`): not at all, in the old way, atomically.
const BUFFERING: u8 = 2;
/// Pages of a screen that are tracked: a GiB of them.
const MAX_VRAM: u64 = 1 << 18;
/// "No frame."
const NO_GFN: u64 = u64::MAX;
/// Pages of requests that a server takes: synchronous and buffered ones.
const SERVER_PAGES: u64 = 2;

/// The buffers of a call, and whom it is about.
struct Request {
    target: DomId,
    caller: DomId,
    buffers: [abi::Buffer; abi::MAX_BUFFERS as usize],
    count: u32,
}

/// A level is on or off.
const fn is_level(level: u8) -> bool {
    level <= 1
}

impl Hypervisor {
    pub(crate) fn dm_op(&mut self, call: Call, args: [u64; 6]) -> Result<i64, Errno> {
        let (target, count, array) = (args[0] as DomId, args[1] as u32, args[2]);
        if count > abi::MAX_BUFFERS {
            return Err(Errno::TooBig);
        }
        let mut buffers = [abi::Buffer::default(); abi::MAX_BUFFERS as usize];
        for (n, buffer) in buffers.iter_mut().enumerate().take(count as usize) {
            let at = array.checked_add((n * size_of::<abi::Buffer>()) as u64).ok_or(Errno::Fault)?;
            *buffer = self.read_struct(&call, at)?;
        }
        let caller = call.caller.domain;
        match self.domain(target) {
            Some(domain) if !domain.control.dying => {}
            _ => return Err(Errno::Srch),
        }
        if target == caller || !self.is_privileged(&call) {
            return Err(Errno::Perm);
        }
        let request = Request { target, caller, buffers, count };
        let head: abi::Head = self.from_buffer(&call, &request, 0, 0)?;
        if head.op >= abi::COUNT {
            return Err(Errno::Opnotsupp);
        }
        self.device_model(&call, &request, head).map(|()| 0)
    }

    fn device_model(&mut self, call: &Call, request: &Request, head: abi::Head) -> Result<(), Errno> {
        match head.op {
            abi::CREATE_IOREQ_SERVER => self.with_body(call, request, head, Self::create_server),
            abi::GET_IOREQ_SERVER_INFO => self.with_body(call, request, head, Self::server_info),
            abi::MAP_IO_RANGE => {
                let body = self.body(call, request, head)?;
                let (start, end, ranges) = self.server_ranges(request, &body)?;
                ranges.add(start, end)
            }
            abi::UNMAP_IO_RANGE => {
                let body = self.body(call, request, head)?;
                let (start, end, ranges) = self.server_ranges(request, &body)?;
                ranges.remove(start, end)
            }
            abi::SET_IOREQ_SERVER_STATE => {
                let body: abi::ServerState = self.body(call, request, head)?;
                require(body.pad == 0)?;
                self.server(request, body.id)?.enabled = body.enabled != 0;
                Ok(())
            }
            abi::DESTROY_IOREQ_SERVER => {
                let body: abi::DestroyServer = self.body(call, request, head)?;
                require(body.pad == 0)?;
                self.server(request, body.id)?;
                let domain = self.domain_mut(request.target).ok_or(Errno::Srch)?;
                domain.platform.servers[usize::from(body.id)] = None;
                Ok(())
            }
            abi::TRACK_DIRTY_VRAM => {
                let body = self.body(call, request, head)?;
                self.track_vram(call, request, &body)
            }
            abi::SET_PCI_INTX_LEVEL => {
                let body: abi::IntxLevel = self.body(call, request, head)?;
                let place = body.domain == 0 && body.bus == 0 && body.device < 32 && body.intx < 4;
                require(place && is_level(body.level))
            }
            abi::SET_ISA_IRQ_LEVEL => {
                let body: abi::IsaLevel = self.body(call, request, head)?;
                require(body.isa_irq < 16 && is_level(body.level))
            }
            abi::SET_PCI_LINK_ROUTE => {
                let body: abi::LinkRoute = self.body(call, request, head)?;
                require(body.link < 4 && body.isa_irq < 16)
            }
            abi::MODIFIED_MEMORY => {
                let body = self.body(call, request, head)?;
                self.modified_memory(call, request, &body)
            }
            abi::SET_MEM_TYPE => self.with_body(call, request, head, Self::set_mem_type),
            abi::INJECT_EVENT => {
                let body = self.body(call, request, head)?;
                self.inject_event(request, &body)
            }
            abi::REMOTE_SHUTDOWN => {
                let body: abi::RemoteShutdown = self.body(call, request, head)?;
                self.shut_down(request.target, body.reason & u32::from(u8::MAX));
                Ok(())
            }
            abi::NR_VCPUS => {
                self.with_body(call, request, head, |hypervisor, request, body: &mut abi::NrVcpus| {
                    let domain = hypervisor.domain(request.target).ok_or(Errno::Srch)?;
                    body.vcpus = domain.control.max_vcpus;
                    Ok(())
                })
            }
            _ => Err(Errno::Opnotsupp),
        }
    }

    /// Copies a structure from a buffer, if all of it lies inside.
    fn from_buffer<T: FromBytes + FromZeros + IntoBytes>(
        &self,
        call: &Call,
        request: &Request,
        buffer: usize,
        offset: u64,
    ) -> Result<T, Errno> {
        let at = request.place(buffer, offset, size_of::<T>() as u64)?;
        self.read_struct(call, at)
    }

    /// The operation's structure, behind the head.
    fn body<T: FromBytes + FromZeros + IntoBytes>(
        &self,
        call: &Call,
        request: &Request,
        head: abi::Head,
    ) -> Result<T, Errno> {
        let body = self.from_buffer(call, request, 0, size_of::<abi::Head>() as u64)?;
        require(head.pad == 0)?;
        Ok(body)
    }

    /// An operation that fills its structure.
    fn with_body<T: FromBytes + FromZeros + IntoBytes + Immutable>(
        &mut self,
        call: &Call,
        request: &Request,
        head: abi::Head,
        operation: fn(&mut Self, &Request, &mut T) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let mut body = self.body(call, request, head)?;
        let result = operation(self, request, &mut body);
        if result.is_ok() || result == Err(Errno::Again) {
            let at = request.place(0, size_of::<abi::Head>() as u64, size_of::<T>() as u64)?;
            self.write_struct(call, at, &body)?;
        }
        result
    }

    fn server(&mut self, request: &Request, id: u16) -> Result<&mut Server, Errno> {
        let domain = self.domain_mut(request.target).ok_or(Errno::Srch)?;
        domain.platform.server(id, request.caller)
    }

    fn create_server(&mut self, request: &Request, body: &mut abi::CreateServer) -> Result<(), Errno> {
        require(body.pad == [0; 3] && body.handle_bufioreq <= BUFFERING)?;
        let servers = &mut self.domain_mut(request.target).ok_or(Errno::Srch)?.platform.servers;
        let free = servers.iter().position(Option::is_none).ok_or(Errno::Nospc)?;
        servers[free] = Some(Server {
            emulator: request.caller,
            enabled: false,
            buffered: body.handle_bufioreq != 0,
            ranges: [const { Ranges::new() }; crate::platform::RANGE_KINDS],
        });
        body.id = free as u16;
        Ok(())
    }

    /// Where a server's pages are: at the frames that the domain's parameters set aside, two for each server.
    fn server_info(&mut self, request: &Request, body: &mut abi::ServerInfo) -> Result<(), Errno> {
        require(body.flags & !abi::NO_GFNS == 0)?;
        let buffered = self.server(request, body.id)?.buffered;
        body.bufioreq_port = 0;
        (body.ioreq_gfn, body.bufioreq_gfn) = (NO_GFN, NO_GFN);
        if body.flags & abi::NO_GFNS == 0 {
            let params = &self.domain(request.target).ok_or(Errno::Srch)?.platform.params;
            let first = params[param::IOREQ_SERVER_PFN as usize];
            let place = u64::from(body.id) * SERVER_PAGES;
            if place + SERVER_PAGES > params[param::NR_IOREQ_SERVER_PAGES as usize] {
                return Err(Errno::Nomem);
            }
            let page = |offset: u64| {
                let gfn = first.checked_add(place + offset).ok_or(Errno::Inval)?;
                let there = self.lookup(request.target, Gfn(gfn)).ok_or(Errno::Inval)?;
                if there.kind == Kind::Ram { Ok(gfn) } else { Err(Errno::Inval) }
            };
            body.ioreq_gfn = page(0)?;
            if buffered {
                body.bufioreq_gfn = page(1)?;
            }
        }
        Ok(())
    }

    /// Both ends of a range, and the ranges that it belongs to.
    fn server_ranges(
        &mut self,
        request: &Request,
        body: &abi::Range,
    ) -> Result<(u64, u64, &mut Ranges), Errno> {
        require(body.pad == 0 && body.start <= body.end)?;
        let server = self.server(request, body.id)?;
        let ranges = server.ranges.get_mut(body.kind as usize).ok_or(Errno::Inval)?;
        Ok((body.start, body.end, ranges))
    }

    /// No page of a screen was written by anybody whom the guest's tables do not show: the bitmap is empty.
    fn track_vram(&mut self, call: &Call, request: &Request, body: &abi::TrackVram) -> Result<(), Errno> {
        require(body.pad == 0 && request.count >= 2 && u64::from(body.nr) <= MAX_VRAM)?;
        let vcpus = self.domain(request.target).ok_or(Errno::Srch)?.vcpus.len();
        let len = u64::from(body.nr).div_ceil(8);
        require(vcpus != 0 && len <= request.buffers[1].size)?;
        let mut done = 0;
        while done < len {
            self.credit = self.credit.checked_sub(1).ok_or(Errno::Again)?;
            let piece = [0; 512];
            let piece = &piece[..(len - done).min(512) as usize];
            let at = request.place(1, done, piece.len() as u64)?;
            self.write_guest(call, Gva(at), piece)?;
            done += piece.len() as u64;
        }
        Ok(())
    }

    fn modified_memory(
        &mut self,
        call: &Call,
        request: &Request,
        body: &abi::ModifiedMemory,
    ) -> Result<(), Errno> {
        let room = request.buffers[1].size / size_of::<abi::Extent>() as u64;
        require(u64::from(body.nr_extents) <= room && body.opaque <= body.nr_extents)?;
        let highest = self.domain(request.target).and_then(|domain| domain.p2m.highest(&self.memory));
        for n in body.opaque..body.nr_extents {
            self.credit = self.credit.checked_sub(1).ok_or(Errno::Again)?;
            let offset = u64::from(n) * size_of::<abi::Extent>() as u64;
            let extent: abi::Extent = self.from_buffer(call, request, 1, offset)?;
            let end = extent.first_pfn.checked_add(extent.nr.into()).ok_or(Errno::Inval)?;
            let inside = highest.is_some_and(|highest| end <= highest.0 + 1);
            require(extent.pad == 0 && extent.nr != 0 && inside)?;
        }
        Ok(())
    }

    /// Lets memory be read-only, or writable again. What is done is taken off the request.
    fn set_mem_type(&mut self, request: &Request, body: &mut abi::SetMemType) -> Result<(), Errno> {
        require(body.pad == 0)?;
        let highest = self.domain(request.target).and_then(|domain| domain.p2m.highest(&self.memory));
        let end = body.first_pfn.checked_add(body.nr.into()).ok_or(Errno::Inval)?;
        require(body.nr == 0 || highest.is_some_and(|highest| end <= highest.0 + 1))?;
        let writable = match body.mem_type {
            memory::RAM_RW => true,
            memory::RAM_RO => false,
            _ => return Err(Errno::Inval),
        };
        while body.nr > 0 {
            self.credit = self.credit.checked_sub(1).ok_or(Errno::Again)?;
            let gfn = Gfn(body.first_pfn);
            let mapping = self.lookup(request.target, gfn).ok_or(Errno::Inval)?;
            require(mapping.kind == Kind::Ram)?;
            let (memory, p2m) = self.memory_and_p2m(request.target).ok_or(Errno::Srch)?;
            p2m.protect(memory, gfn, writable);
            body.first_pfn += 1;
            body.nr -= 1;
        }
        Ok(())
    }

    fn inject_event(&mut self, request: &Request, body: &abi::InjectEvent) -> Result<(), Errno> {
        require(body.pad0 == 0 && body.pad1 == 0)?;
        let domain = self.domain_mut(request.target).ok_or(Errno::Srch)?;
        require((body.vcpuid as usize) < domain.vcpus.len())?;
        // It is delivered when the vCPU has a device model to wait for, which none has.
        let injected = &mut domain.platform.injected;
        if injected.iter().any(|(vcpu, _)| *vcpu == body.vcpuid) {
            return Err(Errno::Busy);
        }
        injected.push((body.vcpuid, body.vector));
        Ok(())
    }
}

impl Request {
    /// Where so many bytes of a buffer lie.
    fn place(&self, buffer: usize, offset: u64, len: u64) -> Result<u64, Errno> {
        let buffer = self.buffers.get(buffer).ok_or(Errno::Fault)?;
        let end = offset.checked_add(len).ok_or(Errno::Fault)?;
        if end > buffer.size {
            return Err(Errno::Fault);
        }
        buffer.h.checked_add(offset).ok_or(Errno::Fault)
    }
}

/// What does not hold makes a request invalid.
const fn require(holds: bool) -> Result<(), Errno> {
    if holds { Ok(()) } else { Err(Errno::Inval) }
}
