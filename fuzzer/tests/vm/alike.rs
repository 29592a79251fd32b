//! Machines are alike: a program leaves the same memory on a machine that has executed thousands as on a fresh one.

use hyperfuzz::{
    engine::{Engine, Execution, Outcome, Request},
    images,
    interface::interface,
    program::{Program, generate, lower, text},
    triage::{
        compare::{Observed, compare},
        symbols::Symbols,
    },
};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use crate::common::settings;

fn observe(engine: &mut impl Engine, program: &Program) -> Observed {
    let bytes = lower::lower(program, 1).expect("short").bytes;
    let mut execution = Execution::default();
    engine.execute(&Request { program: &bytes, comparisons: false }, &mut execution).expect("a machine");
    Observed { execution, left: engine.aftermath().expect("noted") }
}

#[test]
fn a_used_machine_and_a_fresh_one_end_alike() {
    let mut rng = Pcg64Mcg::seed_from_u64(11);
    let programs: Vec<_> =
        (0..400).map(|_| generate::program(&mut rng, interface(), generate::DEFAULT_CALLS)).collect();
    let symbols = Symbols::from_elf(images::HYPERVISOR).unwrap();
    let settings = settings(&[]).checked();
    let mut used = settings.start().unwrap();
    let mut compared = 0;
    for (n, program) in programs.iter().enumerate() {
        let ours = observe(&mut used, program);
        if n % 40 != 39 {
            continue;
        }
        // The first program of its life.
        let theirs = observe(&mut settings.start().unwrap(), program);
        if let Some(difference) = compare(&ours, &theirs, &symbols) {
            panic!("{}\nafter {n} others:\n{}", difference.render(), text::print(program));
        }
        compared += usize::from(ours.execution.outcome == Outcome::Done);
    }
    assert!(compared > 2, "only {compared} programs came to their end");
    assert_eq!(used.restarts(), 0);
}
