//! The stage that makes mutants of a corpus entry and has them executed: LibAFL's, but each mutant is made in the memory of the one
//! before.

use std::{marker::PhantomData, num::NonZeroUsize};

use libafl::{
    Error, Evaluator,
    corpus::HasCurrentCorpusId,
    inputs::Input,
    mutators::{MutationResult, Mutator},
    stages::{Restartable, Stage},
    state::{HasCorpus, HasCurrentTestcase, HasRand},
};
use libafl_bolts::rands::Rand;

pub(super) struct MutantStage<I, M> {
    mutator: M,
    most: NonZeroUsize,
    input: PhantomData<I>,
}

impl<I, M> MutantStage<I, M> {
    /// A stage that makes one to `most` mutants.
    pub(super) fn new(mutator: M, most: NonZeroUsize) -> Self {
        Self { mutator, most, input: PhantomData }
    }
}

impl<E, EM, I, M, S, Z> Stage<E, EM, S, Z> for MutantStage<I, M>
where
    I: Input,
    M: Mutator<I, S>,
    S: HasRand + HasCorpus<I> + HasCurrentTestcase<I> + HasCurrentCorpusId,
    Z: Evaluator<E, EM, I, S>,
{
    fn perform(
        &mut self,
        fuzzer: &mut Z,
        executor: &mut E,
        state: &mut S,
        manager: &mut EM,
    ) -> Result<(), Error> {
        let count = 1 + state.rand_mut().below(self.most);
        let input = state.current_input_cloned()?;
        let mut mutant = input.clone();
        for _ in 0..count {
            mutant.clone_from(&input);
            if self.mutator.mutate(state, &mut mutant)? == MutationResult::Skipped {
                continue;
            }
            let (_, id) = fuzzer.evaluate_filtered(state, executor, manager, &mutant)?;
            self.mutator.post_exec(state, id)?;
        }
        Ok(())
    }
}

impl<I, M, S> Restartable<S> for MutantStage<I, M> {
    fn should_restart(&mut self, _state: &mut S) -> Result<bool, Error> {
        Ok(true)
    }

    fn clear_progress(&mut self, _state: &mut S) -> Result<(), Error> {
        Ok(())
    }
}
