//! Lengths of the instructions that exit: not every processor says where the next one begins.
//!
//! A guest may put prefixes in front (AMD APM volume 3, section 1.2). They change nothing about these instructions, but
//! whoever steps over one has to count them.

use crate::{
    address::{Gva, PAGE_SIZE},
    arch::InjectGp,
    hypervisor::{GuestContext, Hypervisor, PagingMode, VcpuId},
    mem::guest::Call,
};

/// Most bytes of an instruction.
const LONGEST: usize = 15;

/// An instruction that exits and is stepped over afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instruction {
    /// CPUID.
    Cpuid,
    /// RDMSR.
    ReadMsr,
    /// WRMSR.
    WriteMsr,
    /// VMMCALL.
    Vmmcall,
    /// INVD or WBINVD.
    FlushCaches,
    /// MOV to a debug register.
    WriteDebugRegister,
}

impl Instruction {
    /// Its bytes without prefixes (AMD APM volume 3, appendix A).
    const fn opcodes(self) -> &'static [&'static [u8]] {
        match self {
            Self::Cpuid => &[&[0x0f, 0xa2]],
            Self::ReadMsr => &[&[0x0f, 0x32]],
            Self::WriteMsr => &[&[0x0f, 0x30]],
            Self::Vmmcall => &[&[0x0f, 0x01, 0xd9]],
            Self::FlushCaches => &[&[0x0f, 0x08], &[0x0f, 0x09]],
            Self::WriteDebugRegister => &[&[0x0f, 0x23]],
        }
    }

    /// Bytes that follow the opcode: a ModRM byte that names two registers.
    const fn operands(self) -> usize {
        match self {
            Self::WriteDebugRegister => 1,
            _ => 0,
        }
    }

    /// Bytes without prefixes.
    const fn shortest(self) -> usize {
        self.opcodes()[0].len() + self.operands()
    }

    /// Its length, prefixes included, if `code` begins with it. `wide`: in 64-bit code, where REX prefixes exist.
    pub fn length(self, code: &[u8], wide: bool) -> Option<usize> {
        let is_prefix = |byte: &&u8| match byte {
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3 => true,
            0x40..=0x4f => wide,
            _ => false,
        };
        let prefixes = code.iter().take_while(is_prefix).count();
        let opcode = self.opcodes().iter().find(|opcode| code[prefixes..].starts_with(opcode))?;
        let length = prefixes + opcode.len() + self.operands();
        (length <= code.len().min(LONGEST)).then_some(length)
    }
}

impl Hypervisor {
    /// Length of the instruction at a linear address that exited as `what`. `wide`: in 64-bit code.
    ///
    /// Where the guest's paging is none that hypercalls know, or it took the page away meanwhile, it is taken for one without prefixes.
    ///
    /// # Errors
    /// [`InjectGp`] where the bytes are those of another instruction: the guest changed them, and has to see what becomes of it.
    pub fn instruction_length(
        &self,
        caller: VcpuId,
        context: &GuestContext,
        at: u64,
        wide: bool,
        what: Instruction,
    ) -> Result<u64, InjectGp> {
        let mut code = [0; LONGEST];
        let call = Call { caller, context: *context };
        let here = ((PAGE_SIZE - Gva(at).offset()) as usize).min(LONGEST);
        let (first, second) = code.split_at_mut(here);
        if context.paging == PagingMode::Other || self.read_guest(&call, Gva(at), first).is_err() {
            return Ok(what.shortest() as u64);
        }
        let beyond = Gva(at.wrapping_add(here as u64));
        let whole = second.is_empty() || self.read_guest(&call, beyond, second).is_ok();
        let code = if whole { &code[..] } else { &code[..here] };
        what.length(code, wide).map(|length| length as u64).ok_or(InjectGp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const ALL: [Instruction; 6] = [
        Instruction::Cpuid,
        Instruction::ReadMsr,
        Instruction::WriteMsr,
        Instruction::Vmmcall,
        Instruction::FlushCaches,
        Instruction::WriteDebugRegister,
    ];

    #[test]
    fn lengths_without_prefixes() {
        assert_eq!(ALL.map(Instruction::shortest), [2, 2, 2, 3, 2, 3]);
        assert_eq!(Instruction::FlushCaches.length(&[0x0f, 0x09], true), Some(2));
        assert_eq!(Instruction::FlushCaches.length(&[0x0f, 0x0b], true), None);
        assert_eq!(
            Instruction::WriteDebugRegister.length(&[0x0f, 0x23], true),
            None,
            "its operand is missing"
        );
        assert_eq!(Instruction::Cpuid.length(&[0x40, 0x0f, 0xa2], false), None, "INC in 32-bit code");
    }

    proptest! {
        #[test]
        fn prefixes_count(
            prefixes in prop::collection::vec(prop::sample::select(alloc::vec![0x26u8, 0x2e, 0x66, 0x67, 0xf2, 0xf3, 0x48, 0x4f]), 0..14),
            behind in prop::collection::vec(any::<u8>(), 15),
        ) {
            for what in ALL {
                let mut code: Vec<u8> = prefixes.clone();
                code.extend_from_slice(what.opcodes()[0]);
                code.extend_from_slice(&behind);
                let length = prefixes.len() + what.shortest();
                let expected = (length <= LONGEST).then_some(length);
                prop_assert_eq!(what.length(&code[..LONGEST], true), expected);
            }
        }

        #[test]
        fn garbage_has_a_length_within_itself_or_none(code in prop::collection::vec(any::<u8>(), 0..20), wide: bool) {
            for what in ALL {
                prop_assert!(what.length(&code, wide).is_none_or(|length| length <= code.len().min(LONGEST)));
            }
        }
    }
}
