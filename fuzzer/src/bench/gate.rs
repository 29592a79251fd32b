//! A verdict for continuous integration: planted bugs are found, and nothing else is.

use super::record::Trial;

/// What is wrong, in sentences; nothing where all is well.
///
/// Every planted bug has to be detected in at least one trial of its cell, so that one unlucky seed does not decide; and in trials
/// without planted bugs nothing may end badly.
pub fn failures(trials: &[Trial], every_bug: bool) -> Vec<String> {
    let mut failures = Vec::new();
    for trial in trials.iter().filter(|trial| trial.task.plants.is_empty() && trial.bad_ends > 0) {
        let seen: Vec<_> =
            trial.unexplained.iter().map(|end| format!("{} ({})", end.symptom, end.message)).collect();
        failures.push(format!(
            "{}: {} executions ended badly though nothing was planted: {}",
            trial.task.name(),
            trial.bad_ends,
            seen.join("; ")
        ));
    }
    if !every_bug {
        return failures;
    }
    let mut cells: Vec<_> = trials
        .iter()
        .filter(|trial| !trial.task.plants.is_empty())
        .map(|trial| (&trial.task.target, trial.task.corpus, trial.task.mode))
        .collect();
    cells.sort();
    cells.dedup();
    for (target, corpus, mode) in cells {
        let own: Vec<_> = trials
            .iter()
            .filter(|t| (&t.task.target, t.task.corpus, t.task.mode) == (target, corpus, mode))
            .collect();
        let mut bugs: Vec<_> = own.iter().flat_map(|trial| trial.bugs.keys()).collect();
        bugs.sort();
        bugs.dedup();
        for bug in bugs {
            let of = |trial: &&&Trial| trial.bugs.get(bug).is_some_and(|b| b.detected.executions > 0);
            let triggered =
                own.iter().filter(|t| t.bugs.get(bug).is_some_and(|b| b.triggered.executions > 0)).count();
            if own.iter().filter(of).count() == 0 {
                failures.push(format!(
                    "{target}, {}, {}: {bug} was not detected in {} trials of {} s (triggered in {triggered})",
                    corpus.name(),
                    mode.name(),
                    own.len(),
                    own.iter().map(|t| t.task.cap_seconds).max().unwrap_or(0),
                ));
            }
        }
    }
    failures
}
