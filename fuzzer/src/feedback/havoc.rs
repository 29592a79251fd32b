//! Mutation of strings of bytes, as AFL does it: LibAFL's havoc, and comparison operands by plain search and replace.

use std::borrow::Cow;

use libafl::{
    Error, HasMetadata,
    corpus::CorpusId,
    inputs::{BytesInput, HasMutatorBytes, ResizableMutator},
    mutators::{HavocMutationsType, HavocScheduledMutator, MutationResult, Mutator, havoc_mutations},
    state::{HasCorpus, HasMaxSize, HasRand},
};
use libafl_bolts::{Named, rands::Rand};
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{comparisons::ComparisonHints, strategy::Form};
use crate::program::flat;

pub(super) struct ByteMutator {
    name: Cow<'static, str>,
    havoc: HavocScheduledMutator<HavocMutationsType>,
    /// Bytes of every string, where they have to be of one length.
    fixed: Option<usize>,
}

impl ByteMutator {
    pub(super) fn new(form: Form) -> Self {
        Self {
            name: Cow::Borrowed("bytes"),
            havoc: HavocScheduledMutator::new(havoc_mutations()),
            fixed: (form == Form::OneCall).then_some(flat::ONE_CALL_LEN),
        }
    }
}

/// A string of random bytes.
pub(super) fn random(rng: &mut Pcg64Mcg, form: Form, max_calls: usize) -> BytesInput {
    let len = match form {
        Form::OneCall => flat::ONE_CALL_LEN,
        // A call takes 50 bytes; half of all records are bytes for the arena, which take about as many.
        Form::Calls => rng.random_range(1..=max_calls * 100),
    };
    BytesInput::new((0..len).map(|_| rng.random()).collect())
}

impl Named for ByteMutator {
    fn name(&self) -> &Cow<'static, str> {
        &self.name
    }
}

impl<S> Mutator<BytesInput, S> for ByteMutator
where
    S: HasRand + HasCorpus<BytesInput> + HasMetadata + HasMaxSize,
{
    fn mutate(&mut self, state: &mut S, input: &mut BytesInput) -> Result<MutationResult, Error> {
        let mut rng = Pcg64Mcg::seed_from_u64(state.rand_mut().next());
        let replaced = rng.random_bool(0.3) && replace_operand(state, &mut rng, input)?;
        if !replaced {
            self.havoc.mutate(state, input)?;
        }
        if let Some(len) = self.fixed {
            input.resize(len, 0);
        }
        Ok(MutationResult::Mutated)
    }

    fn post_exec(&mut self, _state: &mut S, _new: Option<CorpusId>) -> Result<(), Error> {
        Ok(())
    }
}

/// Looks for an operand of a comparison of the current corpus entry in the string, and replaces it by the other one.
fn replace_operand<S>(state: &S, rng: &mut Pcg64Mcg, input: &mut BytesInput) -> Result<bool, Error>
where
    S: HasMetadata,
{
    let Some(hints) = state.metadata_map().get::<ComparisonHints>() else { return Ok(false) };
    let hints = &hints.pairs;
    if hints.is_empty() {
        return Ok(false);
    }
    let start = rng.random_range(0..hints.len());
    for hint in hints.iter().cycle().skip(start).take(hints.len().min(24)) {
        let mut pair = [hint.left.to_le_bytes(), hint.right.to_le_bytes()];
        if rng.random() {
            pair.swap(0, 1);
        }
        let width = usize::from(hint.width);
        let [from, to] = [&pair[0][..width], &pair[1][..width]];
        let bytes = input.mutator_bytes_mut();
        let places: Vec<usize> =
            (0..bytes.len().saturating_sub(width - 1)).filter(|&at| bytes[at..at + width] == *from).collect();
        if !places.is_empty() {
            let at = places[rng.random_range(0..places.len())];
            bytes[at..at + width].copy_from_slice(to);
            return Ok(true);
        }
    }
    Ok(false)
}
