//! How well triage works: for each planted bug how short a program it leaves ([`hunt`], against [`known`]), and how well buckets
//! tell the bugs apart ([`crashes`] collects and attributes, [`judge`] counts). [`table`] writes it down.

pub mod crashes;
pub mod hunt;
pub mod judge;
pub mod known;
pub mod table;

use serde::{Deserialize, Serialize};

use crashes::Attributed;
use hunt::Hunt;
use judge::Judgement;

/// A sample of crashes, judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// `uniform` or `even`.
    pub name: String,
    /// Crashes that were attributed or left out, and why.
    pub decided: usize,
    /// Left out: several planted bugs, and none or several of them explain it.
    pub undecided: usize,
    /// Left out: no planted bug was triggered.
    pub untriggered: usize,
    /// Left out: it did not crash again.
    pub not_again: usize,
    /// What the others say.
    pub judgement: Judgement,
}

impl Sample {
    /// Judges what was attributed.
    pub fn new(name: &str, attributed: &Attributed) -> Self {
        let Attributed { decided, undecided, untriggered, not_again, ref labelled } = *attributed;
        let judgement = judge::judge(labelled);
        Self { name: name.to_owned(), decided, undecided, untriggered, not_again, judgement }
    }
}

/// Everything that was measured. The file `results.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// By planted bug.
    pub hunts: Vec<Hunt>,
    /// Executions of the campaign that crashes were collected in, and how many of them ended badly.
    pub campaign: Option<(u64, u64)>,
    /// Samples of these.
    pub samples: Vec<Sample>,
}
