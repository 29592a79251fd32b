//! Edges: what an execution covered, and whether that is news.
//!
//! A program covers a few hundred of more than ten thousand edges. So the counters are gone through once, and what comes after that
//! looks at covered ones only. What is news is the same as with LibAFL's map feedback over hit counts: a counter in
//! a higher class than ever before.

use std::borrow::Cow;

use libafl::{
    Error, HasMetadata, HasNamedMetadata,
    corpus::Testcase,
    executors::ExitKind,
    feedbacks::{Feedback, MapFeedbackMetadata, MapIndexesMetadata, StateInitializer},
    observers::Observer,
};
use libafl_bolts::{
    Named,
    tuples::{Handle, Handled, MatchName, MatchNameRef},
};
use serde::{Deserialize, Serialize};

/// Name of the observer, and of the record of what was seen in LibAFL's state.
pub(super) const EDGES: &str = "edges";

/// Counters that are looked at together: most of them are zero.
const GROUP: usize = 16;

/// The class of a counter, as AFL has them: 1, 2, 3, 4 to 7, 8 to 15, 16 to 31, 32 to 127, more.
const fn class(count: u8) -> u8 {
    match count {
        0..=2 => count,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        128..=255 => 128,
    }
}

/// The edges that an execution covered, in order, with the classes of their counters: what [`EdgeFeedback`] looks at.
pub fn covered(counters: &[u8]) -> impl Iterator<Item = (u32, u8)> + '_ {
    let taken = counters.iter().zip(0..).filter(|(count, _)| **count != 0);
    taken.map(|(count, edge)| (edge, class(*count)))
}

/// The edges that the last execution covered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct EdgeObserver {
    name: Cow<'static, str>,
    /// Edges that the target has.
    len: usize,
    /// Those that were covered, with their classes, in order.
    covered: Vec<(usize, u8)>,
}

impl EdgeObserver {
    /// An observer of `len` edges.
    pub(super) fn new(len: usize) -> Self {
        Self { name: Cow::Borrowed(EDGES), len, covered: Vec::with_capacity(1024) }
    }

    /// Takes the counters of an execution.
    pub(super) fn see(&mut self, counters: &[u8]) {
        self.covered.clear();
        for (group, counts) in counters.chunks(GROUP).enumerate() {
            if counts.iter().fold(0, |all, count| all | count) == 0 {
                continue;
            }
            for (at, &count) in counts.iter().enumerate() {
                if count != 0 {
                    self.covered.push((group * GROUP + at, class(count)));
                }
            }
        }
    }
}

impl Named for EdgeObserver {
    fn name(&self) -> &Cow<'static, str> {
        &self.name
    }
}

impl<I, S> Observer<I, S> for EdgeObserver {
    fn pre_exec(&mut self, _state: &mut S, _input: &I) -> Result<(), Error> {
        self.covered.clear();
        Ok(())
    }
}

/// Lets in what covers an edge, or reaches a class of its counter, that nothing in the corpus did. What joins the corpus remembers
/// which edges it covers.
#[derive(Clone, Debug)]
pub(super) struct EdgeFeedback {
    name: Cow<'static, str>,
    handle: Handle<EdgeObserver>,
    len: usize,
}

impl EdgeFeedback {
    pub(super) fn new(observer: &EdgeObserver) -> Self {
        Self { name: Cow::Borrowed(EDGES), handle: observer.handle(), len: observer.len }
    }

    /// What the last execution covered.
    fn covered<'a, OT: MatchName>(&self, observers: &'a OT) -> &'a [(usize, u8)] {
        observers.get(&self.handle).map_or(&[], |observer| &observer.covered)
    }
}

impl Named for EdgeFeedback {
    fn name(&self) -> &Cow<'static, str> {
        &self.name
    }
}

/// The highest class of each edge's counter in the corpus.
fn seen<S: HasNamedMetadata>(state: &mut S) -> Result<&mut MapFeedbackMetadata<u8>, Error> {
    state.named_metadata_mut::<MapFeedbackMetadata<u8>>(EDGES)
}

impl<S: HasNamedMetadata> StateInitializer<S> for EdgeFeedback {
    fn init_state(&mut self, state: &mut S) -> Result<(), Error> {
        let nothing = MapFeedbackMetadata::<u8>::new(self.len);
        state.add_named_metadata(EDGES, nothing);
        Ok(())
    }
}

impl<EM, I, OT: MatchName, S: HasNamedMetadata> Feedback<EM, I, OT, S> for EdgeFeedback {
    fn is_interesting(
        &mut self,
        state: &mut S,
        _manager: &mut EM,
        _input: &I,
        observers: &OT,
        _exit: &ExitKind,
    ) -> Result<bool, Error> {
        let seen = &seen(state)?.history_map;
        Ok(self
            .covered(observers)
            .iter()
            .any(|&(edge, class)| seen.get(edge).is_none_or(|most| class > *most)))
    }

    fn append_metadata(
        &mut self,
        state: &mut S,
        _manager: &mut EM,
        observers: &OT,
        testcase: &mut Testcase<I>,
    ) -> Result<(), Error> {
        let covered = self.covered(observers);
        let seen = seen(state)?;
        for &(edge, class) in covered {
            if seen.history_map.len() <= edge {
                seen.history_map.resize(edge + 1, 0);
            }
            let most = &mut seen.history_map[edge];
            seen.num_covered_map_indexes += usize::from(*most == 0);
            *most = class.max(*most);
        }
        testcase.add_metadata(MapIndexesMetadata::new(covered.iter().map(|&(edge, _)| edge).collect()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libafl::observers::{HitcountsMapObserver, MapObserver, StdMapObserver};

    /// What LibAFL makes of the same counters.
    fn classes(counters: &[u8]) -> Vec<u8> {
        let mut observer = HitcountsMapObserver::new(StdMapObserver::owned(EDGES, counters.to_vec()));
        Observer::<(), ()>::post_exec(&mut observer, &mut (), &(), &ExitKind::Ok).unwrap();
        observer.to_vec()
    }

    #[test]
    fn covered_edges_have_the_classes_that_afl_gives_them() {
        let mut counters: Vec<u8> = (0..=255).flat_map(|count| [count, 0, 0]).collect();
        counters.extend([0; 100]);
        counters.push(7);
        let expected: Vec<(usize, u8)> =
            classes(&counters).into_iter().enumerate().filter(|(_, class)| *class != 0).collect();
        let mut observer = EdgeObserver::new(counters.len());
        observer.see(&counters);
        assert_eq!(observer.covered, expected);
        let all: Vec<_> = covered(&counters).map(|(edge, class)| (edge as usize, class)).collect();
        assert_eq!(all, expected);
        observer.see(&[0; 40]);
        assert_eq!(observer.covered, []);
    }
}
