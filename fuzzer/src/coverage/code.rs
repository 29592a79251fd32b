//! The functions of an image, decoded as far as control flow is concerned.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction};

use crate::triage::functions;

/// What comes after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The following instruction.
    Following,
    /// The following instruction, once the function at this address has returned; 0 for one that the instruction does not name.
    Call(u64),
    /// The following instruction, or that at this address.
    Branch(u64),
    /// The instruction at this address.
    Jump(u64),
    /// One of several places that the instruction does not name: a table of addresses.
    Computed,
    /// The caller.
    Return,
    /// Nothing: it raises an exception.
    Nothing,
}

/// A function: its instructions by address.
#[derive(Clone, Debug)]
pub(super) struct Function {
    /// Address of its first instruction.
    pub start: u64,
    /// Address behind its last instruction.
    pub end: u64,
    /// Instructions: the address behind each, and what comes after it.
    pub instructions: BTreeMap<u64, (u64, Next)>,
}

impl Function {
    /// Decodes the code of one function.
    pub(super) fn decode(code: &[u8], start: u64) -> Self {
        let mut instructions = BTreeMap::new();
        let mut decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
        while decoder.can_decode() {
            let instruction = decoder.decode();
            instructions.insert(instruction.ip(), (instruction.next_ip(), next(&instruction)));
        }
        Self { start, end: start + code.len() as u64, instructions }
    }

    /// True for addresses inside.
    pub(super) fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }

    /// True if some path leads back to the caller, as far as is known of the functions that never do.
    fn returns(&self, never: &BTreeSet<u64>) -> bool {
        let mut seen = BTreeSet::new();
        let mut open = vec![self.start];
        while let Some(address) = open.pop() {
            let Some((behind, next)) = self.instructions.get(&address) else { continue };
            if !seen.insert(address) {
                continue;
            }
            match *next {
                Next::Return | Next::Computed => return true,
                Next::Jump(to) if !self.contains(to) => {
                    if !never.contains(&to) {
                        return true;
                    }
                }
                Next::Jump(to) => open.push(to),
                Next::Branch(to) => open.extend([to, *behind]),
                Next::Call(to) if never.contains(&to) => {}
                Next::Call(_) | Next::Following => open.push(*behind),
                Next::Nothing => {}
            }
        }
        false
    }
}

fn next(instruction: &Instruction) -> Next {
    let target = instruction.near_branch_target();
    match instruction.flow_control() {
        FlowControl::UnconditionalBranch => Next::Jump(target),
        FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => Next::Branch(target),
        FlowControl::IndirectBranch => Next::Computed,
        FlowControl::Return => Next::Return,
        FlowControl::Exception => Next::Nothing,
        FlowControl::Call | FlowControl::IndirectCall => Next::Call(target),
        // System calls come back.
        _ => Next::Following,
    }
}

/// Decodes all functions of an ELF image. Calls of functions that never return are [`Next::Nothing`].
///
/// # Errors
/// When the image cannot be read.
pub(super) fn read(elf: &[u8]) -> anyhow::Result<Vec<Function>> {
    Ok(decode(&functions::read(elf)?))
}

/// Decodes functions. Calls of those that never return are [`Next::Nothing`].
pub(super) fn decode(functions: &[functions::Function]) -> Vec<Function> {
    let mut functions: Vec<Function> =
        functions.iter().map(|function| Function::decode(&function.code, function.start)).collect();
    cut_at_calls_without_return(&mut functions);
    functions
}

/// Compilers put no instruction behind a call that does not return: what follows there belongs to something else.
fn cut_at_calls_without_return(functions: &mut [Function]) {
    let mut never = BTreeSet::new();
    loop {
        let known = never.len();
        let more = functions.iter().filter(|f| !never.contains(&f.start) && !f.returns(&never));
        let more: Vec<u64> = more.map(|function| function.start).collect();
        never.extend(more);
        if never.len() == known {
            break;
        }
    }
    for (_, next) in functions.iter_mut().flat_map(|function| function.instructions.values_mut()) {
        if matches!(next, Next::Call(to) if never.contains(to)) {
            *next = Next::Nothing;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `call` from `at` to `to`.
    fn call(at: u64, to: u64) -> Vec<u8> {
        let distance = to.wrapping_sub(at + 5) as u32;
        [&[0xe8][..], &distance.to_le_bytes()].concat()
    }

    #[test]
    fn instructions_know_what_follows_them() {
        // test edi, edi; jz +1; nop; ret
        let function = Function::decode(&[0x85, 0xff, 0x74, 0x01, 0x90, 0xc3], 0x1000);
        let flow: Vec<_> = function.instructions.iter().map(|(at, (_, next))| (*at, *next)).collect();
        assert_eq!(
            flow,
            [
                (0x1000, Next::Following),
                (0x1002, Next::Branch(0x1005)),
                (0x1004, Next::Following),
                (0x1005, Next::Return)
            ]
        );
        assert!(function.returns(&BTreeSet::new()));
    }

    #[test]
    fn calls_of_what_never_returns_end_a_path() {
        // 0x1000: hlt; jmp 0x1000.  0x2000: call 0x1000; nop.  0x3000: call 0x2000; ret.
        let code = [
            (0x1000, vec![0xf4, 0xeb, 0xfd]),
            (0x2000, [call(0x2000, 0x1000), vec![0x90]].concat()),
            (0x3000, [call(0x3000, 0x2000), vec![0xc3]].concat()),
        ];
        let mut functions: Vec<_> = code.iter().map(|(at, code)| Function::decode(code, *at)).collect();
        cut_at_calls_without_return(&mut functions);
        assert_eq!(functions[1].instructions[&0x2000].1, Next::Nothing);
        assert_eq!(functions[2].instructions[&0x3000].1, Next::Nothing);
    }

    #[test]
    fn the_hypervisor_consists_of_functions() {
        let functions = read(crate::images::HYPERVISOR).expect("it is an ELF file");
        assert!(functions.len() > 500, "{}", functions.len());
        assert!(read(b"nothing").is_err());
    }
}
