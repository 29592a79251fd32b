//! Places of planted bugs: domains and their control.

use crate::{Bug, Plants};

impl Plants {
    /// Whether a pause is refused: that of the caller's `own` domain, which would wait for itself. With the bug it is not.
    #[inline(never)]
    pub fn refuse_pause(&mut self, own: bool) -> bool {
        self.choose_bool(Bug::SelfDeadlock, own, own, false)
    }
}
