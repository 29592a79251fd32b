//! From the PVH entry to Rust: 32-bit stub, first page tables, and what the loader tells us.
//!
//! The entry is Xen's x86/HVM direct boot ABI (`docs/misc/pvh.pandoc`): 32-bit protected mode, paging off, EBX
//! holds the physical address of the start info. The first tables map the lowest GiB three times: where it is,
//! in the direct map, and for the image.
#![expect(unsafe_code, reason = "entry code; reads what the loader left in memory")]

use alloc::{string::String, vec::Vec};
use core::{alloc::Layout, arch::global_asm, ops::Range, slice};

use pvh::start_info::{
    MemmapType,
    reader::{MemMap, StartInfoReader},
};
use x86_64::PhysAddr;

use super::{heap, layout, stack};

/// Physical memory that the first page tables cover.
const EARLY_LEN: u64 = 1 << 30;
/// Memory below this belongs to firmware and option ROMs; it is mapped but never handed out.
const LOW_MEMORY: u64 = 0x10_0000;

global_asm!(
    r#"
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 4, 18                      // XEN_ELFNOTE_PHYS32_ENTRY, public/elfnote.h
    .asciz "Xen"
    .long pvh_entry

    .section .boot.text, "ax"
    .code32
    .global pvh_entry
pvh_entry:
    cli
    cld
    movl $early_pml4, %eax
    movl %eax, %cr3
    movl $0x6a0, %eax                   // CR4: PAE, PGE, OSFXSR, OSXMMEXCPT (0x20 + 0x80 + 0x200 + 0x400)
    movl %eax, %cr4
    movl $0xc0000080, %ecx              // EFER: LME, NXE
    movl $0x900, %eax
    xorl %edx, %edx
    wrmsr
    movl $0x80010033, %eax              // CR0: PG, WP, NE, ET, MP, PE
    movl %eax, %cr0
    lgdt early_gdtr
    ljmp $8, $1f
    .code64
1:  xorl %eax, %eax
    movl %eax, %ds
    movl %eax, %es
    movl %eax, %fs
    movl %eax, %gs
    movl %eax, %ss
    movabsq $start_high, %rax
    jmpq *%rax

    .section .boot.data, "aw"
    .balign 4096
early_pml4:
    .quad early_pdpt_low + 3
    .fill 255, 8, 0
    .quad early_pdpt_low + 3
    .fill 254, 8, 0
    .quad early_pdpt_high + 3
early_pdpt_low:
    .quad early_pd + 3
    .fill 511, 8, 0
early_pdpt_high:
    .fill 510, 8, 0
    .quad early_pd + 3
    .fill 1, 8, 0
early_pd:
    .set early_page, 0
    .rept 512
    .quad early_page + 0x83             // present, writable, 2 MiB
    .set early_page, early_page + 0x200000
    .endr
early_gdt:
    .quad 0, 0x00af9a000000ffff
early_gdtr:
    .word 15
    .quad early_gdt

    .section .text.start_high, "ax"
start_high:
    leaq {stack}+{stack_len}(%rip), %rsp
    leaq __bss_start(%rip), %rdi
    leaq __bss_end(%rip), %rcx
    subq %rdi, %rcx
    shrq $3, %rcx
    xorl %eax, %eax
    rep stosq
    movl %ebx, %edi
    xorl %ebp, %ebp
    callq {start}
    ud2
    .text
    "#,
    stack = sym stack::MAIN,
    stack_len = const size_of::<stack::Stack<{ stack::MAIN_LEN }>>(),
    start = sym start,
    options(att_syntax)
);

extern "C" fn start(start_info: u32) -> ! {
    super::main(start_info)
}

/// The early direct map, as the start info's reader wants it.
struct EarlyMap;

impl MemMap for EarlyMap {
    fn ptr(&self, paddr: usize, layout: Layout) -> *const u8 {
        let paddr = paddr as u64;
        match paddr.checked_add(layout.size() as u64) {
            Some(end) if end <= EARLY_LEN => layout::direct(PhysAddr::new(paddr)).as_ptr(),
            _ => core::ptr::null(),
        }
    }
}

/// What the loader said, copied out of its memory.
pub(crate) struct BootInfo {
    /// Whole pages of RAM, in bytes, in ascending order.
    pub(crate) ram: Vec<Range<u64>>,
    /// The part of it that nothing uses yet.
    pub(crate) free: Vec<Range<u64>>,
    /// The command line, without what is not UTF-8.
    pub(crate) command_line: String,
    /// The first module: the bundle of domain configuration and agent.
    pub(crate) bundle: &'static [u8],
}

impl BootInfo {
    /// Reads the start info and sets the heap up behind the image.
    pub(crate) fn read(start_info: u32) -> Self {
        // SAFETY: PVH passes the physical address of a start info, and `EarlyMap` maps it or says no.
        let info = unsafe { StartInfoReader::from_paddr(start_info, EarlyMap) }
            .expect("the loader left no PVH start info: use QEMU's -kernel");
        let is_ram = |entry: &&pvh::start_info::MemmapTableEntry| entry.ty() == MemmapType::Ram;
        let pages = |entry: &pvh::start_info::MemmapTableEntry| {
            entry.addr.next_multiple_of(layout::PAGE)..(entry.addr + entry.size) & !(layout::PAGE - 1)
        };

        let image = layout::image();
        let ram =
            info.memmap().iter().filter(is_ram).map(pages).map(|range| range.end.saturating_sub(range.start));
        let heap = image.end..image.end + heap::len(ram.sum());
        let fits = info
            .memmap()
            .iter()
            .filter(is_ram)
            .map(pages)
            .any(|ram| ram.start <= image.start && heap.end <= ram.end && heap.end <= EARLY_LEN);
        assert!(fits, "not enough RAM behind the image: give the machine 32 MiB or more");
        let module = info.modlist().next();
        let module_range = module.as_ref().map_or(0..0, |m| {
            m.raw().paddr & !(layout::PAGE - 1)..(m.raw().paddr + m.raw().size).next_multiple_of(layout::PAGE)
        });
        assert!(
            module_range.end <= image.start.min(LOW_MEMORY) || module_range.start >= heap.end,
            "the boot module lies where the hypervisor wants its heap"
        );
        // SAFETY: the range is RAM, lies behind the image and off the module, and is mapped early.
        unsafe { heap::claim(heap.clone()) };

        let ram: Vec<_> = info.memmap().iter().filter(is_ram).map(pages).filter(|r| !r.is_empty()).collect();
        let mut free = Vec::new();
        for range in &ram {
            subtract(range.clone(), &[0..heap.end.max(LOW_MEMORY), module_range.clone()], &mut free);
        }
        let command_line = info
            .cmdline()
            .map(|line| String::from_utf8_lossy(line.to_bytes()).into_owned())
            .unwrap_or_default();
        let bundle = module.map_or(&[][..], |module| {
            // SAFETY: the module is RAM that nothing else uses: `free` leaves it out. It stays mapped at the same
            // address in the direct map for good.
            unsafe {
                slice::from_raw_parts(
                    layout::direct(PhysAddr::new(module.raw().paddr)).as_ptr(),
                    module.raw().size as usize,
                )
            }
        });
        Self { ram, free, command_line, bundle }
    }

    /// RAM in bytes.
    pub(crate) fn ram_bytes(&self) -> u64 {
        self.ram.iter().map(|range| range.end - range.start).sum()
    }
}

/// Pushes what is left of `range` without the `holes`.
fn subtract(range: Range<u64>, holes: &[Range<u64>], out: &mut Vec<Range<u64>>) {
    let Some((hole, rest)) = holes.split_first() else {
        if !range.is_empty() {
            out.push(range);
        }
        return;
    };
    subtract(range.start..range.end.min(hole.start), rest, out);
    subtract(range.start.max(hole.end)..range.end, rest, out);
}
