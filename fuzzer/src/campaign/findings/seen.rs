//! When a finding was seen, and how often: the file `seen.json` in its directory.
//!
//! It is the only file of a finding that depends on the clock and that changes once the finding is complete: the others are the same
//! for the same seed.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::campaign::{json, store::StoreError};

/// Name of the file.
pub const NAME: &str = "seen.json";
/// The last second that has a year of four digits.
const LAST_SECOND: u64 = 253_402_300_799;

/// What one session, or all of them, saw of a finding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Visits {
    /// When it was seen first, in seconds since the epoch.
    pub first: u64,
    /// When it was seen last, to within some seconds.
    pub last: u64,
    /// Executions that ended in it.
    pub times: u64,
}

/// The history of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// All sessions together.
    pub all: Visits,
    /// By the number of the session.
    pub sessions: BTreeMap<u64, Visits>,
}

impl Seen {
    /// Reads what lies in a finding's directory; none where nothing was noted.
    ///
    /// # Errors
    /// When the file cannot be read or understood.
    pub fn load(finding: &Path) -> Result<Option<Self>, StoreError> {
        json::read(&finding.join(NAME))
    }

    /// Puts it into a finding's directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store(&self, finding: &Path) -> Result<(), StoreError> {
        json::write(&finding.join(NAME), self)
    }

    /// Takes in that a session has seen the finding so many times by now. False if that is no news.
    pub fn note(&mut self, session: u64, times: u64, now: u64) -> bool {
        let visits = self.sessions.entry(session).or_insert(Visits { first: now, last: now, times: 0 });
        if times <= visits.times {
            return false;
        }
        visits.times = times;
        // Clocks are set back at times.
        visits.last = now.max(visits.first);
        let all = self.sessions.values();
        self.all = Visits {
            first: all.clone().map(|visits| visits.first).min().unwrap_or(now),
            last: all.clone().map(|visits| visits.last).max().unwrap_or(now),
            times: all.map(|visits| visits.times).fold(0, u64::saturating_add),
        };
        true
    }
}

/// Seconds since the epoch.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Date and time of day in UTC, to the minute.
pub fn minute(seconds: u64) -> String {
    let time = UNIX_EPOCH + Duration::from_secs(seconds.min(LAST_SECOND));
    let text = humantime::format_rfc3339_seconds(time).to_string();
    text.get(..16).unwrap_or(&text).replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_add_up_and_what_is_no_news_changes_nothing() {
        let mut seen = Seen::default();
        assert!(seen.note(1, 1, 100));
        assert!(seen.note(1, 5, 160));
        assert!(!seen.note(1, 5, 200), "not met since");
        assert_eq!(seen.all, Visits { first: 100, last: 160, times: 5 });
        assert!(seen.note(4, 2, 1000));
        assert_eq!(seen.all, Visits { first: 100, last: 1000, times: 7 });
        assert_eq!(seen.sessions[&4], Visits { first: 1000, last: 1000, times: 2 });
    }

    #[test]
    fn a_clock_that_was_set_back_does_no_harm() {
        let mut seen = Seen::default();
        seen.note(1, 1, 100);
        seen.note(1, 2, 50);
        assert_eq!(seen.all, Visits { first: 100, last: 100, times: 2 });
    }

    #[test]
    fn it_is_stored_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Seen::load(dir.path()).unwrap(), None);
        let mut seen = Seen::default();
        seen.note(1, 1, 100);
        seen.store(dir.path()).unwrap();
        assert_eq!(Seen::load(dir.path()).unwrap(), Some(seen));
        std::fs::write(dir.path().join(NAME), "{").unwrap();
        assert!(Seen::load(dir.path()).unwrap_err().to_string().contains(NAME));
    }

    #[test]
    fn times_are_for_people() {
        assert_eq!(minute(0), "1970-01-01 00:00");
        assert_eq!(minute(951_782_399), "2000-02-28 23:59");
        assert_eq!(minute(u64::MAX), "9999-12-31 23:59");
    }
}
