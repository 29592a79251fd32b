//! Functions that a path through the hypervisor's code entered, those included that were inlined into others.
//!
//! A path names the blocks that were executed. Line tables say which functions each of their instructions belongs to. How often a
//! function was entered is known of those that have code of their own: that is where it begins. Of inlined ones, whose instructions
//! the compiler mixes with those around them, it is only known that some were executed.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use serde::Serialize;

use super::{
    code::{self, Function, Next},
    sources,
};
use crate::{
    engine::Step,
    triage::{
        bucket::own_function,
        symbols::{Frame, Symbols},
    },
};

/// A function that was entered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entered {
    /// Its module and name.
    pub function: String,
    /// How often, copies of it that were inlined into others not counted.
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

/// A part of a path that is being followed.
#[derive(Default)]
struct Found {
    part: Part,
    /// Where each function is in the part.
    known: HashMap<Name, usize>,
}

impl Found {
    fn meet(&mut self, name: &Name, depth: usize) -> &mut Entered {
        let functions = &mut self.part.functions;
        let at = *self.known.entry(name.clone()).or_insert_with(|| {
            functions.push(Entered { function: name.to_string(), entered: 0, depth });
            functions.len() - 1
        });
        &mut functions[at]
    }
}

/// Module and name of a function.
type Name = Rc<str>;
/// Functions that an instruction belongs to, outermost first.
type Nest = Rc<[Name]>;

/// Instructions up to a change of control flow.
struct Block {
    /// Address and functions of each instruction.
    instructions: Vec<(u64, Nest)>,
    /// What comes after the last.
    next: Next,
    /// It is where a function begins.
    entry: bool,
    /// That function.
    begins: Option<Name>,
}

/// The code of an image, to follow paths through.
pub struct Code<'a> {
    symbols: &'a Symbols,
    functions: BTreeMap<u64, Function>,
    /// Functions at addresses: looking them up takes microseconds, and paths go round in circles.
    nests: RefCell<HashMap<u64, Nest>>,
}

/// Module and name of one of the hypervisor's functions. Line tables now and then give an instruction the file of a neighbour: a
/// function that its file does not hold is passed over there.
fn name_of(frame: &Frame) -> Option<Name> {
    let place = own_function(frame)?;
    let (file, _) = frame.location.as_ref()?;
    let (_, name) = place.rsplit_once("::")?;
    let source = sources::text(file)?;
    let defined = source
        .match_indices(&format!("fn {name}"))
        .any(|(at, found)| source[at + found.len()..].starts_with(['(', '<']));
    defined.then(|| place.into())
}

impl<'a> Code<'a> {
    /// Decodes the functions of an image.
    pub fn new(symbols: &'a Symbols) -> Self {
        let functions = code::decode(symbols.functions()).into_iter();
        let functions = functions.map(|function| (function.start, function)).collect();
        Self { symbols, functions, nests: RefCell::default() }
    }

    /// Module and name of a function; its name alone where there is no debug information.
    fn name_of(&self, frame: &Frame) -> Option<Name> {
        if self.symbols.has_lines() { name_of(frame) } else { Some(frame.function.as_str().into()) }
    }

    fn nest(&self, address: u64) -> Nest {
        let mut nests = self.nests.borrow_mut();
        let nest = nests.entry(address).or_insert_with(|| {
            self.symbols.frames(address).iter().rev().filter_map(|frame| self.name_of(frame)).collect()
        });
        nest.clone()
    }

    /// The block at an address, and what is known of it.
    fn block(&self, address: u64) -> Block {
        let mut block = Block { instructions: Vec::new(), next: Next::Following, entry: false, begins: None };
        let function = self.functions.range(..=address).next_back().map(|(_, function)| function);
        let Some(function) = function.filter(|function| function.contains(address)) else { return block };
        block.entry = address == function.start;
        for (at, (_, next)) in function.instructions.range(address..) {
            block.instructions.push((*at, self.nest(*at)));
            block.next = *next;
            if *next != Next::Following {
                break;
            }
        }
        if block.entry {
            let outermost = |at: &u64| self.symbols.frames(*at).last().and_then(|frame| self.name_of(frame));
            block.begins = block.instructions.iter().find_map(|(at, _)| outermost(at));
        }
        block
    }

    /// Follows a path. `ends` are the positions behind its parts, in ascending order; what follows the last is left out.
    pub fn follow(&self, path: &[Step], ends: &[usize]) -> Vec<Part> {
        let mut walk = Walk::default();
        let mut blocks: HashMap<u64, Block> = HashMap::new();
        let mut start = 0;
        let parts = ends.iter().map(|end| {
            let mut found = Found::default();
            for at in start..*end {
                let Step::Block(address) = path[at] else {
                    found.part.exits += 1;
                    continue;
                };
                let next = path[at + 1..].iter().find_map(|step| match step {
                    Step::Block(next) => Some(*next),
                    Step::Exit => None,
                });
                walk.step(blocks.entry(address).or_insert_with(|| self.block(address)), next, &mut found);
            }
            start = *end;
            found.part
        });
        parts.collect()
    }
}

/// Where a path has come to.
#[derive(Default)]
struct Walk {
    /// Functions around the last instruction.
    here: usize,
    /// The same for the calls that have not returned.
    callers: Vec<usize>,
    /// What came after the last instruction.
    next: Option<Next>,
}

impl Walk {
    /// Goes through a block, behind which the path goes on at `next`.
    fn step(&mut self, block: &Block, next: Option<u64>, found: &mut Found) {
        match self.next {
            Some(Next::Call(_)) if block.entry => self.callers.push(self.here),
            // The way into a guest is a return as well; it comes back where a function begins.
            Some(Next::Return) if !block.entry => drop(self.callers.pop()),
            _ => {}
        }
        self.next = Some(block.next);
        let outer: usize = self.callers.iter().sum();
        if let Some(name) = &block.begins {
            found.meet(name, outer).entered += 1;
        }
        for (index, (at, nest)) in block.instructions.iter().enumerate() {
            // The translator ends blocks for reasons of its own, too.
            if index > 0 && next == Some(*at) {
                self.next = None;
                break;
            }
            for (depth, name) in nest.iter().enumerate() {
                found.meet(name, outer + depth);
            }
            self.here = nest.len();
        }
    }
}

/// Where on a path the call begins that a shorter program, whose path is `shorter`, has not: at the VM exit after which the two
/// differ for the first time, or where the shorter one ends, if that takes no exit.
pub fn parting(shorter: &[Step], path: &[Step]) -> usize {
    let same = shorter.iter().zip(path).take_while(|(a, b)| a == b).count();
    if same == path.len() || same == shorter.len() {
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
        let instructions: Vec<(u64, Nest)> =
            instructions.iter().map(|(at, names)| (*at, nest(names))).collect();
        let begins = entry.then(|| instructions[0].1[0].clone());
        Block { instructions, next, entry, begins }
    }

    /// What is entered by blocks one after the other: name, times, depth.
    fn entered(blocks: &[Block]) -> Vec<(String, u64, usize)> {
        let mut walk = Walk::default();
        let mut found = Found::default();
        for (at, block) in blocks.iter().enumerate() {
            let next = blocks.get(at + 1).map(|next| next.instructions[0].0);
            walk.step(block, next, &mut found);
        }
        found.part.functions.into_iter().map(|f| (f.function, f.entered, f.depth)).collect()
    }

    fn facts(expected: &[(&str, u64, usize)]) -> Vec<(String, u64, usize)> {
        expected.iter().map(|(name, entered, depth)| ((*name).to_owned(), *entered, *depth)).collect()
    }

    #[test]
    fn who_comes_back_from_a_call_is_not_entered_again() {
        let path = [
            block(true, Next::Call(0x20), &[(0x10, &["f"]), (0x11, &["f", "inlined"])]),
            block(true, Next::Return, &[(0x20, &["g"])]),
            block(false, Next::Call(0x20), &[(0x12, &["f", "inlined"]), (0x13, &["f"])]),
            block(true, Next::Return, &[(0x20, &["g"])]),
            block(false, Next::Return, &[(0x14, &["f", "late"])]),
        ];
        assert_eq!(entered(&path), facts(&[("f", 1, 0), ("inlined", 0, 1), ("g", 2, 2), ("late", 0, 1)]));
    }

    #[test]
    fn a_guest_in_between_changes_nothing() {
        let path = [
            block(true, Next::Call(0x20), &[(0x10, &["step"])]),
            // The way into the guest, and the way back.
            block(true, Next::Return, &[(0x20, &["enter"])]),
            block(true, Next::Return, &[(0x30, &["entry"])]),
            block(false, Next::Return, &[(0x11, &["step", "answer"])]),
        ];
        let expected = [("step", 1, 0), ("enter", 1, 1), ("entry", 1, 1), ("answer", 0, 1)];
        assert_eq!(entered(&path), facts(&expected));
    }

    #[test]
    fn of_a_block_that_the_translator_cut_the_rest_comes_with_the_next_one() {
        let whole: &[(u64, &[&str])] = &[(0x10, &["f"]), (0x11, &["f", "a"]), (0x12, &["f"])];
        let path = [
            block(true, Next::Call(0x20), whole),
            block(false, Next::Call(0x20), &whole[1..]),
            block(true, Next::Return, &[(0x20, &["g"])]),
        ];
        assert_eq!(entered(&path), facts(&[("f", 1, 0), ("a", 0, 1), ("g", 1, 1)]));
    }

    #[test]
    fn a_function_is_named_where_its_file_holds_it() {
        let frame = |function: &str, file: &str| {
            name_of(&Frame { function: function.into(), location: Some((file.into(), 1)), inlined: true })
        };
        let poll = frame("poll", "hypervisor/src/hypercall/sched_op.rs");
        assert_eq!(poll.as_deref(), Some("sched_op::poll"));
        assert_eq!(frame("poll", "hypervisor/src/hypercall/hvm_op.rs"), None);
        assert_eq!(frame("pol", "hypervisor/src/hypercall/sched_op.rs"), None);
        assert_eq!(frame("push", "library/alloc/src/vec/mod.rs"), None);
    }

    #[test]
    fn a_call_begins_at_the_exit_before_the_difference() {
        let (a, b, c) = (Step::Block(1), Step::Block(2), Step::Block(3));
        let path = [a, Step::Exit, b, Step::Exit, b, c];
        assert_eq!(parting(&[a, Step::Exit, b, Step::Exit, b, b], &path), 3);
        assert_eq!(parting(&[a, Step::Exit, c], &path), 1);
        assert_eq!(parting(&path, &path), path.len(), "the shorter program blocks, and so does this one");
        assert_eq!(parting(&[c], &path), 0);
        assert_eq!(parting(&[a, Step::Exit, b], &path), 3, "the shorter program ends without an exit");
    }
}
