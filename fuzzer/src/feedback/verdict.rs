//! What LibAFL is told about the end of an execution: nothing happened, a new bucket, a known one.

use std::borrow::Cow;

use libafl::{
    Error,
    executors::ExitKind,
    feedbacks::{Feedback, StateInitializer},
    observers::Observer,
};
use libafl_bolts::{
    Named,
    tuples::{Handle, Handled, MatchNameRef},
};
use serde::{Deserialize, Serialize};

/// Carries the executor's verdict to the feedbacks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct VerdictObserver {
    name: Cow<'static, str>,
    /// The execution opened a bucket that this session had not seen.
    pub(super) new_bucket: bool,
    /// The execution ended as an execution of a healthy hypervisor does.
    pub(super) survived: bool,
}

impl VerdictObserver {
    pub(super) fn new() -> Self {
        Self { name: Cow::Borrowed("verdict"), new_bucket: false, survived: true }
    }
}

impl Named for VerdictObserver {
    fn name(&self) -> &Cow<'static, str> {
        &self.name
    }
}

impl<I, S> Observer<I, S> for VerdictObserver {
    fn pre_exec(&mut self, _state: &mut S, _input: &I) -> Result<(), Error> {
        self.new_bucket = false;
        self.survived = true;
        Ok(())
    }
}

/// Which field of the verdict a [`VerdictFeedback`] reports.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    /// Objective: is this a bucket that was not seen before?
    NewBucket,
    /// Guard of the coverage feedback: a corpus full of programs that crash finds nothing but that crash.
    Survived,
}

/// A feedback that answers a [`Question`].
#[derive(Clone, Debug)]
pub(super) struct VerdictFeedback {
    name: Cow<'static, str>,
    handle: Handle<VerdictObserver>,
    question: Question,
}

impl VerdictFeedback {
    pub(super) fn new(observer: &VerdictObserver, question: Question) -> Self {
        let name = match question {
            Question::NewBucket => "new-bucket",
            Question::Survived => "survived",
        };
        Self { name: Cow::Borrowed(name), handle: observer.handle(), question }
    }
}

impl Named for VerdictFeedback {
    fn name(&self) -> &Cow<'static, str> {
        &self.name
    }
}

impl<S> StateInitializer<S> for VerdictFeedback {}

impl<EM, I, OT: libafl_bolts::tuples::MatchName, S> Feedback<EM, I, OT, S> for VerdictFeedback {
    fn is_interesting(
        &mut self,
        _state: &mut S,
        _manager: &mut EM,
        _input: &I,
        observers: &OT,
        _exit: &ExitKind,
    ) -> Result<bool, Error> {
        Ok(observers.get(&self.handle).is_some_and(|verdict| match self.question {
            Question::NewBucket => verdict.new_bucket,
            Question::Survived => verdict.survived,
        }))
    }
}
