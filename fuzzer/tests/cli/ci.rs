//! What continuous integration lives on: reports for machines, baselines, presets, metrics, completions.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use serde_json::Value;
use tempfile::{TempDir, tempdir};

use crate::support::{Run, files, line, machine};

/// Options for all three reports, in the directory that `{}` stands for.
const REPORTS: &str = "--junit {}/j.xml --sarif {}/s.sarif --summary {}/m.md";

/// Test cases of a JUnit report: name, and what became of it.
fn cases(path: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(path).expect("the report is there");
    let document = roxmltree::Document::parse(&text).expect("it is XML");
    let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
    let status = |case: roxmltree::Node<'_, '_>| {
        let child = case.children().find(roxmltree::Node::is_element);
        let status = child.map_or("passed", |child| child.tag_name().name());
        (case.attribute("name").expect("a name").to_owned(), status.to_owned())
    };
    cases.map(status).collect()
}

/// The only run of a SARIF log.
fn sarif(path: &Path) -> Value {
    let log: Value = serde_json::from_slice(&fs::read(path).expect("the log is there")).expect("it is JSON");
    assert_eq!(log["version"], "2.1.0");
    let [run] = log["runs"].as_array().expect("runs").as_slice() else { panic!("{log}") };
    run.clone()
}

/// A night in which a planted bug was found, with all reports about it.
struct Night {
    dir: TempDir,
    run: Run,
    bucket: String,
}

/// The first night; all tests look at the same. The machine has to be theirs.
fn first_night() -> &'static Night {
    static NIGHT: OnceLock<Night> = OnceLock::new();
    NIGHT.get_or_init(|| {
        let dir = tempdir().unwrap();
        fs::write(dir.path().join("m.md"), "before\n").unwrap();
        let run = line(
            &format!(
                "smoke --dir {{}}/c --plant count-sign --until-finding --time 100 --replays 2 {REPORTS} --write-baseline {{}}/known.json"
            ),
            dir.path(),
        )
        .exits(1);
        let found: Vec<_> = fs::read_dir(dir.path().join("c/findings")).unwrap().map(Result::unwrap).collect();
        let [finding] = found.as_slice() else { panic!("{run:#?}") };
        let bucket = finding.file_name().into_string().unwrap();
        fs::create_dir(dir.path().join("trigger")).unwrap();
        fs::copy(finding.path().join("original.hf"), dir.path().join("trigger/a.hf")).unwrap();
        Night { dir, run, bucket }
    })
}

#[test]
fn a_new_finding_is_in_all_reports() {
    let _turn = machine();
    let Night { dir, run, bucket } = first_night();
    assert!(run.verdict().starts_with("verdict: 1 new, 0 known"), "{run:#?}");
    let failed = |name: &str| (name.to_owned(), "failure".to_owned());
    assert_eq!(cases(&dir.path().join("j.xml")), [failed("no new finding"), failed(bucket)]);

    let log = sarif(&dir.path().join("s.sarif"));
    let result = &log["results"][0];
    assert_eq!(
        (&result["level"], &result["partialFingerprints"]["bucket/v1"]),
        (&"error".into(), &bucket.as_str().into())
    );
    assert_eq!(log["invocations"][0]["exitCode"], 1);
    // The place is one that is there.
    let place = &result["locations"][0]["physicalLocation"];
    let file = place["artifactLocation"]["uri"].as_str().expect("a file");
    let text =
        fs::read_to_string(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(file)).expect(file);
    let line = place["region"]["startLine"].as_u64().expect("a line");
    assert!(file.starts_with("hypervisor/src/") && text.lines().count() as u64 >= line, "{place}");
    let report = fs::read_to_string(dir.path().join("c/findings").join(bucket).join("report.txt")).unwrap();
    assert!(report.contains(&format!("{file}:{line}")), "the stack of the report has it: {place}");

    let summary = fs::read_to_string(dir.path().join("m.md")).unwrap();
    assert!(
        summary.starts_with("before\n## hyperfuzz smoke reference-hvm: 1 new, 0 known findings\n"),
        "{summary}"
    );
    assert!(summary.contains(bucket.as_str()) && summary.contains(report.trim_end()), "{summary}");
}

#[test]
fn nights_that_meet_a_known_finding_again_do_not_fail() {
    let _turn = machine();
    let Night { dir, bucket, .. } = first_night();
    let known = dir.path().join("known.json");
    let before = fs::read_to_string(&known).unwrap();
    let lines = dir.path().join("known.txt");
    fs::write(&lines, format!("# ours\n{bucket} # since Monday\n")).unwrap();
    // Two nights that go on with one campaign, one with a directory of its own, and one with another form of the same baseline.
    for (night, baseline) in
        [("two", "known.json"), ("two", "known.json"), ("three", "known.json"), ("four", "known.txt")]
    {
        let reports = REPORTS.replace("{}", &format!("{{}}/{night}"));
        fs::create_dir_all(dir.path().join(night)).unwrap();
        let run = line(
            &format!(
                "smoke --preset nightly --dir {{}}/{night}/c --plant count-sign --corpus {{}}/trigger --execs 1 {reports} --baseline {{}}/{baseline} --write-baseline {{}}/{baseline}"
            ),
            dir.path(),
        )
        .exits(2);
        assert!(run.verdict().starts_with("verdict: 0 new, 1 known findings"), "{run:#?}");
        let at = |name: &str| dir.path().join(night).join(name);
        assert_eq!(
            cases(&at("j.xml")),
            [("no new finding", "passed"), (bucket, "skipped")].map(|(a, b)| (a.to_owned(), b.to_owned()))
        );
        let log = sarif(&at("s.sarif"));
        let result = &log["results"][0];
        assert_eq!((&result["level"], &log["invocations"][0]["exitCode"]), (&"note".into(), &2.into()));
        let file = &result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
        assert!(file.as_str().is_some_and(|file| file.starts_with("hypervisor/src/")), "{night}: {result}");
        assert!(fs::read_to_string(at("m.md")).unwrap().contains("### Known findings"));
    }
    assert_eq!(fs::read_to_string(known).unwrap(), before, "what is known is not written again");
    let about: Value =
        serde_json::from_slice(&fs::read(dir.path().join("two/c/campaign.json")).unwrap()).unwrap();
    assert_eq!(about["sessions"], 2, "the second night went on with the first one's campaign");
    // Without the baseline it is new.
    line("smoke --plant count-sign --corpus {}/trigger --execs 1 --replays 1 --dir {}/five", dir.path())
        .exits(1);
}

#[test]
fn many_workers_have_the_same_outputs_and_exit_codes() {
    let _turn = machine();
    let Night { dir, bucket, .. } = first_night();
    let core = hyperfuzz::doctor::usable_cores()[0];
    for (night, options, code, expected) in [
        ("clean", "--execs 200", 0, vec![("no new finding", "passed")]),
        (
            "new",
            "--plant count-sign --corpus {}/trigger --until-finding --time 100",
            1,
            vec![("no new finding", "failure"), (bucket, "failure")],
        ),
        (
            "known",
            "--plant count-sign --corpus {}/trigger --execs 400 --baseline {}/known.json",
            2,
            vec![("no new finding", "passed"), (bucket, "skipped")],
        ),
    ] {
        let at = dir.path().join("many").join(night);
        fs::create_dir_all(&at).unwrap();
        let reports = REPORTS.replace("{}", &format!("{{}}/many/{night}"));
        let text = format!(
            "smoke --target reference-hvm --cores {core},{core} --replays 2 --dir {{}}/many/{night}/c {options} {reports}"
        );
        let run = line(&text, dir.path()).exits(code);
        run.verdict();
        let expected: Vec<_> =
            expected.into_iter().map(|(name, status)| (name.to_owned(), status.to_owned())).collect();
        assert_eq!(cases(&at.join("j.xml")), expected, "{run:#?}");
        assert_eq!(sarif(&at.join("s.sarif"))["invocations"][0]["exitCode"], code);
        assert!(fs::read_to_string(at.join("m.md")).unwrap().contains("## hyperfuzz smoke"));
    }
    let many = REPORTS.replace("{}", "{}/many");
    let run = line(&format!("smoke --cores {core},{core} --qemu /nonexistent {many}"), dir.path())
        .complains(&["QEMU"]);
    assert_eq!(run.code, Some(3));
    assert_eq!(sarif(&dir.path().join("many/s.sarif"))["invocations"][0]["exitCode"], 3);
    line("smoke --cores 1000 --junit {}/none.xml", dir.path()).complains(&["--cores 1000", "processors"]);
    assert!(!dir.path().join("none.xml").exists());
}

#[test]
fn a_session_that_fails_in_the_end_reports_what_it_has_found() {
    let _turn = machine();
    let Night { dir, bucket, .. } = first_night();
    let at = |name: &str| dir.path().join("full").join(name);
    line("smoke --dir {}/full/c --plant count-sign --corpus empty --execs 1", dir.path()).exits(0);
    fs::copy(dir.path().join("trigger/a.hf"), at("c/corpus/000000-0000000000000000.hf")).unwrap();
    fs::remove_file(at("c/metrics.jsonl")).unwrap();
    std::os::unix::fs::symlink("/dev/full", at("c/metrics.jsonl")).unwrap();
    let reports = REPORTS.replace("{}", "{}/full");
    line(&format!("smoke --dir {{}}/full/c --plant count-sign --execs 1 --replays 1 {reports}"), dir.path())
        .complains(&["metrics.jsonl", "No space left"]);
    let cases = cases(&at("j.xml"));
    assert_eq!(
        cases,
        [("no new finding", "error"), (bucket, "failure")].map(|(a, b)| (a.to_owned(), b.to_owned()))
    );
    let log = sarif(&at("s.sarif"));
    assert_eq!(log["invocations"][0]["executionSuccessful"], false);
    assert_eq!(log["results"].as_array().map(Vec::len), Some(1));
    assert!(fs::read_to_string(at("m.md")).unwrap().contains("No space left"));
}

#[test]
fn reports_are_written_when_nothing_was_found_or_nothing_could_be_done() {
    let dir = tempdir().unwrap();
    line(&format!("smoke --qemu /nonexistent {REPORTS}"), dir.path()).complains(&["QEMU"]);
    assert_eq!(cases(&dir.path().join("j.xml")), [("no new finding".to_owned(), "error".to_owned())]);
    assert_eq!(sarif(&dir.path().join("s.sarif"))["invocations"][0]["exitCode"], 3);

    let _turn = machine();
    line(&format!("smoke --execs 200 {REPORTS} --write-baseline {{}}/known.txt"), dir.path()).exits(0);
    assert_eq!(cases(&dir.path().join("j.xml")), [("no new finding".to_owned(), "passed".to_owned())]);
    let log = sarif(&dir.path().join("s.sarif"));
    assert_eq!((&log["results"], &log["properties"]["executions"]), (&Value::Array(Vec::new()), &200.into()));
    let summary = fs::read_to_string(dir.path().join("m.md")).unwrap();
    assert_eq!(summary.matches("## hyperfuzz smoke").count(), 2, "the second is appended: {summary}");
    assert!(fs::read_to_string(dir.path().join("known.txt")).unwrap().starts_with("# "));
}

#[test]
fn options_that_cannot_work_are_refused_before_any_fuzzing() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("bad.txt"), "fault-a-01\n/etc/passwd\n").unwrap();
    for (options, words) in [
        ("--junit {}/none/j.xml", &["--junit", "none", "make it first"][..]),
        ("--sarif {}", &["--sarif", "a directory is there"]),
        ("--summary {}/none/m.md", &["--summary"]),
        ("--write-baseline {}/none/k", &["--write-baseline"]),
        ("--write-baseline {}/bad.txt", &["--write-baseline", "line 2"]),
        ("--baseline {}/bad.txt", &["bad.txt", "line 2", "/etc/passwd"]),
        ("--baseline {}/missing", &["missing", "--write-baseline"]),
        ("--preset nightly", &["nightly", "--dir"]),
        ("--preset weekend", &["weekend", "--dir"]),
        ("--preset yearly", &["yearly", "sanity, nightly, weekend"]),
    ] {
        let run = line(&format!("smoke --execs 1 {options}"), dir.path()).complains(words);
        assert_eq!(run.out, "", "{options}");
    }
    assert_eq!(files(dir.path()).len(), 1, "nothing was written");
}

/// Values of `metrics.prom` by metric, those with more labels than the usual by them as well.
fn metrics(campaign: &Path) -> Vec<(String, f64)> {
    let text = fs::read_to_string(campaign.join("metrics.prom")).expect("metrics");
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        (series.to_owned(), value.parse().expect("a number"))
    };
    samples.map(sample).collect()
}

#[test]
fn counters_go_on_in_the_next_session() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = dir.path().join("c");
    let mut before: Vec<(String, f64)> = Vec::new();
    for session in 1..=3 {
        line("fuzz {} --seed 3 --execs 200 --check-every 100", &campaign).exits(0);
        let now = metrics(&campaign);
        let value = |name: &str| {
            let begin = format!("hyperfuzz_{name}{{campaign=\"c\",target=\"reference-hvm\",build=\"");
            now.iter().find(|(series, _)| series.starts_with(&begin)).unwrap_or_else(|| panic!("{name}")).1
        };
        assert_eq!(
            (value("executions_total"), value("sessions_total")),
            (200.0 * f64::from(session), session.into())
        );
        assert!(value("calls_total") > value("executions_total") && value("corpus_programs") > 1.0);
        assert!(value("edges") <= value("target_edges"));
        for (series, old) in
            before.iter().filter(|(series, _)| series.contains("_total{") || series.contains("_edges{"))
        {
            let new = now.iter().find(|(other, _)| other == series).expect("it stays").1;
            assert!(new >= *old, "{series} went from {old} to {new}");
        }
        before = now;
    }
    let passed = before.iter().find(|(series, _)| series.contains("result=\"passed\"")).expect("checks").1;
    assert!(passed >= 3.0, "{before:?}");
}

#[test]
fn shells_are_told_of_every_command_that_is_not_hidden() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = line(&format!("completions {shell}"), Path::new("")).exits(0);
        for word in ["smoke", "write-baseline", "effectiveness"] {
            assert!(run.out.contains(word), "{shell}: {word}");
        }
        // Its name in bash, its description elsewhere.
        for word in ["__worker", "which starts it"] {
            assert!(!run.out.contains(word), "{shell}: {word}");
        }
    }
    line("completions tcsh", Path::new("")).complains(&["tcsh", "bash"]);
}

#[test]
fn each_command_has_a_man_page() {
    let dir = tempdir().unwrap();
    let run = line("man {}/pages", dir.path()).exits(0);
    let pages: Vec<PathBuf> = files(&dir.path().join("pages")).into_keys().collect();
    assert_eq!(run.out.lines().count(), pages.len());
    let names: Vec<_> = pages.iter().filter_map(|path| path.file_name()?.to_str()).collect();
    for name in ["hyperfuzz.1", "hyperfuzz-smoke.1", "hyperfuzz-bench-speed.1", "hyperfuzz-corpus-list.1"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(!names.iter().any(|name| name.contains("worker") || name.contains("help")), "{names:?}");
    let smoke = fs::read_to_string(dir.path().join("pages/hyperfuzz-smoke.1")).unwrap();
    assert!(smoke.contains(".TH hyperfuzz-smoke 1") && smoke.contains("\\-\\-baseline"), "{smoke}");
    fs::write(dir.path().join("file"), "").unwrap();
    line("man {}/file", dir.path()).complains(&["file"]);
}
