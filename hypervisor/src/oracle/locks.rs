//! Locks: taken in order, and none held when a call returns.
//!
//! There is one processor and no call waits for another, so that a lock protects nothing. It is there for what comes with it:
//! an order, a count, and error paths that have to give it back.

use crate::hypervisor::Hypervisor;
use coverage_hypercall::crash::CrashKind;
use xen_abi::DomId;

/// A lock, by what it protects. Of two that are held at a time, the one further down, or of the domain with the higher
/// identifier, is taken last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lock {
    /// A domain's pages, limits and vCPUs.
    Domain(DomId),
    /// A domain's grant table.
    Grant(DomId),
    /// A domain's physical map.
    P2m(DomId),
    /// A domain's event channels.
    Event(DomId),
}

/// Locks that a call may hold at a time.
const MOST: usize = 8;

/// The locks that are held, in the order in which they were taken. Taking one disables preemption, so that their number is
/// also the preemption count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Locks {
    held: [Option<Lock>; MOST],
    count: usize,
}

impl Locks {
    /// Takes a lock.
    fn take(&mut self, lock: Lock) -> Result<(), &'static str> {
        let last = self.count.checked_sub(1).and_then(|last| self.held[last]);
        if last.is_some_and(|last| lock <= last) {
            let again = self.held.contains(&Some(lock));
            return Err(if again { "a lock is taken twice" } else { "locks are taken in the wrong order" });
        }
        *self.held.get_mut(self.count).ok_or("too many locks are held")? = Some(lock);
        self.count += 1;
        Ok(())
    }

    /// Gives the lock back that was taken last.
    fn give(&mut self, lock: Lock) -> Result<(), &'static str> {
        match self.count.checked_sub(1) {
            Some(last) if self.held[last] == Some(lock) => {
                self.held[last] = None;
                self.count = last;
                Ok(())
            }
            _ => Err("a lock is given back that was not taken last"),
        }
    }
}

impl Hypervisor {
    /// Takes a lock. Whoever takes it gives it back by [`Self::unlock`] on each way out.
    pub(crate) fn lock(&mut self, lock: Lock) {
        if self.options.oracles
            && let Err(what) = self.checks.locks.take(lock)
        {
            self.violation(CrashKind::LockHeld, what);
        }
    }

    /// Gives a lock back.
    pub(crate) fn unlock(&mut self, lock: Lock) {
        if self.options.oracles
            && let Err(what) = self.checks.locks.give(lock)
        {
            self.violation(CrashKind::LockHeld, what);
        }
    }

    /// Does something under a lock.
    pub(crate) fn locked<R>(&mut self, lock: Lock, action: impl FnOnce(&mut Self) -> R) -> R {
        self.lock(lock);
        let result = action(self);
        self.unlock(lock);
        result
    }

    /// No lock is held.
    pub(crate) fn check_locks(&mut self) {
        if self.checks.locks.count != 0 {
            self.violation(CrashKind::LockHeld, "a lock is held on return");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_have_an_order() {
        let mut locks = Locks::default();
        for lock in [Lock::Domain(1), Lock::Domain(2), Lock::Grant(1), Lock::P2m(2)] {
            assert_eq!(locks.take(lock), Ok(()));
        }
        assert_eq!(locks.take(Lock::P2m(2)), Err("a lock is taken twice"));
        assert_eq!(locks.take(Lock::P2m(1)), Err("locks are taken in the wrong order"));
        assert_eq!(locks.take(Lock::Grant(1)), Err("a lock is taken twice"));
        assert!(locks.give(Lock::Grant(1)).is_err());
        for lock in [Lock::P2m(2), Lock::Grant(1), Lock::Domain(2), Lock::Domain(1)] {
            assert_eq!(locks.give(lock), Ok(()));
        }
        assert_eq!(locks.count, 0);
        assert!(locks.give(Lock::Domain(1)).is_err());
    }
}
