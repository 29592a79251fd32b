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
    /// MOV to a control register.
    WriteControlRegister,
}

/// What the bytes of an instruction say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Its length in bytes, prefixes included.
    pub length: u64,
    /// Number of the general register that it names, 0 to 15; 0 if it names none.
    pub register: u8,
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
            Self::WriteControlRegister => &[&[0x0f, 0x22]],
        }
    }

    /// Bytes that follow the opcode: a ModRM byte that names two registers.
    const fn operands(self) -> usize {
        match self {
            Self::WriteDebugRegister | Self::WriteControlRegister => 1,
            _ => 0,
        }
    }

    /// Bytes without prefixes.
    const fn shortest(self) -> usize {
        self.opcodes()[0].len() + self.operands()
    }

    /// Reads it, if `code` begins with it. `wide`: in 64-bit code, where REX prefixes exist.
    pub fn decode(self, code: &[u8], wide: bool) -> Option<Decoded> {
        let is_prefix = |byte: &&u8| match byte {
            0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3 => true,
            0x40..=0x4f => wide,
            _ => false,
        };
        let prefixes = code.iter().take_while(is_prefix).count();
        let opcode = self.opcodes().iter().find(|opcode| code[prefixes..].starts_with(opcode))?;
        let length = prefixes + opcode.len() + self.operands();
        if length > code.len().min(LONGEST) {
            return None;
        }
        // REX counts right before the opcode only; its lowest bit is the highest of the register's number.
        let rex = code[..prefixes].last().filter(|byte| wide && matches!(byte, 0x40..=0x4f));
        let register =
            if self.operands() == 0 { 0 } else { code[length - 1] & 7 | (rex.unwrap_or(&0) & 1) << 3 };
        Some(Decoded { length: length as u64, register })
    }
}

impl Hypervisor {
    /// Reads the instruction at a linear address that exited as `what`. `wide`: in 64-bit code.
    ///
    /// Where the guest's paging is none that hypercalls know, or it took the page away meanwhile, it is taken for one without prefixes
    /// and with the first register.
    ///
    /// # Errors
    /// [`InjectGp`] where the bytes are those of another instruction: the guest changed them, and has to see what becomes of it.
    pub fn instruction(
        &self,
        caller: VcpuId,
        context: &GuestContext,
        at: u64,
        wide: bool,
        what: Instruction,
    ) -> Result<Decoded, InjectGp> {
        let mut code = [0; LONGEST];
        let call = Call { caller, context: *context };
        let here = ((PAGE_SIZE - Gva(at).offset()) as usize).min(LONGEST);
        let (first, second) = code.split_at_mut(here);
        if context.paging == PagingMode::Other || self.read_guest(&call, Gva(at), first).is_err() {
            return Ok(Decoded { length: what.shortest() as u64, register: 0 });
        }
        let beyond = Gva(at.wrapping_add(here as u64));
        let whole = second.is_empty() || self.read_guest(&call, beyond, second).is_ok();
        let code = if whole { &code[..] } else { &code[..here] };
        what.decode(code, wide).ok_or(InjectGp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const ALL: [Instruction; 7] = [
        Instruction::Cpuid,
        Instruction::ReadMsr,
        Instruction::WriteMsr,
        Instruction::Vmmcall,
        Instruction::FlushCaches,
        Instruction::WriteDebugRegister,
        Instruction::WriteControlRegister,
    ];

    fn length(what: Instruction, code: &[u8], wide: bool) -> Option<usize> {
        what.decode(code, wide).map(|decoded| decoded.length as usize)
    }

    #[test]
    fn lengths_without_prefixes() {
        assert_eq!(ALL.map(Instruction::shortest), [2, 2, 2, 3, 2, 3, 3]);
        assert_eq!(length(Instruction::FlushCaches, &[0x0f, 0x09], true), Some(2));
        assert_eq!(length(Instruction::FlushCaches, &[0x0f, 0x0b], true), None);
        assert_eq!(
            length(Instruction::WriteDebugRegister, &[0x0f, 0x23], true),
            None,
            "its operand is missing"
        );
        assert_eq!(length(Instruction::Cpuid, &[0x40, 0x0f, 0xa2], false), None, "INC in 32-bit code");
    }

    #[test]
    fn registers_have_sixteen_numbers() {
        let register = |code: &[u8]| Instruction::WriteControlRegister.decode(code, true).unwrap().register;
        assert_eq!(register(&[0x0f, 0x22, 0xe0]), 0);
        assert_eq!(register(&[0x0f, 0x22, 0xe7]), 7);
        assert_eq!(register(&[0x41, 0x0f, 0x22, 0xe7]), 15);
        assert_eq!(
            register(&[0x41, 0x66, 0x0f, 0x22, 0xe7]),
            7,
            "a REX prefix before another does not count"
        );
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
                prop_assert_eq!(self::length(what, &code[..LONGEST], true), expected);
            }
        }

        #[test]
        fn garbage_has_a_length_within_itself_or_none(code in prop::collection::vec(any::<u8>(), 0..20), wide: bool) {
            for what in ALL {
                prop_assert!(self::length(what, &code, wide).is_none_or(|length| length <= code.len().min(LONGEST)));
            }
        }
    }
}
