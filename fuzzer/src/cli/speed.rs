//! `hyperfuzz bench speed`: how fast the fuzzer is, as ratios of one run.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::Context;
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use super::{
    Exit,
    options::{CampaignOptions, TargetOptions, cores, duration},
    session::{Many, session},
};
use crate::{
    campaign::store,
    doctor::usable_cores,
    engine::{Engine, Execution, Outcome, Request, Split, qemu::QemuEngine, version::Reset},
    interface::interface,
    program::{Environment, Program, generate, lower},
    report::{live::emit, output::say},
    speed::{
        clock::{Clock, Cost, memory},
        crash::crash_cost,
        measure, measure_any, median,
        report::{OracleCost, OtherReset, Parts, Rate, Report, Scaling},
        reset::{Writers, reset_cost},
    },
    target::{Oracles, Settings, Target},
    triage::verify,
};

/// Arguments of `hyperfuzz bench speed`.
#[derive(Debug, clap::Args)]
pub(super) struct Speed {
    /// Time of each measurement.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "10")]
    time: Duration,
    /// Calls in each program of the engine's measurement.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=64))]
    calls: u64,
    /// Seed of the programs.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Measure this program instead of generated ones.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Measure this target as well, in turns with the other.
    #[arg(long, value_name = "NAME")]
    beside: Option<Target>,
    /// Measure the bare engine with another way to reset the machine as well: `loadvm` shows what the reset in QEMU's process buys.
    #[arg(long, value_name = "HOW")]
    beside_reset: Option<Reset>,
    /// Measure the whole fuzzer with one worker for each of so many processors, for all of them, or for each in a list such as `0,2-5`, as well.
    #[arg(long, value_name = "N|all|LIST")]
    cores: Option<String>,
    /// Write the result as JSON.
    #[arg(long)]
    json: bool,
    /// Write the result into this file as well, one number in a line: target, of, what, value.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    #[command(flatten)]
    target: TargetOptions,
}

/// Programs that are measured in turn, so that no single one makes the figure.
const PROGRAMS: usize = 20;
/// Turns inside the guest for the ceiling, for programs of ten calls. Longer ones take fewer: what guests may do in one
/// execution is limited.
const TURNS: u32 = 20;
/// Rounds; the median of them is reported.
const ROUNDS: usize = 5;

/// One target under measurement.
struct Side {
    settings: Settings,
    engine: QemuEngine,
    /// With oracles, where the other engine has none.
    with_oracles: Option<QemuEngine>,
    /// The programs for this engine, and the same repeated inside the guest.
    once: Vec<Vec<u8>>,
    many: Vec<Vec<u8>>,
    engine_costs: Vec<Cost>,
    ceiling_costs: Vec<Cost>,
    /// Time of the engine in all rounds.
    splits: Vec<Split>,
    /// Time of an execution with oracles against that of one without.
    oracle_ratios: Vec<f64>,
}

/// The median of one number of costs.
fn median_of(costs: &[Cost], number: impl Fn(&Cost) -> f64) -> f64 {
    median(costs.iter().map(number).collect())
}

/// The rate of programs of so many calls. Differences of noisy times may come out below zero.
fn rate(costs: &[Cost], calls: f64) -> Rate {
    let wall = median_of(costs, |cost| cost.wall).max(1e-9);
    Rate {
        programs_per_second: 1.0 / wall,
        calls_per_second: calls / wall,
        calls_per_program: calls,
        processor_microseconds: median_of(costs, |cost| cost.processor()).max(1e-3 / 1e6) * 1e6,
        host_microseconds: median_of(costs, |cost| cost.host).max(0.0) * 1e6,
    }
}

impl Side {
    fn new(settings: Settings) -> anyhow::Result<Self> {
        let engine = settings.start()?;
        let with_oracles = match settings.oracles() {
            Oracles::Off => Some(settings.clone().with_oracles(Oracles::On).start()?),
            Oracles::On | Oracles::Audit => None,
        };
        let (engine_costs, ceiling_costs) = (Vec::new(), Vec::new());
        let (splits, oracle_ratios) = (Vec::new(), Vec::new());
        let (once, many) = (Vec::new(), Vec::new());
        Ok(Self {
            settings,
            engine,
            with_oracles,
            once,
            many,
            engine_costs,
            ceiling_costs,
            splits,
            oracle_ratios,
        })
    }

    /// True where all calls of a program come back, in the last of so many turns as well.
    fn ends_well(
        &mut self,
        program: &Program,
        turns: u32,
        execution: &mut Execution,
    ) -> anyhow::Result<bool> {
        let Ok(lowered) = lower::lower_in(program, turns, &self.engine.environment()) else {
            return Ok(false);
        };
        self.engine.execute(&Request { program: &lowered.bytes, comparisons: false }, execution)?;
        Ok(execution.outcome == Outcome::Done && (turns > 1 || execution.calls.len() == program.calls.len()))
    }

    /// Measures one round.
    fn round(&mut self, turns: u32, time: Duration) -> anyhow::Result<()> {
        let mut execution = Execution::default();
        let single = measure(&mut self.engine, &self.once, time, &mut execution)?;
        let repeated = measure(&mut self.engine, &self.many, time, &mut execution)?;
        self.engine_costs.push(single.cost);
        self.splits.push(single.split);
        if let Some(engine) = &mut self.with_oracles {
            let with = measure(engine, &self.once, time, &mut execution)?;
            self.oracle_ratios.push(with.cost.wall / single.cost.wall);
        }
        // What the doorbell, the reset and the read-back cost is in both, once: it drops out.
        self.ceiling_costs.push((repeated.cost - single.cost) / f64::from(turns - 1));
        Ok(())
    }

    /// Measures resets and the whole fuzzer, and puts everything together.
    fn report(mut self, calls: f64, args: &Speed, cores: Option<&[usize]>) -> anyhow::Result<Report> {
        let reset = reset_cost(&mut self.engine, Writers::of(self.settings.target()))?;
        let way = self.engine.way().0.to_string();
        drop((self.engine, self.with_oracles));
        let (engine, ceiling) = (rate(&self.engine_costs, calls), rate(&self.ceiling_costs, calls));
        let other = |reset| -> anyhow::Result<OtherReset> {
            let mut other = self.settings.clone().with_reset(reset).start()?;
            let measured = measure(&mut other, &self.once, args.time, &mut Execution::default())?;
            let beside = rate(&[measured.cost], calls);
            let engine_to_this = engine.programs_per_second / beside.programs_per_second;
            Ok(OtherReset { way: other.way().0.to_string(), engine: beside, engine_to_this })
        };
        let beside_reset = args.beside_reset.map(other).transpose()?;
        let (fuzzer, fuzzer_parts, sample) = fuzzer(&self.settings, args)?;
        let (same, qemu_memory) =
            same_programs(&self.settings, &sample, fuzzer.calls_per_program, args.time)?;
        let crash = crash_cost(&self.settings, args.time / 5)?;
        let scaling = cores.map(|cores| scaling(&self.settings, args, cores, &fuzzer)).transpose()?;
        // The parts of the round that stands in the middle.
        let parts = |split: &Split| Parts::of(split);
        let mut splits: Vec<Parts> = self.splits.iter().map(parts).collect();
        splits.sort_by(|one, other| one.engine().total_cmp(&other.engine()));
        Ok(Report {
            target: self.settings.target().to_string(),
            calls_per_program: calls,
            engine_to_ceiling: engine.programs_per_second / ceiling.programs_per_second,
            engine_to_ceiling_by_processor: ceiling.processor_microseconds / engine.processor_microseconds,
            fuzzer_to_engine: fuzzer.programs_per_second / same.programs_per_second,
            fuzzer_to_engine_by_processor: same.processor_microseconds / fuzzer.processor_microseconds,
            ceiling,
            engine,
            same,
            fuzzer,
            engine_parts: splits[splits.len() / 2],
            fuzzer_parts,
            reset,
            memory: [qemu_memory, memory(std::process::id())],
            crash,
            scaling,
            engine_to_beside: None,
            beside: None,
            way,
            beside_reset,
            oracles: (!self.oracle_ratios.is_empty()).then(|| {
                let slower = median(self.oracle_ratios);
                OracleCost {
                    engine_programs_per_second: engine.programs_per_second / slower,
                    cost: 1.0 - 1.0 / slower,
                }
            }),
        })
    }
}

pub(super) fn run(args: &Speed) -> anyhow::Result<Exit> {
    let settings = args.target.settings()?;
    // Before an engine binds this thread to one of them.
    let cores = args
        .cores
        .as_deref()
        .map(|text| cores(text, &usable_cores()).with_context(|| format!("--cores {text}")));
    let cores = cores.transpose()?;
    let mut sides = vec![Side::new(settings.clone())?];
    if let Some(beside) = args.beside {
        sides.push(Side::new(settings.on(beside))?);
    }
    let turns = TURNS * 10 / u32::try_from(args.calls).unwrap_or(u32::MAX).max(10);
    let programs = match &args.program {
        Some(file) => vec![store::load_program(file)?],
        None => programs(&mut sides, turns, args)?,
    };
    let calls =
        programs.iter().map(|program| program.calls.len()).sum::<usize>() as f64 / programs.len() as f64;
    for side in &mut sides {
        let environment = side.engine.environment();
        side.once = lowered(&programs, 1, &environment)?;
        side.many = lowered(&programs, turns, &environment)?;
    }
    // Interleaved, so that a slow moment of the machine hits all sides.
    let slice = args.time / ROUNDS as u32;
    for _ in 0..ROUNDS {
        for side in &mut sides {
            side.round(turns, slice)?;
        }
    }
    let mut reports = sides
        .into_iter()
        .map(|side| side.report(calls, args, cores.as_deref()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let beside = (reports.len() > 1).then(|| reports.remove(1));
    let mut report = reports.remove(0);
    if let Some(other) = beside {
        report.engine_to_beside = Some(report.engine.programs_per_second / other.engine.programs_per_second);
        report.beside = Some(Box::new(other));
    }
    if let Some(file) = &args.csv {
        fs::write(file, report.csv()).with_context(|| format!("cannot write {}", file.display()))?;
    }
    if args.json {
        emit(&report);
    } else {
        say!("{}", report.table());
        if let (Some(other), Some(ratio)) = (&report.beside, report.engine_to_beside) {
            say!("{}", other.table());
            say!("bare engine: {} / {} {ratio:.2}\n", report.target, other.target);
        }
        say!("Medians of {ROUNDS} rounds; the ratios are of this run, the rates of this machine.");
    }
    Ok(Exit::Clean)
}

/// Generated programs of the wanted length whose calls all come back, on each side. The first one's interface is that of all.
fn programs(sides: &mut [Side], turns: u32, args: &Speed) -> anyhow::Result<Vec<Program>> {
    let mut rng = Pcg64Mcg::seed_from_u64(args.seed);
    let mut found = Vec::new();
    let mut execution = Execution::default();
    let interface = sides.first().map_or_else(interface, |side| side.settings.interface());
    for _ in 0..10_000 {
        let mut program = generate::program(&mut rng, interface, args.calls as usize);
        while program.calls.len() < args.calls as usize {
            program.calls.extend(generate::call(&mut rng, interface, &program.calls));
        }
        let mut good = true;
        for side in &mut *sides {
            good &= side.ends_well(&program, 1, &mut execution)?
                && side.ends_well(&program, turns, &mut execution)?;
        }
        if good {
            found.push(program);
            if found.len() == PROGRAMS {
                return Ok(found);
            }
        }
    }
    anyhow::bail!("found only {} programs whose calls all return; the target may be broken", found.len())
}

fn lowered(programs: &[Program], turns: u32, environment: &Environment) -> anyhow::Result<Vec<Vec<u8>>> {
    programs.iter().map(|program| Ok(lower::lower_in(program, turns, environment)?.bytes)).collect()
}

/// How the fuzzer is measured.
fn campaign_options(args: &Speed) -> CampaignOptions {
    CampaignOptions {
        check_every: None,
        replays: verify::REPLAYS,
        execs: None,
        corpus: "seeds".into(),
        until_finding: false,
        max_calls: args.calls as u16,
        json: false,
        sample: true,
        known: std::collections::BTreeSet::new(),
    }
}

/// The bare engine with programs that the fuzzer executed, and the memory of its QEMU.
fn same_programs(
    settings: &Settings,
    sample: &[Vec<u8>],
    calls: f64,
    time: Duration,
) -> anyhow::Result<(Rate, Option<u64>)> {
    let mut engine = settings.start()?;
    let mut execution = Execution::default();
    // The fuzzer's first executions are a small part of all that it does, so they are left out here: code is translated then.
    measure_any(&mut engine, sample, Duration::ZERO, &mut execution, |_| false)?;
    let measured = measure_any(&mut engine, sample, time, &mut execution, |_| false)?;
    let cost = measured.context("the fuzzer has executed nothing")?.cost;
    Ok((rate(&[cost], calls), engine.process_id().and_then(memory)))
}

/// The whole fuzzer with many workers, against one.
fn scaling(settings: &Settings, args: &Speed, cores: &[usize], one: &Rate) -> anyhow::Result<Scaling> {
    let workers = cores.len();
    let many = Many { cores: cores.to_vec(), ..Many::default() };
    let scratch = tempfile::tempdir()?;
    let options = campaign_options(args);
    let directory = scratch.path().join("campaign");
    let session = session(settings, &directory, args.seed, Some(args.time), &options, Some(many))?;
    let seconds = session.elapsed().as_secs_f64().max(1e-3);
    let programs_per_second = session.statistics.executions as f64 / seconds;
    Ok(Scaling {
        workers,
        programs_per_second,
        to_one: programs_per_second / (workers as f64 * one.programs_per_second),
    })
}

/// Runs a campaign that starts from the seeds: its rate, where its time went, and some of its programs.
fn fuzzer(settings: &Settings, args: &Speed) -> anyhow::Result<(Rate, Parts, Vec<Vec<u8>>)> {
    let scratch = tempfile::tempdir()?;
    let options = campaign_options(args);
    // Booting is no part of the rate.
    let clock = Clock::start(None);
    drop(settings.start()?);
    let boot = clock.stop(None);
    let clock = Clock::start(None);
    let directory = scratch.path().join("campaign");
    let session = session(settings, &directory, args.seed, Some(args.time), &options, None)?;
    let cost = clock.stop(None) - boot;
    let statistics = &session.statistics;
    let executions = statistics.executions.max(1) as f64;
    let seconds = session.elapsed().as_secs_f64().max(1e-3);
    let mut parts = Parts::of(&statistics.split);
    parts.lower_microseconds = statistics.lowering.as_secs_f64() * 1e6 / executions;
    let all = seconds * 1e6 / executions;
    parts.loop_microseconds = (all - parts.lower_microseconds - parts.engine()).max(0.0);
    let rate = Rate {
        programs_per_second: executions / seconds,
        calls_per_second: statistics.calls as f64 / seconds,
        calls_per_program: statistics.calls as f64 / executions,
        processor_microseconds: cost.processor() * 1e6 / executions,
        host_microseconds: cost.host * 1e6 / executions,
    };
    Ok((rate, parts, session.sample))
}
