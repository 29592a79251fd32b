//! Runs one trial: boots, fuzzes until the cap, replays what was detected.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context;
use clap::ValueEnum;
use planted_bugs::Bug;

use super::{
    mode::{Corpus, Mode},
    record::{Answers, FORMAT, Replay, Task, Trial},
    recorder::{Recorder, SAMPLES, further},
    symptom::{self, Verdict},
};
use crate::{
    engine::{Engine, EngineError, Execution, build_name},
    feedback::{self, Ended, Limits, Plan},
    interface::interface,
    program::{Program, generate, minimize, text},
    target::{Settings, Target},
    triage::{
        bucket::Classifier,
        verify::{self, REPLAYS},
    },
};

/// Executions that minimising one detection may take.
const MINIMISE_BUDGET: usize = 1_000;

/// Runs a trial. None if it was stopped before its end: it has to be repeated.
///
/// # Errors
/// When no machine can be had.
pub fn run(
    task: &Task,
    seeds: &[Program],
    qemu: &Path,
    core: Option<usize>,
    stop: &Arc<AtomicBool>,
) -> anyhow::Result<Option<Trial>> {
    let target = Target::from_str(&task.target, false).map_err(anyhow::Error::msg)?;
    let bugs = |names: &[String]| -> Vec<Bug> { names.iter().filter_map(|n| Bug::from_name(n)).collect() };
    let settings = Settings::new(target, &task.plants, qemu, core)?;
    let mut engine = settings.start()?;
    let strategy = task.mode.strategy();
    let cap = Duration::from_secs(task.cap_seconds);
    let (planted, until) = (bugs(&task.plants), bugs(&task.until));
    let local = Arc::new(AtomicBool::new(false));
    let mut recorder =
        Recorder::new(&engine, &planted, &until, !strategy.reset, cap, [local.clone(), stop.clone()]);
    let classifier = Classifier::new(settings.symbols()?);
    let build = build_name(&engine.build_id());
    let edges_total = engine.counters();
    recorder.begin();
    let plan = Plan {
        seed: task.seed,
        initial: if task.corpus == Corpus::Seeded { seeds.to_vec() } else { Vec::new() },
        known: std::collections::BTreeSet::new(),
        max_calls: generate::DEFAULT_CALLS,
        limits: Limits {
            executions: None,
            calls: task.cap_calls,
            deadline: Some(Instant::now() + cap),
            stop: local,
        },
        strategy,
    };
    let (statistics, ended) = feedback::run(&mut engine, plan, interface(), &classifier, &mut recorder)
        .with_context(|| format!("trial {}", task.name()))?;
    let seconds = recorder.elapsed().as_secs_f64();
    let load = load_per_core();
    if stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let ended = match ended {
        Ended::Interrupted if recorder.complete => "all-detected",
        Ended::Calls => "calls",
        Ended::Time | Ended::Executions | Ended::Interrupted => "time",
    };
    engine.keep_state(false);
    let reset_mismatches =
        if strategy.reset { mismatches(&mut engine, &recorder.samples, stop)? } else { None };
    let programs = std::mem::take(&mut recorder.programs);
    let mut by_name = recorder.by_name();
    if task.mode == Mode::B5 {
        for (number, program) in programs {
            let bug = Bug::ALL[usize::from(number)];
            if let Some(record) = by_name.get_mut(bug.name()) {
                record.replay = Some(replay(&mut engine, bug, &program, stop)?);
            }
        }
    }
    if stop.load(Ordering::Relaxed) {
        return Ok(None);
    }
    let operations = statistics.operations.iter().map(|(name, counters)| {
        let answers = Answers {
            succeeded: counters.succeeded,
            failed: counters.failed.clone(),
            faulted: counters.faulted,
        };
        ((*name).to_owned(), answers)
    });
    Ok(Some(Trial {
        format: FORMAT,
        task: task.clone(),
        build,
        core,
        load,
        ended: ended.into(),
        seconds,
        executions: recorder.now.executions,
        calls: recorder.now.calls,
        bad_ends: recorder.bad_ends,
        restarts: statistics.restarts,
        edges: recorder.edges,
        edges_total,
        corpus_size: statistics.corpus,
        edge_series: recorder.edge_series,
        reset_mismatches,
        bugs: by_name,
        ambiguous: recorder.ambiguous,
        unexplained: recorder.unexplained,
        operations: operations.collect(),
    }))
}

/// The load average over a minute (proc(5), `loadavg`), per processor; zero where it cannot be had.
fn load_per_core() -> f64 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = text.split_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0);
    load / std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64)
}

/// Executes corpus entries on the used machine and on a fresh one, and counts those that differ.
fn mismatches(
    engine: &mut impl Engine,
    samples: &[Program],
    stop: &AtomicBool,
) -> Result<Option<(u32, u32)>, EngineError> {
    debug_assert!(samples.len() <= SAMPLES);
    let mut observe = |fresh: bool| -> Result<Vec<_>, EngineError> {
        if fresh {
            engine.reboot()?;
        }
        let mut seen = Vec::new();
        let mut execution = Execution::default();
        for program in samples {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            verify::run_once(engine, program, &mut execution)?;
            seen.push((execution.outcome, execution.calls.clone(), execution.counters.clone()));
        }
        Ok(seen)
    };
    let (used, fresh) = (observe(false)?, observe(true)?);
    let compared = used.len().min(fresh.len());
    let differ = used.iter().zip(&fresh).filter(|(used, fresh)| used != fresh).count();
    Ok(Some((differ as u32, compared as u32)))
}

/// Replays a detection on a fresh machine, and minimises its program as long as it detects the same bug.
fn replay(
    engine: &mut impl Engine,
    bug: Bug,
    program: &Program,
    stop: &AtomicBool,
) -> Result<Replay, EngineError> {
    engine.reboot()?;
    let snapshot = engine.canaries();
    let mut execution = Execution::default();
    let mut detects = |engine: &mut _, program: &Program| -> Result<bool, EngineError> {
        if !verify::run_once(engine, program, &mut execution)? {
            return Ok(false);
        }
        let Some(symptom) = symptom::of(&execution) else { return Ok(false) };
        let triggered = further(&snapshot, &Engine::canaries(engine), |canary| canary.triggered);
        let hypercall = execution.crash.as_deref().map(|record| record.hypercall);
        Ok(symptom::attribute(symptom, hypercall, &triggered) == Verdict::Detected(bug))
    };
    let mut result = Replay {
        reproduced: 0,
        runs: REPLAYS,
        on_clean_boot: false,
        calls_found: program.calls.len(),
        calls: program.calls.len(),
        program: String::new(),
    };
    for run in 0..REPLAYS {
        let again = detects(engine, program)?;
        result.reproduced += u32::from(again);
        result.on_clean_boot |= run == 0 && again;
    }
    let mut failure = None;
    let minimal = minimize::minimize(program, MINIMISE_BUDGET, &mut |candidate| {
        if failure.is_some() || stop.load(Ordering::Relaxed) {
            return false;
        }
        detects(engine, candidate).unwrap_or_else(|error| {
            failure = Some(error);
            false
        })
    });
    if let Some(error) = failure {
        return Err(error);
    }
    result.calls = minimal.calls.len();
    result.program = text::print(&minimal);
    Ok(result)
}
