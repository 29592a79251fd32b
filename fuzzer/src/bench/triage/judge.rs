//! How well buckets tell bugs apart: pairwise precision and recall, and which buckets mix and which bugs scatter.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A crash of which both are known: the bucket that it was given, and the bug that it is.
pub type Labelled = (String, String);

/// What a set of labelled crashes says about the buckets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// Crashes.
    pub crashes: usize,
    /// Of two crashes in one bucket: how probable it is that they are one bug. One where no bucket holds two.
    pub precision: f64,
    /// Of two crashes that are one bug: how probable it is that they are in one bucket. One where no bug has two.
    pub recall: f64,
    /// Crashes that are the most frequent bug of their bucket, of all crashes.
    pub purity: f64,
    /// Crashes by bucket and bug.
    pub buckets: BTreeMap<String, BTreeMap<String, usize>>,
    /// Buckets by bug.
    pub bugs: BTreeMap<String, BTreeSet<String>>,
}

impl Judgement {
    /// Bugs whose crashes are in several buckets.
    pub fn scattered(&self) -> impl Iterator<Item = (&String, &BTreeSet<String>)> {
        self.bugs.iter().filter(|(_, buckets)| buckets.len() > 1)
    }

    /// Buckets with crashes of several bugs.
    pub fn mixed(&self) -> impl Iterator<Item = (&String, &BTreeMap<String, usize>)> {
        self.buckets.iter().filter(|(_, bugs)| bugs.len() > 1)
    }
}

/// Number of pairs among so many.
fn pairs(n: usize) -> usize {
    n * n.saturating_sub(1) / 2
}

fn share(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { part as f64 / whole as f64 }
}

/// Judges labelled crashes.
pub fn judge(crashes: &[Labelled]) -> Judgement {
    let mut buckets: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    let mut bugs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut of_bug: BTreeMap<&String, usize> = BTreeMap::new();
    for (bucket, bug) in crashes {
        *buckets.entry(bucket.clone()).or_default().entry(bug.clone()).or_default() += 1;
        bugs.entry(bug.clone()).or_default().insert(bucket.clone());
        *of_bug.entry(bug).or_default() += 1;
    }
    let same_bucket: usize = buckets.values().map(|bugs| pairs(bugs.values().sum())).sum();
    let same_bug: usize = of_bug.values().map(|n| pairs(*n)).sum();
    let both: usize = buckets.values().flat_map(BTreeMap::values).map(|n| pairs(*n)).sum();
    let majority = buckets.values().filter_map(|bugs| bugs.values().max()).sum();
    Judgement {
        crashes: crashes.len(),
        precision: share(both, same_bucket),
        recall: share(both, same_bug),
        purity: share(majority, crashes.len()),
        buckets,
        bugs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(crashes: &[(&str, &str)]) -> Vec<Labelled> {
        crashes.iter().map(|(bucket, bug)| ((*bucket).to_owned(), (*bug).to_owned())).collect()
    }

    #[test]
    fn precision_and_recall_of_a_case_that_was_computed_by_hand() {
        // Bucket one: a a a b, bucket two: a b b. Pairs in one bucket: 6 + 3 = 9; of one bug: a 4 -> 6, b 3 -> 3, so 9; of both:
        // a a a -> 3, b b -> 1, so 4.
        let judged = judge(&labelled(&[
            ("one", "a"),
            ("one", "a"),
            ("one", "a"),
            ("one", "b"),
            ("two", "a"),
            ("two", "b"),
            ("two", "b"),
        ]));
        assert!((judged.precision - 4.0 / 9.0).abs() < 1e-12, "{judged:?}");
        assert!((judged.recall - 4.0 / 9.0).abs() < 1e-12, "{judged:?}");
        assert!((judged.purity - 5.0 / 7.0).abs() < 1e-12, "{judged:?}");
        assert_eq!(judged.mixed().count(), 2);
        assert_eq!(judged.scattered().count(), 2);
    }

    #[test]
    fn one_bucket_for_all_is_complete_and_one_for_each_is_precise() {
        let judged = judge(&labelled(&[("x", "a"), ("x", "a"), ("x", "b")]));
        assert!((judged.precision - 1.0 / 3.0).abs() < 1e-12 && judged.recall >= 1.0, "{judged:?}");
        let judged = judge(&labelled(&[("x", "a"), ("y", "a"), ("z", "b")]));
        assert!(judged.precision >= 1.0 && judged.recall <= 0.0, "{judged:?}");
        assert_eq!(judged.scattered().map(|(bug, _)| bug.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(judge(&[]).crashes, 0);
    }
}
