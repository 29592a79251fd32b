//! The planted bug of `vcpu_op`.

use hyperfuzz::engine::{Engine, Outcome};
use planted_bugs::Bug;

use crate::common::{NEVER, Vm};

const TOO_LONG: &str = "d1 vcpu_op.set_periodic_timer(0, &{period_ns: 0x8000000000000000})";

#[test]
fn timer_overflow_is_a_hang() {
    let mut clean = Vm::boot();
    clean.check(&[(TOO_LONG, "= -22 (EINVAL)")]);
    let canary = clean.canary(Bug::TimerOverflow);
    assert!(canary.reached > 0 && canary.triggered == 0, "clean: {canary:?}");
    drop(clean);

    let mut planted = Vm::with(&[Bug::TimerOverflow]);
    planted.check(&[
        ("d1 vcpu_op.set_periodic_timer(0, &{period_ns: ms})", "= 0"),
        ("d1 vcpu_op.set_periodic_timer(0, &{period_ns: 999999})", "= -22 (EINVAL)"),
    ]);
    assert_eq!(planted.canary(Bug::TimerOverflow).triggered, 0);
    let run = planted.run(TOO_LONG);
    assert_eq!((run.execution.outcome, run.answers[0].as_str()), (Outcome::Hang, NEVER), "{run:?}");
    assert!(run.execution.crash.is_none());
    assert!(planted.canary(Bug::TimerOverflow).triggered > 0);
    planted.check_well();
    assert_eq!(planted.engine().restarts(), 0);
}
