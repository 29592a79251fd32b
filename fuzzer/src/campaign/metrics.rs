//! The file `metrics.jsonl` of a campaign: a line every few seconds, and never more than some megabytes of them.
//!
//! Weeks of lines would fill disks and make reports slow. So when the file has grown, every second line of its older half
//! goes: the past stays, ever coarser. The last line of each session always stays, because sums over sessions are made of them.

use std::{
    cell::Cell,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::store::{StoreError, io_error, write_atomically};

/// Name of the file in a campaign's directory.
pub const NAME: &str = "metrics.jsonl";
/// Size at which it is thinned, in bytes.
const LIMIT: u64 = 4 << 20;

/// The metrics of a campaign, to be added to.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    limit: u64,
    /// Size at which the file is thinned next.
    next: Cell<u64>,
    /// Whether a line was appended already.
    begun: Cell<bool>,
}

impl Metrics {
    /// The metrics in a campaign's directory.
    #[must_use]
    pub fn new(campaign: &Path) -> Self {
        Self::bounded(campaign, LIMIT)
    }

    fn bounded(campaign: &Path, limit: u64) -> Self {
        Self { path: campaign.join(NAME), limit, next: Cell::new(limit), begun: Cell::new(false) }
    }

    /// Appends a line.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&self, line: &impl Serialize) -> Result<(), StoreError> {
        let mut text = serde_json::to_string(line).unwrap_or_default();
        text.push('\n');
        let size = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&self.path)
            .and_then(|mut file| {
                if !self.begun.replace(true) && is_torn(&mut file)? {
                    text.insert(0, '\n');
                }
                file.write_all(text.as_bytes())?;
                file.metadata()
            })
            .map_err(io_error("append to", &self.path))?
            .len();
        if size > self.next.get() { self.shrink() } else { Ok(()) }
    }

    /// Thins the file until it is small enough or has nothing left to be taken.
    fn shrink(&self) -> Result<(), StoreError> {
        let mut text = fs::read(&self.path).map_err(io_error("read", &self.path))?;
        while text.len() as u64 > self.limit {
            let before = text.len();
            text = thin(&text);
            if text.len() == before {
                break;
            }
        }
        // Where hardly anything can be taken, trying again each time would write the whole file for every line.
        self.next.set(self.limit.max(text.len() as u64 * 3 / 2));
        write_atomically(&self.path, &text)
    }
}

/// Whether the last line has no end: a fuzzer was killed while it wrote it. What comes next shall be a line of its own.
fn is_torn(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(false);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// The part of a line that tells sessions apart.
#[derive(Deserialize)]
struct Line {
    session: u64,
}

/// The lines without every second one of the older half. What is no line of metrics goes as well.
fn thin(text: &[u8]) -> Vec<u8> {
    let lines: Vec<(u64, &[u8])> = text
        .split(|byte| *byte == b'\n')
        .filter_map(|line| Some((serde_json::from_slice::<Line>(line).ok()?.session, line)))
        .collect();
    let older = lines.len() / 2;
    let mut kept = Vec::with_capacity(text.len());
    for (at, (session, line)) in lines.iter().enumerate() {
        let last = lines.get(at + 1).is_none_or(|(next, _)| next != session);
        if last || at >= older || at % 2 == 0 {
            kept.extend_from_slice(line);
            kept.push(b'\n');
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn lines(campaign: &Path) -> Vec<Value> {
        let text = fs::read_to_string(campaign.join(NAME)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn weeks_of_lines_stay_below_the_limit_and_reach_from_the_first_to_the_last() {
        let dir = tempfile::tempdir().unwrap();
        let limit = 20_000;
        let metrics = Metrics::bounded(dir.path(), limit);
        let mut longest = 0;
        for at in 0..20_000 {
            metrics.append(&json!({ "session": at / 5_000 + 1, "seconds": at % 5_000 })).unwrap();
            longest = longest.max(fs::metadata(dir.path().join(NAME)).unwrap().len());
        }
        assert!(longest <= limit * 3 / 2, "{longest}");
        let lines = lines(dir.path());
        let at = |line: &Value| (line["session"].as_u64().unwrap(), line["seconds"].as_u64().unwrap());
        let all: Vec<_> = lines.iter().map(at).collect();
        assert!(all.is_sorted(), "the order stays");
        assert_eq!((all[0], all[all.len() - 1]), ((1, 0), (4, 4_999)));
        for session in 1..=4 {
            assert!(all.contains(&(session, 4_999)), "the last line of session {session}");
        }
        let recent = all.iter().filter(|(session, _)| *session == 4).count();
        assert!(recent > all.len() / 2, "the newest are closest together: {recent} of {}", all.len());
    }

    #[test]
    fn the_last_line_of_each_session_survives_any_thinning() {
        let dir = tempfile::tempdir().unwrap();
        let metrics = Metrics::bounded(dir.path(), 100);
        for session in 0..200 {
            metrics.append(&json!({ "session": session })).unwrap();
        }
        assert_eq!(lines(dir.path()).len(), 200);
    }

    #[test]
    fn a_line_without_an_end_does_not_swallow_the_next_one() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "{\"session\":1}\n{\"sess").unwrap();
        let metrics = Metrics::new(dir.path());
        metrics.append(&json!({ "session": 2 })).unwrap();
        metrics.append(&json!({ "session": 3 })).unwrap();
        let text = fs::read_to_string(dir.path().join(NAME)).unwrap();
        assert_eq!(text, "{\"session\":1}\n{\"sess\n{\"session\":2}\n{\"session\":3}\n");
    }

    #[test]
    fn a_line_that_a_killed_fuzzer_left_unfinished_goes_with_the_next_thinning() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(NAME), "{\"session\":1}\n{\"sess\n").unwrap();
        Metrics::bounded(dir.path(), 10).append(&json!({ "session": 2 })).unwrap();
        assert_eq!(lines(dir.path()), [json!({ "session": 1 }), json!({ "session": 2 })]);
    }
}
