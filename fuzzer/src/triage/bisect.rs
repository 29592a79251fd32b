//! Between which two of many builds something changed.

/// What a search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bisected {
    /// The first build that answers otherwise than those before it.
    Turn {
        /// Its place in the list.
        at: usize,
        /// What it answers.
        answer: bool,
    },
    /// Both ends answer alike, so there is nothing to search for.
    Same(bool),
    /// Fewer than two builds.
    TooFew,
}

/// Finds where the answers to a question turn, given that they do so once. Asks about the ends first, and then about as few builds as it
/// can.
///
/// # Errors
/// The first of the answers that could not be given.
pub fn bisect<E>(builds: usize, mut ask: impl FnMut(usize) -> Result<bool, E>) -> Result<Bisected, E> {
    if builds < 2 {
        return Ok(Bisected::TooFew);
    }
    let (mut before, mut at) = (0, builds - 1);
    let first = ask(before)?;
    if ask(at)? == first {
        return Ok(Bisected::Same(first));
    }
    while at - before > 1 {
        let middle = before + (at - before) / 2;
        if ask(middle)? == first {
            before = middle;
        } else {
            at = middle;
        }
    }
    Ok(Bisected::Turn { at, answer: !first })
}

/// Most questions that [`bisect`] asks about so many builds.
pub fn steps(builds: usize) -> u32 {
    // Both ends, and then what is between them is halved.
    2 + builds.saturating_sub(1).max(1).next_power_of_two().ilog2()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn every_turn_is_found_in_either_direction_with_few_questions() {
        for builds in 2..70 {
            for turn in 1..builds {
                for answer in [false, true] {
                    let mut asked = Vec::new();
                    let found = bisect(builds, |at| {
                        assert!(!asked.contains(&at), "{at} twice");
                        asked.push(at);
                        Ok::<_, Infallible>((at >= turn) == answer)
                    });
                    assert_eq!(found, Ok(Bisected::Turn { at: turn, answer }));
                    assert!(asked.len() <= steps(builds) as usize, "{builds}: {asked:?}");
                }
            }
        }
    }

    #[test]
    fn ends_that_do_not_differ_are_asked_about_once() {
        for answer in [false, true] {
            let mut asked = 0;
            let found = bisect(9, |_| {
                asked += 1;
                Ok::<_, Infallible>(answer)
            });
            assert_eq!((found, asked), (Ok(Bisected::Same(answer)), 2));
        }
        for few in [0, 1] {
            assert_eq!(bisect(few, |_| Err("never asked")), Ok(Bisected::TooFew));
        }
    }

    #[test]
    fn a_build_that_cannot_be_tried_ends_the_search() {
        let ask = |at| if at == 2 { Err("does not boot") } else { Ok(at > 2) };
        assert_eq!(bisect(5, ask), Err("does not boot"));
    }
}
