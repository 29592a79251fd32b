//! Global descriptor table and task state segment.
#![expect(unsafe_code, reason = "loads segment registers")]

use x86_64::{
    VirtAddr,
    instructions::{
        segmentation::{CS, DS, ES, SS, Segment},
        tables::load_tss,
    },
    registers::segmentation::SegmentSelector,
    structures::{
        gdt::{Descriptor, GlobalDescriptorTable},
        tss::TaskStateSegment,
    },
};

use crate::image::{global::Global, stack};

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
static GDT: Global<GlobalDescriptorTable> = Global::new(GlobalDescriptorTable::new());

/// Builds and loads both tables. Called once.
pub(super) fn install() {
    // SAFETY: called once, at boot, before anything else refers to the two statics; they live as long as the image,
    // and from here on only the processor uses them.
    let (tss, gdt): (&'static mut TaskStateSegment, &'static mut GlobalDescriptorTable) =
        unsafe { (&mut *TSS.as_ptr(), &mut *GDT.as_ptr()) };
    for slot in ExceptionStack::ALL {
        tss.interrupt_stack_table[slot as usize] = VirtAddr::new(stack::exception_top(slot as usize));
    }
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    let task = gdt.append(Descriptor::tss_segment(tss));
    gdt.load();
    // SAFETY: the selectors name descriptors of the table that was just loaded: 64-bit code, data, an available TSS.
    unsafe {
        CS::set_reg(code);
        SS::set_reg(data);
        DS::set_reg(SegmentSelector::NULL);
        ES::set_reg(SegmentSelector::NULL);
        load_tss(task);
    }
}
