//! Works through the tasks of a benchmark, several at a time, each on a processor of its own.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::bail;

use super::{
    record::{Task, Trial},
    store::Store,
    trial,
};
use crate::program::Program;

/// How trials are run.
pub struct Workers<'a> {
    /// Programs of the seeded corpus.
    pub seeds: &'a [Program],
    /// QEMU.
    pub qemu: &'a Path,
    /// One processor for each trial that runs at the same time.
    pub cores: &'a [usize],
    /// Ends the benchmark.
    pub stop: Arc<AtomicBool>,
}

/// What happens to a task.
pub enum Event<'a> {
    /// It is begun.
    Begun(&'a Task),
    /// It is finished and stored.
    Finished(&'a Trial),
}

/// Runs all tasks that are not finished yet; false if it was stopped before. Each finished trial is stored at once.
///
/// # Errors
/// What keeps a trial from being run or stored; the others end as if they had been stopped.
pub fn run(
    store: &Store,
    tasks: &[Task],
    workers: &Workers<'_>,
    report: &(impl Fn(Event<'_>) + Sync),
) -> anyhow::Result<bool> {
    let mut queue = VecDeque::new();
    for task in tasks {
        if store.finished(task)?.is_none() {
            queue.push_back(task);
        }
    }
    if workers.cores.is_empty() {
        bail!("there is no processor to run on");
    }
    let queue = Mutex::new(queue);
    let failure = Mutex::new(None);
    let work = |core: usize| {
        loop {
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let Some(task) = next else { return };
            if workers.stop.load(Ordering::Relaxed) {
                return;
            }
            report(Event::Begun(task));
            let done = trial::run(task, workers.seeds, workers.qemu, Some(core), &workers.stop)
                .and_then(|trial| trial.map(|trial| store.add(&trial).map(|()| trial)).transpose());
            match done {
                Ok(Some(trial)) => report(Event::Finished(&trial)),
                Ok(None) => return,
                Err(error) => {
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    workers.stop.store(true, Ordering::Relaxed);
                    return;
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for core in workers.cores {
            scope.spawn(|| work(*core));
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(!workers.stop.load(Ordering::Relaxed)),
    }
}
