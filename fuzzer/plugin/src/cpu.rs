// SPDX-License-Identifier: GPL-2.0-or-later
//! Saves and restores the virtual CPU as one raw copy of QEMU's CPU structure.
//!
//! The part between the first and the last field that QEMU itself would migrate is copied as it is. It is ten times
//! faster than loading the CPU through QEMU's stream, and it also restores what a stream leaves out when the snapshot did not
//! have it. Offsets come from the migration descriptions that QEMU exports, never from a header.
//!
//! The copied range contains pointers to debug-register breakpoints. The snapshot must not have any; a guest that sets
//! some has them removed before the copy.
#![expect(unsafe_code, reason = "reads and writes QEMU's CPU structure")]

use core::ffi::{CStr, c_void};
use core::ops::Range;

use hyperfuzz_control::SVM_GUEST;

use crate::qemu::{Cpu, Qemu, VmStateDescription, VmStateField};

/// DR7 bits that arm a breakpoint: L0 G0 … L3 G3 (Intel SDM volume 3, 18.2.4).
const DR7_ARMED: u64 = 0xff;
/// `HF_GUEST_MASK` in QEMU's `target/i386/cpu.h`: an SVM guest runs.
const HF_GUEST: u32 = 1 << 21;
/// `HF_CPL_MASK`: current privilege level.
const HF_CPL: u32 = 3;
/// RFLAGS.IF: interrupts are taken.
const FLAG_IF: u64 = 1 << 9;
/// Indexes of RSI and RDI in `env.regs`.
const RSI: usize = 6;
const RDI: usize = 7;
/// `cpu->exception_index` when there is no exception.
const NO_EXCEPTION: u32 = u32::MAX;
/// Largest plausible CPU structure; larger offsets mean that the description has another layout.
const MAX_CPU: usize = 0x4_0000;

/// Where things are in the CPU structure.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// What is copied.
    raw: Range<usize>,
    regs: usize,
    eip: usize,
    eflags: usize,
    hflags: usize,
    dr: usize,
    cr: usize,
    /// What decides about translation beside CR0, CR3, CR4 and the flags: places and sizes.
    paging: [(usize, usize); 2],
    halted: usize,
    interrupt_request: usize,
    exception_index: usize,
}

/// The fields of a description and of its subsections.
fn fields(description: *const VmStateDescription) -> Vec<&'static VmStateField> {
    let mut found = Vec::new();
    // SAFETY: the description is a static object of QEMU; its field list ends with a null name, its list of
    // subsections with a null pointer. QEMU never changes or frees either.
    unsafe {
        let mut field = (*description).fields;
        while !(*field).name.is_null() {
            found.push(&*field);
            field = field.add(1);
        }
        let mut subsection = (*description).subsections;
        if !subsection.is_null() {
            while !(*subsection).is_null() {
                found.extend(fields(*subsection));
                subsection = subsection.add(1);
            }
        }
    }
    found
}

/// Name of a field.
fn name(field: &VmStateField) -> &'static [u8] {
    // SAFETY: names are NUL-terminated string literals of QEMU; `fields` keeps only those that are not null.
    unsafe { CStr::from_ptr(field.name) }.to_bytes()
}

/// Offset of the field with this name.
fn offset(fields: &[&VmStateField], wanted: &str) -> Result<usize, String> {
    let field = fields.iter().find(|field| name(field) == wanted.as_bytes());
    match field {
        Some(field) if field.offset < MAX_CPU => Ok(field.offset),
        _ => Err(format!("this QEMU's CPU description has no usable field `{wanted}`")),
    }
}

impl Layout {
    /// Reads the layout out of QEMU's own description.
    ///
    /// # Errors
    /// Names the field that is missing.
    pub(crate) fn find(qemu: &Qemu) -> Result<Self, String> {
        let x86 = fields(qemu.vmstate_x86_cpu);
        let common = fields(qemu.vmstate_cpu_common);
        let regs = offset(&x86, "env.regs")?;
        let end = x86
            .iter()
            .filter(|field| name(field).starts_with(b"env."))
            .map(|field| field.offset + field.size * usize::try_from(field.num).unwrap_or(1).max(1))
            .filter(|end| *end < MAX_CPU)
            .max()
            .ok_or("this QEMU's CPU description is empty")?;
        Ok(Self {
            raw: regs..end,
            regs,
            eip: offset(&x86, "env.eip")?,
            eflags: offset(&x86, "env.eflags")?,
            hflags: offset(&x86, "env.hflags")?,
            dr: offset(&x86, "env.dr")?,
            cr: offset(&x86, "env.cr[0]")?,
            paging: [(offset(&x86, "env.efer")?, 8), (offset(&x86, "env.a20_mask")?, 4)],
            halted: offset(&common, "halted")?,
            interrupt_request: offset(&common, "interrupt_request")?,
            exception_index: offset(&common, "exception_index")?,
        })
    }

    /// Offset of the sixteen general registers, in the order of their numbers.
    pub(crate) fn registers(&self) -> usize {
        self.regs
    }

    /// Reads a field. The CPU must be a live one of this process.
    fn read<T: Copy>(cpu: *mut Cpu, at: usize) -> T {
        // SAFETY: `at` lies in the CPU structure (Layout::find); fields there are aligned integers. Another thread may
        // change `halted` meanwhile, hence the volatile read.
        unsafe { cpu.cast::<u8>().add(at).cast::<T>().read_volatile() }
    }

    /// Writes a field. Called between two blocks, on the CPU's own thread.
    fn write(cpu: *mut Cpu, at: usize, value: u32) {
        // SAFETY: as for `read`; nobody else writes these fields while the big lock is held between two blocks.
        unsafe { cpu.cast::<u8>().add(at).cast::<u32>().write_volatile(value) }
    }

    /// RDI, valid at the start of a block.
    pub(crate) fn rdi(&self, cpu: *mut Cpu) -> u64 {
        Self::read(cpu, self.regs + RDI * 8)
    }

    /// RSI, valid at the start of a block.
    pub(crate) fn rsi(&self, cpu: *mut Cpu) -> u64 {
        Self::read(cpu, self.regs + RSI * 8)
    }

    /// Lets the CPU go on at this address. On its own thread, at the start of a block.
    pub(crate) fn set_rip(&self, cpu: *mut Cpu, rip: u64) {
        // SAFETY: as for `write`; `eip` has 64 bits on this target.
        unsafe { cpu.cast::<u8>().add(self.eip).cast::<u64>().write_volatile(rip) }
    }

    /// CR3, valid at the start of a block.
    pub(crate) fn cr3(&self, cpu: *mut Cpu) -> u64 {
        Self::read(cpu, self.cr + 3 * 8)
    }

    /// Sets CR3, and does nothing else that writing it does. On the CPU's own thread, at the start of a block.
    pub(crate) fn set_cr3(&self, cpu: *mut Cpu, value: u64) {
        // SAFETY: as for `set_rip`; `cr` is an array of five words of 64 bits.
        unsafe { cpu.cast::<u8>().add(self.cr + 3 * 8).cast::<u64>().write_volatile(value) }
    }

    /// True where code of this privilege level runs, which is that of an SVM guest where [`SVM_GUEST`] is added. The hypervisor itself
    /// has level 0.
    pub(crate) fn runs_at(&self, cpu: *mut Cpu, level: u32) -> bool {
        let guest = if level & SVM_GUEST == 0 { 0 } else { HF_GUEST };
        Self::read::<u32>(cpu, self.hflags) & (HF_GUEST | HF_CPL) == guest | level & HF_CPL
    }

    /// True where a halted processor is woken by nothing that has happened so far.
    pub(crate) fn nothing_pending(&self, cpu: *mut Cpu) -> bool {
        Self::read::<u32>(cpu, self.interrupt_request) == 0
    }

    /// True where interrupts are taken.
    pub(crate) fn takes_interrupts(&self, cpu: *mut Cpu) -> bool {
        Self::read::<u64>(cpu, self.eflags) & FLAG_IF != 0
    }

    /// True where the CPU waits for an interrupt.
    pub(crate) fn halted(&self, cpu: *mut Cpu) -> bool {
        Self::read::<u32>(cpu, self.halted) != 0
    }

    /// True where the CPU waits for an interrupt that cannot come. On the CPU's own thread, between two blocks; the machine's
    /// clock stands still, so that no timer fires.
    pub(crate) fn halted_for_ever(&self, cpu: *mut Cpu) -> bool {
        self.halted(cpu) && (self.nothing_pending(cpu) || !self.takes_interrupts(cpu))
    }

    /// DR7.
    fn dr7(&self, cpu: *mut Cpu) -> u64 {
        Self::read(cpu, self.dr + 7 * 8)
    }
}

/// A CPU, as it was at the snapshot.
pub(crate) struct CpuState {
    layout: Layout,
    raw: Vec<u8>,
    halted: u32,
    interrupt_request: u32,
    dr7: u64,
}

impl CpuState {
    /// Saves the CPU, which executes the ready marker at this level ([`Layout::runs_at`]). To be called between two blocks, on the CPU's own
    /// thread.
    ///
    /// # Errors
    /// If the CPU is in a state that cannot be restored.
    pub(crate) fn save(layout: &Layout, cpu: *mut Cpu, level: u32) -> Result<Self, String> {
        if !layout.runs_at(cpu, level) {
            return Err(
                "the ready marker was not executed where it should be, or VMRUN follows it without a jump"
                    .into(),
            );
        }
        let dr7 = layout.dr7(cpu);
        if dr7 & DR7_ARMED != 0 {
            return Err("debug registers are armed at the ready marker; that state cannot be restored".into());
        }
        let mut raw = vec![0; layout.raw.len()];
        // SAFETY: the range lies in the CPU structure (Layout::find), which nobody changes between two blocks.
        unsafe {
            let from = cpu.cast::<u8>().add(layout.raw.start);
            from.copy_to_nonoverlapping(raw.as_mut_ptr(), raw.len());
        }
        Ok(Self {
            raw,
            halted: Layout::read(cpu, layout.halted),
            interrupt_request: Layout::read(cpu, layout.interrupt_request),
            dr7,
            layout: layout.clone(),
        })
    }

    /// CR3.
    pub(crate) fn cr3(&self) -> u64 {
        self.word(self.layout.cr + 3 * 8)
    }

    /// A word of what was saved.
    fn word(&self, at: usize) -> u64 {
        let at = at.wrapping_sub(self.layout.raw.start);
        let bytes = self.raw.get(at..at.wrapping_add(8)).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    }

    /// True where the CPU translates addresses of the hypervisor as it did when it was saved, given the same tables: the mode and all
    /// registers but CR3 that decide about it are the same.
    pub(crate) fn translates_alike(&self, cpu: *mut Cpu) -> bool {
        let layout = &self.layout;
        let half = |at: usize| Layout::read::<u32>(cpu, at) == self.word(at) as u32;
        half(layout.hflags)
            && [0, 4]
                .into_iter()
                .all(|n| Layout::read::<u64>(cpu, layout.cr + n * 8) == self.word(layout.cr + n * 8))
            && layout.paging.into_iter().all(|(at, size)| half(at) && (size == 4 || half(at + 4)))
    }

    /// Restores the CPU, except for its TLB. To be called between two blocks, on the CPU's own thread.
    pub(crate) fn restore(&self, qemu: &Qemu, cpu: *mut Cpu) {
        if self.layout.dr7(cpu) != self.dr7 {
            // SAFETY: `env` is the structure that begins with `regs`. The snapshot's DR7 arms nothing, so this removes
            // all breakpoints and leaves null pointers, as the copy below does.
            unsafe {
                let env = cpu.cast::<u8>().add(self.layout.regs).cast::<c_void>();
                #[expect(clippy::cast_possible_truncation, reason = "DR7 has 32 bits")]
                (qemu.update_dr7)(env, self.dr7 as u32);
            }
        }
        // SAFETY: as in `save`; the bytes come from the same CPU, so that pointers among them are still valid.
        unsafe {
            let to = cpu.cast::<u8>().add(self.layout.raw.start);
            to.copy_from_nonoverlapping(self.raw.as_ptr(), self.raw.len());
        }
        Layout::write(cpu, self.layout.halted, self.halted);
        Layout::write(cpu, self.layout.interrupt_request, self.interrupt_request);
        Layout::write(cpu, self.layout.exception_index, NO_EXCEPTION);
    }
}
