//! A worker: the loop and a machine, in a process of its own.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use serde::{Deserialize, Serialize};

use super::{
    message::{self, Message, Sender},
    totals::Report,
};
use crate::{
    campaign::{
        check::{Mismatch, Tally},
        examine::{About, Files, Unconfirmed},
        runner::{Care, Outlet, Runner},
        statistics::Statistics,
        store,
    },
    feedback::{
        self, Limits, News, Plan, Strategy,
        exchange::{ExchangeError, Spoke},
    },
    program::{Program, wire},
    target::Settings,
    triage::bucket::{Bucket, Classifier},
};

/// How often a worker reports.
const REPORT_EVERY: Duration = Duration::from_millis(500);

/// What a worker is told at its start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Orders {
    /// Process number of the parent: a worker without it ends.
    pub parent: u32,
    /// Where the hub is.
    pub port: u16,
    /// [`message::campaign_id`].
    pub campaign: u64,
    /// Who the worker is.
    pub sender: Sender,
    /// What to fuzz, and where.
    pub settings: Settings,
    /// Calls in a generated program, at most.
    pub max_calls: u16,
    /// Executions to do.
    pub executions: Option<u64>,
    /// How to treat findings and machines.
    pub care: Care,
    /// What findings have in common.
    pub about: About,
    /// Buckets that are no news, beside those that the hub tells.
    pub known: BTreeSet<Bucket>,
}

/// Works until it is told to stop, or has done what it was told to do.
///
/// # Errors
/// When no machine can be had, or the parent is gone.
pub fn work(orders: &Orders, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot be tied to the parent")?;
    if getppid().map(Pid::as_raw_nonzero).is_none_or(|id| id.get().cast_unsigned() != orders.parent) {
        bail!("the parent process has gone");
    }
    let settings = &orders.settings;
    let engine = settings.start()?;
    let classifier = Classifier::new(settings.symbols()?);
    let mut uplink = Uplink::attach(orders)?;
    let plan = Plan {
        seed: orders.about.seed,
        // The hub tells.
        initial: Vec::new(),
        known: orders.known.clone(),
        max_calls: orders.max_calls.into(),
        limits: Limits { executions: orders.executions, calls: None, deadline: None, stop: Arc::clone(stop) },
        strategy: Strategy::FULL,
    };
    let about = orders.about.clone();
    let mut runner = Runner::new(&mut uplink, settings, &classifier, &orders.care, about, Arc::clone(stop));
    let result = feedback::run(engine, plan, settings.interface(), &classifier, &mut runner);
    runner.hand_on()?;
    let checks = runner.checks();
    let (statistics, _) = result?;
    uplink.report(&statistics, checks)?;
    Ok(())
}

/// Hands everything on to the parent.
struct Uplink {
    spoke: Spoke,
    campaign: u64,
    sender: Sender,
    /// Programs that the hub has sent, or that were sent there.
    known: BTreeSet<String>,
    reported_at: Option<Instant>,
    /// Edges of the statistics that were reported.
    told: usize,
    /// Edges that the corpus covers, as far as that was reported or is about to be.
    covered: Vec<bool>,
    news: Vec<u32>,
}

impl Uplink {
    fn attach(orders: &Orders) -> Result<Self, ExchangeError> {
        Ok(Self {
            spoke: Spoke::attach(orders.port)?,
            campaign: orders.campaign,
            sender: orders.sender,
            known: BTreeSet::new(),
            reported_at: None,
            told: 0,
            covered: Vec::new(),
            news: Vec::new(),
        })
    }

    fn send(&mut self, message: Message) -> anyhow::Result<()> {
        Ok(self.spoke.send(&message::encode(self.campaign, self.sender, message))?)
    }

    fn report(&mut self, statistics: &Statistics, checks: Tally) -> anyhow::Result<()> {
        let report = Report::new(statistics, checks, self.told, std::mem::take(&mut self.news));
        self.told = statistics.first.len();
        self.reported_at = Some(Instant::now());
        self.send(Message::Report(Box::new(report)))
    }

    /// What a message means for this worker.
    fn meaning(&mut self, bytes: &[u8]) -> Option<News> {
        let envelope = message::decode(bytes, self.campaign).ok()?;
        match envelope.message {
            Message::Entry(bytes) => {
                let program = message::program(&bytes)?;
                self.known.insert(store::digest(&program)).then_some(News::Program(program))
            }
            Message::Claimed(bucket, _) => (envelope.from != self.sender).then_some(News::Known(bucket)),
            Message::Finding(bucket, _) => Some(News::Known(bucket)),
            Message::Released(bucket) => Some(News::Unknown(bucket)),
            Message::Unconfirmed(_)
            | Message::Mismatch(_)
            | Message::Report(_)
            | Message::Note(_)
            | Message::Beat => None,
        }
    }
}

impl Outlet for Uplink {
    fn entry(&mut self, program: &Program) -> anyhow::Result<()> {
        if self.known.insert(store::digest(program)) {
            self.send(Message::Entry(wire::encode(program)?))?;
        }
        Ok(())
    }

    fn original(&mut self, bucket: &Bucket, program: &Program) -> anyhow::Result<()> {
        self.send(Message::Claimed(bucket.clone(), wire::encode(program)?))
    }

    fn unconfirmed(&mut self, unconfirmed: Unconfirmed) -> anyhow::Result<()> {
        self.send(Message::Unconfirmed(unconfirmed))
    }

    fn finding(&mut self, bucket: Bucket, files: Files) -> anyhow::Result<()> {
        self.send(Message::Finding(bucket, files))
    }

    fn mismatch(&mut self, mismatch: Mismatch) -> anyhow::Result<()> {
        self.send(Message::Mismatch(mismatch))
    }

    fn progress(&mut self, statistics: &Statistics, checks: Tally) -> anyhow::Result<()> {
        if self.reported_at.is_none_or(|at| at.elapsed() >= REPORT_EVERY) {
            self.report(statistics, checks)?;
        }
        Ok(())
    }

    fn coverage(&mut self, taken: &[u8]) {
        self.covered.resize(self.covered.len().max(taken.len()), false);
        for (edge, (taken, covered)) in taken.iter().zip(&mut self.covered).enumerate() {
            if *taken != 0 && !std::mem::replace(covered, true) {
                // Counters are counted in 32 bits everywhere.
                self.news.push(edge as u32);
            }
        }
    }

    fn news(&mut self) -> anyhow::Result<Option<News>> {
        while let Some(bytes) = self.spoke.hear()? {
            if let Some(news) = self.meaning(&bytes) {
                return Ok(Some(news));
            }
        }
        Ok(None)
    }

    fn note(&mut self, text: &str) {
        // A parent that cannot be told is noticed by the next message that matters.
        let _ = self.send(Message::Note(text.to_owned()));
    }
}

/// The executable that workers are started from: this one, also if it was replaced on disk meanwhile.
#[must_use]
pub fn executable() -> PathBuf {
    "/proc/self/exe".into()
}
