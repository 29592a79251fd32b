//! A feedback that decides by chance.

use std::borrow::Cow;

use libafl::{
    Error,
    executors::ExitKind,
    feedbacks::{Feedback, StateInitializer},
};
use libafl_bolts::Named;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// One in so many inputs joins the corpus: in the order of what edges let in.
const ONE_IN: u32 = 1024;

/// Lets in the first inputs, which a campaign starts from, then one in [`ONE_IN`].
#[derive(Clone, Debug)]
pub(super) struct CoinFeedback {
    rng: Option<Pcg64Mcg>,
    free: usize,
}

impl CoinFeedback {
    /// A coin that always lets in the first `free` inputs.
    pub(super) fn new(seed: u64, free: usize) -> Self {
        Self { rng: Some(Pcg64Mcg::seed_from_u64(seed)), free }
    }

    /// A coin that never lets anything in: some other feedback decides.
    pub(super) fn never() -> Self {
        Self { rng: None, free: 0 }
    }
}

impl Named for CoinFeedback {
    fn name(&self) -> &Cow<'static, str> {
        &Cow::Borrowed("coin")
    }
}

impl<S> StateInitializer<S> for CoinFeedback {}

impl<EM, I, OT, S> Feedback<EM, I, OT, S> for CoinFeedback {
    fn is_interesting(
        &mut self,
        _state: &mut S,
        _manager: &mut EM,
        _input: &I,
        _observers: &OT,
        _exit: &ExitKind,
    ) -> Result<bool, Error> {
        let Some(rng) = &mut self.rng else { return Ok(false) };
        if self.free > 0 {
            self.free -= 1;
            return Ok(true);
        }
        Ok(rng.random_range(0..ONE_IN) == 0)
    }
}
