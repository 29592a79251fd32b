//! Runs programs and keeps those that are needed for what all of them cover.

use super::cover::{self, Candidate};
use crate::{
    engine::{Engine, EngineError, Execution},
    feedback,
    program::{Program, walk},
    triage::{
        bucket::{Bucket, Classifier},
        verify,
    },
};

/// What is left of a collection, by the indices of its programs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distilled {
    /// Programs to keep, in order.
    pub kept: Vec<usize>,
    /// Programs that end badly on this build: in a corpus they would end every program that is made of them.
    pub bad: Vec<(usize, Bucket)>,
    /// Edges that are covered, before and after.
    pub edges: usize,
    /// Hypercalls of all programs.
    pub hypercalls_before: usize,
    /// Hypercalls of those that are kept.
    pub hypercalls: usize,
}

/// Runs each program once on a reset machine and chooses. The same programs on the same build give the same choice.
///
/// # Errors
/// When no machine can be had.
pub fn distill(
    engine: &mut impl Engine,
    classifier: &Classifier,
    programs: &[Program],
    progress: &mut dyn FnMut(usize),
) -> Result<Distilled, EngineError> {
    let mut execution = Execution::default();
    let mut bad = Vec::new();
    let mut candidates = Vec::with_capacity(programs.len());
    for (index, program) in programs.iter().enumerate() {
        progress(index);
        let mut candidate = Candidate { weight: walk::hypercalls(program), covers: Vec::new() };
        if verify::run_once(engine, program, &mut execution)? {
            match classifier.classify(program, &execution) {
                Some(bucket) => bad.push((index, bucket)),
                None => candidate.covers = feedback::covered(&execution.counters).collect(),
            }
        }
        candidates.push(candidate);
    }
    let kept = cover::choose(&candidates);
    Ok(Distilled {
        hypercalls_before: candidates.iter().map(|candidate| candidate.weight).sum(),
        hypercalls: kept.iter().map(|index| candidates[*index].weight).sum(),
        edges: cover::reached(&candidates).len(),
        kept,
        bad,
    })
}
