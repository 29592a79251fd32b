//! The worker processes: started, watched, replaced, stopped.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom, Write},
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::{
    message::Sender,
    worker::{Orders, executable},
};
use crate::report::finding::printable;

/// How often a place may lose a worker that has executed nothing, one after the other.
const MOST_FAILURES: u32 = 3;
/// Bytes of a worker's last words that are shown.
const TAIL: u64 = 4096;

/// What one worker is for.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Its processor.
    pub(super) core: usize,
    /// Executions that are still to be done.
    pub(super) quota: Option<u64>,
}

/// A worker that is no more.
#[derive(Clone, Debug)]
pub(super) struct Quit {
    /// Its place, and the how many-th it was there.
    pub(super) worker: (u32, u32),
    /// How, if it was before its time.
    pub(super) died: Option<String>,
}

struct Process {
    child: Child,
    /// What it writes to standard error.
    words: File,
}

struct Slot {
    place: Place,
    generation: u32,
    process: Option<Process>,
    failures: u32,
}

/// All workers.
pub(super) struct Crew {
    orders: Orders,
    slots: Vec<Slot>,
    stopping: bool,
    replaced: u64,
}

impl Crew {
    /// Starts a worker in each place.
    pub(super) fn start(orders: Orders, places: Vec<Place>) -> anyhow::Result<Self> {
        let slots = places.into_iter().map(|place| Slot { place, generation: 0, process: None, failures: 0 });
        let mut crew = Self { orders, slots: slots.collect(), stopping: false, replaced: 0 };
        for index in 0..crew.slots.len() {
            // A place without work stays empty.
            if crew.slots[index].place.quota != Some(0) {
                crew.spawn(index)?;
            }
        }
        Ok(crew)
    }

    fn spawn(&mut self, index: usize) -> anyhow::Result<()> {
        let slot = &mut self.slots[index];
        // There are as many workers as processors.
        let worker = (index as u32, slot.generation);
        let mut orders = self.orders.clone();
        orders.sender = Sender { worker: Some(worker), ..orders.sender };
        orders.settings = orders.settings.on_core(slot.place.core);
        orders.executions = slot.place.quota;
        // Each in its own direction; a worker that takes another's place in yet another one.
        let turn = u64::from(worker.0) + (u64::from(worker.1) << 32);
        orders.about.seed = orders.about.seed.wrapping_add(turn.wrapping_mul(0xd134_2543_de82_ef95));
        let words = tempfile::tempfile().context("cannot make a temporary file")?;
        let mut child = Command::new(executable())
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(words.try_clone().context("cannot make a temporary file")?)
            // Ctrl-C is for the parent, which then tells its workers.
            .process_group(0)
            .spawn()
            .context("cannot start a worker")?;
        let text = serde_json::to_vec(&orders)?;
        // A worker that has died already is noticed as any other.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(&text));
        self.slots[index].process = Some(Process { child, words });
        Ok(())
    }

    /// Processes of this campaign, the parent's among them.
    pub(super) fn processes(&self) -> Vec<u32> {
        let workers = self.slots.iter().filter_map(|slot| slot.process.as_ref());
        workers.map(|process| process.child.id()).chain([std::process::id()]).collect()
    }

    /// True where nobody works any more.
    pub(super) fn is_idle(&self) -> bool {
        self.slots.iter().all(|slot| slot.process.is_none())
    }

    /// Workers that were replaced.
    pub(super) fn replaced(&self) -> u64 {
        self.replaced
    }

    /// Takes note of workers that have ended, or that somebody has stopped.
    pub(super) fn reap(&mut self) -> Vec<Quit> {
        let mut quits = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let Some(process) = &mut slot.process else { continue };
            if is_stopped(process.child.id()) && process.child.kill().is_err() {
                continue;
            }
            let Ok(Some(status)) = process.child.try_wait() else { continue };
            let good = status.success();
            let died = (!good).then(|| describe(status, &mut process.words));
            slot.process = None;
            // There are as many workers as processors.
            quits.push(Quit { worker: (index as u32, slot.generation), died });
        }
        quits
    }

    /// Starts another worker where one has died after so many executions.
    pub(super) fn replace(&mut self, quit: &Quit, executions: u64) -> anyhow::Result<()> {
        let index = quit.worker.0 as usize;
        let slot = &mut self.slots[index];
        slot.failures = if executions == 0 { slot.failures + 1 } else { 0 };
        if slot.failures >= MOST_FAILURES {
            bail!("{}", quit.died.as_deref().unwrap_or("it ends again and again"));
        }
        slot.generation += 1;
        slot.place.quota = slot.place.quota.map(|quota| quota.saturating_sub(executions));
        self.replaced += 1;
        if self.stopping || slot.place.quota == Some(0) {
            return Ok(());
        }
        self.spawn(index)
    }

    /// Asks all to come to an end.
    pub(super) fn ask_to_stop(&mut self) {
        self.stopping = true;
        for process in self.slots.iter().filter_map(|slot| slot.process.as_ref()) {
            if let Some(id) = i32::try_from(process.child.id()).ok().and_then(Pid::from_raw) {
                // One that has just ended is noticed by `reap`.
                let _ = kill_process(id, Signal::TERM);
            }
        }
    }

    /// Ends all.
    pub(super) fn kill(&mut self) {
        for process in self.slots.iter_mut().filter_map(|slot| slot.process.as_mut()) {
            let _ = process.child.kill();
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.kill();
        for process in self.slots.iter_mut().filter_map(|slot| slot.process.as_mut()) {
            let _ = process.child.wait();
        }
    }
}

/// True for a process that a signal has stopped: it would stay so for good.
fn is_stopped(id: u32) -> bool {
    let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) else { return false };
    let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(id), options).ok().flatten().is_some_and(|status| status.stopped())
}

/// How a worker ended, and what it said about it.
fn describe(status: ExitStatus, words: &mut File) -> String {
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "unknown end".into(),
    };
    let len = words.metadata().map_or(0, |metadata| metadata.len());
    let mut bytes = Vec::new();
    let read = words
        .seek(SeekFrom::Start(len.saturating_sub(TAIL)))
        .and_then(|_| words.take(TAIL).read_to_end(&mut bytes));
    let text = printable(&String::from_utf8_lossy(&bytes));
    match (read, text.trim()) {
        (Ok(_), said) if !said.is_empty() => format!("{how}: {said}"),
        _ => how,
    }
}
