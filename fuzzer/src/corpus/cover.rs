//! A small set of programs that covers what all of them cover.
//!
//! Weighted set cover, solved greedily: always the candidate that adds most for its weight, then whatever the later ones have made
//! superfluous goes again. What has to be covered is each edge in the highest class that its counter reaches anywhere, which is
//! what the feedback of the fuzzer lets programs in for.

use std::{cmp::Reverse, collections::BTreeMap};

/// A program as set cover sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// What it costs to keep; zero counts as one.
    pub weight: usize,
    /// Edges that it covers, each once, with the class of its counter.
    pub covers: Vec<(u32, u8)>,
}

/// For each edge the highest class that any candidate reaches.
#[must_use]
pub fn reached(candidates: &[Candidate]) -> BTreeMap<u32, u8> {
    let mut most: BTreeMap<u32, u8> = BTreeMap::new();
    for &(edge, class) in candidates.iter().flat_map(|candidate| &candidate.covers) {
        let seen = most.entry(edge).or_default();
        *seen = class.max(*seen);
    }
    most
}

/// Which candidates to keep, in ascending order. Of two that are worth the same, the first is kept.
#[must_use]
pub fn choose(candidates: &[Candidate]) -> Vec<usize> {
    // Edges are numbered anew: those of a target have gaps.
    let numbers: BTreeMap<(u32, u8), usize> = reached(candidates).into_iter().zip(0..).collect();
    let covers: Vec<Vec<usize>> = candidates
        .iter()
        .map(|candidate| candidate.covers.iter().filter_map(|edge| numbers.get(edge).copied()).collect())
        .collect();
    let mut covered_by = vec![Vec::new(); numbers.len()];
    for (index, edges) in covers.iter().enumerate() {
        edges.iter().for_each(|edge| covered_by[*edge].push(index));
    }
    let weight = |index: usize| candidates[index].weight.max(1);
    let mut adds: Vec<usize> = covers.iter().map(Vec::len).collect();
    let mut times = vec![0usize; numbers.len()];
    let mut chosen = Vec::new();
    loop {
        let best = (0..candidates.len()).filter(|index| adds[*index] > 0).max_by(|&one, &other| {
            let worth = (adds[one] * weight(other)).cmp(&(adds[other] * weight(one)));
            worth.then_with(|| adds[one].cmp(&adds[other])).then(other.cmp(&one))
        });
        let Some(best) = best else { break };
        chosen.push(best);
        for &edge in &covers[best] {
            times[edge] += 1;
            if times[edge] == 1 {
                covered_by[edge].iter().for_each(|index| adds[*index] -= 1);
            }
        }
    }
    drop_superfluous(&mut chosen, &covers, &mut times, &weight);
    chosen.sort_unstable();
    chosen
}

/// Drops chosen candidates all of whose edges others cover as well, the heaviest first.
fn drop_superfluous(
    chosen: &mut Vec<usize>,
    covers: &[Vec<usize>],
    times: &mut [usize],
    weight: &dyn Fn(usize) -> usize,
) {
    let mut order = chosen.clone();
    order.sort_by_key(|index| (Reverse(weight(*index)), Reverse(*index)));
    for index in order {
        if covers[index].iter().all(|edge| times[*edge] > 1) {
            covers[index].iter().for_each(|edge| times[*edge] -= 1);
            chosen.retain(|other| *other != index);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidate(weight: usize, edges: &[u32]) -> Candidate {
        Candidate { weight, covers: edges.iter().map(|edge| (*edge, 1)).collect() }
    }

    #[test]
    fn what_adds_most_for_its_weight_is_kept() {
        let all = [candidate(10, &[1, 2, 3, 4]), candidate(1, &[1, 2]), candidate(1, &[3, 4])];
        assert_eq!(choose(&all), [1, 2]);
        let all = [candidate(2, &[1, 2, 3, 4]), candidate(2, &[1, 2]), candidate(2, &[3, 4])];
        assert_eq!(choose(&all), [0]);
    }

    #[test]
    fn the_first_of_equals_is_kept_and_what_covers_nothing_is_not() {
        let all = [candidate(3, &[]), candidate(1, &[7]), candidate(1, &[7])];
        assert_eq!(choose(&all), [1]);
        assert_eq!(choose(&[]), Vec::<usize>::new());
    }

    #[test]
    fn the_highest_class_of_an_edge_is_what_counts() {
        let low = Candidate { weight: 1, covers: vec![(5, 1), (6, 1)] };
        let high = Candidate { weight: 9, covers: vec![(5, 8)] };
        assert_eq!(choose(&[low.clone(), high.clone()]), [0, 1]);
        let higher = Candidate { weight: 9, covers: vec![(5, 8), (6, 1)] };
        assert_eq!(choose(&[low, high, higher]), [0, 1], "two light ones and a heavy one that has it all");
    }

    #[test]
    fn what_later_ones_made_superfluous_goes_again() {
        // Greedy takes the first for its four edges, then the others for what is left, which have these four as well.
        let all = [candidate(4, &[1, 2, 3, 4]), candidate(4, &[1, 2, 5]), candidate(4, &[3, 4, 6])];
        assert_eq!(choose(&all), [1, 2]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_is_superfluous(
            sets in prop::collection::vec((0usize..6, prop::collection::btree_map(0u32..24, 1u8..4, 0..10)), 0..20)
        ) {
            let all: Vec<Candidate> = sets
                .into_iter()
                .map(|(weight, covers)| Candidate { weight, covers: covers.into_iter().collect() })
                .collect();
            let chosen = choose(&all);
            let without = |gone: Option<usize>| -> Vec<Candidate> {
                chosen.iter().filter(|index| Some(**index) != gone).map(|index| all[*index].clone()).collect()
            };
            prop_assert_eq!(reached(&without(None)), reached(&all));
            for index in &chosen {
                prop_assert_ne!(reached(&without(Some(*index))), reached(&all));
            }
            prop_assert_eq!(choose(&all), chosen);
        }
    }
}
