//! The programs in `corpora/`.

use std::{fs, path::Path};

use hyperfuzz::engine::Outcome;
use planted_bugs::Bug;

use crate::common::{NEVER, Vm};

/// Names and texts of the programs in a folder, in order.
pub(crate) fn programs(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpora").join(folder);
    let mut found: Vec<(String, String)> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "hf"))
        .map(|path| (path.display().to_string(), fs::read_to_string(&path).expect("the program can be read")))
        .collect();
    found.sort();
    found
}

/// Runs all programs of a folder; none of them may end badly or meet the condition of a planted bug.
fn replay(vm: &mut Vm, folder: &str) {
    let programs = programs(folder);
    for (name, source) in &programs {
        let run = vm.run(source);
        assert_eq!(run.execution.outcome, Outcome::Done, "{name}: {run:?}");
        assert!(run.execution.crash.is_none() && !run.execution.corrupt, "{name}: {run:?}");
        // Who blocks or ends its domain never comes back; everything else does.
        for (answer, line) in run.answers.iter().zip(source.lines().filter(|line| !line.starts_with('#'))) {
            let leaves = line.contains("sched_op.block") || line.contains("sched_op.shutdown(");
            assert_eq!(answer == NEVER, leaves, "{name}: {line}: {answer}");
            assert!(!answer.contains("refused by the agent"), "{name}: {line}: {answer}");
        }
        for bug in Bug::ALL {
            assert_eq!(vm.canary(bug).triggered, 0, "{name} triggers {}", bug.name());
        }
    }
    // A folder that was moved, or an ending that was changed, must not pass for a good one.
    assert!(programs.len() >= 60, "only {} programs in {folder}", programs.len());
}

#[test]
fn seeds_run_and_come_back() {
    replay(&mut Vm::boot(), "seeds");
}

#[test]
fn seeds_trigger_no_planted_bug() {
    let mut vm = Vm::with(&Bug::ALL);
    replay(&mut vm, "seeds");
    // They get near, though, and the bugs are on.
    let run = vm.run_any("d1 sched_op.poll(&{ports: &[500], nr_ports: 1, timeout: past})");
    assert_eq!((run.outcome, vm.canary(Bug::PollUnalloc).triggered), (Outcome::Crash, 1));
}

#[test]
fn regressions_stay_fixed() {
    let mut clean = Vm::boot();
    for (name, source) in programs("regressions") {
        let execution = clean.run_any(&source);
        assert!(
            matches!(execution.outcome, Outcome::Done | Outcome::Idle) && execution.crash.is_none(),
            "{name}: {execution:?}"
        );
    }
    clean.check_well();
}
