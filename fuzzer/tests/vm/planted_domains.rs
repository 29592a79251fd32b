//! Planted bugs of domains and their control.

use hyperfuzz::engine::{Engine, Outcome};
use planted_bugs::Bug;

use crate::common::{NEVER, Vm};

#[test]
fn self_deadlock_is_a_hang() {
    let own = "d0 domctl.pausedomain(&{domain: d0})";
    let other = "d0 domctl.pausedomain(&{domain: d2})";
    let mut clean = Vm::boot();
    clean.check(&[(own, "= -22 (EINVAL)"), (other, "= 0")]);
    let canary = clean.canary(Bug::SelfDeadlock);
    assert_eq!((canary.reached, canary.triggered), (2, 0));
    clean.check_well();
    drop(clean);
    let mut planted = Vm::with(&[Bug::SelfDeadlock]);
    planted.check(&[(other, "= 0")]);
    assert_eq!(planted.canary(Bug::SelfDeadlock).triggered, 0);
    let run = planted.run(&format!("{other}\n{own}"));
    assert_eq!(run.execution.outcome, Outcome::Hang, "{run:?}");
    assert_eq!(run.answers, ["= 0", NEVER]);
    assert_eq!(planted.canary(Bug::SelfDeadlock).triggered, 1);
    planted.check_well();
    assert_eq!(planted.engine().restarts(), 0);
}
