//! One run of the loop: from a list of initial programs to a reason to stop.

use std::{collections::BTreeSet, num::NonZeroUsize};

use libafl::{
    Error, HasNamedMetadata,
    corpus::{Corpus, CorpusId, InMemoryCorpus},
    events::SimpleEventManager,
    feedback_and_fast,
    feedbacks::{MapFeedbackMetadata, MaxMapFeedback},
    fuzzer::{Evaluator, Fuzzer, StdFuzzer},
    monitors::NopMonitor,
    schedulers::QueueScheduler,
    stages::StdMutationalStage,
    state::{HasCorpus, StdState},
};
use libafl_bolts::{rands::StdRand, tuples::tuple_list};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use super::{
    comparisons::ComparisonStage,
    executor::{Candidate, EDGES, EngineExecutor, edge_observer},
    limits::{Ended, Limits},
    mutator::ProgramMutator,
    verdict::{Question, VerdictFeedback, VerdictObserver},
};
use crate::{
    campaign::statistics::Statistics,
    engine::{Engine, EngineError},
    interface::Interface,
    program::{Program, generate},
    triage::bucket::{Bucket, Classifier},
};

/// Programs that are generated where a campaign starts from nothing.
const GENERATED: usize = 64;
/// Most mutants of one corpus entry before the next one's turn.
const MUTANTS: NonZeroUsize = NonZeroUsize::new(96).unwrap();

/// What a session starts from.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seed of everything random.
    pub seed: u64,
    /// Programs to begin with, in this order; where it is empty, generated ones.
    pub initial: Vec<Program>,
    /// Buckets that are known already.
    pub known: BTreeSet<Bucket>,
    /// Calls in a generated program, at most.
    pub max_calls: usize,
    /// When to stop.
    pub limits: Limits,
}

/// Watches a session. Called between rounds, so what it does may take time.
pub trait Driver<E> {
    /// A program has joined the corpus.
    ///
    /// # Errors
    /// What keeps it from being stored; the session ends with it.
    fn corpus_entry(&mut self, program: &Program) -> anyhow::Result<()>;

    /// A program opened a new bucket. The engine may be used to confirm and minimise it.
    ///
    /// # Errors
    /// What keeps it from being stored; the session ends with it.
    fn candidate(&mut self, engine: &mut E, candidate: Candidate) -> anyhow::Result<()>;

    /// A round is over.
    ///
    /// # Errors
    /// The session ends with it.
    fn progress(&mut self, statistics: &Statistics) -> anyhow::Result<()>;
}

/// Why a session failed.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No machine can be had.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The driver gave up.
    #[error(transparent)]
    Driver(anyhow::Error),
    /// LibAFL refused something that should have worked.
    #[error("the fuzzing loop failed: {0}")]
    Loop(String),
}

/// Runs the loop until a limit is reached. The same plan on the same target gives the same corpus.
///
/// # Errors
/// [`SessionError`]; what was found until then has been reported to the driver.
pub fn run<E: Engine, D: Driver<E>>(
    engine: E,
    plan: Plan,
    interface: &'static Interface,
    classifier: &Classifier,
    driver: &mut D,
) -> Result<(Statistics, Ended), SessionError> {
    let verdict = VerdictObserver::new();
    let edges = edge_observer(engine.counters());
    let coverage = MaxMapFeedback::new(&edges);
    let mut feedback = feedback_and_fast!(VerdictFeedback::new(&verdict, Question::Survived), coverage);
    let mut objective = VerdictFeedback::new(&verdict, Question::NewBucket);
    let mut state = StdState::new(
        StdRand::with_seed(plan.seed),
        InMemoryCorpus::<Program>::new(),
        InMemoryCorpus::new(),
        &mut feedback,
        &mut objective,
    )
    .map_err(loop_error)?;
    let mut fuzzer = StdFuzzer::new(QueueScheduler::new(), feedback, objective);
    let mut manager = SimpleEventManager::new(NopMonitor::new());
    let mut executor =
        EngineExecutor::new(engine, tuple_list!(edges, verdict), classifier, plan.known, plan.limits);
    let mutator = ProgramMutator::new(interface, plan.max_calls);
    let mut stages = tuple_list!(ComparisonStage, StdMutationalStage::with_max_iterations(mutator, MUTANTS));

    let mut rng = Pcg64Mcg::seed_from_u64(plan.seed);
    let mut initial = plan.initial.into_iter();
    let mut generated = 0;
    let mut reported = 0;
    loop {
        // The initial programs come first, one per round, so that the driver hears of them like of any other.
        let next = initial.next().or_else(|| {
            let wanted = generated < GENERATED || state.corpus().count() == 0;
            wanted.then(|| {
                generated += 1;
                generate::program(&mut rng, interface, plan.max_calls)
            })
        });
        let round = match next {
            Some(program) => {
                fuzzer.evaluate_input(&mut state, &mut executor, &mut manager, &program).map(|_| ())
            }
            None => {
                fuzzer.fuzz_one(&mut stages, &mut executor, &mut state, &mut manager).map(|_: CorpusId| ())
            }
        };
        // Whatever a broken-off round has found counts too.
        while reported < state.corpus().count() {
            let program = state.corpus().cloned_input_for_id(CorpusId(reported)).map_err(loop_error)?;
            driver.corpus_entry(&program).map_err(SessionError::Driver)?;
            reported += 1;
        }
        for candidate in std::mem::take(&mut executor.pending) {
            driver.candidate(&mut executor.engine, candidate).map_err(SessionError::Driver)?;
        }
        executor.statistics.corpus = state.corpus().count();
        executor.statistics.restarts = executor.engine.restarts();
        executor.statistics.edges = state
            .named_metadata_map()
            .get::<MapFeedbackMetadata<u8>>(EDGES)
            .map_or(0, |seen| seen.num_covered_map_indexes);
        driver.progress(&executor.statistics).map_err(SessionError::Driver)?;
        match round {
            Ok(()) => {}
            Err(Error::ShuttingDown) => {
                if let Some(error) = executor.failure {
                    return Err(error.into());
                }
                return Ok((executor.statistics, executor.ended.unwrap_or(Ended::Interrupted)));
            }
            Err(error) => return Err(loop_error(error)),
        }
    }
}

fn loop_error(error: Error) -> SessionError {
    SessionError::Loop(error.to_string())
}
