// SPDX-License-Identifier: GPL-2.0-or-later
//! Notes what a hypervisor compares that does not tell it itself.
//!
//! Registers are in memory only between blocks. So while comparisons are wanted, QEMU is told to make each instruction a block of
//! its own, as its option `-singlestep` does: such blocks are kept apart from all others, and those of other runs stay as they were.
//! Before each CMP both operands are read. What is noted lies in the control file, out of any guest's reach.
//!
//! A QEMU that does not export the option's variable has no comparisons.
#![expect(
    unsafe_code,
    reason = "reads registers and a variable of QEMU's, writes to the mapped control file"
)]

use core::ffi::{c_int, c_uint, c_void};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use coverage_hypercall::harness::CmpEntry;
use hyperfuzz_control::{COMPARISONS_LEN, COMPARISONS_OFFSET, Control};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

use crate::cpu::Layout;
use crate::edges;
use crate::qemu::{self, Cpu};

/// Entries that there is room for.
const ROOM: usize = COMPARISONS_LEN / size_of::<CmpEntry>();
/// Places of the table that tells what was noted before: a power of two, several times [`ROOM`].
const SEEN: usize = 4 * ROOM;
const _: () = assert!(SEEN.is_power_of_two());

/// QEMU's variable; null where it is not exported.
static ONE_INSTRUCTION: AtomicPtr<AtomicI32> = AtomicPtr::new(ptr::null_mut());
/// `cpu_memory_rw_debug`; null as above.
static READ: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// Comparisons are being noted.
static ON: AtomicBool = AtomicBool::new(false);
/// Offset of the general registers in the CPU's structure.
static REGISTERS: AtomicUsize = AtomicUsize::new(0);
/// The machine's only CPU, while comparisons are being noted.
static CPU: AtomicPtr<Cpu> = AtomicPtr::new(ptr::null_mut());
/// The control file.
static FILE: AtomicPtr<Control> = AtomicPtr::new(ptr::null_mut());
/// Hashes of what was noted in this run, zero for none.
static KNOWN: [AtomicU32; SEEN] = [const { AtomicU32::new(0) }; SEEN];

/// Each comparison of the code that was ever translated, by its address and bytes. They live as long as the process, as translated code
/// does that refers to them.
static COMPARISONS: LazyLock<Mutex<Comparisons>> = LazyLock::new(Mutex::default);

type Comparisons = HashMap<(u64, Vec<u8>), &'static Comparison>;

/// `cpu_memory_rw_debug` in QEMU's `include/exec/cpu-all.h`.
type ReadDebug = unsafe extern "C" fn(*mut Cpu, u64, *mut c_void, usize, bool) -> c_int;

/// An operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operand {
    /// A part of a general register: its number, and bits to be shifted away.
    Register { number: usize, shift: u32 },
    /// A constant.
    Constant(u64),
    /// Memory at the sum of base, index times scale, and displacement.
    Memory { base: Option<usize>, index: Option<usize>, scale: u64, displacement: u64 },
}

/// A comparison in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Comparison {
    address: u64,
    left: Operand,
    right: Operand,
    /// Bytes of both.
    width: usize,
}

/// Number of a general register, whatever its size.
fn number(register: Register) -> Option<usize> {
    register.is_gpr().then(|| register.full_register().number())
}

/// An operand of an instruction.
fn operand(instruction: &Instruction, index: u32) -> Option<Operand> {
    match instruction.op_kind(index) {
        OpKind::Register => {
            let register = instruction.op_register(index);
            let high = matches!(register, Register::AH | Register::BH | Register::CH | Register::DH);
            Some(Operand::Register { number: number(register)?, shift: if high { 8 } else { 0 } })
        }
        // Relative to a segment whose base is not zero: nothing that a program has put there.
        OpKind::Memory if matches!(instruction.memory_segment(), Register::FS | Register::GS) => None,
        OpKind::Memory if instruction.is_ip_rel_memory_operand() => Some(Operand::Memory {
            base: None,
            index: None,
            scale: 0,
            displacement: instruction.ip_rel_memory_address(),
        }),
        OpKind::Memory => {
            let general = |register| match register {
                Register::None => Some(None),
                register => number(register).map(Some),
            };
            Some(Operand::Memory {
                base: general(instruction.memory_base())?,
                index: general(instruction.memory_index())?,
                scale: u64::from(instruction.memory_index_scale()),
                displacement: instruction.memory_displacement64(),
            })
        }
        OpKind::Immediate8
        | OpKind::Immediate16
        | OpKind::Immediate32
        | OpKind::Immediate64
        | OpKind::Immediate8to16
        | OpKind::Immediate8to32
        | OpKind::Immediate8to64
        | OpKind::Immediate32to64 => Some(Operand::Constant(instruction.immediate(index))),
        _ => None,
    }
}

/// The comparison that an instruction is, if it is one.
fn decode(code: &[u8], address: u64) -> Option<Comparison> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let instruction = decoder.decode();
    if instruction.mnemonic() != Mnemonic::Cmp {
        return None;
    }
    let width = match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register().size(),
        _ => instruction.memory_size().size(),
    };
    let (left, right) = (operand(&instruction, 0)?, operand(&instruction, 1)?);
    matches!(width, 1 | 2 | 4 | 8).then_some(Comparison { address, left, right, width })
}

/// A value as wide as that.
const fn cut(value: u64, width: usize) -> u64 {
    if width < 8 { value & ((1 << (width * 8)) - 1) } else { value }
}

impl Comparison {
    /// What is noted of two values.
    fn entry(&self, left: u64, right: u64) -> CmpEntry {
        let constant = matches!(self.right, Operand::Constant(_));
        let (left, right) = (cut(left, self.width), cut(right, self.width));
        // The constant stands on the left.
        let (left, right) = if constant { (right, left) } else { (left, right) };
        let width = self.width as u32;
        CmpEntry { pc: self.address, left, right, width, constant: u32::from(constant) }
    }
}

/// Finds what this needs of QEMU. `control` is the start of the mapped control file.
pub(crate) fn prepare(control: &'static Control, layout: &Layout) {
    READ.store(qemu::address(c"cpu_memory_rw_debug"), Ordering::Relaxed);
    ONE_INSTRUCTION.store(qemu::address(c"singlestep").cast(), Ordering::Relaxed);
    REGISTERS.store(layout.registers(), Ordering::Relaxed);
    FILE.store(ptr::from_ref(control).cast_mut(), Ordering::Relaxed);
}

/// A run begins on the machine's only CPU; its comparisons are wanted, or not. Between two blocks.
pub(crate) fn begin(control: &Control, cpu: *mut Cpu, wanted: bool) {
    let variable = ONE_INSTRUCTION.load(Ordering::Relaxed);
    if variable.is_null() || READ.load(Ordering::Relaxed).is_null() {
        return;
    }
    if wanted {
        KNOWN.iter().for_each(|hash| hash.store(0, Ordering::Relaxed));
    }
    if wanted || ON.load(Ordering::Relaxed) {
        // SAFETY: the symbol is that of an `int`, which QEMU reads on this thread when it looks for the next block.
        unsafe { (*variable).store(c_int::from(wanted), Ordering::Relaxed) };
    }
    control.comparisons.store(0, Ordering::Relaxed);
    CPU.store(cpu, Ordering::Relaxed);
    ON.store(wanted, Ordering::Relaxed);
}

/// True while blocks are made that note comparisons.
pub(crate) fn is_on() -> bool {
    ON.load(Ordering::Relaxed)
}

/// The argument of [`reached`] for the instruction at this guest-virtual address, which is a block of its own, if it is a comparison of the
/// hypervisor's.
pub(crate) fn argument(control: &Control, code: &[u8], address: u64) -> Option<*mut c_void> {
    edges::argument(control, address)?;
    let comparison = decode(code, address)?;
    let mut known = COMPARISONS.lock().unwrap_or_else(PoisonError::into_inner);
    let comparison =
        *known.entry((address, code.to_vec())).or_insert_with(|| Box::leak(Box::new(comparison)));
    Some(ptr::from_ref(comparison).cast_mut().cast())
}

/// The value of a general register.
fn register(cpu: *mut Cpu, number: usize) -> u64 {
    let at = REGISTERS.load(Ordering::Relaxed) + number % 16 * size_of::<u64>();
    // SAFETY: the sixteen registers lie there (`Layout`), and are not changed while the vCPU's thread is here.
    unsafe { cpu.cast::<u8>().add(at).cast::<u64>().read_volatile() }
}

/// The value of an operand.
fn value(cpu: *mut Cpu, operand: Operand, width: usize) -> Option<u64> {
    match operand {
        Operand::Register { number, shift } => Some(register(cpu, number) >> shift),
        Operand::Constant(value) => Some(value),
        Operand::Memory { base, index, scale, displacement } => {
            let part = |number: Option<usize>| number.map_or(0, |number| register(cpu, number));
            let address = part(base).wrapping_add(part(index).wrapping_mul(scale)).wrapping_add(displacement);
            let read = READ.load(Ordering::Relaxed);
            let mut bytes = [0u8; 8];
            // SAFETY: the symbol is that of this function, which writes `width` bytes, at most eight; it may be called on the vCPU's
            // thread. `begin` has made sure that there is one.
            let failed = unsafe {
                let read = core::mem::transmute::<*mut c_void, ReadDebug>(read);
                read(cpu, address, bytes.as_mut_ptr().cast(), width.min(8), false)
            };
            (failed == 0).then_some(u64::from_le_bytes(bytes))
        }
    }
}

/// True where this was noted before in this run, or cannot be told from what was.
fn is_known(entry: &CmpEntry) -> bool {
    let mix = |hash: u64, word: u64| (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    let hash = mix(mix(mix(1, entry.pc), entry.left), entry.right);
    let place = &KNOWN[hash as usize % SEEN];
    let tag = (hash >> 32) as u32 | 1;
    place.swap(tag, Ordering::Relaxed) == tag
}

/// Runs before each comparison of the hypervisor's while they are noted.
pub(crate) unsafe extern "C" fn reached(_: c_uint, argument: *mut c_void) {
    if !is_on() {
        return;
    }
    let (file, cpu) = (FILE.load(Ordering::Relaxed), CPU.load(Ordering::Relaxed));
    // SAFETY: `argument` is what `argument` returned, and the control file is mapped for as long as the process lives.
    let (comparison, control) = unsafe { (&*argument.cast::<Comparison>(), &*file) };
    let values = [comparison.left, comparison.right].map(|operand| value(cpu, operand, comparison.width));
    let [Some(left), Some(right)] = values else { return };
    let entry = comparison.entry(left, right);
    let count = control.comparisons.load(Ordering::Relaxed) as usize;
    if entry.left == entry.right || count >= ROOM || is_known(&entry) {
        return;
    }
    // SAFETY: the mapping has FILE_LEN bytes; the entry lies in it, as `count` is below ROOM, and is aligned.
    unsafe { file.cast::<u8>().add(COMPARISONS_OFFSET).cast::<CmpEntry>().add(count).write(entry) };
    control.comparisons.store(count as u32 + 1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_is_compared() {
        let register = |number, shift| Operand::Register { number, shift };
        // cmp dword [rbx+rcx*4+8], 0x15
        let found = decode(&[0x83, 0x7c, 0x8b, 0x08, 0x15], 0x1000).unwrap();
        let memory = Operand::Memory { base: Some(3), index: Some(1), scale: 4, displacement: 8 };
        assert_eq!((found.left, found.right, found.width), (memory, Operand::Constant(0x15), 4));
        let entry = found.entry(0x1_0000_0077, 0x15);
        assert_eq!((entry.left, entry.right, entry.width, entry.constant), (0x15, 0x77, 4, 1));
        // cmp ah, r8b is not encodable; cmp ah, cl
        let found = decode(&[0x38, 0xcc], 0).unwrap();
        assert_eq!((found.left, found.right, found.width), (register(0, 8), register(1, 0), 1));
        // cmp r14, [rip+0x10]
        let found = decode(&[0x4c, 0x3b, 0x35, 0x10, 0, 0, 0], 0x1000).unwrap();
        let relative = Operand::Memory { base: None, index: None, scale: 0, displacement: 0x1017 };
        assert_eq!((found.left, found.right, found.width), (register(14, 0), relative, 8));
        // cmp rax, -1
        let found = decode(&[0x48, 0x83, 0xf8, 0xff], 0).unwrap();
        assert_eq!(found.right, Operand::Constant(u64::MAX));
        assert_eq!(decode(&[0x65, 0x3b, 0x04, 0x25, 0, 0, 0, 0], 0), None, "relative to gs");
        assert_eq!(decode(&[0x48, 0x29, 0xc8], 0), None, "sub");
        assert_eq!(decode(&[0x0f], 0), None, "cut off");
    }

    #[test]
    fn values_are_as_wide_as_the_operands() {
        assert_eq!([1, 2, 4, 8].map(|width| cut(u64::MAX, width)), [0xff, 0xffff, 0xffff_ffff, u64::MAX]);
    }
}
