//! `hyperfuzz bench`: measurements, as ratios of one run.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;
use serde::Serialize;

use super::{
    Exit, effectiveness,
    options::{CampaignOptions, TargetOptions, duration},
    session::session,
};
use crate::{
    campaign::store,
    engine::{Engine, Execution, Outcome, Request, qemu::QemuEngine, version::Reset},
    interface::interface,
    program::{Program, generate, lower},
    report::{live::emit, output::say},
    target::{Oracles, Settings, Target},
    triage::verify,
};

/// The commands of `hyperfuzz bench`.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Executions and hypercalls per second of the engine and of the fuzzer, against the ceiling: the same programs repeated
    /// inside the guest without host and without reset.
    Speed(Speed),
    /// How soon the fuzzer, and lesser ones on the same engine, find planted bugs.
    Effectiveness(Box<effectiveness::Args>),
}

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
    /// Write the result as JSON.
    #[arg(long)]
    json: bool,
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

#[derive(Debug, Serialize)]
struct Report {
    target: String,
    calls_per_program: f64,
    ceiling_executions_per_second: f64,
    engine_executions_per_second: f64,
    engine_calls_per_second: f64,
    fuzzer_executions_per_second: f64,
    fuzzer_calls_per_second: f64,
    fuzzer_calls_per_program: f64,
    engine_to_ceiling: f64,
    fuzzer_to_engine: f64,
    /// Rate of the engine against that of the target beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine_to_beside: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beside: Option<Box<Report>>,
    /// How the machine is reset in all of these.
    reset: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    beside_reset: Option<OtherReset>,
    /// With `--oracles off`: what the bare engine does with oracles, turn by turn beside it, and the share of executions that
    /// they cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    oracles: Option<OracleCost>,
}

/// The bare engine with another way to reset the machine.
#[derive(Debug, Serialize)]
struct OtherReset {
    reset: String,
    engine_executions_per_second: f64,
    /// Rate of the engine above against this one.
    engine_to_this: f64,
}

impl OtherReset {
    /// Measures the same programs.
    fn measure(
        settings: Settings,
        reset: Reset,
        once: &[Vec<u8>],
        time: Duration,
        engine_time: f64,
    ) -> anyhow::Result<Self> {
        let mut engine = settings.with_reset(reset).start()?;
        let own = measure(&mut engine, once, time, &mut Execution::default())?;
        Ok(Self {
            reset: engine.way().0.to_string(),
            engine_executions_per_second: 1.0 / own,
            engine_to_this: own / engine_time,
        })
    }
}

#[derive(Debug, Serialize)]
struct OracleCost {
    engine_executions_per_second: f64,
    cost: f64,
}

/// One target under measurement.
struct Side {
    settings: Settings,
    engine: QemuEngine,
    /// With oracles, where the other engine has none.
    with_oracles: Option<QemuEngine>,
    engine_times: Vec<f64>,
    ceiling_times: Vec<f64>,
    /// Time of an execution with oracles against that of one without.
    oracle_ratios: Vec<f64>,
}

impl Side {
    fn new(settings: Settings) -> anyhow::Result<Self> {
        let engine = settings.start()?;
        let with_oracles = match settings.oracles() {
            Oracles::Off => Some(settings.clone().with_oracles(Oracles::On).start()?),
            Oracles::On | Oracles::Audit => None,
        };
        let (engine_times, ceiling_times, oracle_ratios) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Self { settings, engine, with_oracles, engine_times, ceiling_times, oracle_ratios })
    }

    /// Measures one round: programs once, and the same repeated inside the guest.
    fn round(
        &mut self,
        once: &[Vec<u8>],
        many: &[Vec<u8>],
        turns: u32,
        time: Duration,
    ) -> anyhow::Result<()> {
        let mut execution = Execution::default();
        let single = measure(&mut self.engine, once, time, &mut execution)?;
        let repeated = measure(&mut self.engine, many, time, &mut execution)?;
        self.engine_times.push(single);
        if let Some(engine) = &mut self.with_oracles {
            self.oracle_ratios.push(measure(engine, once, time, &mut execution)? / single);
        }
        // What the doorbell, the reset and the read-back cost is in both, once: it drops out.
        self.ceiling_times.push((repeated - single).max(1e-9) / f64::from(turns - 1));
        Ok(())
    }

    /// Measures the whole fuzzer, and puts everything together.
    fn report(self, calls: f64, once: &[Vec<u8>], args: &Speed) -> anyhow::Result<Report> {
        let Self { settings, engine, with_oracles, engine_times, ceiling_times, oracle_ratios } = self;
        let reset = engine.way().0.to_string();
        drop((engine, with_oracles));
        let (engine_time, ceiling_time) = (median(engine_times), median(ceiling_times));
        let beside_reset = args
            .beside_reset
            .map(|reset| OtherReset::measure(settings.clone(), reset, once, args.time, engine_time))
            .transpose()?;
        let (fuzzer_executions, fuzzer_calls) = fuzzer(&settings, args)?;
        Ok(Report {
            target: settings.target().to_string(),
            calls_per_program: calls,
            ceiling_executions_per_second: 1.0 / ceiling_time,
            engine_executions_per_second: 1.0 / engine_time,
            engine_calls_per_second: calls / engine_time,
            fuzzer_executions_per_second: fuzzer_executions,
            fuzzer_calls_per_second: fuzzer_calls,
            fuzzer_calls_per_program: fuzzer_calls / fuzzer_executions.max(1e-9),
            engine_to_ceiling: ceiling_time / engine_time,
            fuzzer_to_engine: fuzzer_calls * engine_time / calls,
            engine_to_beside: None,
            beside: None,
            reset,
            beside_reset,
            oracles: (!oracle_ratios.is_empty()).then(|| {
                let slower = median(oracle_ratios);
                OracleCost {
                    engine_executions_per_second: 1.0 / (engine_time * slower),
                    cost: 1.0 - 1.0 / slower,
                }
            }),
        })
    }
}

impl Report {
    fn print(&self) {
        say!("target {}, one core, reset before every program\n", self.target);
        say!("                       programs/s    calls/s   calls/program");
        let row = |name: &str, rate: f64, calls: f64| {
            say!("{name:22} {rate:>10.0} {:>10.0} {calls:>15.1}", rate * calls);
        };
        row("in-guest ceiling", self.ceiling_executions_per_second, self.calls_per_program);
        row("bare engine", self.engine_executions_per_second, self.calls_per_program);
        row("whole fuzzer", self.fuzzer_executions_per_second, self.fuzzer_calls_per_program);
        if let Some(oracles) = &self.oracles {
            row("engine, oracles on", oracles.engine_executions_per_second, self.calls_per_program);
        }
        if let Some(other) = &self.beside_reset {
            let name = format!("engine, {}", other.reset);
            row(&name, other.engine_executions_per_second, self.calls_per_program);
        }
        say!("\nengine / ceiling       {:>10.2}", self.engine_to_ceiling);
        if let Some(oracles) = &self.oracles {
            say!("cost of oracles        {:>9.0}%  (of executions/s)", oracles.cost * 100.0);
        }
        if let Some(other) = &self.beside_reset {
            say!(
                "engine / engine        {:>10.1}  (reset {} against {})",
                other.engine_to_this,
                self.reset,
                other.reset
            );
        }
        say!(
            "fuzzer / engine        {:>10.2}  (calls/s: the corpus has shorter programs)\n",
            self.fuzzer_to_engine
        );
    }
}

pub(super) fn run(command: &Command) -> anyhow::Result<Exit> {
    match command {
        Command::Speed(args) => speed(args),
        Command::Effectiveness(args) => effectiveness::run(args),
    }
}

fn speed(args: &Speed) -> anyhow::Result<Exit> {
    let settings = args.target.settings()?;
    let mut sides = vec![Side::new(settings.clone())?];
    if let Some(beside) = args.beside {
        sides.push(Side::new(settings.on(beside))?);
    }
    let programs = match &args.program {
        Some(file) => vec![store::load_program(file)?],
        None => programs(&mut sides, args)?,
    };
    let calls =
        programs.iter().map(|program| program.calls.len()).sum::<usize>() as f64 / programs.len() as f64;
    let once: Vec<_> = lowered(&programs, 1)?;
    let turns = TURNS * 10 / u32::try_from(args.calls).unwrap_or(u32::MAX).max(10);
    let many: Vec<_> = lowered(&programs, turns)?;
    // Interleaved, so that a slow moment of the machine hits all sides.
    let slice = args.time / ROUNDS as u32;
    for _ in 0..ROUNDS {
        for side in &mut sides {
            side.round(&once, &many, turns, slice)?;
        }
    }
    let mut reports =
        sides.into_iter().map(|side| side.report(calls, &once, args)).collect::<anyhow::Result<Vec<_>>>()?;
    let beside = (reports.len() > 1).then(|| reports.remove(1));
    let mut report = reports.remove(0);
    if let Some(other) = beside {
        report.engine_to_beside =
            Some(report.engine_executions_per_second / other.engine_executions_per_second);
        report.beside = Some(Box::new(other));
    }
    if args.json {
        emit(&report);
    } else {
        report.print();
        if let (Some(other), Some(ratio)) = (&report.beside, report.engine_to_beside) {
            other.print();
            say!("bare engine: {} / {} {ratio:.2}\n", report.target, other.target);
        }
        say!("Medians of {ROUNDS} rounds; the ratios are of this run, the rates of this machine.");
    }
    Ok(Exit::Clean)
}

/// Generated programs of the wanted length whose calls all come back, on each side.
fn programs(sides: &mut [Side], args: &Speed) -> anyhow::Result<Vec<Program>> {
    let mut rng = Pcg64Mcg::seed_from_u64(args.seed);
    let mut found = Vec::new();
    let mut execution = Execution::default();
    for _ in 0..10_000 {
        let mut program = generate::program(&mut rng, interface(), args.calls as usize);
        while program.calls.len() < args.calls as usize {
            program.calls.extend(generate::call(&mut rng, interface(), &program.calls));
        }
        let Ok(lowered) = lower::lower(&program, 1) else { continue };
        let mut good = true;
        for side in &mut *sides {
            side.engine.execute(&Request { program: &lowered.bytes, comparisons: false }, &mut execution)?;
            good &= execution.outcome == Outcome::Done && execution.calls.len() == program.calls.len();
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

fn lowered(programs: &[Program], turns: u32) -> anyhow::Result<Vec<Vec<u8>>> {
    programs.iter().map(|program| Ok(lower::lower(program, turns)?.bytes)).collect()
}

/// Seconds per execution, each program in turn for about `time`.
fn measure(
    engine: &mut impl Engine,
    programs: &[Vec<u8>],
    time: Duration,
    execution: &mut Execution,
) -> anyhow::Result<f64> {
    let begin = Instant::now();
    let mut rounds = 0u32;
    while rounds == 0 || begin.elapsed() < time {
        for program in programs {
            engine.execute(&Request { program, comparisons: false }, execution)?;
            anyhow::ensure!(execution.outcome != Outcome::Runaway, "a program is too long to be measured");
        }
        rounds += 1;
    }
    Ok(begin.elapsed().as_secs_f64() / (f64::from(rounds) * programs.len() as f64))
}

/// Executions and calls per second of a campaign that starts from the seeds.
fn fuzzer(settings: &Settings, args: &Speed) -> anyhow::Result<(f64, f64)> {
    let scratch = tempfile::tempdir()?;
    let options = CampaignOptions {
        check_every: None,
        replays: verify::REPLAYS,
        execs: None,
        corpus: "seeds".into(),
        until_finding: false,
        max_calls: args.calls as u16,
        json: false,
    };
    let session =
        session(settings, &scratch.path().join("campaign"), args.seed, Some(args.time), &options, None)?;
    let seconds = session.elapsed().as_secs_f64().max(1e-3);
    Ok((session.statistics.executions as f64 / seconds, session.statistics.calls as f64 / seconds))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
