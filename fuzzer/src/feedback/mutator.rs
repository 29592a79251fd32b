//! Our typed mutations behind LibAFL's mutator trait.

use std::{borrow::Cow, rc::Rc};

use libafl::{
    Error, HasMetadata,
    corpus::{Corpus, CorpusId},
    mutators::{MutationResult, Mutator},
    random_corpus_id,
    state::{HasCorpus, HasRand},
};
use libafl_bolts::{Named, rands::Rand};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{comparisons::ComparisonHints, subject::without_handles, trouble::Trouble};
use crate::{
    interface::Interface,
    program::{
        Program, generate,
        mutate::{self, CmpHint},
    },
};

/// One in so many inputs is a fresh program: the only way out of a corpus that has grown one-sided.
const FRESH: u32 = 10;
/// Most inputs in a row that are passed over because of what is known to crash.
const PASSED: u32 = 8;
/// Most mutations that are stacked on one input.
const MAX_STACK: u32 = 6;

pub(super) struct ProgramMutator {
    /// Memory for the program as it was.
    before: Program,
    name: Cow<'static, str>,
    interface: &'static Interface,
    max_calls: usize,
    /// Calls use results of earlier ones.
    handles: bool,
    trouble: Rc<Trouble>,
}

impl ProgramMutator {
    pub(super) fn new(
        interface: &'static Interface,
        max_calls: usize,
        handles: bool,
        trouble: Rc<Trouble>,
    ) -> Self {
        Self {
            name: Cow::Borrowed("programs"),
            interface,
            max_calls,
            handles,
            trouble,
            before: Program::default(),
        }
    }

    /// A program from nothing.
    fn fresh(&self, rng: &mut Pcg64Mcg) -> Program {
        let mut program = generate::program(rng, self.interface, self.max_calls);
        if !self.handles {
            without_handles(&mut program, rng, self.interface);
        }
        program
    }
}

impl Named for ProgramMutator {
    fn name(&self) -> &Cow<'static, str> {
        &self.name
    }
}

impl<S> Mutator<Program, S> for ProgramMutator
where
    S: HasRand + HasCorpus<Program> + HasMetadata,
{
    fn mutate(&mut self, state: &mut S, program: &mut Program) -> Result<MutationResult, Error> {
        let mut rng = Pcg64Mcg::seed_from_u64(state.rand_mut().next());
        if rng.random_range(0..FRESH) == 0 {
            *program = self.fresh(&mut rng);
            for _ in 0..PASSED {
                if !self.trouble.pass_over(program, &mut rng) {
                    break;
                }
                *program = self.fresh(&mut rng);
            }
            return Ok(MutationResult::Mutated);
        }
        let donor_id = random_corpus_id!(state.corpus(), state.rand_mut());
        let mut donor = state.corpus().get(donor_id)?.borrow_mut();
        let donor = donor.load_input(state.corpus())?;
        let hints: &[CmpHint] =
            state.metadata_map().get::<ComparisonHints>().map_or(&[], |hints| &hints.pairs);
        let mut before = std::mem::take(&mut self.before);
        before.clone_from(program);
        // Long programs hit counters more often, which looks like news: without a bound the corpus fills with them.
        let longest = before.calls.len().max(self.max_calls + self.max_calls / 2);
        let mut passed = 0;
        loop {
            mutate::mutate(program, &mut rng, self.interface, Some(donor), hints);
            // Geometric, so that most inputs are one or two steps from their parent.
            for _ in 1..MAX_STACK {
                if rng.random_bool(0.5) {
                    break;
                }
                mutate::mutate(program, &mut rng, self.interface, Some(donor), hints);
            }
            if !self.handles {
                without_handles(program, &mut rng, self.interface);
            }
            let again = program.calls.len() > longest
                || (passed < PASSED && self.trouble.pass_over(program, &mut rng));
            if again {
                passed += 1;
                program.clone_from(&before);
            } else if *program != before {
                self.before = before;
                return Ok(MutationResult::Mutated);
            }
        }
    }

    fn post_exec(&mut self, _state: &mut S, _new: Option<CorpusId>) -> Result<(), Error> {
        Ok(())
    }
}
