//! Functions that a path through the hypervisor's code entered, those included that were inlined into others.
//!
//! A path names the blocks that were executed. Line tables say which functions each of their instructions belongs to, and the last
//! one whether the next block is called, returned to, or neither: so what is entered again is told from what is only gone on with.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use serde::Serialize;

use super::code::{self, Function, Next};
use crate::{
    engine::Step,
    triage::{bucket::own_function, symbols::Symbols},
};

/// A function that was entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entered {
    /// Its module and name.
    pub function: String,
    /// How often, copies of it that were inlined into others included.
    pub entered: u64,
    /// Functions around it when it was entered first.
    pub depth: usize,
}

/// What happened on a part of a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Part {
    /// VM exits, or entries by system calls and exceptions of a pv guest.
    pub exits: u64,
    /// Functions in the order in which they were entered first.
    pub functions: Vec<Entered>,
}

impl Part {
    fn enter(&mut self, name: &Rc<str>, depth: usize, known: &mut HashMap<Rc<str>, usize>) {
        let at = *known.entry(name.clone()).or_insert_with(|| {
            self.functions.push(Entered { function: name.to_string(), entered: 0, depth });
            self.functions.len() - 1
        });
        self.functions[at].entered += 1;
    }
}

/// Names of the functions that an instruction belongs to, outermost first.
type Nest = Rc<[Rc<str>]>;

/// Instructions up to a change of control flow.
struct Block {
    /// Address and functions of each instruction.
    instructions: Vec<(u64, Nest)>,
    /// What comes after the last.
    next: Next,
    /// It is where a function begins.
    entry: bool,
}

/// The code of an image, to follow paths through.
pub struct Code<'a> {
    symbols: &'a Symbols,
    functions: BTreeMap<u64, Function>,
    nests: RefCell<HashMap<u64, Nest>>,
}

impl<'a> Code<'a> {
    /// Decodes an ELF image.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn new(elf: &[u8], symbols: &'a Symbols) -> anyhow::Result<Self> {
        let functions = code::read(elf)?.into_iter().map(|function| (function.start, function)).collect();
        Ok(Self { symbols, functions, nests: RefCell::default() })
    }

    fn nest(&self, address: u64) -> Nest {
        let mut nests = self.nests.borrow_mut();
        let nest = nests.entry(address).or_insert_with(|| {
            let frames = self.symbols.frames(address);
            frames.iter().rev().filter_map(own_function).map(Rc::from).collect()
        });
        nest.clone()
    }

    /// The block at an address, and what is known of it.
    fn block(&self, address: u64) -> Block {
        let function = self.functions.range(..=address).next_back().map(|(_, function)| function);
        let Some(function) = function.filter(|function| function.contains(address)) else {
            return Block { instructions: Vec::new(), next: Next::Following, entry: false };
        };
        let mut block =
            Block { instructions: Vec::new(), next: Next::Following, entry: address == function.start };
        for (at, (_, next)) in function.instructions.range(address..) {
            block.instructions.push((*at, self.nest(*at)));
            block.next = *next;
            if *next != Next::Following {
                break;
            }
        }
        block
    }

    /// Follows a path. `ends` are the positions behind its parts, in ascending order; what follows the last is left out.
    pub fn follow(&self, path: &[Step], ends: &[usize]) -> Vec<Part> {
        let mut walk = Walk::default();
        let mut blocks: HashMap<u64, Block> = HashMap::new();
        let mut start = 0;
        let parts = ends.iter().map(|end| {
            let mut part = Part::default();
            let mut known = HashMap::new();
            for at in start..*end {
                match path[at] {
                    Step::Exit => part.exits += 1,
                    Step::Block(address) => {
                        let block = blocks.entry(address).or_insert_with(|| self.block(address));
                        let next = path[at + 1..].iter().find_map(|step| match step {
                            Step::Block(next) => Some(*next),
                            Step::Exit => None,
                        });
                        walk.step(block, next, &mut |name, depth| part.enter(name, depth, &mut known));
                    }
                }
            }
            start = *end;
            part
        });
        parts.collect()
    }
}

/// Where a path has come to.
#[derive(Default)]
struct Walk {
    /// Functions of the last instruction.
    here: Nest,
    /// The same for the calls that have not returned.
    callers: Vec<Nest>,
    /// What came after the last instruction.
    next: Option<Next>,
}

impl Walk {
    /// Goes through a block, behind which the path goes on at `next`.
    fn step(&mut self, block: &Block, next: Option<u64>, enter: &mut dyn FnMut(&Rc<str>, usize)) {
        match self.next {
            Some(Next::Call(_)) if block.entry => self.callers.push(core::mem::take(&mut self.here)),
            // The way into a guest is a return as well; it comes back where a function begins.
            Some(Next::Return) if !block.entry => self.here = self.callers.pop().unwrap_or_default(),
            _ if block.entry => self.here = Nest::default(),
            _ => {}
        }
        self.next = Some(block.next);
        for (at, nest) in &block.instructions {
            // The translator ends blocks for reasons of its own, too.
            if next.is_some_and(|next| next == *at && *at != block.instructions[0].0) {
                self.next = None;
                break;
            }
            let same = self.here.iter().zip(nest.iter()).take_while(|(a, b)| a == b).count();
            let outer: usize = self.callers.iter().map(|caller| caller.len()).sum();
            for (depth, name) in nest.iter().enumerate().skip(same) {
                enter(name, outer + depth);
            }
            self.here = nest.clone();
        }
    }
}

/// Where on a path the call begins that a shorter program, whose path is `shorter`, has not: at the VM exit after which the two
/// differ for the first time.
pub fn parting(shorter: &[Step], path: &[Step]) -> usize {
    let same = shorter.iter().zip(path).take_while(|(a, b)| a == b).count();
    if same == path.len() {
        return same;
    }
    last_exit(&path[..same]).unwrap_or(0)
}

/// Position of the last VM exit.
pub fn last_exit(path: &[Step]) -> Option<usize> {
    path.iter().rposition(|step| *step == Step::Exit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(entry: bool, next: Next, instructions: &[(u64, &[&str])]) -> Block {
        let nest = |names: &&[&str]| names.iter().map(|name| Rc::from(*name)).collect();
        Block {
            instructions: instructions.iter().map(|(at, names)| (*at, nest(names))).collect(),
            next,
            entry,
        }
    }

    /// What is entered by blocks one after the other.
    fn entered(blocks: &[Block]) -> Vec<(String, usize)> {
        let mut walk = Walk::default();
        let mut found = Vec::new();
        for (at, block) in blocks.iter().enumerate() {
            let next = blocks.get(at + 1).map(|next| next.instructions[0].0);
            walk.step(block, next, &mut |name, depth| found.push((name.to_string(), depth)));
        }
        found
    }

    fn names(expected: &[(&str, usize)]) -> Vec<(String, usize)> {
        expected.iter().map(|(name, depth)| ((*name).to_owned(), *depth)).collect()
    }

    #[test]
    fn who_comes_back_from_a_call_is_not_entered_again() {
        let path = [
            block(true, Next::Call(0x20), &[(0x10, &["f"]), (0x11, &["f", "inlined"])]),
            block(true, Next::Return, &[(0x20, &["g"])]),
            block(false, Next::Branch(0x14), &[(0x12, &["f", "inlined"]), (0x13, &["f"])]),
            block(false, Next::Return, &[(0x14, &["f", "inlined"])]),
        ];
        assert_eq!(entered(&path), names(&[("f", 0), ("inlined", 1), ("g", 2), ("inlined", 1)]));
    }

    #[test]
    fn a_guest_in_between_changes_nothing() {
        let path = [
            block(true, Next::Call(0x20), &[(0x10, &["step"])]),
            // The way into the guest, and the way back.
            block(true, Next::Return, &[(0x20, &["enter"])]),
            block(true, Next::Return, &[(0x30, &["entry"])]),
            block(false, Next::Return, &[(0x11, &["step"])]),
        ];
        assert_eq!(entered(&path), names(&[("step", 0), ("enter", 1), ("entry", 1)]));
    }

    #[test]
    fn a_block_that_the_translator_cut_is_gone_through_once() {
        let whole: &[(u64, &[&str])] = &[(0x10, &["f", "a"]), (0x11, &["f", "b"]), (0x12, &["f"])];
        let path = [block(true, Next::Return, whole), block(false, Next::Return, &whole[1..])];
        assert_eq!(entered(&path), names(&[("f", 0), ("a", 1), ("b", 1)]));
    }

    #[test]
    fn a_call_begins_at_the_exit_before_the_difference() {
        let (a, b, c) = (Step::Block(1), Step::Block(2), Step::Block(3));
        let path = [a, Step::Exit, b, Step::Exit, b, c];
        assert_eq!(parting(&[a, Step::Exit, b, Step::Exit, b, b], &path), 3);
        assert_eq!(parting(&[a, Step::Exit, c], &path), 1);
        assert_eq!(parting(&path, &path), path.len(), "the shorter program blocks, and so does this one");
        assert_eq!(parting(&[c], &path), 0);
    }
}
