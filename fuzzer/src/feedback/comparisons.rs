//! Comparison operands of a corpus entry, collected once, as hints for its mutation (input-to-state).

use std::marker::PhantomData;

use libafl::{
    Error, HasMetadata,
    corpus::HasCurrentCorpusId,
    stages::{Restartable, Stage},
    state::{HasCorpus, HasCurrentTestcase},
};
use serde::{Deserialize, Serialize};

use super::{executor::EngineExecutor, session::Driver, subject::Subject};
use crate::{engine::Engine, program::mutate::CmpHint};

/// Pairs that are kept for one corpus entry.
const MAX_PAIRS: usize = 512;

/// Pairs of values that the hypervisor compared while it executed the corpus entry whose turn it is, and that differed. In the state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ComparisonHints {
    pub(super) pairs: Vec<CmpHint>,
}

libafl_bolts::impl_serdeany!(ComparisonHints);

/// The same of a corpus entry that waits, as postcard has it: most numbers are small, and there are thousands of entries.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct PackedHints(Vec<u8>);

libafl_bolts::impl_serdeany!(PackedHints);

/// Runs a corpus entry with the comparison log switched on, the first time it is scheduled.
pub(super) struct ComparisonStage<I> {
    enabled: bool,
    input: PhantomData<I>,
}

impl<I> ComparisonStage<I> {
    /// The stage; one that is not enabled does nothing.
    pub(super) fn new(enabled: bool) -> Self {
        Self { enabled, input: PhantomData }
    }
}

impl<E, D, EM, I, S, Z> Stage<EngineExecutor<'_, E, D>, EM, S, Z> for ComparisonStage<I>
where
    E: Engine,
    D: Driver<E>,
    I: Subject,
    S: HasCorpus<I> + HasCurrentCorpusId + HasCurrentTestcase<I> + HasMetadata,
{
    fn perform(
        &mut self,
        _fuzzer: &mut Z,
        executor: &mut EngineExecutor<'_, E, D>,
        state: &mut S,
        _manager: &mut EM,
    ) -> Result<(), Error> {
        if !self.enabled {
            return Ok(());
        }
        let packed = state.current_testcase()?.metadata_map().get::<PackedHints>().cloned();
        if let Some(PackedHints(packed)) = packed {
            let pairs = postcard::from_bytes(&packed).map_err(|error| Error::serialize(error.to_string()))?;
            state.metadata_map_mut().insert(ComparisonHints { pairs });
            return Ok(());
        }
        let input = state.current_input_cloned()?;
        let execution = executor.observe(&input, true)?;
        let mut pairs: Vec<CmpHint> = execution
            .comparisons
            .iter()
            .filter(|entry| entry.left != entry.right)
            .map(CmpHint::from)
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        // Evenly thinned out, so that the end of a long program has its say.
        if pairs.len() > MAX_PAIRS {
            let step = pairs.len().div_ceil(MAX_PAIRS);
            pairs = pairs.into_iter().step_by(step).collect();
        }
        let packed = postcard::to_stdvec(&pairs).map_err(|error| Error::serialize(error.to_string()))?;
        state.current_testcase_mut()?.add_metadata(PackedHints(packed));
        state.metadata_map_mut().insert(ComparisonHints { pairs });
        Ok(())
    }
}

impl<I, S> Restartable<S> for ComparisonStage<I> {
    fn should_restart(&mut self, _state: &mut S) -> Result<bool, Error> {
        Ok(true)
    }

    fn clear_progress(&mut self, _state: &mut S) -> Result<(), Error> {
        Ok(())
    }
}
