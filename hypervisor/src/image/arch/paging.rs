//! The hypervisor's own page tables: sections with the rights they need, no stack without a guard page, and all
//! RAM in the direct map.
#![expect(unsafe_code, reason = "builds and loads page tables")]

use alloc::boxed::Box;
use core::ops::Range;

use x86_64::{
    PhysAddr, VirtAddr,
    registers::control::Cr3,
    structures::paging::{
        FrameAllocator, Mapper, OffsetPageTable, Page, PageSize, PageTable, PageTableFlags, PhysFrame,
        Size2MiB, Size4KiB, mapper::MapToError,
    },
};

use crate::image::{layout, stack};

/// Takes tables from the heap, for good.
struct HeapTables;

impl HeapTables {
    fn table() -> (&'static mut PageTable, PhysAddr) {
        let table = Box::leak(Box::new(PageTable::new()));
        let phys = layout::direct_to_phys(&raw const *table as u64);
        (table, phys)
    }
}

// SAFETY: every frame comes from a leaked heap block of its own, page-aligned because `PageTable` is.
unsafe impl FrameAllocator<Size4KiB> for HeapTables {
    fn allocate_frame(&mut self) -> Option<PhysFrame<Size4KiB>> {
        Some(PhysFrame::containing_address(Self::table().1))
    }
}

fn map<S: PageSize + core::fmt::Debug>(
    tables: &mut OffsetPageTable<'_>,
    virt: u64,
    phys: u64,
    flags: PageTableFlags,
) where
    for<'a> OffsetPageTable<'a>: Mapper<S>,
{
    let page = Page::<S>::containing_address(VirtAddr::new(virt));
    let frame = PhysFrame::<S>::containing_address(PhysAddr::new(phys));
    // The processor has nothing to write into tables whose entries say already that they were used.
    let used = PageTableFlags::ACCESSED;
    let parents = PageTableFlags::PRESENT | PageTableFlags::WRITABLE | used;
    let flags = flags | used | PageTableFlags::DIRTY;
    // SAFETY: the tables are not in use yet; what they map is the image and RAM, as the early tables do.
    let mapped: Result<_, MapToError<S>> =
        unsafe { tables.map_to_with_table_flags(page, frame, flags, parents, &mut HeapTables) };
    match mapped {
        Ok(flush) => flush.ignore(),
        Err(error) => panic!("mapping {virt:#x} to {phys:#x}: {error:?}"),
    }
}

/// Maps a section of the image, except guard pages.
fn map_section(tables: &mut OffsetPageTable<'_>, virt: Range<u64>, flags: PageTableFlags) {
    for page in virt.step_by(layout::PAGE as usize).filter(|&page| !stack::is_guard(page)) {
        map::<Size4KiB>(tables, page, layout::image_to_phys(page).as_u64(), flags);
    }
}

/// Maps RAM in the direct map: large pages where they fit, small ones where the image begins or ends. The image's
/// code and constants cannot be written there either.
fn map_ram(tables: &mut OffsetPageTable<'_>, ram: Range<u64>) {
    let rights = PageTableFlags::PRESENT | PageTableFlags::NO_EXECUTE | PageTableFlags::GLOBAL;
    let image = layout::image();
    let fixed = layout::LOAD_ADDRESS..layout::data().start - layout::IMAGE_BASE;
    let mut at = ram.start;
    while at < ram.end {
        let virt = layout::DIRECT_MAP + at;
        let large_end = at + Size2MiB::SIZE;
        let off_image = large_end <= image.start || at >= image.end;
        if at.is_multiple_of(Size2MiB::SIZE) && large_end <= ram.end && off_image {
            map::<Size2MiB>(tables, virt, at, rights | PageTableFlags::WRITABLE);
            at = large_end;
        } else {
            let writable =
                if fixed.contains(&at) { PageTableFlags::empty() } else { PageTableFlags::WRITABLE };
            map::<Size4KiB>(tables, virt, at, rights | writable);
            at += layout::PAGE;
        }
    }
}

/// Replaces the early tables. The lower half, and with it the identity map, is gone afterwards.
pub(crate) fn install(ram: &[Range<u64>]) {
    let (root, root_phys) = HeapTables::table();
    // SAFETY: the early direct map and the one being built agree on the offset, and all tables lie in the heap,
    // which both map.
    let mut tables = unsafe { OffsetPageTable::new(root, VirtAddr::new(layout::DIRECT_MAP)) };
    let read = PageTableFlags::PRESENT | PageTableFlags::GLOBAL;
    map_section(&mut tables, layout::text(), read);
    map_section(&mut tables, layout::rodata(), read | PageTableFlags::NO_EXECUTE);
    map_section(&mut tables, layout::data(), read | PageTableFlags::NO_EXECUTE | PageTableFlags::WRITABLE);
    for range in ram {
        map_ram(&mut tables, range.clone());
    }
    // SAFETY: the new tables map the running code, its stack, its data and the heap at the same addresses.
    unsafe { Cr3::write(PhysFrame::containing_address(root_phys), Cr3::read().1) };
}
