//! What people, or a later build, say of a finding: the file `mark.json` in its directory.

use std::{fmt, path::Path};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::seen;
use crate::{
    campaign::{json, store::StoreError},
    triage::verify::{Answer, Reproduction},
};

/// Name of the file.
pub const NAME: &str = "mark.json";
/// Most bytes of a note.
pub const MAX_NOTE: usize = 4096;

/// What a finding is taken for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Nobody has looked at it.
    #[default]
    New,
    /// A defect that is known.
    Known,
    /// A defect that was there once: if it is met again, that is news.
    Fixed,
    /// No defect.
    FalsePositive,
}

impl Status {
    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Known => "known",
            Self::Fixed => "fixed",
            Self::FalsePositive => "false-positive",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A mark. A finding without one is new.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// What the finding is taken for.
    pub status: Status,
    /// What people say of it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// What hyperfuzz saw, where it set the mark.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// When it was set, in seconds since the epoch.
    #[serde(default)]
    pub at: u64,
    /// Build on which that was seen, in hexadecimal, where the mark comes from trying the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
}

impl Mark {
    /// The mark that a person sets now; the note stays if there is no other.
    pub fn by_hand(&self, status: Status, note: Option<String>) -> Self {
        let note = note.unwrap_or_else(|| self.note.clone());
        Self { status, note, reason: String::new(), at: seen::now(), build: None }
    }

    /// The mark of a finding that was fixed and that a campaign has met again.
    pub fn reopened(&self) -> Self {
        self.turned(
            Status::New,
            format!("met again after it was marked fixed {}", seen::minute(self.at)),
            None,
        )
    }

    /// The mark that follows from what the program does on a build, if it is another one.
    pub fn after(&self, answer: &Answer, reproduction: Reproduction, build: &str) -> Option<Self> {
        let Reproduction { reproduced, runs, .. } = reproduction;
        let (status, reason) = match (answer, self.status) {
            (Answer::Gone, Status::New | Status::Known) => {
                (Status::Fixed, format!("not reproduced in {runs} runs"))
            }
            (Answer::Reproduced, Status::Fixed) => {
                (Status::New, format!("reproduced in {reproduced} of {runs} runs after it was marked fixed"))
            }
            _ => return None,
        };
        Some(self.turned(status, reason, Some(build.to_owned())))
    }

    fn turned(&self, status: Status, reason: String, build: Option<String>) -> Self {
        Self { status, note: self.note.clone(), reason, at: seen::now(), build }
    }

    /// Reads the mark in a finding's directory.
    ///
    /// # Errors
    /// When the file is there and cannot be read or understood.
    pub fn load(finding: &Path) -> Result<Self, StoreError> {
        Ok(json::read(&finding.join(NAME))?.unwrap_or_default())
    }

    /// Puts the mark into a finding's directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store(&self, finding: &Path) -> Result<(), StoreError> {
        json::write(&finding.join(NAME), self)
    }

    /// True where meeting the finding in this build means that a defect has come back. One that was seen to be gone in another build
    /// may well be in this one.
    pub fn is_fixed_in(&self, build: &str) -> bool {
        self.status == Status::Fixed && self.build.as_ref().is_none_or(|fixed| fixed == build)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_without_a_mark_is_new_and_a_mark_stays() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Mark::load(dir.path()).unwrap().status, Status::New);
        for status in Status::value_variants() {
            let mark = Mark::default().by_hand(*status, Some("why".into()));
            mark.store(dir.path()).unwrap();
            assert_eq!(Mark::load(dir.path()).unwrap(), mark);
            let text = std::fs::read_to_string(dir.path().join(NAME)).unwrap();
            assert!(text.contains(&format!("\"{status}\"")), "one word everywhere: {text}");
            assert_eq!(Status::from_str(status.name(), false), Ok(*status));
        }
    }

    #[test]
    fn a_mark_that_makes_no_sense_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NAME), r#"{"status": "wontfix"}"#).unwrap();
        let error = Mark::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(NAME) && error.contains("wontfix"), "{error}");
    }

    #[test]
    fn what_was_fixed_in_another_build_may_be_in_this_one() {
        let mark =
            |status, build: Option<&str>| Mark { status, build: build.map(str::to_owned), ..Mark::default() };
        assert!(mark(Status::Fixed, None).is_fixed_in("a"));
        assert!(mark(Status::Fixed, Some("a")).is_fixed_in("a"));
        assert!(!mark(Status::Fixed, Some("b")).is_fixed_in("a"));
        assert!(!mark(Status::Known, None).is_fixed_in("a"));
    }

    #[test]
    fn what_a_build_does_turns_marks_and_keeps_notes() {
        let runs = |reproduced| Reproduction { reproduced, runs: 3, on_clean_boot: reproduced > 0 };
        let turned = |status, answer: &Answer, reproduced| {
            let mark = Mark { status, note: "XSA-0".into(), ..Mark::default() };
            let after = mark.after(answer, runs(reproduced), "b")?;
            assert_eq!((after.note.as_str(), after.build.as_deref()), ("XSA-0", Some("b")));
            assert!(after.reason.contains('3'), "{}", after.reason);
            Some(after.status)
        };
        let other = Answer::Other(crate::triage::bucket::Bucket::from_name("hang-x").unwrap());
        for status in [Status::New, Status::Known] {
            assert_eq!(turned(status, &Answer::Gone, 0), Some(Status::Fixed));
            assert_eq!(turned(status, &Answer::Reproduced, 1), None);
        }
        assert_eq!(turned(Status::Fixed, &Answer::Reproduced, 3), Some(Status::New));
        assert_eq!(turned(Status::Fixed, &Answer::Gone, 0), None);
        assert_eq!(turned(Status::FalsePositive, &Answer::Gone, 0), None);
        assert_eq!(turned(Status::New, &other, 0), None, "it may be the same defect");
    }

    #[test]
    fn a_mark_by_hand_keeps_the_note_unless_there_is_another() {
        let mark = Mark::default().by_hand(Status::Known, Some("XSA-0".into())).by_hand(Status::Fixed, None);
        assert_eq!((mark.status, mark.note.as_str()), (Status::Fixed, "XSA-0"));
        let again = mark.reopened();
        assert_eq!((again.status, again.note.as_str()), (Status::New, "XSA-0"));
        assert_eq!(again.by_hand(Status::Known, Some(String::new())).note, "");
    }
}
