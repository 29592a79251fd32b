//! Places of planted bugs: grant tables.

use crate::{Bug, Plants};

impl Plants {
    /// Whether a grant table is there. With the bug, every table is believed to be.
    #[inline(never)]
    pub fn table_exists(&mut self, right: bool) -> bool {
        self.choose_bool(Bug::GrantUninit, !right, right, true)
    }

    /// References that unmapping a part of a mapping gives back: one per part that goes. With the bug, the part that goes
    /// last takes the other one's along again; `last_of_two` says that it is such a part.
    #[inline(never)]
    pub fn references_of_parts(&mut self, right: u32, last_of_two: bool) -> u32 {
        let wrong = right + u32::from(last_of_two);
        self.choose(Bug::UnmapUnderflow, last_of_two, right.into(), wrong.into()) as u32
    }

    /// Whether status frames are freed without a look at who has them mapped: never, but for the bug.
    #[inline(never)]
    pub fn forget_status_mappings(&mut self, mapped: bool) -> bool {
        self.choose_bool(Bug::StatusFreed, mapped, false, true)
    }

    /// Whether a transitive grant is not followed. `deep` says that another one led there already: with the bug, that
    /// makes no difference.
    #[inline(never)]
    pub fn is_too_transitive(&mut self, deep: bool) -> bool {
        self.choose_bool(Bug::TransitiveCopy, deep, deep, false)
    }

    /// What mapping a read-only grant for writing ends with. With the bug, the sign is lost.
    #[inline(never)]
    pub fn readonly_status(&mut self, right: i16) -> i16 {
        let wrong = right.unsigned_abs();
        self.choose(Bug::RetvalSign, true, right as u16 as u64, wrong.into()) as u16 as i16
    }

    /// References to a resource that an error gives back. With the bug, none.
    #[inline(never)]
    pub fn references_on_error(&mut self, right: u32) -> u32 {
        self.choose(Bug::RefLeak, true, right.into(), 0) as u32
    }
}
