//! A machine with the reference hypervisor on it, for tests that state what each call of a program answers.

use std::{
    fmt::Write,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

use coverage_hypercall::harness::Canary;
use hyperfuzz::{
    doctor,
    engine::{Engine, Execution, Outcome, Request, qemu::QemuEngine, version},
    program::{Program, lower, text, transcript},
    target::{Settings, Target},
};
use planted_bugs::Bug;

/// A call that has no completion: it did not return.
pub(crate) const NEVER: &str = "never";

/// A machine. It has to be used by the thread that made it.
pub(crate) struct Vm {
    engine: QemuEngine,
}

/// What became of a program.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) execution: Execution,
    /// For each call of the program what it answered: `= 0; arg.port = 1`, or [`NEVER`].
    pub(crate) answers: Vec<String>,
}

/// What is tested: a test binary whose name ends in `pv` is about pv guests.
pub(crate) const TARGET: Target = if matches!(env!("CARGO_CRATE_NAME").as_bytes(), [.., b'p', b'v']) {
    Target::ReferencePv
} else {
    Target::ReferenceHvm
};

/// The switches of a machine for what is tested, with these planted bugs.
pub(crate) fn settings(plants: &[Bug]) -> Settings {
    settings_of(TARGET, plants)
}

/// The switches of a machine.
pub(crate) fn settings_of(target: Target, plants: &[Bug]) -> Settings {
    // CONTRIBUTING.md says how to test another QEMU, and the other way to reset it.
    let qemu = version::default_binary();
    let found = Command::new(&qemu).arg("--version").output();
    assert!(
        found.is_ok_and(|output| output.status.success()),
        "{qemu:?} does not run: `hyperfuzz doctor --install` provides it"
    );
    // Tests run side by side, an engine pins itself: they take turns on the cores.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let cores = doctor::usable_cores();
    let core = cores.get(NEXT.fetch_add(1, Ordering::Relaxed) % cores.len().max(1)).copied();
    let names: Vec<String> = plants.iter().map(|bug| bug.name().to_owned()).collect();
    Settings::new(target, &names, &qemu, core).expect("the switches are right")
}

impl Vm {
    /// Boots a machine without planted bugs.
    pub(crate) fn boot() -> Self {
        Self::with(&[])
    }

    /// Boots a machine with these planted bugs.
    pub(crate) fn with(plants: &[Bug]) -> Self {
        Self::on(TARGET, plants)
    }

    /// Boots a machine for a target, whichever is tested.
    pub(crate) fn on(target: Target, plants: &[Bug]) -> Self {
        let settings = settings_of(target, plants);
        Self { engine: settings.start().unwrap_or_else(|error| panic!("no machine: {error}")) }
    }

    /// Runs a lowered program, or what pretends to be one.
    pub(crate) fn bytes(&mut self, program: &[u8]) -> Execution {
        let mut execution = Execution::default();
        let request = Request { program, comparisons: false };
        self.engine.execute(&request, &mut execution).unwrap_or_else(|error| panic!("no machine: {error}"));
        execution
    }

    /// Runs a program.
    pub(crate) fn program(&mut self, program: &Program) -> Run {
        let lowered = lower::lower(program, 1).expect("the program is short");
        let execution = self.bytes(&lowered.bytes);
        let answers = (0..program.calls.len())
            .map(|index| {
                let own: Vec<_> =
                    execution.calls.iter().filter(|c| usize::from(c.call) == index).cloned().collect();
                assert!(own.len() < 2, "call {index} returned {} times", own.len());
                if own.is_empty() {
                    return NEVER.to_owned();
                }
                let said = transcript::render(program, &lowered, &own);
                let prefix = format!("#{index} {} ", text::call(program, &program.calls[index]));
                let said = said.strip_prefix(&prefix).expect("the transcript begins with the call");
                // What the call changed is indented below it; the rest is about other calls.
                let mut lines = said.lines();
                let first = lines.next().into_iter();
                let own = first.chain(lines.take_while(|line| line.starts_with("    ")));
                own.map(str::trim).collect::<Vec<_>>().join("; ")
            })
            .collect();
        Run { execution, answers }
    }

    /// Runs a program in text form.
    pub(crate) fn run(&mut self, source: &str) -> Run {
        self.program(&text::parse(source).unwrap_or_else(|error| panic!("{error} in\n{source}")))
    }

    /// Runs a program in text form, whatever becomes of it.
    pub(crate) fn run_any(&mut self, source: &str) -> Execution {
        self.run_lowered(&text::parse(source).unwrap_or_else(|error| panic!("{error} in\n{source}")))
    }

    /// Runs a program, whatever becomes of it.
    pub(crate) fn run_lowered(&mut self, program: &Program) -> Execution {
        self.bytes(&lower::lower(program, 1).expect("the program is short").bytes)
    }

    /// Runs the calls on the left, all of which must answer as the right says, to the end of the program. A `*` at the end
    /// of an answer stands for anything. Returns the run for further questions.
    #[track_caller]
    pub(crate) fn check(&mut self, calls: &[(&str, &str)]) -> Run {
        self.check_end(Outcome::Done, calls)
    }

    /// As [`Self::check`], for a program that ends otherwise.
    #[track_caller]
    pub(crate) fn check_end(&mut self, outcome: Outcome, calls: &[(&str, &str)]) -> Run {
        let source: Vec<_> = calls.iter().map(|(call, _)| *call).collect();
        let run = self.run(&source.join("\n"));
        let mut report = String::new();
        let mut good = run.execution.outcome == outcome && !run.execution.corrupt;
        for ((call, expected), answer) in calls.iter().zip(&run.answers) {
            let same = match expected.strip_suffix('*') {
                Some(start) => answer.starts_with(start),
                None => answer == expected,
            };
            good &= same;
            let mark = if same { ' ' } else { '!' };
            let _ = writeln!(report, "{mark} {call}\n    expected {expected}\n    answered {answer}");
        }
        assert!(
            good && run.answers.len() == calls.len(),
            "ended with {:?}, corrupt {}; crash {:?}\n{report}",
            run.execution.outcome,
            run.execution.corrupt,
            run.execution.crash
        );
        run
    }

    /// A call that always works: the machine is well.
    #[track_caller]
    pub(crate) fn check_well(&mut self) {
        self.check(&[
            ("d1 xen_version.version()", "= 0x40011"),
            ("d2 xen_version.pagesize()", "= 0x1000"),
            ("d2 agent.read(playground)", "= 0"),
        ]);
        assert_eq!(self.engine.restarts(), 0, "the machine was replaced");
    }

    /// The canary of a planted bug after the last run.
    pub(crate) fn canary(&self, bug: Bug) -> Canary {
        self.engine.canaries()[bug as usize]
    }

    /// The machine itself.
    pub(crate) fn engine(&mut self) -> &mut QemuEngine {
        &mut self.engine
    }
}
