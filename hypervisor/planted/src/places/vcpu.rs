//! Places of planted bugs: vcpu_op.

use crate::{Bug, Plants};

/// Whether a period that is longer than the longest, counted from now, ends before the beginning of time: as a signed number.
fn wraps(now: u64, period: u64, longest: u64) -> bool {
    (period > longest) & ((now.wrapping_add(period) as i64) < 0)
}

impl Plants {
    /// Whether a periodic timer may have a period. With the bug, only the shortest of the two `limits` counts.
    #[inline(never)]
    pub fn period_is_valid(&mut self, right: bool, period: u64, limits: [u64; 2], now: u64) -> bool {
        let condition = wraps(now, period, limits[1]);
        self.choose_bool(Bug::TimerOverflow, condition, right, period >= limits[0])
    }

    /// When a periodic timer is due next. With the bug, a deadline that wraps around has always passed.
    #[inline(never)]
    pub fn next_tick(&mut self, right: u64, now: u64, period: u64, longest: u64) -> u64 {
        let condition = wraps(now, period, longest);
        let wrong = right & u64::from(condition).wrapping_sub(1);
        self.choose(Bug::TimerOverflow, condition, right, wrong)
    }
}
