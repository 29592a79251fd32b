//! Which operations are known to end executions badly.
//!
//! A defect that has been found goes on to end every program that meets it, and what stands behind it in the program is
//! never reached. So inputs with an operation that mostly ends in a known bucket are mostly passed over. Some are
//! tried all the same: the operation may have another defect.

use std::{cell::RefCell, collections::BTreeMap};

use rand::Rng;

use crate::program::{Program, walk};

/// Largest share of inputs that are passed over.
const MOST: f64 = 0.9;
/// An operation that has been issued fewer times than this is not judged as if that were all that there is to know.
const DOUBT: f64 = 16.0;

/// How often an operation was issued, and how often it was the last one.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    issued: u64,
    fatal: u64,
}

/// Counts per operation, shared by the executor that learns and the mutator that passes over.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    operations: RefCell<BTreeMap<&'static str, Record>>,
}

impl Trouble {
    /// Learns from an execution of a program in which all calls before `last` returned, and which `last` ended badly, if there is
    /// one. A call with entries is not blamed: it was one of them.
    pub(super) fn learn(&self, program: &Program, last: Option<usize>) {
        let mut records = self.operations.borrow_mut();
        let returned = last.map_or(program.calls.len(), |last| last.min(program.calls.len()));
        // Nothing has to be known of operations that never did harm.
        for call in &program.calls[..returned] {
            if let Some(record) = records.get_mut(call.op.operation().name) {
                record.issued += 1;
            }
        }
        let Some(call) = last.and_then(|last| program.calls.get(last)) else { return };
        let mut operations = 0;
        walk::operations(call, &mut |_| operations += 1);
        if operations == 1 {
            let record = records.entry(call.op.operation().name).or_default();
            record.issued += 1;
            record.fatal += 1;
        }
    }

    /// How likely the program is to end badly for what is known.
    fn risk(&self, program: &Program) -> f64 {
        let records = self.operations.borrow();
        if records.is_empty() {
            return 0.0;
        }
        let mut survives = 1.0;
        let mut met = Vec::new();
        for call in &program.calls {
            walk::operations(call, &mut |op| {
                if let Some(record) = records.get(op.name)
                    && !met.contains(&op.name)
                {
                    met.push(op.name);
                    survives *= 1.0 - record.fatal as f64 / (record.issued as f64 + DOUBT);
                }
            });
        }
        1.0 - survives
    }

    /// Whether to pass a program over.
    pub(super) fn pass_over<R: Rng + ?Sized>(&self, program: &Program, rng: &mut R) -> bool {
        let risk = self.risk(program);
        risk > 0.0 && rng.random_bool((risk * MOST).clamp(0.0, MOST))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_pcg::Pcg64Mcg;

    use super::*;
    use crate::{interface::interface, program::generate};

    fn of(names: &[&str]) -> Program {
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        let mut program = Program::default();
        for name in names {
            let op = interface().by_name(name).expect("known");
            let call = generate::call_of(&mut rng, interface(), op, &program.calls);
            program.calls.push(call);
        }
        program
    }

    fn passed(trouble: &Trouble, program: &Program) -> usize {
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        (0..1000).filter(|_| trouble.pass_over(program, &mut rng)).count()
    }

    #[test]
    fn what_always_ends_badly_is_mostly_passed_over_and_the_rest_is_not() {
        let trouble = Trouble::default();
        let (deadly, harmless) = ("sched_op.poll", "sched_op.yield");
        assert_eq!(passed(&trouble, &of(&[deadly])), 0);
        let program = of(&[harmless, deadly, harmless]);
        for _ in 0..1000 {
            trouble.learn(&program, Some(1));
        }
        let often = passed(&trouble, &of(&[harmless, deadly]));
        assert!((800..950).contains(&often), "{often}");
        assert_eq!(passed(&trouble, &of(&[harmless])), 0);
    }

    #[test]
    fn what_rarely_does_harm_is_rarely_passed_over() {
        let trouble = Trouble::default();
        let program = of(&["sched_op.poll"]);
        trouble.learn(&program, Some(0));
        for _ in 0..1000 {
            trouble.learn(&program, None);
        }
        assert!(passed(&trouble, &program) < 20);
    }

    #[test]
    fn the_end_of_a_program_is_nobodys_fault() {
        let trouble = Trouble::default();
        let program = of(&["sched_op.poll"]);
        trouble.learn(&program, Some(1));
        assert_eq!(passed(&trouble, &program), 0);
    }
}
