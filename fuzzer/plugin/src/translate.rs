// SPDX-License-Identifier: GPL-2.0-or-later
//! What is added to translated code: a count of blocks, a count of port accesses, the world switch, and the markers.
#![expect(unsafe_code, reason = "callback from QEMU that reads the instructions of a block")]

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use coverage_hypercall::harness::{MARKER_LEN, Marker};

use hyperfuzz_control::Control;

use crate::api::{Api, Block, Callback, MAX_CODE, PluginId};
use crate::{compare, edges, path};

/// What is special about a place in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spot {
    /// A block begins.
    Block,
    /// A block begins that is one of zeros.
    Zeros,
    /// An instruction that halts the processor.
    Halt,
}

/// Whoever wants to know what code does: a machine that is reset in this process, or one that the host resets.
pub(crate) trait Observer: Sync {
    /// Code at this address in QEMU's memory is translated. Its offset in guest memory, if it lies there.
    fn translated(&self, host: *const u8) -> Option<usize>;
    /// The page that the host shares: it says where the hypervisor's code lies.
    fn control(&self) -> &'static Control;
    /// What is called before a marker at this offset whose block begins with it and goes on with `mov cr3, rdi`, behind which, in
    /// virtual memory, the hypervisor goes on; none if that is executed like anything else.
    fn tables(&self, _offset: usize, _behind: u64) -> Option<(Callback, *mut c_void)> {
        None
    }
    /// What is called there beside what is called everywhere, at this guest-virtual address.
    fn spot(&self, _spot: Spot, _address: u64) -> Option<Callback> {
        None
    }
    /// True where the edges of a hypervisor that does not do it itself are counted.
    fn counts(&self) -> bool {
        false
    }
    /// QEMU has thrown all translated blocks away. On the vCPU's thread, between two blocks.
    fn blocks_gone(&self) {}
    /// What is called before markers and around VMRUN.
    fn callbacks(&self) -> &'static Callbacks;
}

/// What is called before these instructions are executed.
pub(crate) struct Callbacks {
    /// The ready marker; with [`ready_argument`].
    pub(crate) ready: Callback,
    /// The markers that end a run; with [`end_argument`].
    pub(crate) end: Callback,
    /// VMRUN, and the marker that says the same; with [`switch_argument`].
    pub(crate) enter: Callback,
    /// What is behind VMRUN, and the marker that says the same; with [`switch_argument`].
    pub(crate) leave: Callback,
}

/// The API and the observer. Set once, before anything is translated.
static OBSERVED: OnceLock<(Api, &'static dyn Observer)> = OnceLock::new();

/// Where the hypervisor goes on after a VM exit: offsets in guest memory.
static EXITS_TO: Mutex<Vec<usize>> = Mutex::new(Vec::new());
/// Places with VMRUN that are known at most: a hypervisor has one or two.
const MAX_EXITS_TO: usize = 64;

fn exits_to() -> MutexGuard<'static, Vec<usize>> {
    // A panic cannot leave it half changed: nothing that holds it panics.
    EXITS_TO.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes that VMRUN was translated at this offset and virtual address. False where that is no business of the hypervisor's.
fn note_vmrun(control: &Control, offset: usize, address: u64) -> bool {
    let its_own = if is_foreign(control) {
        // The text in memory is the agent's.
        edges::argument(control, address).is_some()
    } else {
        // Where the hypervisor's code lies is not known before the snapshot.
        control.text_len.load(Ordering::Relaxed) == 0 || control.in_text(offset as u64)
    };
    if !its_own {
        return false;
    }
    let mut exits_to = exits_to();
    let next = offset + VMRUN.len();
    let noted = exits_to.contains(&next);
    let room = exits_to.len() < MAX_EXITS_TO;
    if !noted && room {
        exits_to.push(next);
    }
    noted || room
}

/// True where the hypervisor knows nothing of us.
fn is_foreign(control: &Control) -> bool {
    control.marker_ring.load(Ordering::Relaxed) != 0
}

/// True where the hypervisor goes on at this offset after a VM exit.
fn is_behind_vmrun(offset: usize) -> bool {
    exits_to().contains(&offset)
}

/// Lets code be observed from now on.
///
/// # Safety
/// `id` must be what QEMU gave this plugin.
pub(crate) unsafe fn observe(id: PluginId, api: Api, observer: &'static dyn Observer) {
    let (api, _) = OBSERVED.get_or_init(|| (api, observer));
    // SAFETY: the caller's promise.
    unsafe { api.on_translation(id, block_translated) };
    // SAFETY: the caller's promise.
    unsafe { api.on_flush(id, blocks_gone) };
}

/// Runs when QEMU has thrown all translated blocks away.
unsafe extern "C" fn blocks_gone(_: PluginId) {
    if let Some((_, observer)) = OBSERVED.get() {
        observer.blocks_gone();
    }
}

/// Bit of [`ready_argument`]: the marker begins its block. Canonical addresses lose nothing by a shift.
pub(crate) const BEGINS_BLOCK: usize = 1;

/// Packs where a ready marker is, in virtual memory, into the argument of its callback.
fn ready_argument(address: u64, begins_block: bool) -> *mut c_void {
    #[expect(clippy::cast_possible_truncation, reason = "QEMU runs on 64-bit hosts here")]
    ptr::without_provenance_mut(((address as usize) << 1) | usize::from(begins_block))
}

/// Packs where another marker is, in guest memory, and which one, into the argument of its callback.
fn end_argument(offset: usize, marker: Marker) -> *mut c_void {
    ptr::without_provenance_mut((offset << 8) | marker as usize)
}

/// Packs where VMRUN, or the instruction behind it, is in guest memory into the argument of its callback.
fn switch_argument(offset: usize) -> *mut c_void {
    ptr::without_provenance_mut(offset)
}

/// VMRUN: AMD APM volume 3. Its operand is implicit.
const VMRUN: [u8; 3] = [0x0f, 0x01, 0xd8];
/// Memory that was never written, as code: `add [rax], al`.
const ZEROS: [u8; 2] = [0, 0];
/// HLT: Intel SDM volume 2.
const HLT: [u8; 1] = [0xf4];
/// PAUSE: likewise.
const PAUSE: [u8; 2] = [0xf3, 0x90];
/// Blocks that a PAUSE counts as: QEMU leaves translated code for each, which takes as long as hundreds of blocks. Who pauses waits for
/// another processor, and there is none.
const PAUSE_BLOCKS: u64 = 256;
/// `mov cr3, rdi`.
const MOV_CR3_RDI: [u8; 3] = [0x0f, 0x22, 0xdf];

/// True for an instruction that accesses a port other than the debug console's, 0xe9, which has no state.
/// Opcodes: Intel SDM volume 2, appendix A.
fn accesses_port(code: &[u8]) -> bool {
    let is_prefix = |byte: &u8| {
        matches!(byte, 0x66 | 0x67 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65)
            || (0x40..0x50).contains(byte)
    };
    let start = code.iter().position(|byte| !is_prefix(byte)).unwrap_or(0);
    match &code[start..] {
        [0xe6 | 0xe7, 0xe9, ..] => false,
        [0xe4..=0xe7 | 0xec..=0xef | 0x6c..=0x6f, ..] => true,
        _ => false,
    }
}

/// True for a string instruction that is repeated, given as its bytes and how many of them count. Opcodes: as above.
fn is_repeated((code, len): ([u8; MAX_CODE], usize)) -> bool {
    let is_prefix = |byte: &u8| matches!(byte, 0x66 | 0x67 | 0xf2 | 0xf3) || (0x40..0x50).contains(byte);
    let code = &code[..len];
    let prefixes = code.iter().position(|byte| !is_prefix(byte)).unwrap_or(len);
    code[..prefixes].iter().any(|byte| matches!(byte, 0xf2 | 0xf3))
        && matches!(code[prefixes..], [0x6c..=0x6f | 0xa4..=0xa7 | 0xaa..=0xaf, ..])
}

/// Runs when a block is translated, on the vCPU's thread.
unsafe extern "C" fn block_translated(_: PluginId, block: *mut Block) {
    let Some((api, observer)) = OBSERVED.get() else { return };
    // SAFETY: what QEMU passes, during the callback.
    let block = unsafe { api.block(block) };
    let callbacks = observer.callbacks();
    let control = observer.control();
    let first = block.instructions().next();
    // The steps of a string instruction are blocks of their own, and say nothing but how much it moves.
    let step = is_foreign(control) && first.as_ref().is_some_and(|first| is_repeated(first.code()));
    let address = first.filter(|_| !step).map(|first| first.virtual_address());
    if !step {
        block.count();
    }
    if let Some(callback) = address.and_then(|address| observer.spot(Spot::Block, address)) {
        block.before(callback, ptr::null_mut());
    }
    if path::is_wanted(control) {
        if let Some(argument) = address.and_then(|address| path::argument(control, address)) {
            block.before(path::block_reached, argument);
        }
    } else if compare::is_on() {
        let alone = block.instructions().next().filter(|_| block.instructions().len() == 1);
        let argument = alone.and_then(|insn| {
            let (code, len) = insn.code();
            compare::argument(control, &code[..len], insn.virtual_address())
        });
        if let Some(argument) = argument {
            block.before(compare::reached, argument);
        }
    } else if let Some(argument) =
        address.filter(|_| observer.counts()).and_then(|address| edges::argument(control, address))
    {
        block.before(edges::block_reached, argument);
    }
    let count = block.instructions().len();
    for (index, insn) in block.instructions().enumerate() {
        let (code, len) = insn.code();
        let code = &code[..len];
        if index == 0 || index + 1 == count {
            // A block covers at most two pages: those of its first and its last byte.
            let host = insn.host_address();
            let offset = observer.translated(host);
            // VMRUN ends its block, so where the hypervisor goes on behind it another one begins.
            if index == 0
                && code == ZEROS
                && let Some(callback) = observer.spot(Spot::Zeros, insn.virtual_address())
            {
                insn.before(callback, ptr::null_mut());
            }
            if let Some(offset) = offset.filter(|&offset| index == 0 && is_behind_vmrun(offset)) {
                insn.before(callbacks.leave, switch_argument(offset));
            }
            observer.translated(host.wrapping_add(code.len().saturating_sub(1)));
        }
        if accesses_port(code) {
            insn.count();
        }
        if code == PAUSE {
            insn.count_as(PAUSE_BLOCKS);
        }
        if code == HLT
            && let Some(callback) = observer.spot(Spot::Halt, insn.virtual_address())
        {
            insn.before(callback, ptr::null_mut());
        }
        if code == VMRUN {
            let offset = observer.translated(insn.host_address());
            if let Some(offset) = offset.filter(|&offset| note_vmrun(control, offset, insn.virtual_address()))
            {
                insn.before(callbacks.enter, switch_argument(offset));
            }
        }
        if code.len() as u64 != MARKER_LEN {
            continue;
        }
        let Some(marker) = Marker::decode(code) else { continue };
        let Some(offset) = observer.translated(insn.host_address()) else { continue };
        match marker {
            Marker::Ready => {
                insn.before(callbacks.ready, ready_argument(insn.virtual_address(), index == 0));
            }
            Marker::Enter | Marker::Leave if is_foreign(control) => {}
            Marker::Enter => insn.before(callbacks.enter, switch_argument(offset)),
            Marker::Leave => insn.before(callbacks.leave, switch_argument(offset)),
            Marker::Tables => {
                // Registers are in memory only where a block begins. Between the marker and the instruction is a NOP.
                let next = block.instructions().nth(2).filter(|next| index == 0 && next.is(&MOV_CR3_RDI));
                let behind = next.map(|next| next.virtual_address().wrapping_add(MOV_CR3_RDI.len() as u64));
                if let Some((callback, argument)) = behind.and_then(|behind| observer.tables(offset, behind))
                {
                    insn.before(callback, argument);
                }
            }
            Marker::Done | Marker::Crash | Marker::Idle => {
                insn.before(callbacks.end, end_argument(offset, marker));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_port_instructions() {
        assert!(accesses_port(&[0xee]), "out dx, al");
        assert!(accesses_port(&[0x66, 0xed]), "in ax, dx");
        assert!(accesses_port(&[0xf3, 0x6e]), "rep outsb");
        assert!(accesses_port(&[0xe6, 0x80]), "out 0x80, al");
        assert!(!accesses_port(&[0xe6, 0xe9]), "out 0xe9, al");
        assert!(!accesses_port(&[0x0f, 0x0b]), "ud2");
        assert!(!accesses_port(&[0x48, 0x89, 0xec]), "mov rsp, rbp");
        assert!(!accesses_port(&[]));
    }

    #[test]
    fn tells_string_instructions_that_are_repeated() {
        let is = |code: &[u8]| {
            let mut bytes = [0; MAX_CODE];
            bytes[..code.len()].copy_from_slice(code);
            is_repeated((bytes, code.len()))
        };
        assert!(is(&[0xf3, 0xaa]), "rep stosb");
        assert!(is(&[0xf3, 0x48, 0xa5]), "rep movsq");
        assert!(is(&[0xf2, 0xae]), "repne scasb");
        assert!(!is(&[0xaa]), "stosb");
        assert!(!is(&[0xf3, 0x90]), "pause");
        assert!(!is(&[0xf3, 0x0f, 0x1e, 0xfa]), "endbr64");
        assert!(!is(&[0xa8, 0xf3]), "test al, 0xf3");
    }
}
