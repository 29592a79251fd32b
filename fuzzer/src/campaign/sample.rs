//! A sample of what a session executes: a benchmark runs the same programs on the bare engine.

/// Programs that a sample has at most; half of that at least, once so many were executed.
const MOST: usize = 2048;

/// Lowered programs, evenly spread over all that were executed.
#[derive(Clone, Debug)]
pub struct Sample {
    /// One of so many is taken.
    every: u64,
    seen: u64,
    programs: Vec<Vec<u8>>,
}

impl Default for Sample {
    fn default() -> Self {
        Self { every: 1, seen: 0, programs: Vec::new() }
    }
}

impl Sample {
    /// Takes a program, or passes it over.
    pub fn offer(&mut self, program: &[u8]) {
        if self.seen.is_multiple_of(self.every) {
            if self.programs.len() == MOST {
                let mut keep = false;
                self.programs.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.every *= 2;
            }
            self.programs.push(program.to_vec());
        }
        self.seen += 1;
    }

    /// The programs, in the order in which they were executed.
    #[must_use]
    pub fn into_programs(self) -> Vec<Vec<u8>> {
        self.programs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_evenly() {
        let mut sample = Sample::default();
        let all = 10 * MOST as u32 + 7;
        (0..all).for_each(|n| sample.offer(&n.to_le_bytes()));
        let programs: Vec<u32> = sample
            .into_programs()
            .iter()
            .map(|program| u32::from_le_bytes(program.as_slice().try_into().unwrap()))
            .collect();
        assert!((MOST / 2..=MOST).contains(&programs.len()), "{}", programs.len());
        let steps: Vec<u32> = programs.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(programs[0], 0);
        assert!(steps.iter().all(|step| *step == steps[0]), "{steps:?}");
    }
}
