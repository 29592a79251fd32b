//! The continuous self-check: now and then the program that was just executed is executed again on a machine that was
//! booted for it, and everything that it left behind is compared.
//!
//! A machine that differs is quarantined: it is thrown away and replaced, and both states are reported. So a reset that
//! forgets something cannot poison a campaign for long, and nobody has to believe that it does not happen.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    engine::{Engine, EngineError, Execution, Outcome, Request},
    program::{Program, text},
    target::Settings,
    triage::{
        compare::{Difference, Observed, compare},
        symbols::Symbols,
    },
};

/// Executions from one check to the next where nothing else is asked for.
const EVERY: u64 = 10_000;
/// Share of the time that checks may take then, in thousandths.
const SHARE: u32 = 15;
/// What a check is taken to cost before there has been one.
const GUESS: Duration = Duration::from_millis(600);
/// Mismatches of one session that are stored; all are counted.
const MOST: u64 = 32;

/// How often to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Every {
    /// Often enough, and never more than a small share of the time.
    Sensible,
    /// Each time after so many executions, whatever it costs; never for zero.
    Executions(u64),
}

/// What came of the checks of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Programs that did the same on a fresh machine.
    pub passed: u64,
    /// Programs that did not: so many machines were quarantined.
    pub mismatches: u64,
    /// Checks for which no machine could be had.
    pub skipped: u64,
}

impl Tally {
    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.mismatches += other.mismatches;
        self.skipped += other.skipped;
    }
}

/// A mismatch, as files of a report.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Mismatch {
    /// One line.
    pub summary: String,
    /// Names and contents.
    pub files: Vec<(String, Vec<u8>)>,
}

/// Checks the machine of one engine.
pub struct Checker<'a> {
    settings: Settings,
    symbols: &'a Symbols,
    every: u64,
    bounded: bool,
    executions: u64,
    /// Executions until the next one is due.
    left: u64,
    began: Instant,
    spent: Duration,
    last: Duration,
    /// Executions when a check was last passed.
    passed_at: u64,
    tally: Tally,
    found: Vec<Mismatch>,
}

/// What a fresh machine says.
enum Answer {
    Observed(Box<Observed>),
    /// No machine could be had, or it did not come to an end.
    None,
}

impl<'a> Checker<'a> {
    /// A checker for machines with these switches.
    #[must_use]
    pub fn new(settings: &Settings, symbols: &'a Symbols, every: Every) -> Self {
        let (every, bounded) = match every {
            Every::Sensible => (EVERY, true),
            Every::Executions(every) => (every, false),
        };
        Self {
            settings: settings.clone().checked(),
            symbols,
            every,
            bounded,
            executions: 0,
            left: every,
            began: Instant::now(),
            spent: Duration::ZERO,
            last: GUESS,
            passed_at: 0,
            tally: Tally::default(),
            found: Vec::new(),
        }
    }

    /// What came of the checks.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Mismatches that were found since this was last called.
    pub fn take_found(&mut self) -> Vec<Mismatch> {
        std::mem::take(&mut self.found)
    }

    /// True where another check would take too much of the time.
    fn too_dear(&self) -> bool {
        self.bounded && (self.spent + self.last) * 1000 > self.began.elapsed() * SHARE
    }

    /// Counts an execution, and checks it if it is its turn. Nearly always this is a subtraction.
    pub fn executed<E: Engine>(
        &mut self,
        engine: &mut E,
        request: &Request<'_>,
        program: Option<&Program>,
        execution: &Execution,
    ) {
        self.executions += 1;
        if self.every == 0 {
            return;
        }
        self.left -= 1;
        if self.left > 0 {
            return;
        }
        // One of the next executions, if this one is of no use.
        self.left = self.every.div_ceil(16);
        if self.too_dear() || execution.outcome == Outcome::Timeout {
            return;
        }
        let Some(left) = engine.aftermath() else { return };
        self.left = self.every;
        let began = Instant::now();
        let settings = self.settings.clone();
        let worker = Observed { execution: execution.clone(), left };
        if self.check(&worker, request, program, &mut || settings.start()) {
            // An engine that has no machine gets one with the next execution, or says why it cannot.
            let _ = engine.reboot();
        }
        self.last = began.elapsed();
        self.spent += self.last;
    }

    /// Compares; true if the machine has to go.
    fn check<E: Engine>(
        &mut self,
        worker: &Observed,
        request: &Request<'_>,
        program: Option<&Program>,
        boot: &mut impl FnMut() -> Result<E, EngineError>,
    ) -> bool {
        let Answer::Observed(fresh) = observe(boot, request) else {
            self.tally.skipped += 1;
            return false;
        };
        let Some(difference) = compare(worker, &fresh, self.symbols) else {
            self.tally.passed += 1;
            self.passed_at = self.executions;
            return false;
        };
        // Two fresh machines tell whether it is the worker's or the target's.
        let again = match observe(boot, request) {
            Answer::Observed(second) => Some(compare(&fresh, &second, self.symbols)),
            Answer::None => None,
        };
        self.tally.mismatches += 1;
        if self.tally.mismatches <= MOST {
            let mismatch = self.report(worker, &fresh, &difference, again.as_ref(), program);
            self.found.push(mismatch);
        }
        true
    }

    /// Writes everything down.
    fn report(
        &self,
        worker: &Observed,
        fresh: &Observed,
        difference: &Difference,
        again: Option<&Option<Difference>>,
        program: Option<&Program>,
    ) -> Mismatch {
        let blame = match again {
            Some(None) => "two fresh machines agree: the worker's machine had not been reset as it should",
            Some(Some(_)) => "two fresh machines differ as well: the target does not do the same each time",
            None => "there was no second fresh machine to tell whose fault it is",
        };
        let summary = difference.summary();
        let mut report = format!(
            "mismatch    {summary}\nwhose       {blame}\nwhen        execution {}; the check after execution {} was passed\n\
             quarantined the worker's machine was replaced; programs that joined the corpus between the two may owe it to that machine\n",
            self.executions, self.passed_at,
        );
        if let Some(program) = program {
            report.push_str("\nprogram\n\n");
            for line in text::print(program).lines() {
                report.push_str("  ");
                report.push_str(line);
                report.push('\n');
            }
        }
        report.push('\n');
        report.push_str(&difference.render());
        if let Some(Some(between)) = again {
            report.push_str("\nbetween the two fresh machines\n\n");
            report.push_str(&between.render());
        }
        let data = json!({
            "summary": summary, "whose": blame, "execution": self.executions, "passed_at": self.passed_at,
            "difference": difference, "between_fresh": again,
        });
        let pages = |observed: &Observed| -> Vec<u8> {
            let listed = difference.pages.iter();
            let pages = listed.filter_map(|page| {
                observed.left.memory.get(page.address..page.address + crate::engine::aftermath::PAGE)
            });
            pages.flatten().copied().collect()
        };
        let mut files = vec![
            ("worker.pages".to_owned(), pages(worker)),
            ("fresh.pages".to_owned(), pages(fresh)),
            ("mismatch.json".to_owned(), serde_json::to_vec_pretty(&data).unwrap_or_default()),
        ];
        files.extend(program.map(|program| ("program.hf".to_owned(), text::print(program).into_bytes())));
        files.push(("report.txt".to_owned(), report.into_bytes()));
        Mismatch { summary, files }
    }
}

/// Runs a program as the first of a machine's life.
fn observe<E: Engine>(boot: &mut impl FnMut() -> Result<E, EngineError>, request: &Request<'_>) -> Answer {
    let Ok(mut engine) = boot() else { return Answer::None };
    let mut execution = Execution::default();
    let ran = engine.execute(request, &mut execution).is_ok();
    match engine.aftermath() {
        // A machine that was replaced in between is not the one that was booted for this; what ended late had a busy host.
        Some(left) if ran && engine.restarts() == 0 && execution.outcome != Outcome::Timeout => {
            Answer::Observed(Box::new(Observed { execution, left }))
        }
        _ => Answer::None,
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, path::Path};

    use coverage_hypercall::harness::Canary;

    use super::*;
    use crate::{
        engine::aftermath::{Aftermath, page_hashes},
        images,
        target::Target,
    };

    /// A machine of two pages and eight counters. A broken one has a byte that it should not have.
    struct Fake {
        broken: bool,
        reboots: u64,
    }

    impl Fake {
        fn counters(&self) -> Vec<u8> {
            vec![u8::from(self.broken); 8]
        }
    }

    impl Engine for Fake {
        fn counters(&self) -> usize {
            8
        }

        fn build_id(&self) -> [u8; 32] {
            [0; 32]
        }

        fn execute(&mut self, _: &Request<'_>, execution: &mut Execution) -> Result<(), EngineError> {
            *execution = Execution { counters: Self::counters(self), ..Execution::default() };
            Ok(())
        }

        fn reboot(&mut self) -> Result<(), EngineError> {
            self.broken = false;
            self.reboots += 1;
            Ok(())
        }

        fn canaries(&self) -> Vec<Canary> {
            Vec::new()
        }

        fn restarts(&self) -> u64 {
            0
        }

        fn aftermath(&self) -> Option<Aftermath> {
            let mut memory = vec![0; 8192];
            let pristine = page_hashes(&memory).into();
            memory[5000] = u8::from(self.broken);
            Some(Aftermath { memory, pristine })
        }
    }

    fn checker(symbols: &Symbols, every: Every) -> Checker<'_> {
        let settings = Settings::new(Target::ReferenceHvm, &[], Path::new("qemu"), None).unwrap();
        Checker::new(&settings, symbols, every)
    }

    /// Checks one execution of a machine, with fresh ones that are broken as told.
    fn check(checker: &mut Checker<'_>, engine: &mut Fake, fresh: &mut impl FnMut() -> bool) -> bool {
        let request = Request { program: &[], comparisons: false };
        let mut execution = Execution::default();
        engine.execute(&request, &mut execution).unwrap();
        let worker = Observed { execution, left: engine.aftermath().unwrap() };
        let program = text::parse("d1 xen_version.version()").unwrap();
        checker.check(&worker, &request, Some(&program), &mut || Ok(Fake { broken: fresh(), reboots: 0 }))
    }

    #[test]
    fn a_machine_that_differs_is_reported_with_both_states() {
        let symbols = Symbols::from_elf(images::HYPERVISOR).unwrap();
        let mut checker = checker(&symbols, Every::Executions(10));
        let mut machine = Fake { broken: false, reboots: 0 };
        assert!(!check(&mut checker, &mut machine, &mut || false));
        assert_eq!(checker.tally(), Tally { passed: 1, ..Tally::default() });
        machine.broken = true;
        assert!(check(&mut checker, &mut machine, &mut || false));
        assert_eq!(checker.tally().mismatches, 1);
        let found = checker.take_found();
        let [mismatch] = found.as_slice() else { panic!("{found:?}") };
        assert_eq!(mismatch.summary, "8 edge counters; 1 pages of memory");
        let file = |name: &str| &mismatch.files.iter().find(|(n, _)| n == name).expect("a file").1;
        assert_eq!((file("worker.pages")[5000 - 4096], file("fresh.pages")[5000 - 4096]), (1, 0));
        let report = String::from_utf8(file("report.txt").clone()).unwrap();
        for word in ["two fresh machines agree", "xen_version.version", "worker   1  fresh   0", "00001000"] {
            assert!(report.contains(word), "no {word} in\n{report}");
        }
        assert!(checker.take_found().is_empty());
    }

    #[test]
    fn a_target_that_differs_by_itself_is_told_from_a_machine_that_does() {
        let symbols = Symbols::from_elf(images::HYPERVISOR).unwrap();
        let mut checker = checker(&symbols, Every::Executions(10));
        let odd = Cell::new(false);
        let mut machine = Fake { broken: false, reboots: 0 };
        assert!(check(&mut checker, &mut machine, &mut || !odd.replace(true)));
        let found = checker.take_found();
        let report = String::from_utf8(found[0].files.last().unwrap().1.clone()).unwrap();
        assert!(report.contains("the target does not do the same each time"), "{report}");
    }

    #[test]
    fn checks_keep_to_their_share_of_the_time() {
        let symbols = Symbols::from_elf(images::HYPERVISOR).unwrap();
        let mut checker = checker(&symbols, Every::Sensible);
        assert!(checker.too_dear(), "a session that has just begun has no time for it");
        checker.bounded = false;
        assert!(!checker.too_dear());
        // None at all: no machine is asked for its state, and none is booted.
        let mut never = self::checker(&symbols, Every::Executions(0));
        let mut machine = Fake { broken: true, reboots: 0 };
        let request = Request { program: &[], comparisons: false };
        for _ in 0..100 {
            never.executed(&mut machine, &request, None, &Execution::default());
        }
        assert_eq!((never.tally(), machine.reboots), (Tally::default(), 0));
    }
}
