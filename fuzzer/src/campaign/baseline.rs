//! Baselines: findings that are known, in a file that is kept beside the sources of what is fuzzed.
//!
//! It has a bucket in each line, `#` begins a comment; or it is JSON, which also keeps what the finding was:
//!
//! ```text
//! {"format": 1, "findings": [{"bucket": "fault-…", "summary": "…", "place": {"file": "…", "line": 1, "function": "…"}}]}
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    path::Path,
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::store::{read_text, write_atomically};
use crate::triage::bucket::{Bucket, SourceLine};

/// Version of the form in JSON.
const FORMAT: u32 = 1;
/// Largest file that is read, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// What a new file of lines begins with.
const HEAD: &str = "# Findings that are known: `hyperfuzz smoke --baseline` does not fail on them.\n";

/// A finding that is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Where it belongs.
    pub bucket: Bucket,
    /// One line that says what happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// The source line that it was best shown at when it was written down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub place: Option<SourceLine>,
}

/// The form in JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Json {
    format: u32,
    findings: Vec<Known>,
}

/// What a file says, or will say.
#[derive(Clone, Debug, Default)]
pub struct Baseline {
    known: BTreeMap<Bucket, Known>,
    /// The file as it was read, where it has lines.
    lines: Option<String>,
}

impl Baseline {
    /// Reads a file; none if it is not there.
    ///
    /// # Errors
    /// When it cannot be read, or which line of it is no bucket.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let Some(text) = read_text(path, MAX_FILE)? else { return Ok(None) };
        Self::parse(text).map(Some).with_context(|| format!("{} is no baseline", path.display()))
    }

    fn parse(text: String) -> anyhow::Result<Self> {
        if text.trim_start().starts_with('{') {
            let Json { format, findings } = serde_json::from_str(&text)?;
            if format != FORMAT {
                bail!("format {format}, but this hyperfuzz reads format {FORMAT}");
            }
            if let Some(bad) = findings.iter().find(|k| Bucket::from_name(k.bucket.name()).is_none()) {
                bail!("{:?} is no bucket", bad.bucket.name());
            }
            let known = findings.into_iter().map(|known| (known.bucket.clone(), known)).collect();
            return Ok(Self { known, lines: None });
        }
        let mut known = BTreeMap::new();
        for (at, line) in text.lines().enumerate() {
            let name = line.split('#').next().unwrap_or_default().trim();
            if name.is_empty() {
                continue;
            }
            let bucket = Bucket::from_name(name).with_context(|| {
                format!("line {}: {name:?} is no bucket, which is the name of a finding's directory", at + 1)
            })?;
            known.insert(bucket.clone(), Known { bucket, summary: None, place: None });
        }
        Ok(Self { known, lines: Some(text) })
    }

    /// Buckets that are known.
    #[must_use]
    pub fn buckets(&self) -> BTreeSet<Bucket> {
        self.known.keys().cloned().collect()
    }

    /// What is known of a bucket.
    #[must_use]
    pub fn get(&self, bucket: &Bucket) -> Option<&Known> {
        self.known.get(bucket)
    }

    /// Adds findings to a file, which keeps its form and its comments. A new one is JSON if its name says so.
    ///
    /// # Errors
    /// When what is there cannot be read or understood, or the file cannot be written.
    pub fn add(path: &Path, found: Vec<Known>) -> anyhow::Result<()> {
        let json = path.extension().is_some_and(|extension| extension == "json");
        let new = || Self { known: BTreeMap::new(), lines: (!json).then(|| HEAD.to_owned()) };
        let mut baseline = Self::read(path)?.unwrap_or_else(new);
        for known in found {
            if baseline.known.contains_key(&known.bucket) {
                continue;
            }
            if let Some(lines) = &mut baseline.lines {
                if !lines.is_empty() && !lines.ends_with('\n') {
                    lines.push('\n');
                }
                let summary = known.summary.as_deref().unwrap_or_default().replace(char::is_control, " ");
                writeln!(lines, "{}  # {summary}", known.bucket)?;
            }
            baseline.known.insert(known.bucket.clone(), known);
        }
        let text = match baseline.lines {
            Some(lines) => lines,
            None => {
                let findings = baseline.known.into_values().collect();
                serde_json::to_string_pretty(&Json { format: FORMAT, findings })? + "\n"
            }
        };
        Ok(write_atomically(path, text.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn known(name: &str, summary: &str) -> Known {
        let place = SourceLine { file: "hypervisor/src/a.rs".into(), line: 3, function: "f".into() };
        let bucket = Bucket::from_name(name).unwrap();
        Known { bucket, summary: Some(summary.into()), place: Some(place) }
    }

    fn names(baseline: &Baseline) -> Vec<String> {
        baseline.buckets().iter().map(|bucket| bucket.name().to_owned()).collect()
    }

    #[test]
    fn lines_keep_their_comments_and_get_what_was_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known.txt");
        fs::write(&path, "# ours\n\nfault-a-01   # ticket 7").unwrap();
        Baseline::add(&path, vec![known("hang-b-02", "no\nend"), known("fault-a-01", "again")]).unwrap();
        let expected = "# ours\n\nfault-a-01   # ticket 7\nhang-b-02  # no end\n";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(names(&Baseline::read(&path).unwrap().unwrap()), ["fault-a-01", "hang-b-02"]);
    }

    #[test]
    fn json_keeps_what_each_finding_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known.json");
        let first = known("fault-a-01", "reads \"wild\"");
        Baseline::add(&path, vec![first.clone()]).unwrap();
        Baseline::add(&path, vec![known("fault-a-01", "later"), known("hang-b-02", "no end")]).unwrap();
        let read = Baseline::read(&path).unwrap().unwrap();
        assert_eq!(names(&read), ["fault-a-01", "hang-b-02"]);
        assert_eq!(read.get(&first.bucket), Some(&first), "what was written first stays");
    }

    #[test]
    fn a_new_file_is_made_even_if_nothing_was_found() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["known.txt", "known.json"] {
            let path = dir.path().join(name);
            assert!(Baseline::read(&path).unwrap().is_none());
            Baseline::add(&path, Vec::new()).unwrap();
            assert_eq!(names(&Baseline::read(&path).unwrap().unwrap()), Vec::<String>::new());
        }
    }

    #[test]
    fn what_is_no_baseline_is_named_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("known");
        for (text, word) in [
            ("fault-a-01\n../../etc/passwd\n", "line 2"),
            ("word\n", "line 1"),
            ("{\"format\": 9, \"findings\": []}", "format 9"),
            ("{\"format\": 1, \"findings\": [{\"bucket\": \"..\"}]}", "is no bucket"),
            ("{\"format\": 1", "EOF"),
        ] {
            fs::write(&path, text).unwrap();
            let error = format!("{:#}", Baseline::read(&path).unwrap_err());
            assert!(error.contains(word) && error.contains("known is no baseline"), "{error}");
            assert!(Baseline::add(&path, Vec::new()).is_err());
            assert_eq!(fs::read_to_string(&path).unwrap(), text, "it is left as it was");
        }
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(Baseline::read(&path).unwrap_err().to_string().contains("not text"));
    }
}
