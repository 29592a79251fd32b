//! The ways to fuzz that are compared: the fuzzer, the baselines, and the fuzzer with one part taken out.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::feedback::{Form, Inputs, Signal, Strategy};

/// A way to fuzz. The order is that of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Random bytes.
    B0,
    /// Byte havoc and edges.
    B1,
    /// Byte havoc, edges and the comparison log.
    B2,
    /// One call with five words, havoc and edges, no reset.
    B3,
    /// Typed generation without feedback.
    B4,
    /// Everything.
    B5,
    /// B5 whose calls never use results of earlier ones.
    NoHandles,
    /// B5 without the comparison log.
    NoComparisons,
    /// B5 without resets, except after an execution that ended badly.
    NoReset,
    /// B5 whose corpus is chosen by a coin.
    Coin,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::B0,
        Self::B1,
        Self::B2,
        Self::B3,
        Self::B4,
        Self::B5,
        Self::NoHandles,
        Self::NoComparisons,
        Self::NoReset,
        Self::Coin,
    ];

    /// Name in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::B0 => "b0",
            Self::B1 => "b1",
            Self::B2 => "b2",
            Self::B3 => "b3",
            Self::B4 => "b4",
            Self::B5 => "b5",
            Self::NoHandles => "no-handles",
            Self::NoComparisons => "no-comparisons",
            Self::NoReset => "no-reset",
            Self::Coin => "coin",
        }
    }

    /// What it is, in a few words.
    pub const fn title(self) -> &'static str {
        match self {
            Self::B0 => "random bytes",
            Self::B1 => "byte havoc + edges",
            Self::B2 => "byte havoc + edges + comparisons",
            Self::B3 => "one call, five words, edges, no reset",
            Self::B4 => "typed generation, no feedback",
            Self::B5 => "everything",
            Self::NoHandles => "B5 without handles",
            Self::NoComparisons => "B5 without comparisons",
            Self::NoReset => "B5 without reset",
            Self::Coin => "B5 with a coin for feedback",
        }
    }

    /// Label in tables: as the protocol names it.
    pub fn label(self) -> String {
        match self {
            Self::B0 | Self::B1 | Self::B2 | Self::B3 | Self::B4 | Self::B5 => self.name().to_uppercase(),
            _ => format!("B5 {}", self.name()),
        }
    }

    /// How it fuzzes.
    pub const fn strategy(self) -> Strategy {
        let bytes = Strategy { inputs: Inputs::Bytes(Form::Calls), comparisons: false, ..Strategy::FULL };
        match self {
            Self::B0 => Strategy { signal: Signal::None, ..bytes },
            Self::B1 => bytes,
            Self::B2 => Strategy { comparisons: true, ..bytes },
            Self::B3 => Strategy { inputs: Inputs::Bytes(Form::OneCall), reset: false, ..bytes },
            Self::B4 => Strategy { signal: Signal::None, comparisons: false, ..Strategy::FULL },
            Self::B5 => Strategy::FULL,
            Self::NoHandles => Strategy { handles: false, ..Strategy::FULL },
            Self::NoComparisons => Strategy { comparisons: false, ..Strategy::FULL },
            Self::NoReset => Strategy { reset: false, ..Strategy::FULL },
            Self::Coin => Strategy { signal: Signal::Coin, ..Strategy::FULL },
        }
    }
}

/// What a trial starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Corpus {
    /// Nothing.
    Empty,
    /// One well-formed call per sub-operation.
    Seeded,
}

impl Corpus {
    /// Name in files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::Seeded => "seeded",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_command_line_and_of_files() {
        for mode in Mode::ALL {
            assert_eq!(mode.to_possible_value().unwrap().get_name(), mode.name());
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.name());
        }
        for corpus in [Corpus::Empty, Corpus::Seeded] {
            assert_eq!(corpus.to_possible_value().unwrap().get_name(), corpus.name());
        }
    }

    #[test]
    fn an_ablation_takes_one_part_out() {
        let parts = |s: Strategy| {
            let full = Strategy::FULL;
            [
                s.inputs != full.inputs,
                s.signal != full.signal,
                s.comparisons != full.comparisons,
                s.handles != full.handles,
                s.reset != full.reset,
            ]
            .into_iter()
            .filter(|differs| *differs)
            .count()
        };
        assert_eq!(parts(Mode::B5.strategy()), 0);
        for mode in [Mode::NoHandles, Mode::NoComparisons, Mode::NoReset, Mode::Coin] {
            assert_eq!(parts(mode.strategy()), 1, "{mode:?}");
        }
        assert_eq!(parts(Mode::B2.strategy()), 1);
    }
}
