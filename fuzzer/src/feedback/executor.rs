//! LibAFL's executor over any engine.

use std::{cell::Cell, collections::BTreeSet, rc::Rc, time::Instant};

use libafl::{
    Error,
    executors::{Executor, ExitKind, HasObservers},
    state::HasExecutions,
};
use libafl_bolts::tuples::RefIndexable;

use super::{
    edges::EdgeObserver,
    limits::{Ended, Limits},
    session::{Context, Driver},
    strategy::Strategy,
    subject::Subject,
    trouble::Trouble,
    verdict::VerdictObserver,
};
use crate::{
    campaign::statistics::Statistics,
    engine::{Engine, EngineError, Execution, Outcome, Request},
    program::Program,
    triage::bucket::{Bucket, Classifier, current_call},
};

/// All observers of an execution.
pub(super) type Observers = (EdgeObserver, (VerdictObserver, ()));

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

pub(super) struct EngineExecutor<'a, E, D> {
    pub(super) engine: E,
    pub(super) driver: &'a mut D,
    strategy: Strategy,
    observers: Observers,
    execution: Execution,
    /// Names of the operations of the last execution, call by call.
    operations: Vec<&'static str>,
    classifier: &'a Classifier,
    /// Buckets of this session and of the campaign before it.
    seen: BTreeSet<Bucket>,
    /// What the mutator should know of what was found.
    trouble: Rc<Trouble>,
    /// What the scheduler should know of the last execution: its translated blocks.
    work: Rc<Cell<u64>>,
    /// Candidates that the driver has not looked at yet.
    pub(super) pending: Vec<Candidate>,
    pub(super) statistics: Statistics,
    limits: Limits,
    /// Why the loop was left.
    pub(super) ended: Option<Ended>,
    /// The engine's last words.
    pub(super) failure: Option<EngineError>,
}

impl<'a, E: Engine, D: Driver<E>> EngineExecutor<'a, E, D> {
    pub(super) fn new(engine: E, driver: &'a mut D, observers: Observers, context: &Context<'a>) -> Self {
        Self {
            engine,
            driver,
            strategy: context.plan.strategy,
            observers,
            execution: Execution::default(),
            operations: Vec::new(),
            classifier: context.classifier,
            seen: context.plan.known.clone(),
            trouble: Rc::clone(&context.trouble),
            work: Rc::clone(&context.work),
            pending: Vec::new(),
            statistics: Statistics::default(),
            limits: context.plan.limits.clone(),
            ended: None,
            failure: None,
        }
    }

    /// Runs one input outside LibAFL's bookkeeping, with or without comparisons.
    pub(super) fn observe(&mut self, input: &impl Subject, comparisons: bool) -> Result<&Execution, Error> {
        if let Some(reason) = self.limits.reached(self.statistics.executions, self.statistics.calls) {
            self.ended = Some(reason);
            return Err(Error::shutting_down());
        }
        // A program that cannot be lowered is one that a mutator made too long: it is no execution, and the mutator's
        // bounds make it rare.
        let began = Instant::now();
        let ready = input.ready(&self.strategy, &self.engine.environment());
        self.statistics.lowering += began.elapsed();
        let Some(ready) = ready else {
            self.execution = Execution::default();
            self.operations.clear();
            return Ok(&self.execution);
        };
        self.operations = ready.operations;
        let request = Request { program: &ready.bytes, comparisons };
        if let Err(error) = self.engine.execute(&request, &mut self.execution) {
            self.failure = Some(error);
            return Err(Error::shutting_down());
        }
        self.work.set(self.execution.blocks);
        self.statistics.record(&self.operations, input.program(), &self.execution);
        self.driver.executed(&mut self.engine, &request, input.program(), &self.execution);
        Ok(&self.execution)
    }

    /// A bucket is somebody else's from now on.
    pub(super) fn know(&mut self, bucket: Bucket) {
        self.seen.insert(bucket);
    }

    /// A bucket is nobody's any more.
    pub(super) fn forget(&mut self, bucket: &Bucket) {
        self.seen.remove(bucket);
    }

    /// The bucket of the last execution, if the hypervisor misbehaved, and whether it is a new one.
    fn judge(&mut self, input: &impl Subject) -> Option<bool> {
        let bucket = match input.program() {
            Some(program) => self.classifier.classify(program, &self.execution),
            None => self.classifier.classify_calls(&self.operations, &self.execution),
        };
        if let Some(program) = input.program() {
            let last = bucket.is_some().then(|| current_call(&self.execution, program.calls.len()));
            self.trouble.learn(program, last);
        }
        let bucket = bucket?;
        self.statistics.crashed(&bucket);
        let new = self.seen.insert(bucket.clone());
        if let (true, Some(program)) = (new, input.program()) {
            self.pending.push(Candidate {
                program: program.clone(),
                bucket,
                execution: self.execution.clone(),
                after_executions: self.statistics.executions,
            });
        }
        Some(new)
    }

    /// Runs one input for a strategy that learns nothing from it.
    pub(super) fn blind(&mut self, input: &impl Subject) -> Result<(), Error> {
        self.observe(input, false)?;
        self.judge(input);
        Ok(())
    }
}

impl<E, D> HasObservers for EngineExecutor<'_, E, D> {
    type Observers = Observers;

    fn observers(&self) -> RefIndexable<&Self::Observers, Self::Observers> {
        RefIndexable::from(&self.observers)
    }

    fn observers_mut(&mut self) -> RefIndexable<&mut Self::Observers, Self::Observers> {
        RefIndexable::from(&mut self.observers)
    }
}

impl<E: Engine, D: Driver<E>, EM, I: Subject, S: HasExecutions, Z> Executor<EM, I, S, Z>
    for EngineExecutor<'_, E, D>
{
    fn run_target(
        &mut self,
        _fuzzer: &mut Z,
        state: &mut S,
        _manager: &mut EM,
        input: &I,
    ) -> Result<ExitKind, Error> {
        *state.executions_mut() += 1;
        self.observe(input, false)?;
        let (edges, _) = &mut self.observers;
        edges.see(&self.execution.counters);

        let Some(new) = self.judge(input) else { return Ok(ExitKind::Ok) };
        let (_, (verdict, ())) = &mut self.observers;
        verdict.survived = false;
        verdict.new_bucket = new;
        Ok(match self.execution.outcome {
            Outcome::Hang | Outcome::Timeout => ExitKind::Timeout,
            _ => ExitKind::Crash,
        })
    }
}
