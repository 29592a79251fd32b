//! ELF notes (`public/elfnote.h`).

/// Name of Xen's notes, with its terminating zero.
pub const NAME: &[u8; 4] = b"Xen\0";
/// Virtual address at which a pv guest is entered (`XEN_ELFNOTE_ENTRY`).
pub const ENTRY: u32 = 1;
/// 32-bit physical address at which a PVH guest is entered (`XEN_ELFNOTE_PHYS32_ENTRY`).
pub const PHYS32_ENTRY: u32 = 18;
