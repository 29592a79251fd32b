// SPDX-License-Identifier: GPL-2.0-or-later
//! Whose time a run spends: a hypervisor that does not come back from one exit hangs; a guest that runs on without end is
//! only a guest.
//!
//! One counter counts all translated blocks. VMRUN and the instruction behind it, where the processor goes on after a
//! VM exit, say to whom the blocks in between belong, and so do markers around other ways into a guest. On a machine with
//! neither all of them are the hypervisor's.
//!
//! All numbers are written by the vCPU's thread only. The watchdog reads them too, at odd moments: what it makes of them is a
//! reason to look, not a verdict.

use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use hyperfuzz_control::{Control, End};

use crate::counter::BLOCKS;

/// Looks at a guest that has executed no block since the look before, after which it is taken to execute none ever again.
const FRUITLESS_LOOKS: u32 = 10;

/// How much longer a hypervisor that knows nothing of us may take, in times of its limit, before it hangs.
const EXTENSION: u64 = 16;

/// Blocks of zeros that a guest of such a hypervisor may execute.
const STRAY_BLOCKS: u32 = 16;

/// What a run may cost; see [`Control`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    exit_blocks: u64,
    exits: u64,
    guest_blocks: u64,
}

impl Limits {
    /// The limits that the host has set.
    pub(crate) fn of(control: &Control) -> Self {
        Self {
            exit_blocks: get(&control.budget),
            exits: get(&control.guest_exits),
            guest_blocks: get(&control.guest_blocks),
        }
    }
}

/// Where the blocks of one run went.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// [`BLOCKS`] at the last change between guest and hypervisor.
    since: AtomicU64,
    in_guest: AtomicBool,
    /// VM exits, or rather the entries before them.
    exits: AtomicU64,
    /// Blocks of guests, up to `since`.
    guest_blocks: AtomicU64,
    /// [`BLOCKS`] at the last [`Self::look`].
    looked_at: AtomicU64,
    /// Looks in a row that found a guest where the one before had found it.
    fruitless: AtomicU32,
    /// Blocks that the hypervisor has been granted beyond its limit.
    extended: AtomicU64,
    /// Blocks of zeros that guests executed.
    strays: AtomicU32,
    /// [`BLOCKS`] when a guest executed a block last whose comings and goings nothing else tells; zero if none did.
    guest_seen: AtomicU64,
    /// Blocks that the hypervisor executed at most until such a guest went on.
    longest: AtomicU64,
}

/// Reads a number of this run.
fn get(number: &AtomicU64) -> u64 {
    number.load(Ordering::Relaxed)
}

impl Account {
    /// A run begins, in a guest or in the hypervisor.
    pub(crate) fn reset(&self, in_guest: bool) {
        BLOCKS.store(0, Ordering::Relaxed);
        self.since.store(0, Ordering::Relaxed);
        self.in_guest.store(in_guest, Ordering::Relaxed);
        self.exits.store(0, Ordering::Relaxed);
        self.guest_blocks.store(0, Ordering::Relaxed);
        self.looked_at.store(0, Ordering::Relaxed);
        self.fruitless.store(0, Ordering::Relaxed);
        self.extended.store(0, Ordering::Relaxed);
        self.strays.store(0, Ordering::Relaxed);
        self.guest_seen.store(0, Ordering::Relaxed);
        self.longest.store(0, Ordering::Relaxed);
    }

    /// A guest executes a block: the hypervisor has come back.
    pub(crate) fn guest_runs(&self) {
        let now = get(&BLOCKS);
        let spent = now.saturating_sub(get(&self.guest_seen));
        self.longest.store(get(&self.longest).max(spent), Ordering::Relaxed);
        self.guest_seen.store(now, Ordering::Relaxed);
    }

    /// A guest executes a block of zeros. True where that is one too many.
    pub(crate) fn stray(&self) -> bool {
        let strays = self.strays.load(Ordering::Relaxed);
        self.strays.store(strays.saturating_add(1), Ordering::Relaxed);
        strays >= STRAY_BLOCKS
    }

    /// Grants the hypervisor [`EXTENSION`] times its limit. False where it has been granted before.
    pub(crate) fn extend(&self, limits: Limits) -> bool {
        self.extended.swap(limits.exit_blocks.saturating_mul(EXTENSION), Ordering::Relaxed) == 0
    }

    /// True where the hypervisor was granted more than its limit.
    pub(crate) fn extended(&self) -> bool {
        get(&self.extended) != 0
    }

    /// True where the processor belongs to a guest.
    pub(crate) fn in_guest(&self) -> bool {
        self.in_guest.load(Ordering::Relaxed)
    }

    /// Looks at a run that seems to stand still, between two blocks. True where a guest keeps the processor busy without
    /// executing anything: each exception raises the next one before the first instruction of its handler, for ever.
    ///
    /// One look is not enough: the thread may not have had a core for as long as it seemed to stand still. It had one at each
    /// look, and went on after it.
    pub(crate) fn look(&self) -> bool {
        let now = get(&BLOCKS);
        let before = self.looked_at.swap(now, Ordering::Relaxed);
        let fruitless = if self.in_guest() && before == now {
            self.fruitless.load(Ordering::Relaxed).saturating_add(1)
        } else {
            0
        };
        self.fruitless.store(fruitless, Ordering::Relaxed);
        fruitless >= FRUITLESS_LOOKS
    }

    /// The hypervisor is about to execute VMRUN. False where the run has to end here.
    pub(crate) fn enter_guest(&self, limits: Limits) -> bool {
        // What was spent too much stays on the account: nothing is changed then.
        if self.over(limits).is_some() {
            return false;
        }
        self.since.store(get(&BLOCKS), Ordering::Relaxed);
        self.exits.store(get(&self.exits) + 1, Ordering::Relaxed);
        self.in_guest.store(true, Ordering::Relaxed);
        self.over(limits).is_none()
    }

    /// The hypervisor goes on behind VMRUN. False where the run has to end here.
    pub(crate) fn leave_guest(&self, limits: Limits) -> bool {
        if self.in_guest() {
            let now = get(&BLOCKS);
            let spent = now.wrapping_sub(get(&self.since));
            self.guest_blocks.store(get(&self.guest_blocks) + spent, Ordering::Relaxed);
            self.since.store(now, Ordering::Relaxed);
            self.in_guest.store(false, Ordering::Relaxed);
        }
        self.over(limits).is_none()
    }

    /// Which limit the run has passed.
    pub(crate) fn over(&self, limits: Limits) -> Option<End> {
        let blocks = get(&BLOCKS);
        let (guest_seen, extended) = (get(&self.guest_seen), get(&self.extended));
        let spent = blocks.saturating_sub(get(&self.since).max(guest_seen));
        let (hypervisor, guest) = if self.in_guest() { (0, spent) } else { (spent, 0) };
        // All exits together get half as much again as one.
        let whole = (limits.exit_blocks / 2).saturating_mul(3).saturating_add(extended);
        if hypervisor > limits.exit_blocks.saturating_add(extended) {
            Some(End::Hang)
        } else if get(&self.exits) > limits.exits
            || get(&self.guest_blocks).saturating_add(guest) > limits.guest_blocks
            || (guest_seen != 0 && blocks > whole)
            // It came back, but late: whether anybody looked meanwhile must make no difference.
            || get(&self.longest) > limits.exit_blocks
        {
            Some(End::Runaway)
        } else {
            None
        }
    }

    /// The blocks of a run that ended so, or a figure in their place that does not depend on when the end was noticed.
    pub(crate) fn blocks(&self, limits: Limits, end: End) -> u64 {
        match end {
            End::Hang => get(&BLOCKS).min(get(&self.since).saturating_add(limits.exit_blocks)),
            End::Runaway => limits.guest_blocks,
            _ => get(&BLOCKS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, as the counter is one for the process.
    #[test]
    fn blocks_belong_to_whoever_ran() {
        let limits = Limits { exit_blocks: 10, exits: 3, guest_blocks: 100 };
        let account = Account::default();
        let run = |blocks| BLOCKS.fetch_add(blocks, Ordering::Relaxed);

        account.reset(false);
        run(10);
        assert!(account.enter_guest(limits), "all of the budget, but no more");
        run(60);
        assert!(account.leave_guest(limits), "guest blocks are not the hypervisor's");
        run(11);
        assert_eq!(account.over(limits), Some(End::Hang));
        assert!(!account.enter_guest(limits), "coming back late is a hang, too");
        run(1000);
        assert!(!account.leave_guest(limits));
        assert_eq!(account.over(limits), Some(End::Hang), "the verdict stays");
        assert_eq!(account.blocks(limits, End::Hang), 80);

        account.reset(false);
        assert!(account.enter_guest(limits));
        run(101);
        assert_eq!(account.over(limits), Some(End::Runaway));
        assert!(!account.leave_guest(limits));

        account.reset(false);
        for _ in 0..3 {
            assert!(account.enter_guest(limits) && account.leave_guest(limits));
        }
        assert!(!account.enter_guest(limits), "one exit too many");
        assert_eq!(account.over(limits), Some(End::Runaway));

        account.reset(true);
        run(60);
        assert!(account.leave_guest(limits), "a run that begins in a guest");
        run(11);
        assert_eq!(account.over(limits), Some(End::Hang));

        account.reset(false);
        run(11);
        assert!(account.extend(limits) && account.extended());
        run(EXTENSION * 10 - 1);
        assert_eq!(account.over(limits), None, "much more");
        run(1);
        assert!(account.over(limits) == Some(End::Hang) && !account.extend(limits));
        assert_eq!(account.blocks(limits, End::Hang), 10, "a figure that does not depend on it");

        account.reset(false);
        run(4);
        account.guest_runs();
        run(10);
        assert_eq!(account.over(limits), None, "it has just come back");
        run(1);
        assert_eq!(account.over(limits), Some(End::Hang), "and now it does not any more");
        account.guest_runs();
        run(1);
        assert_eq!(account.over(limits), Some(End::Runaway), "but for all exits it is too much");

        account.reset(false);
        assert!((0..STRAY_BLOCKS).all(|_| !account.stray()) && account.stray());
        account.reset(false);
        assert!(!account.extended() && !account.stray());
        let look_often = || (0..FRUITLESS_LOOKS).any(|_| account.look());
        assert!(!look_often() && !account.look(), "the hypervisor's own standstill is no runaway");
        assert!(account.enter_guest(limits));
        account.look();
        run(1);
        assert!(!look_often(), "there was a block before the first of these looks");
        assert!(account.look(), "and none since then");
        run(1);
        assert!(!account.look());
    }
}
