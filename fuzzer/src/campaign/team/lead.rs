//! The parent of the workers: hears them, writes the directory, replaces who dies, stops all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, bail};

use super::{
    crew::{Crew, Place, Quit},
    message::{self, Message, Refused, Sender},
    segments,
    totals::Totals,
    worker::Orders,
};
use crate::{
    campaign::{
        check::Tally,
        examine::{About, Files},
        ledger::Ledger,
        runner::{Care, Outlet},
        statistics::Statistics,
    },
    feedback::{
        Ended,
        exchange::{Heard, Hub},
    },
    program::{Program, wire},
    target::Settings,
    triage::bucket::Bucket,
};

/// How long the parent sleeps when nothing was said.
const PAUSE: Duration = Duration::from_millis(2);
/// How often it looks after things that do not come as messages.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often a parent says that it is there.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// Silence after which the connection to another machine is made again. LLMP hands messages over every three seconds at least.
const SILENCE: Duration = Duration::from_secs(20);
/// Time that workers have to come to an end before they are killed.
const PATIENCE: Duration = Duration::from_secs(90);

/// What many workers are told.
#[derive(Clone, Debug)]
pub struct Team {
    /// One worker for each of these processors.
    pub cores: Vec<usize>,
    /// Where other machines may join.
    pub listen: Option<String>,
    /// Which other machine to join.
    pub join: Option<String>,
    /// What to fuzz.
    pub settings: Settings,
    /// Calls in a generated program, at most.
    pub max_calls: u16,
    /// How to treat findings and machines.
    pub care: Care,
    /// What findings have in common.
    pub about: About,
    /// Buckets that are known beside those that the campaign has.
    pub known: BTreeSet<Bucket>,
    /// Executions of all together.
    pub executions: Option<u64>,
    /// Point in time.
    pub deadline: Option<Instant>,
    /// Set from outside: stop.
    pub stop: Arc<AtomicBool>,
}

/// What many workers came to.
#[derive(Debug)]
pub struct Outcome {
    /// Everything added up.
    pub statistics: Statistics,
    /// Checks of all machines.
    pub checks: Tally,
    /// Why it ended.
    pub ended: Ended,
    /// Workers that had to be replaced.
    pub replaced: u64,
}

/// A bucket that a worker examines.
struct Claim {
    worker: (u32, u32),
    program: Vec<u8>,
}

/// The connection to the machine that was joined.
struct Joined {
    at: String,
    /// Its parent, once it was heard.
    hub: Option<u64>,
    heard: Instant,
}

struct Lead<'a, 'b> {
    ledger: &'a mut Ledger<'b>,
    hub: Hub,
    me: Sender,
    campaign: u64,
    totals: Totals,
    claims: BTreeMap<Bucket, Claim>,
    /// Buckets that were complete when the session began.
    known: BTreeSet<Bucket>,
    /// Buckets that are known beside them.
    listed: BTreeSet<Bucket>,
    /// Hubs of other campaigns that were told off.
    foreign: BTreeSet<u64>,
    /// Hubs on other machines.
    others: BTreeSet<u64>,
    joined: Option<Joined>,
}

/// Runs workers until a limit is reached.
///
/// # Errors
/// When workers cannot be had, or something cannot be stored; what was found until then is.
pub fn run(
    team: &Team,
    initial: &[Program],
    known: &BTreeSet<Bucket>,
    ledger: &mut Ledger<'_>,
) -> anyhow::Result<Outcome> {
    let (hub, port) = Hub::new()?;
    segments::mark_for_removal(&[std::process::id()]);
    ledger.set_workers(team.cores.len());
    let me = Sender { hub: rand::random(), worker: None };
    let campaign = message::campaign_id(&team.about);
    let mut lead = Lead {
        ledger,
        hub,
        me,
        campaign,
        totals: Totals::default(),
        claims: BTreeMap::new(),
        known: known.clone(),
        listed: team.known.clone(),
        foreign: BTreeSet::new(),
        others: BTreeSet::new(),
        joined: None,
    };
    lead.tell_what_there_is(initial)?;
    lead.connect(team)?;
    let count = team.cores.len() as u64;
    let places = team.cores.iter().enumerate().map(|(index, core)| Place {
        core: *core,
        // The first ones do what cannot be divided.
        quota: team.executions.map(|all| all / count + u64::from((index as u64) < all % count)),
    });
    let orders = Orders {
        parent: std::process::id(),
        port,
        campaign,
        sender: me,
        settings: team.settings.clone(),
        max_calls: team.max_calls,
        executions: None,
        care: team.care.clone(),
        about: team.about.clone(),
        known: team.known.clone(),
    };
    let mut crew = Crew::start(orders, places.collect())?;
    let result = lead.work(team, &mut crew);
    // Whatever went wrong: who still works is heard to the end.
    let stopped = lead.stop(&mut crew);
    let ended = result?;
    stopped?;
    let statistics = lead.totals.statistics(lead.ledger.store().len());
    Ok(Outcome { statistics, checks: lead.totals.checks(), ended, replaced: crew.replaced() })
}

impl Lead<'_, '_> {
    fn send(&mut self, message: Message) -> anyhow::Result<()> {
        Ok(self.hub.send(&message::encode(self.campaign, self.me, message))?)
    }

    /// Workers and machines that come hear this first.
    fn tell_what_there_is(&mut self, initial: &[Program]) -> anyhow::Result<()> {
        for bucket in self.known.clone() {
            let files = Files { files: self.ledger.store().finding_files(&bucket)? };
            self.send(Message::Finding(bucket, files))?;
        }
        for program in initial {
            self.send(Message::Entry(wire::encode(program)?))?;
        }
        Ok(())
    }

    /// Opens the doors to other machines.
    fn connect(&mut self, team: &Team) -> anyhow::Result<()> {
        if let Some(at) = &team.listen {
            let address = self.hub.listen(at.as_str()).with_context(|| format!("--listen {at}"))?;
            self.ledger.note(&format!("other machines may join at {address}"));
        }
        if let Some(at) = &team.join {
            self.hub.join(at.as_str()).with_context(|| format!("--join {at}"))?;
            self.ledger.note(&format!("joined {at}"));
            self.joined = Some(Joined { at: at.clone(), hub: None, heard: Instant::now() });
        }
        Ok(())
    }

    /// The loop: until a limit is reached.
    fn work(&mut self, team: &Team, crew: &mut Crew) -> anyhow::Result<Ended> {
        let mut looked = Instant::now();
        let mut beaten: Option<Instant> = None;
        loop {
            if !self.hear_all()? {
                std::thread::sleep(PAUSE);
            }
            if team.stop.load(Ordering::Relaxed) {
                return Ok(Ended::Interrupted);
            }
            if team.deadline.is_some_and(|at| Instant::now() >= at) {
                return Ok(Ended::Time);
            }
            if team.executions.is_some_and(|all| self.totals.executions() >= all) {
                return Ok(Ended::Executions);
            }
            if looked.elapsed() < LOOK_EVERY {
                continue;
            }
            looked = Instant::now();
            segments::mark_for_removal(&crew.processes());
            self.look_after(crew)?;
            if crew.is_idle() {
                return Ok(Ended::Executions);
            }
            if beaten.is_none_or(|at| at.elapsed() >= BEAT_EVERY) {
                beaten = Some(Instant::now());
                self.send(Message::Beat)?;
                self.keep_joined();
            }
            let statistics = self.totals.statistics(self.ledger.store().len());
            self.ledger.progress(&statistics, self.totals.checks())?;
        }
    }

    /// Takes in everything that was said. False if that was nothing.
    fn hear_all(&mut self) -> anyhow::Result<bool> {
        let mut some = false;
        while let Some(heard) = self.hub.hear()? {
            self.hear(&heard)?;
            some = true;
        }
        Ok(some)
    }

    fn hear(&mut self, heard: &Heard) -> anyhow::Result<()> {
        let envelope = match message::decode(&heard.bytes, self.campaign) {
            Ok(envelope) => envelope,
            Err((Refused::Foreign, Some(from))) if self.foreign.insert(from.hub) => {
                self.ledger.note(
                    "another machine fuzzes another target, build or version, or has other planted bugs: what it sends is not taken",
                );
                return Ok(());
            }
            Err(_) => return Ok(()),
        };
        let from = envelope.from;
        if heard.remote {
            return self.hear_remote(from, envelope.message);
        }
        let Some(worker) = from.worker.filter(|_| from.hub == self.me.hub) else { return Ok(()) };
        match envelope.message {
            Message::Entry(program) => self.entry(program),
            Message::Claimed(bucket, program) => self.claimed(from, worker, bucket, program),
            Message::Unconfirmed(unconfirmed) => {
                self.claims.remove(&unconfirmed.bucket);
                self.ledger.unconfirmed(unconfirmed)
            }
            Message::Finding(bucket, files) => {
                self.claims.remove(&bucket);
                self.finding(bucket, files)
            }
            Message::Mismatch(mismatch) => self.ledger.mismatch(mismatch),
            Message::Report(report) => {
                self.totals.heard(worker, *report);
                Ok(())
            }
            Message::Note(text) => {
                self.ledger.note(&text);
                Ok(())
            }
            Message::Released(_) | Message::Beat => Ok(()),
        }
    }

    /// Programs and findings of other machines count as one's own; the rest is theirs.
    fn hear_remote(&mut self, from: Sender, message: Message) -> anyhow::Result<()> {
        if from.hub == self.me.hub {
            // It came back.
            return Ok(());
        }
        match message {
            Message::Entry(program) => self.entry(program),
            Message::Finding(bucket, files) => self.finding(bucket, files),
            Message::Beat => {
                if self.others.insert(from.hub) {
                    self.ledger.note(&format!("another machine is there ({:016x})", from.hub));
                }
                if let Some(joined) = &mut self.joined {
                    // The first one that is heard is the one that was joined: others may join here.
                    if *joined.hub.get_or_insert(from.hub) == from.hub {
                        joined.heard = Instant::now();
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Stores a program that is news, and passes it on.
    fn entry(&mut self, bytes: Vec<u8>) -> anyhow::Result<()> {
        let Some(program) = message::program(&bytes) else { return Ok(()) };
        if self.ledger.add(&program)? {
            self.send(Message::Entry(bytes))?;
        }
        Ok(())
    }

    /// A worker begins with a bucket: the others leave it alone.
    fn claimed(
        &mut self,
        from: Sender,
        worker: (u32, u32),
        bucket: Bucket,
        bytes: Vec<u8>,
    ) -> anyhow::Result<()> {
        let Some(program) = message::program(&bytes) else { return Ok(()) };
        if self.claims.contains_key(&bucket) || self.is_found(&bucket) {
            // Two at the same time: the first finding counts.
            return Ok(());
        }
        self.ledger.original(&bucket, &program)?;
        // In the worker's name, so that it does not take it for another's.
        let message = Message::Claimed(bucket.clone(), bytes.clone());
        self.hub.send(&message::encode(self.campaign, from, message))?;
        self.claims.insert(bucket, Claim { worker, program: bytes });
        Ok(())
    }

    fn is_found(&self, bucket: &Bucket) -> bool {
        self.known.contains(bucket) || self.listed.contains(bucket) || self.ledger.has_found(bucket)
    }

    fn finding(&mut self, bucket: Bucket, files: Files) -> anyhow::Result<()> {
        if self.is_found(&bucket) {
            return Ok(());
        }
        self.ledger.finding(bucket.clone(), files.clone())?;
        self.send(Message::Finding(bucket, files))
    }

    /// Replaces workers that died.
    fn look_after(&mut self, crew: &mut Crew) -> anyhow::Result<()> {
        for quit in crew.reap() {
            // What it said last comes first.
            self.hear_all()?;
            self.release(quit.worker)?;
            let Quit { worker, died: Some(how), .. } = &quit else { continue };
            self.ledger.note(&format!("worker {} died ({how}) and is replaced", worker.0));
            let done = self.totals.executions_of(*worker);
            if let Err(error) = crew.replace(&quit, done) {
                bail!("worker {} cannot be kept alive: {error:#}", worker.0);
            }
        }
        Ok(())
    }

    /// Gives what a worker had begun to the others.
    fn release(&mut self, worker: (u32, u32)) -> anyhow::Result<()> {
        let claims = std::mem::take(&mut self.claims);
        let (gone, kept): (BTreeMap<_, _>, BTreeMap<_, _>) =
            claims.into_iter().partition(|(_, claim)| claim.worker == worker);
        self.claims = kept;
        for (bucket, claim) in gone {
            self.send(Message::Released(bucket))?;
            self.send(Message::Entry(claim.program))?;
        }
        Ok(())
    }

    /// Makes the connection to the other machine again, if it is silent.
    fn keep_joined(&mut self) {
        let Some(joined) = &mut self.joined else { return };
        if joined.heard.elapsed() < SILENCE {
            return;
        }
        joined.heard = Instant::now();
        joined.hub = None;
        let text = match self.hub.join(joined.at.as_str()) {
            Ok(()) => format!("joined {} again", joined.at),
            Err(error) => format!("{} is silent; fuzzing goes on without it ({error})", joined.at),
        };
        self.ledger.note(&text);
    }

    /// Stops all workers, and hears them to the end.
    fn stop(&mut self, crew: &mut Crew) -> anyhow::Result<()> {
        crew.ask_to_stop();
        let began = Instant::now();
        let mut result = Ok(());
        while !crew.is_idle() {
            result = result.and(self.hear_all().map(|_| ()));
            for quit in crew.reap() {
                if let Some(how) = quit.died {
                    self.ledger.note(&format!("worker {} died at the end ({how})", quit.worker.0));
                }
            }
            if began.elapsed() > PATIENCE {
                self.ledger.note("workers that do not come to an end are killed");
                crew.kill();
            }
            std::thread::sleep(PAUSE);
        }
        result.and(self.hear_all().map(|_| ()))
    }
}
