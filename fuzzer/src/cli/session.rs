//! The session that `fuzz` and `smoke` share, and its last words.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Context;
use serde_json::json;

use super::{
    Exit,
    options::{self, CampaignOptions},
    signals::stop_flag,
};
use crate::{
    campaign::{
        check::Tally,
        examine::About,
        findings::mark::Mark,
        ledger::{Closed, Ledger},
        runner::Runner,
        sample::Sample,
        statistics::Statistics,
        store::{Description, FORMAT, Store},
        team::lead::{self, Outcome, Team},
    },
    doctor::usable_cores,
    engine::{Engine, build_name},
    feedback::{self, Ended, Limits, Plan, Strategy},
    interface::Interface,
    program::Program,
    report::{
        ci::Figures,
        live::{Live, clock, emit},
        operations,
        output::say,
    },
    target::Settings,
    triage::bucket::{Bucket, Classifier},
};

/// What a session came to.
pub(super) struct Session {
    pub(super) statistics: Statistics,
    pub(super) findings: Vec<(Bucket, PathBuf)>,
    known_before: BTreeSet<Bucket>,
    unconfirmed: BTreeSet<Bucket>,
    checks: Tally,
    /// Workers that had to be replaced.
    replaced: u64,
    ended: Ended,
    elapsed: Duration,
    /// A sample of what was executed, where one was asked for and one worker does it all.
    pub(super) sample: Vec<Vec<u8>>,
    edges: usize,
    /// What the target knows.
    interface: &'static Interface,
    dir: PathBuf,
    /// Whether the directory outlives the command.
    pub(super) keep: bool,
}

/// Several workers.
#[derive(Default)]
pub(super) struct Many {
    /// One for each of these processors.
    pub(super) cores: Vec<usize>,
    /// Where other machines may join.
    pub(super) listen: Option<String>,
    /// Which other machine to join.
    pub(super) join: Option<String>,
}

impl Many {
    /// What was asked for, if it is more than one worker on this machine: `cores` is a number, `all` or a list, `core` the only one.
    ///
    /// # Errors
    /// Processors that there are not.
    pub(super) fn wanted(
        cores: Option<&str>,
        core: Option<usize>,
        listen: Option<String>,
        join: Option<String>,
    ) -> anyhow::Result<Option<Self>> {
        let usable = usable_cores();
        let cores = match (cores, core) {
            (Some(text), _) => options::cores(text, &usable).with_context(|| format!("--cores {text}"))?,
            (None, Some(core)) => vec![core],
            (None, None) => usable.first().copied().into_iter().collect(),
        };
        let alone = cores.len() == 1 && listen.is_none() && join.is_none();
        Ok((!alone).then_some(Self { cores, listen, join }))
    }
}

/// Runs one session in a campaign directory, with one worker in this process or with many in their own.
///
/// # Errors
/// What keeps it from running; everything found until then is stored.
pub(super) fn session(
    settings: &Settings,
    dir: &Path,
    seed: u64,
    time: Option<Duration>,
    options: &CampaignOptions,
    many: Option<Many>,
) -> anyhow::Result<Session> {
    let care = options.care();
    let settings = if options.checks() { settings.clone().checked() } else { settings.clone() };
    let interface = settings.interface();
    let mut start = options.initial(settings.target())?;
    start.retain(|program| {
        program.operations().iter().all(|name| settings.interface().by_name(name).is_some())
    });
    let stop = stop_flag()?;
    let (engine, edges, build) = match &many {
        None => {
            let engine = settings.start()?;
            let (edges, build) = facts(&engine);
            (Some(engine), edges, build)
        }
        Some(many) => {
            // Only to know what there is. In a thread of its own, which is all that is pinned.
            let settings =
                many.cores.first().map_or_else(|| settings.clone(), |core| settings.on_core(*core));
            let looked = std::thread::spawn(move || settings.start().map(|engine| facts(&engine))).join();
            let (edges, build) = looked.map_err(|_| anyhow::anyhow!("cannot look at the target"))??;
            (None, edges, build)
        }
    };
    let mut store = Store::open(dir, description(&settings, &build, seed))?;
    let unexamined = store.unexamined()?;
    let again = unexamined.len();
    // First, so that what a killed session had seen is not forgotten again.
    let initial: Vec<_> = unexamined.into_iter().chain(initial_programs(&store, start)?).collect();
    let stored = known_findings(&store)?;
    let known_before: BTreeSet<_> = stored.union(&options.known).cloned().collect();
    let mut live = Live::new(options.json);
    announce(&mut live, &store, initial.len() - again, &known_before);
    if again > 0 {
        live.note(&format!("{again} candidates of an earlier session, which was killed, are examined again"));
    }
    let classifier = Classifier::new(settings.symbols()?);
    let about = about(&store);
    let deadline = time.map(|time| Instant::now() + time);
    let mut ledger = Ledger::new(&mut store, live, edges, stop.clone(), options.until_finding);
    let mut sample = Vec::new();
    let result = match engine {
        Some(engine) => {
            let plan = Plan {
                seed: about.seed,
                initial,
                known: known_before.clone(),
                max_calls: options.max_calls.into(),
                limits: Limits { executions: options.execs, calls: None, deadline, stop: stop.clone() },
                strategy: Strategy::FULL,
            };
            let mut runner = Runner::new(&mut ledger, &settings, &classifier, &care, about, stop);
            let result = feedback::run(engine, plan, settings.interface(), &classifier, &mut runner);
            let (handed_on, checks) = (runner.hand_on(), runner.checks());
            sample = runner.take_sample().map(Sample::into_programs).unwrap_or_default();
            result.map_err(anyhow::Error::from).and_then(|(statistics, ended)| {
                handed_on?;
                Ok(Outcome { statistics, checks, ended, replaced: 0 })
            })
        }
        None => {
            let Many { cores, listen, join } = many.unwrap_or_default();
            let team = Team {
                cores,
                listen,
                join,
                settings,
                max_calls: options.max_calls,
                care,
                about,
                known: options.known.clone(),
                executions: options.execs,
                deadline,
                stop,
            };
            lead::run(&team, &initial, &stored, &mut ledger)
        }
    };
    let told =
        result.as_ref().map_or(Ok(()), |outcome| ledger.write_metrics(&outcome.statistics, outcome.checks));
    let Closed { live, findings, unconfirmed } = ledger.close();
    let Outcome { statistics, checks, ended, replaced } = result?;
    told?;
    Ok(Session {
        statistics,
        findings,
        known_before,
        unconfirmed,
        checks,
        replaced,
        ended,
        elapsed: live.elapsed(),
        sample,
        edges,
        interface,
        dir: dir.to_owned(),
        keep: true,
    })
}

/// Edges and build of a target.
fn facts(engine: &impl Engine) -> (usize, String) {
    (engine.counters(), build_name(&engine.build_id()))
}

/// What a campaign with these switches is about.
fn description(settings: &Settings, build: &str, seed: u64) -> Description {
    Description {
        format: FORMAT,
        hyperfuzz: env!("CARGO_PKG_VERSION").into(),
        target: settings.target().to_string(),
        build: build.to_owned(),
        plants: settings.plants().to_vec(),
        seed,
        sessions: 0,
    }
}

/// What findings of a session have in common.
fn about(store: &Store) -> About {
    let Description { target, build, plants, .. } = store.description().clone();
    About { seed: store.session_seed(), target, build, plants }
}

/// The programs that a session starts from: the corpus, or what was asked for where there is none.
///
/// # Errors
/// The first file that cannot be read or understood.
fn initial_programs(store: &Store, start: Vec<Program>) -> anyhow::Result<Vec<Program>> {
    let corpus = store.corpus()?;
    Ok(if corpus.is_empty() { start } else { corpus })
}

/// Buckets that are no news: those with a finding, but for what was fixed in this build.
///
/// # Errors
/// When the directory cannot be read, or a mark in it cannot be understood.
fn known_findings(store: &Store) -> anyhow::Result<BTreeSet<Bucket>> {
    let mut known = BTreeSet::new();
    for bucket in store.findings()? {
        if !Mark::load(&store.finding_directory(&bucket))?.is_fixed_in(&store.description().build) {
            known.insert(bucket);
        }
    }
    Ok(known)
}

/// Says what begins.
fn announce(live: &mut Live, store: &Store, initial: usize, known: &BTreeSet<Bucket>) {
    let Description { target, build, plants, seed, sessions, .. } = store.description();
    let dir = store.root().display();
    live.event(&json!({
        "event": "start", "hyperfuzz": env!("CARGO_PKG_VERSION"), "target": target, "build": build,
        "plants": plants, "seed": seed, "session": sessions, "initial": initial, "known": known,
        "dir": dir.to_string(),
    }));
    let planted = if plants.is_empty() { String::new() } else { format!(", planted {}", plants.join(",")) };
    live.note(&format!(
        "hyperfuzz {}: {target} (build {}{planted}), seed {seed}, session {sessions}, {initial} programs to start from, in {dir}",
        env!("CARGO_PKG_VERSION"),
        build.get(..12).unwrap_or(build),
    ));
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

    /// What was done, for reports.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            executions: self.statistics.executions,
            calls: self.statistics.calls,
            edges: (self.statistics.edges, self.edges),
            corpus: self.statistics.corpus,
            restarts: self.statistics.restarts,
            unconfirmed: self.unconfirmed.len(),
            checks: self.checks,
        }
    }

    /// Time that the loop took.
    pub(super) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Buckets that were known before and were met again.
    pub(super) fn known_again(&self) -> impl Iterator<Item = &Bucket> {
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
        let rows = operations::rows(self.interface, &self.statistics);
        let reached = rows.iter().filter(|row| row.reached).count();
        if options.json {
            emit(&json!({
                "event": "end", "ended": self.ended_by(options), "exit": self.exit() as u8,
                "seconds": seconds, "statistics": self.statistics, "edges_total": self.edges,
                "operations": rows, "findings": self.findings.iter().map(|(bucket, _)| bucket).collect::<Vec<_>>(),
                "known": self.known_again().collect::<Vec<_>>(), "unconfirmed": self.unconfirmed,
                "checks": self.checks, "workers_replaced": self.replaced,
            }));
            return;
        }
        for (bucket, directory) in &self.findings {
            say!("finding {bucket}\n  again: hyperfuzz replay {}", directory.display());
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
        let replaced = match self.replaced {
            0 => String::new(),
            n => format!(", {n} workers replaced"),
        };
        let checks = match self.checks {
            Tally { mismatches: 0, passed: 0, .. } => String::new(),
            Tally { mismatches: 0, passed, .. } => format!(", {passed} self-checks passed"),
            Tally { mismatches, passed, .. } => {
                format!(", {mismatches} OF {} SELF-CHECKS FAILED (see mismatches/)", mismatches + passed)
            }
        };
        say!(
            "verdict: {} new, {} known findings{unconfirmed}{restarts}{replaced}{checks}; {} executions in {} ({:.0}/s, {:.0} calls/s), {} of {} edges, corpus {}, {reached} of {} operations reached",
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
