//! The instructions around an address, as people read them.

use std::fmt;

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter};
use serde::Serialize;

use super::functions::{Function, find};

/// Instructions that are shown before the one in question.
const BEFORE: usize = 6;
/// Instructions that are shown behind it.
const AFTER: usize = 4;

/// A piece of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// Name of the function.
    pub function: String,
    /// Distance of the instruction in question from the function's start, in bytes.
    pub offset: u64,
    /// Instructions in ascending order.
    pub lines: Vec<Line>,
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Where it is.
    pub address: u64,
    /// Intel's syntax, and the function that it calls or jumps to.
    pub text: String,
    /// It is the one in question.
    pub marked: bool,
}

/// Function and offset, an empty line, and the instructions, indented.
impl fmt::Display for Listing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}+{:#x}\n", self.function, self.offset)?;
        for line in &self.lines {
            let mark = if line.marked { "=>" } else { "" };
            writeln!(f, "  {mark:2} {:016x}  {}", line.address, line.text)?;
        }
        Ok(())
    }
}

/// The instructions around an address, none where no function is there. The functions are in ascending order.
///
/// Where instructions begin is known of the start of a function only, so it is decoded from there. If none of its instructions
/// begins at the address, the machine has jumped into the middle of one: then nothing is said of what stands before.
pub fn around(functions: &[Function], address: u64) -> Option<Listing> {
    let function = find(functions, address)?;
    let offset = address - function.start;
    let before: Vec<_> =
        instructions(function, 0).take_while(|instruction| instruction.ip() < address).collect();
    let meets = before.last().map_or(offset == 0, |last| last.next_ip() == address);
    let before = if meets { &before[before.len().saturating_sub(BEFORE)..] } else { &[] };
    let behind = instructions(function, offset as usize).take(1 + AFTER);
    let lines = before.iter().copied().chain(behind).map(|instruction| Line {
        address: instruction.ip(),
        text: text(functions, function, &instruction),
        marked: instruction.ip() == address,
    });
    Some(Listing { function: function.name.clone(), offset, lines: lines.collect() })
}

/// The instructions of a function from an offset on.
fn instructions(function: &Function, offset: usize) -> impl Iterator<Item = Instruction> {
    let address = function.start + offset as u64;
    let mut decoder = Decoder::with_ip(64, &function.code[offset..], address, DecoderOptions::NONE);
    std::iter::from_fn(move || decoder.can_decode().then(|| decoder.decode()))
}

fn text(functions: &[Function], function: &Function, instruction: &Instruction) -> String {
    let mut formatter = IntelFormatter::new();
    formatter.options_mut().set_space_after_operand_separator(true);
    formatter.options_mut().set_hex_prefix("0x");
    formatter.options_mut().set_hex_suffix("");
    formatter.options_mut().set_uppercase_hex(false);
    formatter.options_mut().set_branch_leading_zeros(false);
    let mut text = String::new();
    formatter.format(instruction, &mut text);
    let to = instruction.near_branch_target();
    if to != 0
        && !function.contains(to)
        && let Some(target) = find(functions, to)
    {
        text.push_str("  ; ");
        text.push_str(&target.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `reader` calls `helper`, then reads what a pointer points to that it was given a pointer to.
    fn functions() -> [Function; 2] {
        let reader = [
            &[0x55][..],                              // push rbp
            &[0x48, 0x89, 0xe5],                      // mov rbp, rsp
            &[0xe8, 0xf7, 0x0f, 0x00, 0x00],          // call helper
            &[0x48, 0x8b, 0x07],                      // mov rax, [rdi]
            &[0x48, 0x8b, 0x84, 0xc8, 0x10, 0, 0, 0], // mov rax, [rax+rcx*8+0x10]
            &[0x74, 0x01],                            // je over the next one
            &[0x90],                                  // nop
            &[0x5d],                                  // pop rbp
            &[0xc3],                                  // ret
        ]
        .concat();
        [
            Function { start: 0x1000, name: "reader".into(), code: reader },
            Function { start: 0x2000, name: "helper".into(), code: vec![0xc3] },
        ]
    }

    #[test]
    fn the_instruction_in_question_is_marked_and_calls_are_named() {
        let listing = around(&functions(), 0x100c).expect("a function is there");
        let expected = "\
reader+0xc

     0000000000001000  push rbp
     0000000000001001  mov rbp, rsp
     0000000000001004  call 0x2000  ; helper
     0000000000001009  mov rax, [rdi]
  => 000000000000100c  mov rax, [rax+rcx*8+0x10]
     0000000000001014  je short 0x1017
     0000000000001016  nop
     0000000000001017  pop rbp
     0000000000001018  ret
";
        assert_eq!(listing.to_string(), expected);
    }

    #[test]
    fn the_middle_of_an_instruction_has_no_past() {
        let listing = around(&functions(), 0x100d).expect("a function is there");
        assert!(listing.lines[0].marked, "{listing}");
        assert_eq!(listing.lines[0].address, 0x100d);
    }

    #[test]
    fn the_ends_of_a_function_are_the_ends_of_its_listing() {
        let functions = functions();
        let listing = around(&functions, 0x1000).expect("a function is there");
        assert_eq!((listing.lines[0].marked, listing.lines.len()), (true, 1 + AFTER));
        let listing = around(&functions, 0x2000).expect("a function is there");
        assert_eq!(listing.lines.len(), 1);
        for outside in [0, 0xfff, 0x1019, 0x2001, u64::MAX] {
            assert_eq!(around(&functions, outside), None, "{outside:#x}");
        }
    }

    #[test]
    fn the_planted_access_is_found_in_the_image() {
        let functions = crate::triage::functions::read(crate::images::HYPERVISOR).expect("it is an ELF file");
        let wild = functions.iter().find(|f| f.name.ends_with("wild::wild_read")).expect("it is not inlined");
        let loads = |line: &Line| line.text.starts_with("mov") && line.text.contains('[');
        let all = around(&functions, wild.start).expect("it is there");
        assert!(all.lines.iter().any(loads), "{all}");
        for line in &all.lines {
            let listing = around(&functions, line.address).expect("it is there");
            let marked: Vec<_> = listing.lines.iter().filter(|line| line.marked).collect();
            assert_eq!(marked, [&Line { marked: true, ..line.clone() }], "{listing}");
            assert!(listing.lines.is_sorted_by(|a, b| a.address < b.address), "{listing}");
        }
    }
}
