//! Copies from and to guests: guest-virtual addresses, through the guest's own page tables, if it has any, and its physical map.
//!
//! Everything is copied, page by page, and nothing is looked at twice. A copy that meets an address which the guest
//! itself could not access ends there with `EFAULT`.

use crate::{
    address::{Gfn, Gpa, Gva, Maddr, PAGE_SIZE},
    hypervisor::{GuestContext, Hypervisor, PagingMode, VcpuId},
    mem::{
        Memory,
        p2m::{Mapping, P2m},
    },
};
use xen_abi::errno::Errno;
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

const PRESENT: u64 = 1;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Who makes a hypercall, and in which state.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// The vCPU.
    pub caller: VcpuId,
    /// Its state.
    pub context: GuestContext,
}

/// True for an address that a guest can have: sign-extended from bit 47.
const fn is_canonical(at: u64) -> bool {
    let upper = at >> 47;
    upper == 0 || upper == 0x1_ffff
}

fn mapping(memory: &Memory, p2m: &P2m, gfn: Gfn) -> Result<Mapping, Errno> {
    p2m.peek(memory, gfn).ok_or(Errno::Fault)
}

/// Walks the guest's four-level tables (AMD manual volume 2, section 5.3). Accessed and dirty bits stay as they are.
fn walk(memory: &Memory, p2m: &P2m, call: &Call, at: Gva, write: bool) -> Result<Gpa, Errno> {
    let mut need = PRESENT;
    if write {
        need |= WRITABLE;
    }
    if call.context.cpl == 3 {
        need |= USER;
    }
    let mut table = Gpa(call.context.cr3 & ADDRESS);
    for shift in [39, 30, 21, 12] {
        let slot = Gpa(table.0 + (at.0 >> shift & 511) * 8);
        let frame = mapping(memory, p2m, slot.frame())?.mfn;
        let entry = memory.machine.read_u64(Maddr(frame.address().0 + slot.offset()));
        if entry & need != need {
            return Err(Errno::Fault);
        }
        let large = shift != 12 && entry & LARGE != 0;
        if large && shift == 39 {
            return Err(Errno::Fault);
        }
        if large || shift == 12 {
            let within = (1 << shift) - 1;
            return Ok(Gpa((entry & ADDRESS & !within) | (at.0 & within)));
        }
        table = Gpa(entry & ADDRESS);
    }
    Err(Errno::Fault)
}

fn translate(memory: &Memory, p2m: &P2m, call: &Call, at: Gva, write: bool) -> Result<Maddr, Errno> {
    memory.work(1);
    let gpa = match call.context.paging {
        PagingMode::Other => return Err(Errno::Fault),
        PagingMode::Flat if at.0 > u64::from(u32::MAX) => return Err(Errno::Fault),
        PagingMode::Flat => Gpa(at.0),
        // The upper half is the hypervisor's, and nothing is at address 0.
        PagingMode::Direct if at.0 >> 47 != 0 || at.0 < PAGE_SIZE => return Err(Errno::Fault),
        PagingMode::Direct => Gpa(at.0),
        PagingMode::Long if !is_canonical(at.0) => return Err(Errno::Fault),
        PagingMode::Long => walk(memory, p2m, call, at, write)?,
    };
    let mapping = mapping(memory, p2m, gpa.frame())?;
    if write {
        if !mapping.writable {
            return Err(Errno::Fault);
        }
        memory.check_write(call.caller.domain, mapping);
    }
    Ok(Maddr(mapping.mfn.address().0 + gpa.offset()))
}

/// Copies from guest memory.
///
/// # Errors
/// `EFAULT` at the first byte that the guest could not read.
pub(crate) fn read(memory: &Memory, p2m: &P2m, call: &Call, at: Gva, out: &mut [u8]) -> Result<(), Errno> {
    let mut done = 0;
    while done < out.len() {
        let at = Gva(at.0.checked_add(done as u64).ok_or(Errno::Fault)?);
        let len = (out.len() - done).min((PAGE_SIZE - at.offset()) as usize);
        let from = translate(memory, p2m, call, at, false)?;
        memory.machine.read(from, &mut out[done..done + len]);
        done += len;
    }
    Ok(())
}

/// Copies to guest memory.
///
/// # Errors
/// `EFAULT` at the first byte that the guest could not write; what lies before it has been written.
pub(crate) fn write(memory: &mut Memory, p2m: &P2m, call: &Call, at: Gva, data: &[u8]) -> Result<(), Errno> {
    let mut done = 0;
    while done < data.len() {
        let at = Gva(at.0.checked_add(done as u64).ok_or(Errno::Fault)?);
        let len = (data.len() - done).min((PAGE_SIZE - at.offset()) as usize);
        let to = translate(memory, p2m, call, at, true)?;
        let piece = &data[done..done + len];
        memory.check_output(call.caller.domain, piece, to);
        memory.machine.write(to, piece);
        done += len;
    }
    memory.watch.written += 1;
    Ok(())
}

impl Hypervisor {
    /// [`read`] for the caller.
    pub(crate) fn read_guest(&self, call: &Call, at: Gva, out: &mut [u8]) -> Result<(), Errno> {
        let domain = self.domain(call.caller.domain).ok_or(Errno::Fault)?;
        read(&self.memory, &domain.p2m, call, at, out)
    }

    /// [`write`] for the caller.
    pub(crate) fn write_guest(&mut self, call: &Call, at: Gva, data: &[u8]) -> Result<(), Errno> {
        let (memory, p2m) = self.memory_and_p2m(call.caller.domain).ok_or(Errno::Fault)?;
        write(memory, p2m, call, at, data)
    }

    /// Copies a structure from guest memory.
    pub(crate) fn read_struct<T: FromBytes + FromZeros + IntoBytes>(
        &self,
        call: &Call,
        at: u64,
    ) -> Result<T, Errno> {
        let mut value = T::new_zeroed();
        self.read_guest(call, Gva(at), value.as_mut_bytes())?;
        Ok(value)
    }

    /// Copies a structure to guest memory.
    pub(crate) fn write_struct<T: IntoBytes + Immutable>(
        &mut self,
        call: &Call,
        at: u64,
        value: &T,
    ) -> Result<(), Errno> {
        self.write_guest(call, Gva(at), value.as_bytes())
    }

    /// Copies entry `index` of an array of eight-byte words from guest memory.
    pub(crate) fn read_word(&self, call: &Call, array: u64, index: u64) -> Result<u64, Errno> {
        let at = index.checked_mul(8).and_then(|offset| array.checked_add(offset)).ok_or(Errno::Fault)?;
        self.read_struct(call, at)
    }
}
