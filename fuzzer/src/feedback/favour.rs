//! Whose turn it is: the order in which inputs of the corpus are mutated.
//!
//! Most of a corpus says little that is not said elsewhere in it: an input may be there because a loop ran twice as often.
//! For each edge the cheapest input that covers it is its *favourite*, and three of four turns go to favourites, to the
//! ones with the fewest turns first and to the newest among those. The other turns go through everything, so that
//! nothing is forgotten. No hash table, no clock: the order depends on the seed only.

use std::{cell::Cell, rc::Rc};

use libafl::{
    Error, HasMetadata,
    corpus::{Corpus, CorpusId},
    feedbacks::MapIndexesMetadata,
    schedulers::Scheduler,
    state::HasCorpus,
};

use super::subject::Subject;

/// One in so many turns is for any input.
const ANY: u64 = 4;

/// What an input costs: first the work that it makes, by powers of two, then its length.
type Cost = (u32, usize);

/// What is known of one input.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    /// Cheap ones are favoured.
    cost: Cost,
    /// Edges of which it is the favourite.
    edges: u32,
    /// Turns that it has had.
    turns: u32,
}

/// Chooses favourites.
#[derive(Clone, Debug, Default)]
pub(super) struct Favourites {
    /// By position in the corpus.
    inputs: Vec<Standing>,
    /// The favourite of each edge.
    of_edge: Vec<Option<usize>>,
    /// Turns so far.
    turns: u64,
    /// Translated blocks of the last execution.
    work: Rc<Cell<u64>>,
}

impl Favourites {
    /// Nothing yet. `work` is kept by who executes: translated blocks of the last execution.
    pub(super) fn new(work: Rc<Cell<u64>>) -> Self {
        Self { work, ..Self::default() }
    }

    /// Takes an input with the edges that it covers.
    fn add(&mut self, cost: Cost, edges: &[usize]) {
        let new = self.inputs.len();
        self.inputs.push(Standing { cost, ..Standing::default() });
        for edge in edges {
            if self.of_edge.len() <= *edge {
                self.of_edge.resize(edge + 1, None);
            }
            match self.of_edge[*edge] {
                Some(old) if self.inputs[old].cost <= cost => continue,
                Some(old) => self.inputs[old].edges -= 1,
                None => {}
            }
            self.of_edge[*edge] = Some(new);
            self.inputs[new].edges += 1;
        }
    }

    /// The input whose turn it is.
    fn take(&mut self) -> Option<usize> {
        self.turns += 1;
        let any = self.turns.is_multiple_of(ANY) || self.inputs.iter().all(|input| input.edges == 0);
        let waiting = self.inputs.iter().enumerate().filter(|(_, input)| any || input.edges > 0);
        let next = waiting.min_by_key(|(at, input)| (input.turns, std::cmp::Reverse(*at)))?.0;
        self.inputs[next].turns += 1;
        Some(next)
    }
}

impl<I: Subject, S: HasCorpus<I>> Scheduler<I, S> for Favourites {
    fn on_add(&mut self, state: &mut S, id: CorpusId) -> Result<(), Error> {
        let parent = *state.corpus().current();
        let mut testcase = state.corpus().get(id)?.borrow_mut();
        testcase.set_parent_id_optional(parent);
        let covered = testcase.metadata_map_mut().remove::<MapIndexesMetadata>();
        let size = testcase.input().as_ref().map_or(usize::MAX, Subject::size);
        let work = self.work.get().checked_ilog2().unwrap_or(0);
        self.add((work, size), covered.as_ref().map_or(&[], |covered| &covered.list));
        Ok(())
    }

    fn next(&mut self, state: &mut S) -> Result<CorpusId, Error> {
        // Nothing is ever taken out of the corpus, so positions are numbers.
        let next = self.take().map(CorpusId).ok_or_else(|| Error::empty("the corpus is empty"))?;
        <Self as Scheduler<I, S>>::set_current_scheduled(self, state, Some(next))?;
        Ok(next)
    }

    fn set_current_scheduled(&mut self, state: &mut S, next: Option<CorpusId>) -> Result<(), Error> {
        *state.corpus_mut().current_mut() = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(favourites: &mut Favourites, count: usize) -> Vec<usize> {
        (0..count).map(|_| favourites.take().expect("there are inputs")).collect()
    }

    #[test]
    fn favourites_take_most_turns_and_nothing_is_forgotten() {
        let mut favourites = Favourites::default();
        favourites.add((10, 3), &[1, 2, 3]);
        for _ in 0..6 {
            favourites.add((10, 9), &[1, 2]);
        }
        let order = turns(&mut favourites, 40);
        assert_eq!(order.iter().filter(|at| **at == 0).count(), 30, "{order:?}");
        for at in 0..7 {
            assert!(order.contains(&at), "{at}: {order:?}");
        }
    }

    #[test]
    fn less_work_counts_more_than_less_length() {
        let mut favourites = Favourites::default();
        favourites.add((12, 1), &[1]);
        favourites.add((11, 9), &[1]);
        favourites.add((12, 1), &[1]);
        let edges: Vec<u32> = favourites.inputs.iter().map(|input| input.edges).collect();
        assert_eq!(edges, [0, 1, 0]);
    }

    #[test]
    fn a_shorter_input_takes_over() {
        let mut favourites = Favourites::default();
        favourites.add((10, 5), &[1, 2]);
        favourites.add((10, 2), &[1]);
        favourites.add((10, 2), &[1, 2]);
        let edges: Vec<u32> = favourites.inputs.iter().map(|input| input.edges).collect();
        assert_eq!(edges, [0, 1, 1]);
    }

    #[test]
    fn new_favourites_come_first() {
        let mut favourites = Favourites::default();
        favourites.add((10, 1), &[1]);
        favourites.add((10, 1), &[2]);
        assert_eq!(turns(&mut favourites, 2), [1, 0]);
        favourites.add((10, 1), &[3]);
        assert_eq!(turns(&mut favourites, 1), [2]);
    }

    #[test]
    fn without_edges_all_take_turns() {
        let mut favourites = Favourites::default();
        assert_eq!(favourites.take(), None);
        for _ in 0..3 {
            favourites.add((10, 1), &[]);
        }
        let mut order = turns(&mut favourites, 6);
        order.sort_unstable();
        assert_eq!(order, [0, 0, 1, 1, 2, 2]);
    }
}
