//! The distribution's Xen as a target, from each kind of domain. Ignored, with a message, where there is no image of
//! Xen: `HYPERFUZZ_XEN` names one, or one is installed or was unpacked by `--install`.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use coverage_hypercall::crash::CrashKind;
use hyperfuzz::{
    engine::{Engine, Execution, Outcome, Request, qemu::QemuEngine, xen},
    program::{Program, generate, lower, text},
    target::{Settings, Target},
};
use libtest_mimic::{Arguments, Trial};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

/// A test, by its name. It gets Xen's image, and panics where it fails.
type Test = (&'static str, fn(&Path));

const TESTS: &[Test] = &[
    ("a_crash_of_a_domu_costs_one_execution", a_crash_of_a_domu_costs_one_execution),
    ("programs_run_in_a_domu", programs_run_in_a_domu),
    ("programs_run_in_a_pv_dom0", programs_run_in_a_pv_dom0),
    ("what_goes_wrong_is_told_apart", what_goes_wrong_is_told_apart),
    ("the_image_names_its_functions", the_image_names_its_functions),
    ("programs_run_in_a_pvh_dom0", programs_run_in_a_pvh_dom0),
    ("generated_programs_run_alike_in_any_order", generated_programs_run_alike_in_any_order),
    ("three_thousand_executions_of_one_program_are_one", three_thousand_executions_of_one_program_are_one),
    ("what_xen_compares_is_noted", what_xen_compares_is_noted),
];

fn main() {
    let arguments = Arguments::from_args();
    let image = std::env::var_os("HYPERFUZZ_XEN").map(PathBuf::from).or_else(xen::installed);
    if image.is_none() {
        eprintln!(
            "there is no image of Xen: `hyperfuzz smoke --install --target xen-domu` unpacks one, or set HYPERFUZZ_XEN to a boot/xen-*.gz"
        );
    }
    let ignored = image.is_none();
    let image: Arc<Path> = image.unwrap_or_default().into();
    let trial = |(name, test): &Test| {
        let (image, test) = (Arc::clone(&image), *test);
        let run = move || {
            test(&image);
            Ok(())
        };
        Trial::test(*name, run).with_ignored_flag(ignored)
    };
    libtest_mimic::run(&arguments, TESTS.iter().map(trial).collect()).exit();
}

/// A machine.
struct Machine(QemuEngine);

impl Machine {
    fn boot(target: Target, image: &Path) -> Self {
        Self::boot_with(target, image, "")
    }

    /// With further words for Xen's command line.
    fn boot_with(target: Target, image: &Path, words: &str) -> Self {
        let settings = Settings::new(target, &[], Path::new("qemu-system-x86_64"), None)
            .and_then(|settings| settings.with_xen_words(words).with_xen(Some(image)))
            .expect("the image can be read");
        Self(settings.start().unwrap_or_else(|error| panic!("no machine: {error}")))
    }

    fn run(&mut self, source: &str) -> Execution {
        self.execute(&text::parse(source).unwrap_or_else(|error| panic!("{error} in\n{source}")))
    }

    fn execute(&mut self, program: &Program) -> Execution {
        self.request(program, false)
    }

    fn request(&mut self, program: &Program, comparisons: bool) -> Execution {
        let lowered = lower::lower_in(program, 1, &self.0.environment()).expect("the program is short");
        let mut execution = Execution::default();
        let request = Request { program: &lowered.bytes, comparisons };
        self.0.execute(&request, &mut execution).unwrap_or_else(|error| panic!("no machine: {error}"));
        execution
    }
}

/// Counters that are not zero.
fn edges(execution: &Execution) -> usize {
    execution.counters.iter().filter(|n| **n != 0).count()
}

/// How each call ended.
fn statuses(execution: &Execution) -> Vec<String> {
    execution.calls.iter().map(|call| format!("{:?}", call.status)).collect()
}

const VERSION: &str = "d1 xen_version.version()\nd2 xen_version.pagesize()\nd1 agent.ud2()";

/// Runs a program on a fresh machine, and checks its results.
fn version(machine: &mut Machine) -> Execution {
    let version = machine.run(VERSION);
    let said = statuses(&version);
    assert_eq!((version.outcome, version.corrupt, said.len()), (Outcome::Done, false, 3), "{version:?}");
    assert!(said[0].starts_with("Returned(2621"), "4.x: {said:?}");
    assert!(said[1].contains("Returned(4096)"), "{said:?}");
    assert!(said[2].contains("vector: 6"), "{said:?}");
    assert!(edges(&version) > 20, "{} edges", edges(&version));
    version
}

/// Whatever came in between, a program does what it did.
fn expect_the_same(machine: &mut Machine, expected: &Execution, times: u32) {
    for turn in 0..times {
        let again = machine.run(VERSION);
        assert_eq!(statuses(&again), statuses(expected), "turn {turn}");
        assert_eq!(again.blocks, expected.blocks, "turn {turn}");
        assert!(again.counters == expected.counters, "turn {turn}: other edges");
    }
    assert_eq!(machine.0.restarts(), 0, "the machine was replaced");
}

fn programs_run_in_a_pv_dom0(image: &Path) {
    let mut machine = Machine::boot(Target::XenPv, image);
    let first = version(&mut machine);
    let port = machine.run("d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})");
    assert!(edges(&port) > 20 && port.counters != first.counters, "{port:?}");
    expect_the_same(&mut machine, &first, 500);
}

/// Crashes, ends that are nobody's fault, and calls that only take long; each is rolled back.
fn what_goes_wrong_is_told_apart(image: &Path) {
    let mut machine = Machine::boot_with(Target::XenPv, image, "nmi=fatal");
    let first = version(&mut machine);
    // The debug key N raises a non-maskable interrupt, which is fatal with these words.
    let nmi = machine
        .run("d0 sysctl.debug_keys(&{cmd: 7, interface_version: 21, keys: &[78], nr_keys: 1, rest: out})");
    assert_eq!(nmi.outcome, Outcome::Crash, "{nmi:?}");
    let record = nmi.crash.as_ref().expect("Xen has said why");
    assert_eq!(CrashKind::from_u32(record.kind), Some(CrashKind::Fault));
    assert!(String::from_utf8_lossy(&record.message).contains("FATAL TRAP"), "{:?}", record.message);
    let functions = xen::functions(&xen::read_image(image).expect("it was read before"));
    let name = hyperfuzz::triage::functions::find(&functions, record.rip).map(|found| found.name.as_str());
    assert_eq!(name, Some("self_nmi"), "{:#x}", record.rip);
    expect_the_same(&mut machine, &first, 2);

    let ends = [
        ("d0 sched_op.shutdown(&{reason: crash})", Outcome::Idle),
        ("d0 sched_op.shutdown(&{reason: poweroff})", Outcome::Idle),
        // The debug key R restarts the machine.
        (
            "d0 sysctl.debug_keys(&{cmd: 7, interface_version: 21, keys: &[82], nr_keys: 1, rest: out})",
            Outcome::Idle,
        ),
        // Millions of calls, broken off and repeated.
        ("d0 multicall.multicall(&[xen_version.version()], 0xffffffff)", Outcome::Runaway),
    ];
    for (program, outcome) in ends {
        let ended = machine.run(program);
        assert_eq!(ended.outcome, outcome, "{program}: {ended:?}");
        assert!(ended.crash.is_none());
        expect_the_same(&mut machine, &first, 2);
    }
}

fn the_image_names_its_functions(image: &Path) {
    let functions = xen::functions(&xen::read_image(image).expect("the image can be read"));
    assert!(functions.len() > 1000, "{}", functions.len());
    assert!(functions.is_sorted_by(|a, b| a.start < b.start));
    for name in
        ["panic", "machine_restart", "__domain_crash", "hypercall_create_continuation", "do_multicall"]
    {
        assert!(functions.iter().any(|function| function.name == name), "{name}");
    }
}

fn programs_run_in_a_domu(image: &Path) {
    let mut machine = Machine::boot(Target::XenDomu, image);
    let first = version(&mut machine);
    // Only privileged domains may write to the console.
    let refused = machine.run("d1 raw.call(18, 0, 0, 0, 0, 0, 0)");
    assert_eq!(statuses(&refused), ["Returned(-1)"], "{refused:?}");
    let port = machine.run("d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})");
    assert_eq!((port.outcome, statuses(&port)), (Outcome::Done, vec!["Returned(0)".to_owned()]), "{port:?}");
    assert!(port.counters != first.counters);
    expect_the_same(&mut machine, &first, 500);
}

fn a_crash_of_a_domu_costs_one_execution(image: &Path) {
    let mut machine = Machine::boot(Target::XenDomu, image);
    let first = version(&mut machine);
    let ends = [
        "d1 sched_op.shutdown(&{reason: crash})",
        "d1 sched_op.shutdown(&{reason: poweroff})",
        // Without a table of handlers the exception ends the domain.
        "d1 raw.call(0, 0, 0, 0, 0, 0, 0)\nd1 agent.ud2()",
    ];
    for end in ends {
        let ended = machine.run(end);
        assert_eq!(ended.outcome, Outcome::Idle, "{end}: {ended:?}");
        assert!(ended.crash.is_none());
        expect_the_same(&mut machine, &first, 2);
    }
}

fn programs_run_in_a_pvh_dom0(image: &Path) {
    let mut machine = Machine::boot(Target::XenPvh, image);
    let first = version(&mut machine);
    // A frame is taken away, and the IOMMU has to hear of it.
    let given = machine.run("d1 memory_op.decrease_reservation(0, &{extent_start: &[0x280], nr_extents: 1, extent_order: 0, mem_flags: 0, domid: self})");
    assert_eq!(statuses(&given), ["Returned(1)"], "{given:?}");
    assert!(given.counters != first.counters);
    let port = machine.run("d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})");
    assert_eq!((port.outcome, statuses(&port)), (Outcome::Done, vec!["Returned(0)".to_owned()]), "{port:?}");
    let again = machine.run("d1 memory_op.decrease_reservation(0, &{extent_start: &[0x280], nr_extents: 1, extent_order: 0, mem_flags: 0, domid: self})");
    assert_eq!((statuses(&again), again.blocks), (statuses(&given), given.blocks));
    expect_the_same(&mut machine, &first, 500);
}

fn generated_programs_run_alike_in_any_order(image: &Path) {
    for (target, count) in [(Target::XenPv, 300), (Target::XenDomu, 300), (Target::XenPvh, 100)] {
        let mut machine = Machine::boot(target, image);
        let mut rng = Pcg64Mcg::seed_from_u64(1);
        let program = |_| generate::program(&mut rng, target.interface(), 10);
        let programs: Vec<Program> = (0..count).map(program).collect();
        let first: Vec<Execution> = programs.iter().map(|program| machine.execute(program)).collect();
        for (program, before) in programs.iter().zip(&first).rev() {
            let now = machine.execute(program);
            // What is longer than that depends on the clock.
            let settled = matches!(now.outcome, Outcome::Done | Outcome::Idle | Outcome::Crash);
            let alike = now.outcome == before.outcome
                && (!settled
                    || now.calls == before.calls
                        && now.blocks == before.blocks
                        && now.counters == before.counters);
            assert!(alike, "{target}: {}\nwas {before:?}\nis {now:?}", text::print(program));
        }
        let well = first.iter().filter(|execution| execution.outcome == Outcome::Done).count();
        assert!(well * 2 > programs.len(), "{target}: only {well} of {count} programs came to their end");
    }
}

fn three_thousand_executions_of_one_program_are_one(image: &Path) {
    for target in [Target::XenPv, Target::XenDomu] {
        let mut machine = Machine::boot(target, image);
        let first = version(&mut machine);
        expect_the_same(&mut machine, &first, 3000);
    }
}

fn what_xen_compares_is_noted(image: &Path) {
    for target in [Target::XenPv, Target::XenDomu, Target::XenPvh] {
        let mut machine = Machine::boot(target, image);
        let first = version(&mut machine);
        // A sub-operation of xen_version that is none, and a domain that is none.
        let source = "d1 raw.call(17, 0x5a5b, 0, 0, 0, 0, 0)\nd1 event_channel_op.close(&{port: 0x5c5d})";
        let program = text::parse(source).expect("a program");
        let plain = machine.request(&program, false);
        let noted = machine.request(&program, true);
        assert_eq!((noted.outcome, statuses(&noted)), (plain.outcome, statuses(&plain)), "{target}");
        assert!(plain.comparisons.is_empty() && edges(&noted) == 0, "{target}");
        let with = |value| noted.comparisons.iter().filter(move |entry| entry.right == value);
        let constants = with(0x5a5b).filter(|entry| entry.constant == 1 && entry.left < 16).count();
        assert!(
            constants > 0,
            "{target}: the number is compared with those of its sub-operations: {noted:?}"
        );
        assert!(
            noted.comparisons.iter().any(|entry| [entry.left, entry.right].contains(&0x5c5d)),
            "{target}: the port is compared with how many there are: {noted:?}"
        );
        assert!(noted.comparisons.iter().all(|entry| entry.left != entry.right), "{target}");
        let again = machine.request(&program, true);
        assert!(again.comparisons == noted.comparisons, "{target}: the same each time");
        expect_the_same(&mut machine, &first, 10);
    }
}
