//! Where things lie in the address space, and the linker script's symbols.
//!
//! | virtual | what |
//! |---|---|
//! | [`DIRECT_MAP`] + p | all RAM at physical address p, never executable |
//! | [`IMAGE_BASE`] + p | the image, loaded at p, with the rights that each section needs |
//!
//! The lower half stays empty: it belongs to a guest's address space in pv mode.
#![expect(unsafe_code, reason = "takes addresses of linker symbols")]

use core::ops::Range;

use x86_64::{PhysAddr, VirtAddr};

/// Virtual address of physical address 0 in the direct map: slot 256 of the top-level table.
pub(crate) const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// Distance between the image's virtual and physical addresses: slot 511.
pub(crate) const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
/// First byte of the loaded image, in physical memory.
pub(crate) const LOAD_ADDRESS: u64 = 0x10_0000;
/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;

unsafe extern "C" {
    static __text_start: u8;
    static __text_end: u8;
    static __rodata_start: u8;
    static __rodata_end: u8;
    static __data_start: u8;
    static __image_end: u8;
    static __build_id_start: u8;
    static __build_id_end: u8;
}

macro_rules! address_of {
    ($symbol:ident) => {
        (&raw const $symbol) as u64
    };
}

/// Virtual addresses of the code.
pub(crate) fn text() -> Range<u64> {
    address_of!(__text_start)..address_of!(__text_end)
}

/// Virtual addresses of the constants.
pub(crate) fn rodata() -> Range<u64> {
    address_of!(__rodata_start)..address_of!(__rodata_end)
}

/// Virtual addresses of everything that is writable: data, counters, zeroed memory.
pub(crate) fn data() -> Range<u64> {
    address_of!(__data_start)..address_of!(__image_end)
}

/// Physical addresses of the whole image.
pub(crate) fn image() -> Range<u64> {
    LOAD_ADDRESS..address_of!(__image_end) - IMAGE_BASE
}

/// The linker's build note: header of 16 bytes (name `GNU`), then the hash.
pub(crate) fn build_id() -> &'static [u8] {
    let (start, end) = (&raw const __build_id_start, &raw const __build_id_end);
    let len = end as usize - start as usize;
    // SAFETY: the linker script puts both symbols around one read-only section that lives as long as the image.
    let note = unsafe { core::slice::from_raw_parts(start, len) };
    note.get(16..).unwrap_or_default()
}

/// Where a static of the image lies in physical memory.
pub(crate) fn image_to_phys(virt: u64) -> PhysAddr {
    PhysAddr::new(virt - IMAGE_BASE)
}

/// Where a physical address appears in the direct map.
pub(crate) fn direct(phys: PhysAddr) -> VirtAddr {
    VirtAddr::new(DIRECT_MAP + phys.as_u64())
}

/// The physical address behind an address of the direct map.
pub(crate) fn direct_to_phys(virt: u64) -> PhysAddr {
    PhysAddr::new(virt - DIRECT_MAP)
}
