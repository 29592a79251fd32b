//! Addresses and frame numbers, one type per address space.

/// Bits of an offset in a page.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes of a page.
pub const PAGE_SIZE: u64 = 1 << PAGE_SHIFT;

/// Address of the machine under the hypervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Maddr(pub u64);

/// Frame of the machine under the hypervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Mfn(pub u64);

/// Physical address of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Gpa(pub u64);

/// Physical frame of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Gfn(pub u64);

/// Virtual address of a guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Gva(pub u64);

impl Mfn {
    /// First byte of the frame.
    pub const fn address(self) -> Maddr {
        Maddr(self.0 << PAGE_SHIFT)
    }
}

impl Gfn {
    /// First byte of the frame.
    pub const fn address(self) -> Gpa {
        Gpa(self.0 << PAGE_SHIFT)
    }
}

impl Maddr {
    /// The frame that holds the byte.
    pub const fn frame(self) -> Mfn {
        Mfn(self.0 >> PAGE_SHIFT)
    }
}

impl Gpa {
    /// The frame that holds the byte.
    pub const fn frame(self) -> Gfn {
        Gfn(self.0 >> PAGE_SHIFT)
    }

    /// Offset of the byte in its frame.
    pub const fn offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }
}

impl Gva {
    /// Offset of the byte in its page.
    pub const fn offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }
}
