//! `hyperfuzz fuzz`, and the session that `smoke` shares with it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    Exit,
    options::{CampaignOptions, TargetOptions, duration, stop_flag},
};
use crate::{
    campaign::{
        runner::{Runner, initial_programs},
        statistics::Statistics,
        store::{Description, FORMAT, Store},
    },
    engine::Engine,
    feedback::{self, Ended, Limits, Plan, Strategy},
    interface::interface,
    report::{
        finding::Finding,
        live::{Live, clock, emit},
        operations,
        output::say,
    },
    target::Settings,
    triage::bucket::{Bucket, Classifier},
};

/// Arguments of `hyperfuzz fuzz`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The campaign's directory; made if it is not there, gone on with if it is.
    #[arg(default_value = "campaign")]
    dir: PathBuf,
    /// Stop after this time: 90, 15m, 2h, 1d.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    /// Seed of everything random; from the clock if not given. A campaign that is resumed keeps its own.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    campaign: CampaignOptions,
    #[command(flatten)]
    target: TargetOptions,
}

pub(super) fn run(args: Args) -> anyhow::Result<Exit> {
    let seed = args.seed.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() as u64
    });
    let settings = args.target.settings()?;
    let session = session(&settings, &args.dir, seed, args.time, &args.campaign)?;
    session.print_end(&args.campaign);
    Ok(session.exit())
}

/// What a session came to.
pub(super) struct Session {
    pub(super) statistics: Statistics,
    pub(super) findings: Vec<(Finding, PathBuf)>,
    known_before: std::collections::BTreeSet<Bucket>,
    unconfirmed: std::collections::BTreeSet<Bucket>,
    ended: Ended,
    elapsed: Duration,
    edges: usize,
    dir: PathBuf,
    /// Whether the directory outlives the command.
    pub(super) keep: bool,
}

/// Runs one session in a campaign directory.
///
/// # Errors
/// What keeps it from running; everything found until then is stored.
pub(super) fn session(
    settings: &Settings,
    dir: &Path,
    seed: u64,
    time: Option<Duration>,
    options: &CampaignOptions,
) -> anyhow::Result<Session> {
    let mut start = options.initial()?;
    start.retain(|program| {
        program.operations().iter().all(|name| settings.interface().by_name(name).is_some())
    });
    let stop = stop_flag()?;
    let engine = settings.start()?;
    let edges = engine.counters();
    let build = hexadecimal(&engine.build_id());
    let mut store = Store::open(
        dir,
        Description {
            format: FORMAT,
            hyperfuzz: env!("CARGO_PKG_VERSION").into(),
            target: settings.target().to_string(),
            build: build.clone(),
            plants: settings.plants().to_vec(),
            seed,
            sessions: 0,
        },
    )?;
    let initial = initial_programs(&store, &start)?;
    let known_before = store.findings()?;
    let mut live = Live::new(options.json);
    live.event(&json!({
        "event": "start", "hyperfuzz": env!("CARGO_PKG_VERSION"), "target": store.description().target, "build": build,
        "plants": settings.plants(), "seed": store.description().seed, "session": store.description().sessions,
        "initial": initial.len(), "known": known_before, "dir": dir.display().to_string(),
    }));
    live.note(&format!(
        "hyperfuzz {}: {} (build {}{}), seed {}, session {}, {} programs to start from, in {}",
        env!("CARGO_PKG_VERSION"),
        settings.target(),
        build.get(..12).unwrap_or(&build),
        if settings.plants().is_empty() {
            String::new()
        } else {
            format!(", planted {}", settings.plants().join(","))
        },
        store.description().seed,
        store.description().sessions,
        initial.len(),
        dir.display(),
    ));
    let classifier = Classifier::new(settings.symbols()?);
    let plan = Plan {
        seed: store.session_seed(),
        initial,
        known: known_before.clone(),
        max_calls: options.max_calls.into(),
        limits: Limits {
            executions: options.execs,
            calls: None,
            deadline: time.map(|time| Instant::now() + time),
            stop: stop.clone(),
        },
        strategy: Strategy::FULL,
    };
    let mut runner = Runner::new(
        &mut store,
        &classifier,
        settings.on(settings.target().other_mode()),
        live,
        edges,
        stop,
        options.until_finding,
    );
    let result = feedback::run(engine, plan, settings.interface(), &classifier, &mut runner);
    let stored = result.as_ref().map_or(Ok(()), |(statistics, _)| runner.store_operations(statistics));
    let (live, findings, unconfirmed) = runner.finish();
    let (statistics, ended) = result?;
    stored?;
    Ok(Session {
        statistics,
        findings,
        known_before,
        unconfirmed,
        ended,
        elapsed: live.elapsed(),
        edges,
        dir: dir.to_owned(),
        keep: true,
    })
}

/// A build identifier as people know it: without the zeros that fill its field.
pub(super) fn hexadecimal(id: &[u8]) -> String {
    let len = id.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    id[..len].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Session {
    /// The exit code of a campaign command.
    pub(super) fn exit(&self) -> Exit {
        match (self.findings.is_empty(), self.known_again().next().is_none()) {
            (false, _) => Exit::NewFinding,
            (true, false) => Exit::KnownFindings,
            (true, true) => Exit::Clean,
        }
    }

    /// Time that the loop took.
    pub(super) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Buckets that were known before and were met again.
    fn known_again(&self) -> impl Iterator<Item = &Bucket> {
        self.known_before.iter().filter(|bucket| self.statistics.crashes.contains_key(bucket))
    }

    /// What ended the session, in a word.
    fn ended_by(&self, options: &CampaignOptions) -> &'static str {
        match self.ended {
            Ended::Executions => "executions",
            Ended::Calls => "calls",
            Ended::Time => "time",
            // The driver stops the loop the way Ctrl-C does.
            Ended::Interrupted if options.until_finding && !self.findings.is_empty() => "finding",
            Ended::Interrupted => "interrupted",
        }
    }

    /// Writes the last lines: where everything is, and the verdict.
    pub(super) fn print_end(&self, options: &CampaignOptions) {
        let seconds = self.elapsed.as_secs_f64().max(1e-3);
        let rows = operations::rows(interface(), &self.statistics);
        let reached = rows.iter().filter(|row| row.reached).count();
        if options.json {
            emit(&json!({
                "event": "end", "ended": self.ended_by(options), "exit": self.exit() as u8,
                "seconds": seconds, "statistics": self.statistics, "edges_total": self.edges,
                "operations": rows, "findings": self.findings.iter().map(|(f, _)| &f.bucket).collect::<Vec<_>>(),
                "known": self.known_again().collect::<Vec<_>>(), "unconfirmed": self.unconfirmed,
            }));
            return;
        }
        for (finding, directory) in &self.findings {
            say!("finding {}\n  again: hyperfuzz replay {}", finding.bucket, directory.display());
        }
        if self.keep {
            say!("campaign: {}", self.dir.display());
        }
        let unconfirmed = match self.unconfirmed.len() {
            0 => String::new(),
            n => format!(", {n} candidates not confirmed on a clean boot"),
        };
        let restarts = match self.statistics.restarts {
            0 => String::new(),
            n => format!(", {n} machines replaced"),
        };
        say!(
            "verdict: {} new, {} known findings{unconfirmed}{restarts}; {} executions in {} ({:.0}/s, {:.0} calls/s), {} of {} edges, corpus {}, {reached} of {} operations reached",
            self.findings.len(),
            self.known_again().count(),
            self.statistics.executions,
            clock(self.elapsed),
            self.statistics.executions as f64 / seconds,
            self.statistics.calls as f64 / seconds,
            self.statistics.edges,
            self.edges,
            self.statistics.corpus,
            rows.len(),
        );
    }
}
