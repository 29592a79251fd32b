//! Stored crash records of each kind with the buckets and headlines that they shall have. What a bucket is called must not change by accident: marks,
//! baselines and people refer to it.
//!
//! A record is a file `records/<bucket without its number>.json`. Its stack has names instead of addresses, so that it means the same for every
//! build. Most are findings of planted bugs; those called `self-test` are of crashes on purpose (`tests/crash_records.rs`), symbolised by
//! llvm-addr2line; kinds that leave no record have a program only.
//!
//! `HYPERFUZZ_GOLDEN=update cargo test --release -p hyperfuzz --lib golden` writes down what the records have now, to be looked at as a
//! difference. With the directory of a campaign instead of `update` it adds records of that campaign's findings, for kinds that have none.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use coverage_hypercall::{
    crash::{CrashKind, CrashRecord},
    program::Status,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zerocopy::FromZeros;

use super::{
    bucket::{Bucket, Classifier, KINDS_WITHOUT_RECORD},
    symbols::{Frame, Symbols},
};
use crate::{
    engine::{CallResult, Execution, Outcome},
    images,
    program::{Program, text},
    report::finding,
};

/// Says what shall be done with the files, if anything.
const VARIABLE: &str = "HYPERFUZZ_GOLDEN";

/// A stored record.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    /// What it shall be called.
    bucket: Bucket,
    /// What reports shall say of it in a line.
    headline: String,
    /// Name of its [`CrashKind`], or one of [`KINDS_WITHOUT_RECORD`].
    kind: String,
    /// What the hypervisor said.
    message: String,
    /// The hypercall that was being carried out, and the domain that had issued it.
    hypercall: Option<u64>,
    domain: Option<u32>,
    /// The program, and which of its calls had returned.
    program: String,
    returned: Vec<u16>,
    /// For each address of the stack the functions there, innermost first.
    stack: Vec<Vec<String>>,
    /// The console's first lines.
    console: String,
}

fn records() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/triage/golden/records")
}

/// The stored records with their files, in the order of the names.
fn stored() -> Vec<(PathBuf, Golden)> {
    let entries = fs::read_dir(records()).expect("the records are there");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    paths.sort();
    let read = |path: PathBuf| {
        let golden = serde_json::from_str(&fs::read_to_string(&path).expect("text"));
        let golden = golden.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        (path, golden)
    };
    paths.into_iter().map(read).collect()
}

fn write(path: &Path, golden: &Golden) {
    fs::write(path, serde_json::to_string_pretty(golden).expect("plain data") + "\n")
        .expect("it can be written");
}

/// Reads `function at file:line (inlined)`, as stacks of reports have it.
fn frame(text: &str) -> Frame {
    let (text, inlined) = text.strip_suffix(" (inlined)").map_or((text, false), |text| (text, true));
    let place = text.rsplit_once(" at ").and_then(|(function, place)| {
        let (file, line) = place.rsplit_once(':')?;
        Some((function, (file.to_owned(), line.parse().ok()?)))
    });
    match place {
        Some((function, location)) => Frame { function: function.into(), location: Some(location), inlined },
        None => Frame { function: text.into(), location: None, inlined },
    }
}

impl Golden {
    /// The record of a stored finding.
    fn of(finding: &Path) -> Option<Self> {
        let data: Value = serde_json::from_slice(&fs::read(finding.join("finding.json")).ok()?).ok()?;
        let bucket: Bucket = serde_json::from_value(data["bucket"].clone()).ok()?;
        let program = data["program"].as_str()?.to_owned();
        let mut stack: Vec<Vec<String>> = Vec::new();
        for line in data["stack"].as_array()?.iter().filter_map(Value::as_str) {
            let (address, function) = line.split_at_checked(16)?;
            if !address.trim().is_empty() {
                stack.push(Vec::new());
            }
            stack.last_mut()?.push(function.trim().to_owned());
        }
        let transcript = data["transcript"].as_str()?;
        let answers = transcript.lines().filter(|line| !line.ends_with(" DID NOT RETURN"));
        let returned = answers.filter_map(|line| line.strip_prefix('#')?.split(' ').next()?.parse().ok());
        let console = String::from_utf8_lossy(&fs::read(finding.join("console.log")).ok()?).into_owned();
        Some(Self {
            kind: bucket.kind().to_owned(),
            headline: data["summary"].as_str()?.to_owned(),
            message: data["crash"]["message"].as_str().unwrap_or_default().to_owned(),
            hypercall: data["crash"]["hypercall"].as_u64(),
            domain: data["crash"]["domain"].as_u64().and_then(|domain| domain.try_into().ok()),
            returned: returned.collect(),
            // Addresses are another build's.
            console: console.lines().filter(|line| line.starts_with("hypervisor crash")).collect(),
            program,
            stack,
            bucket,
        })
    }

    /// What it is called, and what reports say of it.
    fn judge(&self) -> (Option<Bucket>, String) {
        let classifier = Classifier::new(Symbols::from_elf(images::HYPERVISOR).expect("symbols"));
        let outcome = match self.kind.as_str() {
            "hang" => Outcome::Hang,
            "timeout" => Outcome::Timeout,
            "triple-fault" => Outcome::TripleFault,
            _ => Outcome::Crash,
        };
        let kind = (1..).map_while(CrashKind::from_u32).find(|kind| kind.name() == self.kind);
        let crash = kind.map(|kind| {
            let mut record = CrashRecord::new_zeroed();
            record.kind = kind as u32;
            record.hypercall = self.hypercall.unwrap_or(u64::MAX);
            record.domain = self.domain.unwrap_or(u32::MAX);
            let message = &self.message.as_bytes()[..self.message.len().min(record.message.len())];
            record.message[..message.len()].copy_from_slice(message);
            record.message_len = message.len() as u32;
            // Made-up addresses that stand for the functions. A return address points behind its call.
            for (at, functions) in self.stack.iter().take(1 + record.frames.len()).enumerate() {
                let address = 0x10 + at as u64;
                let frames: Vec<_> = functions.iter().map(|text| frame(text)).collect();
                classifier.teach(address, &frames);
                match at {
                    0 => record.rip = address,
                    _ => record.frames[at - 1] = address + 1,
                }
                record.frame_count = at as u32;
            }
            Box::new(record)
        });
        let returned =
            |call: &u16| CallResult { call: *call, status: Status::Returned(0), changes: Vec::new() };
        let calls = self.returned.iter().map(returned).collect();
        let execution = Execution { outcome, crash, calls, ..Execution::default() };
        let program: Program = text::parse(&self.program).expect("a program");
        (classifier.classify(&program, &execution), finding::summary(&program, &execution))
    }
}

#[test]
fn golden_records_have_their_buckets_and_headlines() {
    match std::env::var(VARIABLE).as_deref() {
        Ok("update") => {
            for (path, golden) in stored() {
                let (bucket, headline) = golden.judge();
                let bucket = bucket.expect("a record of misbehaviour");
                write(&path, &Golden { bucket, headline, ..golden });
            }
        }
        Ok(campaign) => {
            let mut known: BTreeSet<String> = stored().into_iter().map(|(_, golden)| golden.kind).collect();
            for finding in fs::read_dir(Path::new(campaign).join("findings")).expect("a campaign") {
                let Some(golden) = Golden::of(&finding.expect("it can be read").path()) else { continue };
                if known.insert(golden.kind.clone()) {
                    let (name, _) = golden.bucket.name().rsplit_once('-').expect("a number");
                    write(&records().join(format!("{name}.json")), &golden);
                }
            }
        }
        Err(_) => {}
    }
    for (path, golden) in stored() {
        let expected = (Some(golden.bucket.clone()), golden.headline.clone());
        assert_eq!(golden.judge(), expected, "{}; the module says how to update it", path.display());
        let said = golden.message.lines().next().unwrap_or_default();
        assert!(golden.console.contains(said), "{}: the console does not say it", path.display());
    }
}

#[test]
fn each_kind_has_a_golden_record() {
    let kinds = (1..).map_while(CrashKind::from_u32).map(CrashKind::name).chain(KINDS_WITHOUT_RECORD);
    let stored: BTreeSet<String> = stored().into_iter().map(|(_, golden)| golden.kind).collect();
    let missing: Vec<_> = kinds.filter(|kind| !stored.contains(*kind)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
