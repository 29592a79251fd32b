// SPDX-License-Identifier: GPL-2.0-or-later
//! What is added to translated code: a count of blocks, a count of port accesses, the world switch, and the markers.
#![expect(unsafe_code, reason = "callback from QEMU that reads the instructions of a block")]

use coverage_hypercall::harness::{MARKER_LEN, Marker};

use crate::budget::BLOCKS;
use crate::edges;
use crate::qemu::{Block, CB_NO_REGS, Callback, INLINE_ADD_U64, PluginId};
use crate::run::{
    MOV_CR3_RDI, PORT_ACCESSES, VMRUN, end_argument, end_reached, guest_entered, guest_left, plugin,
    ready_argument, ready_reached, switch_argument, tables_due,
};

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

/// Runs when a block is translated, on the vCPU's thread.
pub(crate) unsafe extern "C" fn block_translated(_: PluginId, block: *mut Block) {
    let Some(plugin) = plugin() else { return };
    let qemu = &plugin.qemu;
    // SAFETY: the block and its instructions are valid during the callback; an instruction has `insn_size` bytes of code.
    // The counters are static.
    unsafe {
        (qemu.register_block_inline)(block, INLINE_ADD_U64, BLOCKS.as_ptr().cast(), 1);
        let count = (qemu.block_insns)(block);
        if count > 0
            && let Some(argument) =
                edges::argument(plugin.control(), (qemu.insn_vaddr)((qemu.block_insn)(block, 0)))
        {
            (qemu.register_block_exec)(block, edges::block_reached, CB_NO_REGS, argument);
        }
        for index in 0..count {
            let insn = (qemu.block_insn)(block, index);
            let code = core::slice::from_raw_parts((qemu.insn_data)(insn), (qemu.insn_size)(insn));
            if index == 0 || index + 1 == count {
                // A block covers at most two pages: those of its first and its last byte.
                let host = (qemu.insn_haddr)(insn);
                let offset = plugin.translated(host);
                // VMRUN ends its block, so where the hypervisor goes on behind it another one begins.
                if let Some(offset) = offset.filter(|&offset| index == 0 && plugin.is_behind_vmrun(offset)) {
                    (qemu.register_insn_exec)(insn, guest_left, CB_NO_REGS, switch_argument(offset));
                }
                plugin.translated(host.wrapping_add(code.len().saturating_sub(1)));
            }
            if accesses_port(code) {
                (qemu.register_insn_inline)(insn, INLINE_ADD_U64, PORT_ACCESSES.as_ptr().cast(), 1);
            }
            if code == VMRUN {
                let offset = plugin.translated((qemu.insn_haddr)(insn));
                if let Some(offset) = offset.filter(|&offset| plugin.note_vmrun(offset)) {
                    (qemu.register_insn_exec)(insn, guest_entered, CB_NO_REGS, switch_argument(offset));
                }
            }
            if code.len() as u64 != MARKER_LEN {
                continue;
            }
            let Some(marker) = Marker::decode(code) else { continue };
            let Some(offset) = plugin.translated((qemu.insn_haddr)(insn)) else { continue };
            let (callback, argument) = match marker {
                Marker::Ready => {
                    let begins_block = index == 0;
                    (ready_reached as Callback, ready_argument((qemu.insn_vaddr)(insn), begins_block))
                }
                Marker::Enter => (guest_entered as Callback, switch_argument(offset)),
                Marker::Leave => (guest_left as Callback, switch_argument(offset)),
                Marker::Tables => {
                    // Registers are in memory only where a block begins. Between the marker and the instruction is a NOP.
                    let next = (index == 0 && count > 2).then(|| (qemu.block_insn)(block, 2));
                    let Some(next) = next.filter(|&next| {
                        let code =
                            core::slice::from_raw_parts((qemu.insn_data)(next), (qemu.insn_size)(next));
                        code == MOV_CR3_RDI
                    }) else {
                        continue;
                    };
                    let behind = (qemu.insn_vaddr)(next).wrapping_add(MOV_CR3_RDI.len() as u64);
                    (tables_due as Callback, plugin.tables_argument(offset, behind))
                }
                Marker::Done | Marker::Crash | Marker::Idle => {
                    (end_reached as Callback, end_argument(offset, marker))
                }
            };
            (qemu.register_insn_exec)(insn, callback, CB_NO_REGS, argument);
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
}
