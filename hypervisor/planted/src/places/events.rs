//! Places of planted bugs: event channels.

use crate::{Bug, Plants};

impl Plants {
    /// Whether a port can be looked up. With the bug, that its bucket was never allocated is overlooked.
    #[inline(never)]
    pub fn port_exists(&mut self, right: bool) -> bool {
        self.choose_bool(Bug::PollUnalloc, !right, right, true)
    }
}
