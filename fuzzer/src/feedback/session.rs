//! One run of the loop: from a list of initial programs to a reason to stop.

use std::{
    cell::Cell,
    collections::{BTreeSet, VecDeque},
    num::NonZeroUsize,
    rc::Rc,
};

use libafl::{
    Error, HasNamedMetadata,
    corpus::{Corpus, CorpusId, InMemoryCorpus},
    events::SimpleEventManager,
    feedback_and_fast, feedback_or_fast,
    feedbacks::{ConstFeedback, MapFeedbackMetadata},
    fuzzer::{Evaluator, Fuzzer, StdFuzzer},
    inputs::BytesInput,
    monitors::NopMonitor,
    mutators::Mutator,
    state::{HasCorpus, HasMaxSize, StdState},
};
use libafl_bolts::{rands::StdRand, tuples::tuple_list};
use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use super::{
    coin::CoinFeedback,
    comparisons::ComparisonStage,
    edges::{EDGES, EdgeFeedback, EdgeObserver},
    executor::{Candidate, EngineExecutor},
    favour::Favourites,
    havoc::{self, ByteMutator},
    limits::{Ended, Limits},
    mutants::MutantStage,
    mutator::ProgramMutator,
    packed::PackedCorpus,
    strategy::{Inputs, Signal, Strategy},
    subject::{Subject, without_handles},
    trouble::Trouble,
    verdict::{Question, VerdictFeedback, VerdictObserver},
};
use crate::{
    campaign::statistics::Statistics,
    engine::{Engine, EngineError, Execution, Request},
    interface::Interface,
    program::{Program, flat, generate},
    triage::bucket::{Bucket, Classifier},
};

/// Programs that are generated where a campaign starts from nothing.
const GENERATED: usize = 64;
/// Most mutants of one corpus entry before the next one's turn.
const MUTANTS: NonZeroUsize = NonZeroUsize::new(48).unwrap();

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
    /// How to fuzz.
    pub strategy: Strategy,
}

/// What another session has found.
#[derive(Clone, Debug)]
pub enum News {
    /// A program that was news to it.
    Program(Program),
    /// A bucket that it takes care of.
    Known(Bucket),
    /// A bucket that nobody takes care of any more.
    Unknown(Bucket),
}

/// Watches a session. Called between rounds, so what it does may take time, unless it says otherwise.
pub trait Driver<E> {
    /// An input was executed by this request; a typed program, if it was one. Called after each, so it has to be quick.
    fn executed(
        &mut self,
        _engine: &mut E,
        _request: &Request<'_>,
        _program: Option<&Program>,
        _execution: &Execution,
    ) {
    }

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

    /// What other sessions have found since this was last called, one by one. Called between rounds.
    ///
    /// # Errors
    /// The session ends with it.
    fn news(&mut self) -> anyhow::Result<Option<News>> {
        Ok(None)
    }

    /// What the corpus covers: how often each edge was taken, at most. Before each [`Self::progress`].
    fn coverage(&mut self, _taken: &[u8]) {}

    /// Something happened to the machine that people should hear of.
    fn notice(&mut self, _text: &str) {}

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
    mut engine: E,
    mut plan: Plan,
    interface: &'static Interface,
    classifier: &Classifier,
    driver: &mut D,
) -> Result<(Statistics, Ended), SessionError> {
    engine.keep_state(!plan.strategy.reset);
    let max_calls = plan.max_calls;
    let handles = plan.strategy.handles;
    // A resumed campaign has thousands, and none is needed after its turn.
    let mut initial = std::mem::take(&mut plan.initial);
    let context = Context { plan: &plan, classifier, trouble: Rc::default(), work: Rc::default() };
    match plan.strategy.inputs {
        Inputs::Typed => {
            let mut rng = Pcg64Mcg::seed_from_u64(plan.seed);
            if !handles {
                initial.iter_mut().for_each(|program| without_handles(program, &mut rng, interface));
            }
            let source = move |rng: &mut Pcg64Mcg| {
                let mut program = generate::program(rng, interface, max_calls);
                if !handles {
                    without_handles(&mut program, rng, interface);
                }
                program
            };
            let mutator = ProgramMutator::new(interface, max_calls, handles, Rc::clone(&context.trouble));
            fuzz(engine, &context, initial, source, mutator, driver)
        }
        Inputs::Bytes(form) => {
            let strings = initial.iter().map(|program| flat::encode(program, form));
            let initial = strings.filter(|string| !string.is_empty()).map(BytesInput::new).collect();
            let source = move |rng: &mut Pcg64Mcg| havoc::random(rng, form, max_calls);
            fuzz(engine, &context, initial, source, ByteMutator::new(form), driver)
        }
    }
}

/// LibAFL's state over one type of input.
type State<I> = StdState<PackedCorpus<I>, I, StdRand, InMemoryCorpus<I>>;

/// What all parts of a session share.
pub(super) struct Context<'a> {
    /// What to do.
    pub(super) plan: &'a Plan,
    /// Sorts executions into buckets.
    pub(super) classifier: &'a Classifier,
    /// Which operations end badly.
    pub(super) trouble: Rc<Trouble>,
    /// Translated blocks of the last execution.
    pub(super) work: Rc<Cell<u64>>,
}

/// Runs the loop over one type of input: `initial` ones first, then what `source` makes, then mutants.
fn fuzz<E: Engine, D: Driver<E>, I: Subject, M: Mutator<I, State<I>>>(
    engine: E,
    context: &Context<'_>,
    initial: Vec<I>,
    mut source: impl FnMut(&mut Pcg64Mcg) -> I,
    mutator: M,
    driver: &mut D,
) -> Result<(Statistics, Ended), SessionError> {
    let plan = context.plan;
    let verdict = VerdictObserver::new();
    let edges = EdgeObserver::new(engine.counters());
    let coverage = EdgeFeedback::new(&edges);
    let signal = plan.strategy.signal;
    let coin = match signal {
        Signal::Coin => CoinFeedback::new(plan.seed, initial.len().max(GENERATED)),
        Signal::Edges | Signal::None => CoinFeedback::never(),
    };
    let by_edges = ConstFeedback::new(signal == Signal::Edges);
    let mut feedback = feedback_and_fast!(
        VerdictFeedback::new(&verdict, Question::Survived),
        feedback_or_fast!(coin, feedback_and_fast!(by_edges, coverage))
    );
    let mut objective = VerdictFeedback::new(&verdict, Question::NewBucket);
    let mut state: State<I> = StdState::new(
        StdRand::with_seed(plan.seed),
        PackedCorpus::new(),
        InMemoryCorpus::new(),
        &mut feedback,
        &mut objective,
    )
    .map_err(loop_error)?;
    state.set_max_size(flat::MAX_STRING);
    let mut fuzzer = StdFuzzer::new(Favourites::new(Rc::clone(&context.work)), feedback, objective);
    let mut manager = SimpleEventManager::new(NopMonitor::new());
    let mut executor = EngineExecutor::new(engine, driver, tuple_list!(edges, verdict), context);
    let mut stages =
        tuple_list!(ComparisonStage::<I>::new(plan.strategy.comparisons), MutantStage::new(mutator, MUTANTS));

    let mut rng = Pcg64Mcg::seed_from_u64(plan.seed);
    let mut initial = initial.into_iter();
    let mut foreign = VecDeque::new();
    let mut generated = 0;
    let mut reported = 0;
    loop {
        while let Some(news) = executor.driver.news().map_err(SessionError::Driver)? {
            match news {
                News::Program(program) => foreign.extend(I::from_program(program)),
                News::Known(bucket) => executor.know(bucket),
                News::Unknown(bucket) => executor.forget(&bucket),
            }
        }
        // The initial programs come first, one per round, so that the driver hears of them like of any other.
        let next = foreign.pop_front().or_else(|| initial.next()).or_else(|| {
            let wanted = generated < GENERATED || state.corpus().count() == 0;
            wanted.then(|| {
                generated += 1;
                source(&mut rng)
            })
        });
        let round = match next {
            Some(input) if signal == Signal::None => executor.blind(&input),
            Some(input) => fuzzer.evaluate_input(&mut state, &mut executor, &mut manager, &input).map(|_| ()),
            None => {
                fuzzer.fuzz_one(&mut stages, &mut executor, &mut state, &mut manager).map(|_: CorpusId| ())
            }
        };
        // Whatever a broken-off round has found counts too.
        while reported < state.corpus().count() {
            let input = state.corpus().cloned_input_for_id(CorpusId(reported)).map_err(loop_error)?;
            if let Some(program) = input.program() {
                executor.driver.corpus_entry(program).map_err(SessionError::Driver)?;
            }
            reported += 1;
        }
        for candidate in std::mem::take(&mut executor.pending) {
            executor.driver.candidate(&mut executor.engine, candidate).map_err(SessionError::Driver)?;
        }
        executor.statistics.corpus = state.corpus().count();
        executor.statistics.restarts = executor.engine.restarts();
        executor.statistics.split = executor.engine.split();
        if let Some(seen) = state.named_metadata_map().get::<MapFeedbackMetadata<u8>>(EDGES) {
            executor.statistics.edges = seen.num_covered_map_indexes;
            executor.driver.coverage(&seen.history_map);
        }
        for notice in executor.engine.notices() {
            executor.driver.notice(&notice);
        }
        executor.driver.progress(&executor.statistics).map_err(SessionError::Driver)?;
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
