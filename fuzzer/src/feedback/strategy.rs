//! Ways to fuzz: the fuzzer itself, and lesser ones to compare it with.

pub use crate::program::flat::Form;

/// What inputs are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// Typed programs, generated and mutated by the interface.
    Typed,
    /// Strings of bytes, random at first and mutated without knowledge of their meaning.
    Bytes(Form),
}

/// What decides whether an input joins the corpus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Edges that no input covered before.
    Edges,
    /// Chance: as many join as with edges, roughly, and it does not matter which.
    Coin,
    /// Nothing: there is no corpus, each input is made from nothing.
    None,
}

/// A way to fuzz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// What inputs are made of.
    pub inputs: Inputs,
    /// What decides whether an input joins the corpus.
    pub signal: Signal,
    /// Operands of comparisons are collected and put into inputs.
    pub comparisons: bool,
    /// Calls use results of earlier ones.
    pub handles: bool,
    /// The machine is reset before each execution, not only after one that ended badly.
    pub reset: bool,
}

impl Strategy {
    /// The fuzzer as it is.
    pub const FULL: Self =
        Self { inputs: Inputs::Typed, signal: Signal::Edges, comparisons: true, handles: true, reset: true };
}

impl Default for Strategy {
    fn default() -> Self {
        Self::FULL
    }
}
