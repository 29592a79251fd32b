//! Campaigns whose whole process group is killed with SIGKILL, again and again, at moments that a seed chooses: the directory can be used
//! at once, and everything that was on record is there afterwards.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, SystemTime},
};

use hyperfuzz::doctor::usable_cores;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tempfile::tempdir;

use crate::support::{children, corpus_len, files, gone, line, machine, until};

/// Bugs that are found one after the other while the campaign is killed.
const PLANTS: &str = "count-sign,poll-unalloc,ref-leak,lock-leak,poll-hang,retval-sign,order-unbounded";
/// Longest time that a session is given, in milliseconds.
const LONGEST: u64 = 8_000;

/// What the campaign's directory says. It may be written to meanwhile.
#[derive(Debug, Default)]
struct Record {
    /// Programs of the corpus, and the files of complete findings that do not change any more.
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Names of complete findings.
    findings: BTreeSet<String>,
    /// Counters by their names.
    counters: BTreeMap<String, u64>,
    /// Whole lines of metrics.
    lines: Vec<String>,
}

/// Names in a directory, but for those of files that are not in their place yet.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok);
    let names = entries.map(|entry| entry.file_name().into_string().expect("UTF-8"));
    names.filter(|name| !name.ends_with(".tmp")).collect()
}

/// A file of JSON, if it is there. It is whole at any moment.
fn json(path: &Path) -> Option<Value> {
    let text = fs::read(path).ok()?;
    Some(serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

impl Record {
    fn read(campaign: &Path) -> Self {
        let mut record = Self::default();
        let mut take = |directory: PathBuf| {
            for name in names(&directory).into_iter().filter(|name| name != "seen.json") {
                let path = directory.join(name);
                record.files.insert(path.clone(), fs::read(&path).expect("nothing is taken away"));
            }
        };
        take(campaign.join("corpus"));
        let mut count = |name: String, value: &Value| {
            record.counters.insert(name, value.as_u64().expect("a counter"));
        };
        for bucket in names(&campaign.join("findings")) {
            let directory = campaign.join("findings").join(&bucket);
            if !directory.join("report.txt").exists() {
                continue;
            }
            take(directory.clone());
            if let Some(seen) = json(&directory.join("seen.json")) {
                count(format!("times of {bucket}"), &seen["all"]["times"]);
            }
            record.findings.insert(bucket);
        }
        if let Some(about) = json(&campaign.join("campaign.json")) {
            count("sessions".into(), &about["sessions"]);
        }
        if let Some(done) = json(&campaign.join("operations.json")) {
            count("executions".into(), &done["executions"]);
            for name in ["calls", "crashes", "findings", "restarts"] {
                count(name.into(), &done["counters"][name]);
            }
            count("edges".into(), &done["covered"].as_array().expect("a list").len().into());
            count("seconds".into(), &done["counters"]["time"]["secs"]);
        }
        let metrics = fs::read_to_string(campaign.join("metrics.jsonl")).unwrap_or_default();
        record.lines =
            metrics.split_inclusive('\n').filter(|l| l.ends_with('\n')).map(str::to_owned).collect();
        record
    }

    /// Nothing of an earlier record is missing or less.
    fn holds(&self, before: &Self, when: &str) {
        for (path, content) in &before.files {
            assert!(self.files.get(path) == Some(content), "{when}: {} is not as it was", path.display());
        }
        assert!(self.findings.is_superset(&before.findings), "{when}: {:?}", self.findings);
        for (name, value) in &before.counters {
            let now = self.counters.get(name);
            assert!(now >= Some(value), "{when}: {name} went from {value} to {now:?}");
        }
        assert!(self.lines.starts_with(&before.lines), "{when}: metrics were lost");
    }
}

/// Starts a session in a process group of its own, with its events in a file.
fn start(campaign: &Path, events: &Path, options: &str) -> Child {
    let text =
        format!("fuzz {{}} --json --seed 1 --target reference-pv --replays 2 --plant {PLANTS} {options}");
    let campaign = campaign.to_str().expect("UTF-8");
    crate::support::command(text.split_whitespace().map(|word| word.replace("{}", campaign)))
        .process_group(0)
        .stdout(File::create(events).expect("a file"))
        .stderr(Stdio::null())
        .spawn()
        .expect("starts")
}

/// A process with all that it has started.
fn family(process: u32) -> Vec<u32> {
    let children = children(process).into_iter().flat_map(family);
    std::iter::once(process).chain(children).collect()
}

/// Kills a session and everything of it.
fn kill(mut session: Child) {
    let family = family(session.id());
    let group = i32::try_from(session.id()).ok().and_then(Pid::from_raw).expect("a process number");
    kill_process_group(group, Signal::KILL).expect("the group is there");
    session.wait().expect("it has ended");
    until("everybody is gone", || family.iter().all(|process| gone(*process)));
}

/// The events that a session has written, but for a last one that it was killed in.
fn events(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("UTF-8");
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Every file can be understood, and the commands that look at a campaign do.
fn check(campaign: &Path, when: &str) {
    for (path, content) in files(campaign) {
        let bad = |error: &dyn std::fmt::Display| panic!("{when}: {}: {error}", path.display());
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => {
                serde_json::from_slice::<Value>(&content).map_or_else(|error| bad(&error), |_| ())
            }
            Some("jsonl") => {
                let whole =
                    content.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
                whole.for_each(|line| {
                    serde_json::from_slice::<Value>(line).map_or_else(|error| bad(&error), |_| ());
                });
            }
            Some("hf" | "prom" | "txt") => assert!(!content.is_empty(), "{when}: {}", path.display()),
            _ => {}
        }
    }
    for finding in Record::read(campaign).findings {
        let directory = campaign.join("findings").join(&finding);
        for name in
            ["original.hf", "program.hf", "program.hfw", "regression.hf", "console.log", "finding.json"]
        {
            assert!(directory.join(name).is_file(), "{when}: {finding} has no {name}");
        }
    }
    line("corpus validate {}/corpus", campaign).exits(0);
    line("triage {} --json", campaign).exits(0);
    line("report {} --output {}/../r.html", campaign).exits(0);
}

/// Kills so many sessions.
fn killed(times: u64) {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let (campaign, told) = (dir.path().join("c"), dir.path().join("events"));
    let mut random = Pcg64Mcg::seed_from_u64(times);
    let mut last = Record::default();
    let (mut oldest, mut begun, mut examining) = (Duration::ZERO, 0, 0);
    for turn in 0..times {
        let core = usable_cores()[0];
        let many = turn % 4 == 3;
        let options = if many { format!("--cores {core},{core}") } else { String::new() };
        let started = SystemTime::now();
        let session = start(&campaign, &told, &options);
        if turn == 0 {
            until("there is something to lose", || corpus_len(&campaign) > 40);
        }
        std::thread::sleep(Duration::from_millis(random.random_range(0..LONGEST)));
        let before = Record::read(&campaign);
        kill(session);
        let when = format!("kill {turn}");
        let stored = fs::metadata(campaign.join("operations.json")).and_then(|file| file.modified());
        if let Some(stored) = stored.ok().filter(|stored| *stored > started) {
            oldest = oldest.max(stored.elapsed().unwrap_or_default());
        }
        let after = Record::read(&campaign);
        after.holds(&last, &when);
        after.holds(&before, &when);
        check(&campaign, &when);
        for event in events(&told) {
            match event["event"].as_str() {
                // What the session before had left is where this one began.
                Some("start") => {
                    begun += 1;
                    assert_eq!(
                        Some(&event["session"]),
                        after.counters.get("sessions").map(|n| (*n).into()).as_ref()
                    );
                    let programs =
                        last.files.keys().filter(|path| path.starts_with(campaign.join("corpus"))).count();
                    assert!(turn == 0 || event["initial"] == programs, "{when}: {event}");
                    let known = event["known"].as_array().expect("a list");
                    assert!(
                        last.findings.iter().all(|bucket| known.contains(&bucket.as_str().into())),
                        "{event}"
                    );
                }
                Some("finding") => {
                    let bucket = event["finding"]["bucket"].as_str().unwrap_or_else(|| panic!("{event}"));
                    assert!(after.findings.contains(bucket), "{when}: {bucket} was told and is not there");
                }
                _ => {}
            }
        }
        let open = names(&campaign.join("findings")).len() - after.findings.len();
        examining += usize::from(open > 0);
        last = after;
    }
    // Whoever was being examined is examined to the end now, and nothing half-written is left.
    let run = line(
        &format!("fuzz {{}} --json --execs 50 --target reference-pv --replays 2 --plant {PLANTS}"),
        &campaign,
    );
    assert!([Some(0), Some(1), Some(2)].contains(&run.code), "{run:#?}");
    Record::read(&campaign).holds(&last, "the end");
    check(&campaign, "the end");
    assert!(files(&campaign).keys().all(|path| path.extension().is_none_or(|end| end != "tmp")));
    let unexamined =
        names(&campaign.join("findings")).into_iter().map(|name| campaign.join("findings").join(name));
    let unexamined: Vec<_> = unexamined
        .filter(|path| ["report.txt", "unconfirmed.json"].iter().all(|end| !path.join(end).exists()))
        .collect();
    println!(
        "{times} kills: {begun} sessions had begun, {} programs, {} findings, {} executions on record; {examining} kills left something \
         to be examined, {} still is; counters were {} ms old at most",
        corpus_len(&campaign),
        last.findings.len(),
        last.counters["executions"],
        unexamined.len(),
        oldest.as_millis()
    );
}

#[test]
fn a_campaign_that_is_killed_again_and_again_loses_nothing_that_was_on_record() {
    killed(5);
}

#[test]
#[ignore = "takes minutes"]
fn a_campaign_survives_a_hundred_kills() {
    killed(100);
}
