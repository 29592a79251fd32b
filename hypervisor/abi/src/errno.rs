//! Error codes (`public/errno.h`). A hypercall returns them negated.

/// Why a hypercall failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Errno {
    /// `EPERM`: the caller may not do this.
    Perm = 1,
    /// `ENOENT`: no such thing.
    Noent = 2,
    /// `ESRCH`: no such domain.
    Srch = 3,
    /// `EIO`: input or output failed.
    Io = 5,
    /// `ENXIO`: no such device or address.
    Nxio = 6,
    /// `E2BIG`: the argument list is too long.
    TooBig = 7,
    /// `EAGAIN`: try again later.
    Again = 11,
    /// `ENOMEM`: out of memory.
    Nomem = 12,
    /// `EACCES`: the object forbids this access.
    Acces = 13,
    /// `EFAULT`: a guest address is not accessible.
    Fault = 14,
    /// `EBUSY`: the object is in use.
    Busy = 16,
    /// `EEXIST`: it exists already.
    Exist = 17,
    /// `EXDEV`: not within one domain.
    Xdev = 18,
    /// `ENODEV`: no such device.
    Nodev = 19,
    /// `EINVAL`: an argument is not valid.
    Inval = 22,
    /// `ENOSPC`: no space left.
    Nospc = 28,
    /// `EROFS`: the object is read-only.
    Rofs = 30,
    /// `EDOM`: an argument is out of its domain.
    Dom = 33,
    /// `ERANGE`: a result cannot be represented.
    Range = 34,
    /// `EDEADLK`: the caller would wait for itself.
    Deadlk = 35,
    /// `ENOSYS`: there is no such function.
    Nosys = 38,
    /// `ENODATA`: there is no data.
    Nodata = 61,
    /// `EOVERFLOW`: a value does not fit.
    Overflow = 75,
    /// `EMSGSIZE`: the message is too long.
    Msgsize = 90,
    /// `EOPNOTSUPP`: the function is not supported here.
    Opnotsupp = 95,
    /// `ECONNREFUSED`: nobody accepts it.
    Connrefused = 111,
    /// `ENOBUFS`: there is no buffer space.
    Nobufs = 105,
}

impl Errno {
    /// What goes into rax: the negated number.
    pub const fn code(self) -> i64 {
        -(self as i32 as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::Errno;

    #[test]
    fn codes_are_negative() {
        assert_eq!(Errno::Perm.code(), -1);
        assert_eq!(Errno::Nosys.code(), -38);
        assert_eq!(Errno::Nobufs.code(), -105);
    }
}
