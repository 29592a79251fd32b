//! LibAFL's executor over any engine.

use std::collections::BTreeSet;

use libafl::{
    Error,
    executors::{Executor, ExitKind, HasObservers},
    observers::{HitcountsMapObserver, MapObserver, StdMapObserver},
    state::HasExecutions,
};
use libafl_bolts::{ToSliceMut, tuples::RefIndexable};

use super::{
    limits::{Ended, Limits},
    verdict::VerdictObserver,
};
use crate::{
    campaign::statistics::Statistics,
    engine::{Engine, EngineError, Execution, Outcome, Request},
    program::{Program, lower},
    triage::bucket::{Bucket, Classifier},
};

/// The counters, binned as AFL does.
pub(super) type EdgeObserver = HitcountsMapObserver<StdMapObserver<'static, u8, false>>;
/// All observers of an execution.
pub(super) type Observers = (EdgeObserver, (VerdictObserver, ()));

/// Name of the observer of edges.
pub(super) const EDGES: &str = "edges";

/// A program that made the hypervisor misbehave, as it was seen in the loop and not yet confirmed.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The program.
    pub program: Program,
    /// Where it belongs.
    pub bucket: Bucket,
    /// What was observed.
    pub execution: Execution,
    /// Executions done before it.
    pub after_executions: u64,
}

pub(super) struct EngineExecutor<'a, E> {
    pub(super) engine: E,
    observers: Observers,
    execution: Execution,
    classifier: &'a Classifier,
    /// Buckets of this session and of the campaign before it.
    seen: BTreeSet<Bucket>,
    /// Candidates that the driver has not looked at yet.
    pub(super) pending: Vec<Candidate>,
    pub(super) statistics: Statistics,
    limits: Limits,
    /// Why the loop was left.
    pub(super) ended: Option<Ended>,
    /// The engine's last words.
    pub(super) failure: Option<EngineError>,
}

impl<'a, E: Engine> EngineExecutor<'a, E> {
    pub(super) fn new(
        engine: E,
        observers: Observers,
        classifier: &'a Classifier,
        seen: BTreeSet<Bucket>,
        limits: Limits,
    ) -> Self {
        Self {
            engine,
            observers,
            execution: Execution::default(),
            classifier,
            seen,
            pending: Vec::new(),
            statistics: Statistics::default(),
            limits,
            ended: None,
            failure: None,
        }
    }

    /// Runs one program outside LibAFL's bookkeeping, with or without comparisons.
    pub(super) fn observe(&mut self, program: &Program, comparisons: bool) -> Result<&Execution, Error> {
        if let Some(reason) = self.limits.reached(self.statistics.executions) {
            self.ended = Some(reason);
            return Err(Error::shutting_down());
        }
        // A program that cannot be lowered is one that a mutator made too long: it is no execution, and the mutator's
        // bounds make it rare.
        let Ok(lowered) = lower::lower(program, 1) else {
            self.execution = Execution::default();
            return Ok(&self.execution);
        };
        let request = Request { program: &lowered.bytes, comparisons };
        if let Err(error) = self.engine.execute(&request, &mut self.execution) {
            self.failure = Some(error);
            return Err(Error::shutting_down());
        }
        self.statistics.record(program, &self.execution);
        Ok(&self.execution)
    }
}

impl<E> HasObservers for EngineExecutor<'_, E> {
    type Observers = Observers;

    fn observers(&self) -> RefIndexable<&Self::Observers, Self::Observers> {
        RefIndexable::from(&self.observers)
    }

    fn observers_mut(&mut self) -> RefIndexable<&mut Self::Observers, Self::Observers> {
        RefIndexable::from(&mut self.observers)
    }
}

impl<E: Engine, EM, S: HasExecutions, Z> Executor<EM, Program, S, Z> for EngineExecutor<'_, E> {
    fn run_target(
        &mut self,
        _fuzzer: &mut Z,
        state: &mut S,
        _manager: &mut EM,
        program: &Program,
    ) -> Result<ExitKind, Error> {
        *state.executions_mut() += 1;
        self.observe(program, false)?;
        let (edges, (verdict, ())) = &mut self.observers;
        let edges = edges.to_slice_mut();
        let counted = self.execution.counters.len().min(edges.len());
        edges[..counted].copy_from_slice(&self.execution.counters[..counted]);

        let Some(bucket) = self.classifier.classify(program, &self.execution) else {
            return Ok(ExitKind::Ok);
        };
        verdict.survived = false;
        self.statistics.crashed(&bucket);
        if self.seen.insert(bucket.clone()) {
            verdict.new_bucket = true;
            self.pending.push(Candidate {
                program: program.clone(),
                bucket,
                execution: self.execution.clone(),
                after_executions: self.statistics.executions,
            });
        }
        Ok(match self.execution.outcome {
            Outcome::Hang | Outcome::Timeout => ExitKind::Timeout,
            _ => ExitKind::Crash,
        })
    }
}

/// Makes the observer of `len` edges.
pub(super) fn edge_observer(len: usize) -> EdgeObserver {
    let observer = HitcountsMapObserver::new(StdMapObserver::owned(EDGES, vec![0; len]));
    debug_assert_eq!(observer.usable_count(), len);
    observer
}
