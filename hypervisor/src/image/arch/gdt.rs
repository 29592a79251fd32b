//! Global descriptor table and task state segment.
//!
//! The guest's selectors of pv mode are those of Xen's ABI, far behind ours.
#![expect(unsafe_code, reason = "loads segment registers")]

use x86_64::{
    VirtAddr,
    instructions::{
        segmentation::{CS, DS, ES, SS, Segment},
        tables::{lgdt, load_tss},
    },
    registers::segmentation::SegmentSelector,
    structures::{
        DescriptorTablePointer,
        gdt::{Descriptor, DescriptorFlags},
        tss::TaskStateSegment,
    },
};

use crate::image::{global::Global, stack};
use xen_abi::pv;

/// What the interrupt stack table's slots are for.
#[derive(Clone, Copy)]
pub(super) enum ExceptionStack {
    PageFault,
    DoubleFault,
    NonMaskable,
    MachineCheck,
    Other,
}

impl ExceptionStack {
    const ALL: [Self; stack::EXCEPTION_STACKS] =
        [Self::PageFault, Self::DoubleFault, Self::NonMaskable, Self::MachineCheck, Self::Other];
}

static TSS: Global<TaskStateSegment> = Global::new(TaskStateSegment::new());
static GDT: Global<[u64; ENTRIES]> = Global::new([0; ENTRIES]);

/// Number of descriptors: up to the guest's code.
const ENTRIES: usize = index(pv::CODE_SELECTOR) + 1;
/// Selector of the hypervisor's code. SYSCALL takes the descriptor behind it for the stack.
pub(crate) const CODE: u16 = 1 << 3;
const DATA: u16 = 2 << 3;
const TASK: u16 = 3 << 3;

/// Place of a selector's descriptor in the table.
const fn index(selector: u16) -> usize {
    selector as usize >> 3
}

/// Builds and loads both tables. Called once.
pub(super) fn install() {
    // SAFETY: called once, at boot, before anything else refers to the two statics; they live as long as the image,
    // and from here on only the processor uses them.
    let (tss, gdt): (&'static mut TaskStateSegment, &'static mut [u64; ENTRIES]) =
        unsafe { (&mut *TSS.as_ptr(), &mut *GDT.as_ptr()) };
    for slot in ExceptionStack::ALL {
        tss.interrupt_stack_table[slot as usize] = VirtAddr::new(stack::exception_top(slot as usize));
    }
    // No port is open to ring 3: the map of ports begins behind the segment's end.
    let (low, high) = match Descriptor::tss_segment(tss) {
        Descriptor::SystemSegment(low, high) => (low, high),
        Descriptor::UserSegment(low) => (low, 0),
    };
    gdt[index(CODE)] = DescriptorFlags::KERNEL_CODE64.bits();
    gdt[index(DATA)] = DescriptorFlags::KERNEL_DATA.bits();
    gdt[index(TASK)] = low;
    gdt[index(TASK) + 1] = high;
    gdt[index(pv::CODE_SELECTOR)] = DescriptorFlags::USER_CODE64.bits();
    gdt[index(pv::DATA_SELECTOR)] = DescriptorFlags::USER_DATA.bits();
    let table = DescriptorTablePointer {
        limit: (size_of::<[u64; ENTRIES]>() - 1) as u16,
        base: VirtAddr::new(GDT.address()),
    };
    // SAFETY: the selectors name descriptors of the table that is loaded first: 64-bit code, data, an available TSS.
    unsafe {
        lgdt(&table);
        CS::set_reg(SegmentSelector(CODE));
        SS::set_reg(SegmentSelector(DATA));
        DS::set_reg(SegmentSelector::NULL);
        ES::set_reg(SegmentSelector::NULL);
        load_tss(SegmentSelector(TASK));
    }
}
