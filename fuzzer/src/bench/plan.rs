//! Which trials a benchmark consists of.

use planted_bugs::Bug;

use super::{
    mode::{Corpus, Mode},
    record::Task,
};

/// What is to be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Names of the targets.
    pub targets: Vec<String>,
    /// What trials start from.
    pub corpora: Vec<Corpus>,
    /// Ways to fuzz, with the number of trials of each.
    pub modes: Vec<(Mode, u32)>,
    /// Planted bugs.
    pub plants: Vec<Bug>,
    /// Each bug has trials of its own.
    pub one_at_a_time: bool,
    /// Trials without planted bugs for each target, as B5 from the seeds.
    pub clean: u32,
    /// Longest time of a trial, in seconds.
    pub cap_seconds: u64,
    /// Most hypercalls of a trial.
    pub cap_calls: Option<u64>,
    /// A trial ends when all planted bugs have been detected.
    pub until_all: bool,
    /// What the seeds of the trials are made from.
    pub seed: u64,
}

/// FNV-1a, 64 bits.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

impl Protocol {
    /// The tasks, first trials of all cells first: a benchmark that is stopped early has something of everything.
    pub fn tasks(&self) -> Vec<Task> {
        let names: Vec<String> = self.plants.iter().map(|bug| bug.name().to_owned()).collect();
        let sets: Vec<(Option<String>, Vec<String>)> = if self.one_at_a_time {
            names.iter().map(|name| (Some(name.clone()), vec![name.clone()])).collect()
        } else {
            vec![(None, names)]
        };
        let rounds = self.modes.iter().map(|(_, trials)| *trials).chain([self.clean]).max().unwrap_or(0);
        let mut tasks = Vec::new();
        for trial in 0..rounds {
            for target in &self.targets {
                for corpus in &self.corpora {
                    for (mode, trials) in &self.modes {
                        if trial >= *trials {
                            continue;
                        }
                        for (alone, plants) in &sets {
                            tasks.push(self.task(target, *mode, *corpus, plants, alone.clone(), trial));
                        }
                    }
                }
                if trial < self.clean {
                    tasks.push(self.task(target, Mode::B5, Corpus::Seeded, &[], None, trial));
                }
            }
        }
        tasks
    }

    fn task(
        &self,
        target: &str,
        mode: Mode,
        corpus: Corpus,
        plants: &[String],
        alone: Option<String>,
        trial: u32,
    ) -> Task {
        let mut task = Task {
            target: target.to_owned(),
            mode,
            corpus,
            plants: plants.to_vec(),
            alone,
            trial,
            seed: 0,
            cap_seconds: self.cap_seconds,
            cap_calls: self.cap_calls,
            until: if self.until_all { plants.to_vec() } else { Vec::new() },
        };
        // Distinct, and the same again for the same task of the same protocol.
        task.seed = hash(&task.name()) ^ self.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        task
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn protocol() -> Protocol {
        Protocol {
            targets: vec!["reference-hvm".into(), "reference-pv".into()],
            corpora: vec![Corpus::Empty, Corpus::Seeded],
            modes: vec![(Mode::B5, 3), (Mode::B0, 2)],
            plants: Bug::ALL.to_vec(),
            one_at_a_time: false,
            clean: 1,
            cap_seconds: 600,
            cap_calls: None,
            until_all: false,
            seed: 1,
        }
    }

    #[test]
    fn seeds_and_names_are_distinct_and_stay_the_same() {
        let tasks = protocol().tasks();
        assert_eq!(tasks.len(), 2 * 2 * 5 + 2);
        assert_eq!(tasks.iter().map(Task::name).collect::<BTreeSet<_>>().len(), tasks.len());
        assert_eq!(tasks.iter().map(|task| task.seed).collect::<BTreeSet<_>>().len(), tasks.len());
        assert_eq!(protocol().tasks(), tasks);
        // More trials leave those that were done as they are.
        let more = Protocol { modes: vec![(Mode::B5, 9), (Mode::B0, 2)], ..protocol() }.tasks();
        assert!(tasks.iter().all(|task| more.contains(task)));
    }

    #[test]
    fn bugs_can_have_trials_of_their_own() {
        let alone = Protocol { one_at_a_time: true, clean: 0, ..protocol() }.tasks();
        assert_eq!(alone.len(), 2 * 2 * 5 * Bug::ALL.len());
        assert!(
            alone.iter().all(|task| task.plants.len() == 1 && task.alone.as_ref() == task.plants.first())
        );
    }
}
