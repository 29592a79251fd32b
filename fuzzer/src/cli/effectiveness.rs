//! `hyperfuzz bench effectiveness`: trials against planted bugs.

use std::{path::PathBuf, sync::Mutex, time::Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use planted_bugs::Bug;

use super::{
    Exit,
    options::{duration, seeds},
    signals::stop_flag,
};
use crate::{
    bench::{
        gate,
        mode::{Corpus, Mode},
        page,
        plan::Protocol,
        run::{Event, Workers, run as run_tasks},
        store::{Manifest, Store},
        summary::{Summary, summarise},
        table,
    },
    report::{live::clock, output::say},
    target::Target,
};

/// Sets of options with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Preset {
    /// Minutes: B5 until it has found the bugs that it finds quickly, and a clean run.
    Ci,
    /// The whole protocol: ten trials of B5, five of everything else, ten minutes each.
    Full,
}

/// Arguments of `hyperfuzz bench effectiveness`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The benchmark's directory; made if it is not there, gone on with if it is. Without it nothing is kept.
    dir: Option<PathBuf>,
    /// What the other options are unless they are given.
    #[arg(long, value_name = "NAME", default_value = "full")]
    preset: Preset,
    /// Ways to fuzz, separated by commas.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    mode: Vec<Mode>,
    /// What trials start from.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    corpus: Vec<Corpus>,
    /// What to fuzz.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    target: Vec<Target>,
    /// Planted bugs: `all`, or names separated by commas.
    #[arg(long, value_name = "all|ID", value_delimiter = ',')]
    plant: Vec<String>,
    /// Give each planted bug trials of its own.
    #[arg(long)]
    one_at_a_time: bool,
    /// Trials of each way to fuzz.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    trials: Option<u32>,
    /// Trials without planted bugs, in which nothing may be found.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    clean: Option<u32>,
    /// Longest time of a trial.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    cap: Option<std::time::Duration>,
    /// Most hypercalls of a trial.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    calls: Option<u64>,
    /// End a trial when all of its planted bugs have been detected.
    #[arg(long)]
    until_all: bool,
    /// What the seeds of all trials are made from.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Trials at the same time, each on a processor of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// Write the tables and the page from the trials that are there, and run none.
    #[arg(long)]
    report_only: bool,
    /// The QEMU to use.
    #[arg(long, value_name = "PATH", default_value_os_t = crate::engine::version::default_binary())]
    qemu: PathBuf,
    /// Install missing packages of the distribution.
    #[arg(long)]
    install: bool,
}

/// Bugs that B5 finds within seconds on any machine: those of the gate.
const QUICK: [Bug; 8] = [
    Bug::PollUnalloc,
    Bug::CountSign,
    Bug::M2pDesync,
    Bug::GrantUninit,
    Bug::LockLeak,
    Bug::RefLeak,
    Bug::RetvalSign,
    Bug::StackLeak,
];

impl Args {
    /// What the options ask for.
    fn protocol(&self) -> anyhow::Result<Protocol> {
        let ci = self.preset == Preset::Ci;
        let or =
            |given: &[Mode], preset: &[Mode]| if given.is_empty() { preset.to_vec() } else { given.to_vec() };
        let modes = or(&self.mode, if ci { &[Mode::B5] } else { &Mode::ALL });
        let trials = |mode| {
            self.trials.unwrap_or(if ci {
                3
            } else if mode == Mode::B5 {
                10
            } else {
                5
            })
        };
        let plants = match self.plant.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            [] if ci => QUICK.to_vec(),
            [] | ["all"] => Bug::ALL.to_vec(),
            names => {
                let mut plants = Vec::new();
                for name in names {
                    let Some(bug) = Bug::from_name(name) else {
                        let known = Bug::ALL.map(Bug::name).join(", ");
                        bail!("--plant {name}: no such planted bug; there are `all`, {known}");
                    };
                    plants.push(bug);
                }
                plants.sort_by_key(|bug| *bug as u8);
                plants.dedup();
                plants
            }
        };
        let targets = if self.target.is_empty() { vec![Target::ReferenceHvm] } else { self.target.clone() };
        let corpora = match self.corpus.as_slice() {
            [] if ci => vec![Corpus::Seeded],
            [] => vec![Corpus::Empty, Corpus::Seeded],
            given => given.to_vec(),
        };
        Ok(Protocol {
            targets: targets.iter().map(Target::to_string).collect(),
            corpora,
            modes: modes.into_iter().map(|mode| (mode, trials(mode))).collect(),
            plants,
            one_at_a_time: self.one_at_a_time,
            clean: self.clean.unwrap_or(u32::from(ci)),
            cap_seconds: self.cap.map_or(if ci { 60 } else { 600 }, |cap| cap.as_secs()),
            cap_calls: self.calls,
            until_all: ci || self.until_all,
            seed: self.seed,
        })
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let protocol = args.protocol()?;
    // Before anything else is started that Ctrl-C could leave half done.
    let stop = stop_flag()?;
    super::doctor::require(&args.qemu, args.install)?;
    let cores = crate::doctor::usable_cores();
    let jobs = usize::from(args.jobs);
    if jobs > cores.len() {
        bail!("--jobs {jobs}: this process may use {} processors", cores.len());
    }
    let scratch = tempfile::Builder::new()
        .prefix("hyperfuzz-bench-")
        .tempdir()
        .context("cannot make a temporary directory; set TMPDIR to one with some space")?;
    let root = args.dir.clone().unwrap_or_else(|| scratch.path().join("bench"));
    let store = Store::open(&root, Manifest::here(&args.qemu)?)?;
    let tasks = protocol.tasks();
    let seeds = seeds()?;
    let began = Instant::now();
    let progress = Mutex::new(0usize);
    let before = store.trials()?.len();
    let report = |event: Event<'_>| match event {
        Event::Begun(task) => eprintln!("{}  begin {}", clock(began.elapsed()), task.name()),
        Event::Finished(trial) => {
            let mut done = progress.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *done += 1;
            let detected = trial.bugs.values().filter(|bug| bug.detected.executions > 0).count();
            let triggered = trial.bugs.values().filter(|bug| bug.triggered.executions > 0).count();
            eprintln!(
                "{}  end   {}: {detected} of {} bugs detected ({triggered} triggered), {} executions, {} calls, {} edges; {} of {} trials",
                clock(began.elapsed()),
                trial.task.name(),
                trial.bugs.len(),
                trial.executions,
                trial.calls,
                trial.edges,
                before + *done,
                tasks.len().max(before + *done),
            );
        }
    };
    let workers = Workers { seeds: &seeds, qemu: &args.qemu, cores: &cores[..jobs], stop };
    let complete = args.report_only || run_tasks(&store, &tasks, &workers, &report)?;
    let trials = store.trials()?;
    let summary = summarise(&trials);
    store.write("results.csv", table::csv(&trials).as_bytes())?;
    store.write_json("results.json", &summary)?;
    store.write("index.html", page::render(store.manifest(), &summary).as_bytes())?;
    print(&summary);
    if args.dir.is_some() {
        say!("\nresults: {}", root.join("index.html").display());
    }
    if !complete {
        bail!(
            "interrupted with {} of {} trials finished; the same command goes on",
            trials.len(),
            tasks.len()
        );
    }
    let failures = gate::failures(&trials, args.preset == Preset::Ci);
    for failure in &failures {
        say!("FAILED {failure}");
    }
    let clean = summary.clean.iter().map(|clean| clean.executions).sum::<u64>();
    say!(
        "verdict: {}; {} trials, {clean} executions of the clean build",
        if failures.is_empty() { "good".to_owned() } else { format!("{} failures", failures.len()) },
        trials.len(),
    );
    Ok(if failures.is_empty() { Exit::Clean } else { Exit::NewFinding })
}

/// The table by bug, in short: trials that detected it, and the median time.
fn print(summary: &Summary) {
    for group in &summary.groups {
        say!("\n{}, {} corpus, {:.0} s", group.key.target, group.key.corpus.name(), group.horizon_seconds);
        let width = group.bugs.iter().map(String::len).max().unwrap_or(0);
        let heads: Vec<_> = group.cells.iter().map(|cell| format!("{:>16}", cell.mode.name())).collect();
        say!("  {:width$}{}", "", heads.concat());
        for bug in &group.bugs {
            let cells = group.cells.iter().map(|cell| {
                let outcome = &cell.bugs[bug];
                let median = outcome.by_time.median.median;
                let median = median.map_or("-".to_owned(), |seconds| format!("{seconds:.1} s"));
                format!("{:>16}", format!("{}/{} {median}", outcome.detected, outcome.trials))
            });
            say!("  {bug:width$}{}", cells.collect::<String>());
        }
    }
    for (what, count) in &summary.unexplained {
        say!("unexplained: {count} executions: {what}");
    }
}
