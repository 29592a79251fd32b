//! Guest-side client of the coverage hypercall ([`crate::coverage`]).
//!
//! [`Client`] wraps a closure that makes the hypercall: `|cmd, arg| hypercall(COVERAGE_OP, cmd, arg)`. Addresses are
//! passed as guest-virtual ones, as in every Xen hypercall. The closure's `asm!` must not claim that it leaves
//! memory alone, because INFO and READ write to the addresses that they are given.

use zerocopy::{FromZeros, IntoBytes};

use crate::coverage::{Enable, Errno, Features, Info, MAX_READ, Map, Mapped, Read, Unmap, VERSION, cmd};

/// Why a call of the client did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The hypervisor refused.
    Refused(Errno),
    /// The hypervisor returned something that the contract does not have.
    Contract(i64),
}

/// Typed calls of the coverage hypercall.
#[derive(Debug)]
pub struct Client<F> {
    call: F,
}

impl<F: FnMut(u64, u64) -> i64> Client<F> {
    /// A client that calls through `call(cmd, arg)`.
    pub const fn new(call: F) -> Self {
        Self { call }
    }

    fn number(&mut self, cmd: u64, arg: u64) -> Result<u32, Error> {
        let status = (self.call)(cmd, arg);
        u32::try_from(status)
            .map_err(|_| Errno::from_status(status).map_or(Error::Contract(status), Error::Refused))
    }

    fn zero(&mut self, cmd: u64, arg: u64) -> Result<(), Error> {
        match self.number(cmd, arg)? {
            0 => Ok(()),
            n => Err(Error::Contract(i64::from(n))),
        }
    }

    /// The hypervisor's version, size and build.
    ///
    /// # Errors
    /// [`Errno::ENOSYS`] where there is no coverage hypercall, [`Errno::EPERM`] without the right to it.
    pub fn info(&mut self) -> Result<Info, Error> {
        let mut info = Info::new_zeroed();
        self.zero(cmd::INFO, address(info.as_mut_bytes()))?;
        Ok(info)
    }

    /// Starts recording on this vCPU.
    ///
    /// # Errors
    /// [`Errno::EBUSY`] if it records already, [`Errno::EOPNOTSUPP`] for a feature that is not there.
    pub fn enable(&mut self, what: Features) -> Result<(), Error> {
        let mut request = Enable { version: VERSION, flags: what.bits() };
        self.zero(cmd::ENABLE, address(request.as_mut_bytes()))
    }

    /// Stops recording on this vCPU.
    ///
    /// # Errors
    /// [`Errno::EINVAL`] if it does not record.
    pub fn disable(&mut self) -> Result<(), Error> {
        self.zero(cmd::DISABLE, 0)
    }

    /// Zeroes the counters and empties the comparison log.
    ///
    /// # Errors
    /// [`Errno::EINVAL`] if this vCPU does not record.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.zero(cmd::RESET, 0)
    }

    /// Copies counters from number `offset` on into `out`, in as many calls as it takes. Returns how many there were:
    /// fewer than asked for where the counters end.
    ///
    /// # Errors
    /// [`Errno::EINVAL`] if `offset` lies behind the last counter.
    pub fn read(&mut self, offset: u32, out: &mut [u8]) -> Result<usize, Error> {
        let mut done = 0;
        while done < out.len() {
            let part = &mut out[done..];
            let count = (part.len() as u64).min(u64::from(MAX_READ)) as u32;
            let Some(offset) = u32::try_from(done).ok().and_then(|d| offset.checked_add(d)) else { break };
            let mut request = Read { version: VERSION, offset, count, reserved: 0, buffer: address(part) };
            let n = self.number(cmd::READ, address(request.as_mut_bytes()))?;
            if n > count {
                return Err(Error::Contract(i64::from(n)));
            }
            if n == 0 {
                break;
            }
            done += n as usize;
        }
        Ok(done)
    }

    /// Maps pages read-only at the guest frame `gfn` and the following ones.
    ///
    /// # Errors
    /// [`Errno::E2BIG`] for too many pages, [`Errno::EAGAIN`] for too many mappings, [`Errno::EBUSY`] for frames in use,
    /// [`Errno::EINVAL`] for pages that do not exist.
    pub fn map(&mut self, what: Mapped, first_page: u32, pages: u32, gfn: u64) -> Result<(), Error> {
        let mut request = Map { version: VERSION, what: what as u32, first_page, pages, gfn };
        self.zero(cmd::MAP, address(request.as_mut_bytes()))
    }

    /// Takes a mapping away that [`Self::map`] made with the same frame and number of pages.
    ///
    /// # Errors
    /// [`Errno::ENOENT`] if there is no such mapping.
    pub fn unmap(&mut self, pages: u32, gfn: u64) -> Result<(), Error> {
        let mut request = Unmap { version: VERSION, pages, gfn };
        self.zero(cmd::UNMAP, address(request.as_mut_bytes()))
    }

    /// Gives the domain's right to the coverage hypercall up, for good.
    ///
    /// # Errors
    /// [`Errno::EPERM`] if it had none.
    pub fn release(&mut self) -> Result<(), Error> {
        self.zero(cmd::RELEASE, 0)
    }
}

/// The address of a buffer, exposed: the hypervisor reads and writes it behind the compiler's back.
fn address(buffer: &mut [u8]) -> u64 {
    buffer.as_mut_ptr().expose_provenance() as u64
}
