//! The corpus in memory: most inputs packed, those in use as they are.
//!
//! A typed program is a tree of small vectors, which takes about ten times the memory of its serial form, and a campaign of weeks has
//! many thousands of them. An input is unpacked when it is asked for, and goes back to its packed form some inputs later.

use std::{cell::RefCell, collections::VecDeque};

use libafl::{
    Error,
    corpus::{Corpus, CorpusId, InMemoryCorpus, Testcase},
    inputs::Input,
};
use serde::{Deserialize, Serialize};

/// Inputs that are unpacked at a time: the one whose turn it is, its donor, and those that joined last.
const UNPACKED: usize = 32;

/// LibAFL's corpus in memory with packed inputs. Nothing can be taken out of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct PackedCorpus<I> {
    inner: InMemoryCorpus<I>,
    /// Serial form of each input, by number.
    packed: Vec<Box<[u8]>>,
    /// Inputs that are unpacked, the one that has been for longest first.
    unpacked: RefCell<VecDeque<CorpusId>>,
}

impl<I> PackedCorpus<I> {
    /// An empty corpus.
    pub(super) fn new() -> Self {
        Self { inner: InMemoryCorpus::new(), packed: Vec::new(), unpacked: RefCell::default() }
    }

    /// Notes that an input is unpacked, and drops those that have been for longest where there are too many.
    fn note(&self, id: CorpusId) -> Result<(), Error> {
        let mut unpacked = self.unpacked.borrow_mut();
        unpacked.push_back(id);
        for _ in UNPACKED..unpacked.len() {
            let Some(oldest) = unpacked.pop_front() else { break };
            match self.inner.get(oldest)?.try_borrow_mut() {
                Ok(mut testcase) => *testcase.input_mut() = None,
                // Somebody is looking at it.
                Err(_) => unpacked.push_back(oldest),
            }
        }
        Ok(())
    }
}

/// What a caller gets who wants to take something out.
fn permanent<T>() -> Result<T, Error> {
    Err(Error::unsupported("nothing is taken out of this corpus"))
}

impl<I: Input> Corpus<I> for PackedCorpus<I> {
    fn count(&self) -> usize {
        self.inner.count()
    }

    fn count_disabled(&self) -> usize {
        self.inner.count_disabled()
    }

    fn count_all(&self) -> usize {
        self.inner.count_all()
    }

    fn add(&mut self, testcase: Testcase<I>) -> Result<CorpusId, Error> {
        let input = testcase.input().as_ref().ok_or_else(|| Error::empty("a test case without input"))?;
        let packed = postcard::to_stdvec(input).map_err(|error| Error::serialize(error.to_string()))?;
        let id = self.inner.add(testcase)?;
        self.packed.push(packed.into());
        self.note(id)?;
        Ok(id)
    }

    fn add_disabled(&mut self, _: Testcase<I>) -> Result<CorpusId, Error> {
        permanent()
    }

    fn replace(&mut self, _: CorpusId, _: Testcase<I>) -> Result<Testcase<I>, Error> {
        permanent()
    }

    fn remove(&mut self, _: CorpusId) -> Result<Testcase<I>, Error> {
        permanent()
    }

    fn get(&self, id: CorpusId) -> Result<&RefCell<Testcase<I>>, Error> {
        self.inner.get(id)
    }

    fn get_from_all(&self, id: CorpusId) -> Result<&RefCell<Testcase<I>>, Error> {
        self.inner.get_from_all(id)
    }

    fn current(&self) -> &Option<CorpusId> {
        self.inner.current()
    }

    fn current_mut(&mut self) -> &mut Option<CorpusId> {
        self.inner.current_mut()
    }

    fn next(&self, id: CorpusId) -> Option<CorpusId> {
        self.inner.next(id)
    }

    fn peek_free_id(&self) -> CorpusId {
        self.inner.peek_free_id()
    }

    fn prev(&self, id: CorpusId) -> Option<CorpusId> {
        self.inner.prev(id)
    }

    fn first(&self) -> Option<CorpusId> {
        self.inner.first()
    }

    fn last(&self) -> Option<CorpusId> {
        self.inner.last()
    }

    fn nth(&self, nth: usize) -> CorpusId {
        self.inner.nth(nth)
    }

    fn nth_from_all(&self, nth: usize) -> CorpusId {
        self.inner.nth_from_all(nth)
    }

    fn load_input_into(&self, testcase: &mut Testcase<I>) -> Result<(), Error> {
        if testcase.input().is_some() {
            return Ok(());
        }
        let id = testcase.corpus_id().ok_or_else(|| Error::unknown("a test case of no corpus"))?;
        let packed = self.packed.get(id.0).ok_or_else(|| Error::key_not_found("no such test case"))?;
        let input = postcard::from_bytes(packed).map_err(|error| Error::serialize(error.to_string()))?;
        testcase.set_input(input);
        self.note(id)
    }

    fn store_input_from(&self, _: &Testcase<I>) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Program, text};

    fn program(number: usize) -> Program {
        text::parse(&format!("d1 console_io.write({number}, &\"a\")")).unwrap()
    }

    fn unpacked(corpus: &PackedCorpus<Program>) -> usize {
        corpus.ids().filter(|id| corpus.get(*id).unwrap().borrow().input().is_some()).count()
    }

    #[test]
    fn inputs_come_back_as_they_were_and_few_are_unpacked_at_a_time() {
        let mut corpus = PackedCorpus::new();
        let programs: Vec<Program> = (0..4 * UNPACKED).map(program).collect();
        for program in &programs {
            let id = corpus.add(Testcase::new(program.clone())).unwrap();
            assert!(corpus.get(id).unwrap().borrow().input().is_some(), "who adds it may look at it");
        }
        assert_eq!(unpacked(&corpus), UNPACKED);
        for (number, program) in programs.iter().enumerate() {
            assert_eq!(corpus.cloned_input_for_id(CorpusId(number)).unwrap(), *program);
            assert!(unpacked(&corpus) <= UNPACKED);
        }
    }

    #[test]
    fn an_input_that_is_looked_at_stays() {
        let mut corpus = PackedCorpus::new();
        let ids: Vec<CorpusId> =
            (0..2 * UNPACKED).map(|number| corpus.add(Testcase::new(program(number))).unwrap()).collect();
        let mut held = corpus.get(ids[0]).unwrap().borrow_mut();
        held.load_input(&corpus).unwrap();
        for id in &ids[1..] {
            corpus.get(*id).unwrap().borrow_mut().load_input(&corpus).unwrap();
        }
        assert_eq!(held.input(), &Some(program(0)));
    }

    #[test]
    fn nothing_is_taken_out() {
        let mut corpus = PackedCorpus::new();
        let id = corpus.add(Testcase::new(program(0))).unwrap();
        assert!(corpus.remove(id).is_err());
        assert_eq!(corpus.count(), 1);
    }
}
