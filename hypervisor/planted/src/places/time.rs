//! Places of planted bugs: timers and polls.

use crate::{Bug, Plants};

impl Plants {
    /// The time after the next stretch of at most `stretch`. With the bug, every stretch is a whole one, and beyond the
    /// end of time it begins anew.
    #[inline(never)]
    pub fn next_time(&mut self, right: u64, now: u64, stretch: u64) -> u64 {
        let wrong = now.wrapping_add(stretch);
        self.choose(Bug::PollHang, wrong < now, right, wrong)
    }
}
