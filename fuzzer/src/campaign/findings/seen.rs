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
/// Sessions that are kept one by one; of older ones only the sum is.
const SESSIONS: usize = 100;
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
    /// By the number of the session: the last ones.
    pub sessions: BTreeMap<u64, Visits>,
    /// Those before, where there were more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Earlier>,
}

/// Sessions that are not kept one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// How many they are.
    pub sessions: u64,
    /// What they saw together.
    pub visits: Visits,
}

impl Visits {
    /// Both together.
    fn and(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            last: self.last.max(other.last),
            times: self.times.saturating_add(other.times),
        }
    }
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
        while self.sessions.len() > SESSIONS
            && let Some((_, oldest)) = self.sessions.pop_first()
        {
            let (sessions, visits) = self.earlier.map_or((0, oldest), |e| (e.sessions, e.visits.and(oldest)));
            self.earlier = Some(Earlier { sessions: sessions + 1, visits });
        }
        let earlier = self.earlier.map(|earlier| earlier.visits);
        let all = self.sessions.values().copied().chain(earlier).reduce(Visits::and);
        self.all = all.unwrap_or(self.all);
        true
    }

    /// Sessions that saw it.
    pub fn session_count(&self) -> u64 {
        self.sessions.len() as u64 + self.earlier.map_or(0, |earlier| earlier.sessions)
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
    fn years_of_sessions_are_counted_and_only_the_last_are_kept() {
        let mut seen = Seen::default();
        for session in 1..=3_000 {
            assert!(seen.note(session, 1, 1_000 + session));
            assert!(seen.note(session, 2, 1_000 + session));
        }
        assert_eq!(seen.all, Visits { first: 1_001, last: 4_000, times: 6_000 });
        assert_eq!((seen.session_count(), seen.sessions.len()), (3_000, SESSIONS));
        assert_eq!(serde_json::from_str::<Seen>(&serde_json::to_string(&seen).unwrap()).unwrap(), seen);
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
