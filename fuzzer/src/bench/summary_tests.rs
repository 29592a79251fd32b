//! Tests of the summary on trials that were made up.

use super::*;
use crate::bench::record::{FORMAT, Tally, Task};

/// A trial in which the bug `x` was detected at this second, if at all.
fn trial(mode: Mode, number: u32, detected: Option<f64>) -> Trial {
    let moment = |seconds: f64| Moment { seconds, executions: 10, calls: (seconds * 100.0) as u64 };
    let tally = Tally { executions: u64::from(detected.is_some()), first: detected.map(moment) };
    let bug = BugRecord { reached: tally, triggered: tally, detected: tally, ..BugRecord::default() };
    Trial {
        format: FORMAT,
        task: Task {
            target: "t".into(),
            mode,
            corpus: Corpus::Empty,
            plants: vec!["x".into()],
            alone: None,
            trial: number,
            seed: number.into(),
            cap_seconds: 600,
            cap_calls: None,
            until: Vec::new(),
        },
        build: "b".into(),
        core: None,
        load: 1.0,
        ended: "time".into(),
        seconds: 600.0,
        executions: 1200,
        calls: 60_000,
        bad_ends: 1,
        restarts: 0,
        edges: 5,
        edges_total: 10,
        corpus_size: 3,
        edge_series: Vec::new(),
        reset_mismatches: Some((0, 4)),
        bugs: [("x".to_owned(), bug)].into(),
        ambiguous: BTreeMap::new(),
        unexplained: Vec::new(),
        operations: [(
            "o".to_owned(),
            Answers { succeeded: 2, failed: [(-14, 1), (-38, 1)].into(), faulted: 0 },
        )]
        .into(),
    }
}

fn group_of(trials: &[Trial]) -> Group {
    let mut summary = summarise(trials);
    assert_eq!(summary.groups.len(), 1);
    summary.groups.remove(0)
}

#[test]
fn probabilities_medians_and_means_are_of_the_cell() {
    let trials: Vec<_> = [Some(10.0), Some(20.0), None, Some(40.0)]
        .into_iter()
        .zip(0..)
        .map(|(d, n)| trial(Mode::B5, n, d))
        .collect();
    let group = group_of(&trials);
    let cell = &group.cells[0];
    let x = &cell.bugs["x"];
    assert_eq!((x.reached, x.triggered, x.detected), (3, 3, 3));
    assert!((x.by_time.probability - 0.75).abs() < 1e-9);
    assert_eq!(x.by_time.median.median, Some(20.0));
    assert!((x.by_time.restricted_mean - (10.0 + 20.0 + 40.0 + 600.0) / 4.0).abs() < 1e-9);
    assert_eq!(x.by_calls.median.median, Some(2000.0));
    assert_eq!(cell.detected_over_time.last().map(|(t, n)| (*t, (n * 100.0).round())), Some((40.0, 75.0)));
    assert!((cell.executions_per_second - 2.0).abs() < 1e-9 && (cell.calls_per_second - 100.0).abs() < 1e-9);
    let shares = cell.operations["o"];
    assert_eq!((shares.calls, shares.success, shares.efault, shares.enosys), (16, 0.5, 0.25, 0.25));
    assert_eq!(cell.reset_mismatches, (0, 16));
}

#[test]
fn what_is_found_after_the_horizon_is_censored_there() {
    let mut trials = vec![trial(Mode::B5, 0, Some(500.0)), trial(Mode::B0, 0, None)];
    trials[1].task.cap_seconds = 100;
    let group = group_of(&trials);
    assert!((group.horizon_seconds - 100.0).abs() < 1e-9);
    assert!(group.cells[1].bugs["x"].by_time.probability.abs() < 1e-9);
}

#[test]
fn needs_follow_from_what_a_part_taken_out_does() {
    let effect = |without: &[Option<f64>], with: &[Option<f64>]| {
        let mut trials: Vec<_> = with.iter().zip(0..).map(|(d, n)| trial(Mode::B5, n, *d)).collect();
        trials.extend(without.iter().zip(0..).map(|(d, n)| trial(Mode::NoHandles, n, *d)));
        let group = group_of(&trials);
        assert_eq!(group.needs["x"].len(), 1, "only handles were taken out");
        assert_eq!(group.needs["x"][0].feature, Feature::Handles);
        group.needs["x"][0].effect
    };
    let fast = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].map(Some);
    let slow = [100.0, 200.0, 300.0, 400.0, 500.0].map(Some);
    assert_eq!(effect(&[None; 5], &fast), Effect::Needed);
    assert_eq!(effect(&slow, &fast), Effect::Helps);
    assert_eq!(effect(&fast, &slow), Effect::Hinders);
    assert_eq!(effect(&fast, &fast), Effect::None);
    assert_eq!(effect(&[None; 5], &[None; 5]), Effect::Unknown);
}

#[test]
fn clean_trials_are_kept_apart() {
    let mut clean = trial(Mode::B5, 0, None);
    clean.task.plants.clear();
    clean.bugs.clear();
    let summary = summarise(&[clean]);
    assert!(summary.groups.is_empty());
    assert_eq!((summary.clean.len(), summary.clean[0].bad_ends), (1, 1));
}
