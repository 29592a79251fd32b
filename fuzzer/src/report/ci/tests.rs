//! What the writers make of the same outcomes.

use serde_json::Value;

use super::*;

pub(super) fn item(name: &str, known: bool) -> Item {
    Item {
        bucket: Bucket::from_name(name).unwrap(),
        known,
        summary: "fault in sched_op.poll: <wild> & \"quoted\" | read".into(),
        place: Some(Place {
            file: "hypervisor/src/hypercall/sched_op.rs".into(),
            line: Some(7),
            function: Some("sched_op::poll".into()),
        }),
        reproduction: Some(Reproduction { reproduced: 10, runs: 10, on_clean_boot: true }),
        report: Some("finding  x\nstack ]]> of ```` the <hypervisor>\n".into()),
        times: 3,
    }
}

pub(super) fn outcome(findings: Vec<Item>) -> Outcome {
    Outcome {
        target: "reference-pv".into(),
        build: Some("00ff".into()),
        plants: vec!["count-sign".into()],
        time: Duration::from_millis(61_500),
        figures: Some(Figures { executions: 1_000, calls: 5_000, edges: (10, 20), ..Figures::default() }),
        findings,
        failure: None,
    }
}

pub(super) fn failed(findings: Vec<Item>) -> Outcome {
    Outcome { figures: None, failure: Some("cannot write\nthe disk is full".into()), ..outcome(findings) }
}

/// A new finding, a known one of the same kind, and one that nothing is known of but its name.
pub(super) fn some() -> Vec<Item> {
    let bare = Item {
        place: None,
        reproduction: None,
        report: None,
        times: 0,
        ..item("triple-fault-nowhere-03", true)
    };
    let mut known = item("fault-sched-op--block-02", true);
    known.place = known.place.map(|place| Place { line: None, ..place });
    vec![item("fault-sched-op--poll-01", false), known, bare]
}

/// What each status of a test case is, by its name.
fn cases(xml: &str) -> Vec<(String, &'static str)> {
    let document = roxmltree::Document::parse(xml).unwrap();
    let root = document.root_element();
    assert_eq!(root.tag_name().name(), "testsuites");
    assert_eq!(root.attribute("skipped"), None, "no attribute of the root in the schema");
    let suites: Vec<_> = root.children().filter(roxmltree::Node::is_element).collect();
    let [suite] = suites.as_slice() else { panic!("{xml}") };
    assert_eq!(suite.attribute("name"), Some("hyperfuzz smoke reference-pv"));
    let cases: Vec<_> = suite.children().filter(|node| node.has_tag_name("testcase")).collect();
    let status = |case: &roxmltree::Node<'_, '_>| {
        assert!(case.attribute("classname").is_some_and(|name| name == "hyperfuzz.reference-pv"));
        let has = |name: &&str| case.children().any(|child| child.has_tag_name(*name));
        let status = ["failure", "error", "skipped"].into_iter().find(has).unwrap_or("passed");
        (case.attribute("name").unwrap().to_owned(), status)
    };
    let cases: Vec<_> = cases.iter().map(status).collect();
    // What the head says is what is there.
    for (attribute, status) in [("failures", "failure"), ("errors", "error"), ("skipped", "skipped")] {
        let count = cases.iter().filter(|(_, other)| *other == status).count().to_string();
        assert!(root.attribute(attribute).is_none_or(|value| value == count), "{xml}");
        assert_eq!(suite.attribute(attribute), Some(count.as_str()), "{xml}");
    }
    assert_eq!(suite.attribute("tests"), Some(cases.len().to_string().as_str()));
    cases
}

#[test]
fn junit_has_a_case_for_each_finding_and_one_for_all() {
    let expected = [
        ("no new finding", "failure"),
        ("fault-sched-op--poll-01", "failure"),
        ("fault-sched-op--block-02", "skipped"),
        ("triple-fault-nowhere-03", "skipped"),
    ];
    let xml = junit::render(&outcome(some())).unwrap();
    assert_eq!(cases(&xml), expected.map(|(name, status)| (name.to_owned(), status)));
    let document = roxmltree::Document::parse(&xml).unwrap();
    let failure = document.descendants().filter(|node| node.has_tag_name("failure")).nth(1).unwrap();
    assert_eq!(failure.attribute("type"), Some("fault"));
    assert_eq!(failure.attribute("message"), Some(some()[0].summary.as_str()));
    assert_eq!(failure.text().map(str::trim), some()[0].report.as_deref().map(str::trim));
}

#[test]
fn junit_says_so_when_nothing_is_new_and_when_the_session_failed() {
    let one = |outcome: &Outcome| cases(&junit::render(outcome).unwrap()).remove(0).1;
    assert_eq!(one(&outcome(Vec::new())), "passed");
    assert_eq!(one(&outcome(vec![item("hang-a-01", true)])), "passed");
    assert_eq!(one(&failed(Vec::new())), "error");
    assert_eq!(one(&failed(some())), "error");
}

fn log(outcome: &Outcome) -> Value {
    serde_json::from_str(&sarif::render(outcome).unwrap()).unwrap()
}

#[test]
fn sarif_has_a_rule_for_each_kind_and_a_result_for_each_finding() {
    let log = log(&outcome(some()));
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let ids: Vec<_> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["fault", "triple-fault"]);
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 3);
    for (result, item) in results.iter().zip(some()) {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(rule["id"], result["ruleId"]);
        assert_eq!(result["level"], if item.known { "note" } else { "error" });
        assert_eq!(result["baselineState"], if item.known { "unchanged" } else { "new" });
        assert_eq!(result["partialFingerprints"]["bucket/v1"], item.bucket.name());
        assert!(result["message"]["text"].as_str().is_some_and(|text| text.starts_with(&item.summary)));
        assert!(result["occurrenceCount"].as_u64().is_none_or(|count| count > 0));
    }
    let place = &results[0]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "hypervisor/src/hypercall/sched_op.rs");
    let base = place["artifactLocation"]["uriBaseId"].as_str().unwrap();
    assert!(run["originalUriBaseIds"].get(base).is_some(), "{base}");
    assert_eq!(place["region"]["startLine"], 7);
    assert_eq!(results[1]["locations"][0]["physicalLocation"]["region"]["startLine"], 1);
    assert_eq!(results[2].get("locations"), None);
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
    assert_eq!(run["invocations"][0]["exitCode"], 1);
}

#[test]
fn sarif_of_nothing_has_no_results_and_that_of_a_failure_a_notification() {
    let clean = log(&outcome(Vec::new()));
    assert_eq!(clean["runs"][0]["results"], serde_json::json!([]), "the key is there: all results are known");
    assert_eq!(clean["runs"][0]["invocations"][0]["exitCode"], 0);
    let failed = log(&failed(some()));
    let invocation = &failed["runs"][0]["invocations"][0];
    assert_eq!((&invocation["executionSuccessful"], &invocation["exitCode"]), (&false.into(), &3.into()));
    let text = invocation["toolExecutionNotifications"][0]["message"]["text"].as_str();
    assert!(text.is_some_and(|text| text.contains("disk is full")));
    assert_eq!(failed["runs"][0]["results"].as_array().map(Vec::len), Some(3));
}

#[test]
fn every_kind_has_a_description_of_its_own() {
    use coverage_hypercall::crash::CrashKind;
    let other = sarif::description("kind99");
    let with_record = (1..).map_while(CrashKind::from_u32).map(CrashKind::name);
    for kind in with_record.chain(crate::triage::bucket::KINDS_WITHOUT_RECORD) {
        assert_ne!(sarif::description(kind), other, "{kind}");
    }
}

#[test]
fn the_summary_shows_what_is_new_with_its_report() {
    let text = summary::render(&outcome(some()));
    assert!(text.starts_with("## hyperfuzz smoke reference-pv: 1 new, 2 known findings\n"), "{text}");
    assert!(text.contains("`````text\nfinding  x\n"), "a fence that the report cannot close: {text}");
    let row = "| fault-sched-op--poll-01 | fault in sched\\_op.poll: &lt;wild&gt; &amp; \"quoted\" \\| read | hypervisor/src/hypercall/sched\\_op.rs:7 | 10 of 10 |";
    assert!(text.lines().any(|line| line == row), "{text}");
    assert_eq!(text.matches("<details>").count(), 1, "known ones are only listed");
    assert!(text.contains("### Known findings"));
    let text = summary::render(&failed(Vec::new()));
    assert!(text.contains("failed after 0 new findings") && text.contains("the disk is full"), "{text}");
}

#[test]
fn a_long_report_and_many_findings_do_not_burst_a_page() {
    let mut many: Vec<_> = (0..5_000).map(|at| item(&format!("fault-a-{at:08x}"), false)).collect();
    for item in &mut many[..20] {
        item.report = Some("ö".repeat(100_000));
    }
    let text = summary::render(&outcome(many));
    assert!(text.len() < 1 << 20, "{}", text.len());
    assert!(text.contains("and 4800 more."));
}

#[test]
fn a_finding_is_read_from_its_directory_or_from_the_baseline_or_from_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let bucket = Bucket::from_name("hang-sched-op-poll-01").unwrap();
    let file = |item: &Item| item.place.clone().map(|place| place.file);
    let item = Item::new(dir.path(), &bucket, true, None, 0);
    assert_eq!(item.summary, bucket.name());
    assert_eq!(file(&item).as_deref(), Some("hypervisor/src/hypercall/sched_op.rs"));

    let place = SourceLine { file: "hypervisor/src/event.rs".into(), line: 9, function: "f".into() };
    let known = Known { bucket: bucket.clone(), summary: Some("two\nlines".into()), place: Some(place) };
    let item = Item::new(dir.path(), &bucket, true, Some(&known), 0);
    assert_eq!(
        (item.summary.as_str(), file(&item).as_deref()),
        ("two lines", Some("hypervisor/src/event.rs"))
    );

    let finding = dir.path().join("findings").join(bucket.name());
    std::fs::create_dir_all(&finding).unwrap();
    let data = r#"{"summary":"stored","place":{"file":"hypervisor/src/timer.rs","line":0,"function":"g"},
        "reproduction":{"reproduced":1,"runs":2,"on_clean_boot":true},"more":[]}"#;
    std::fs::write(finding.join(DATA), data).unwrap();
    std::fs::write(finding.join(REPORT), "all of it").unwrap();
    let item = Item::new(dir.path(), &bucket, false, Some(&known), 4);
    assert_eq!((item.summary.as_str(), item.report.as_deref()), ("stored", Some("all of it")));
    assert_eq!(item.place.map(|place| place.line), Some(None), "line zero is none");
}

#[test]
fn files_are_written_whole_and_the_summary_is_appended() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let outputs =
        Outputs { junit: Some(at("j.xml")), sarif: Some(at("s.sarif")), summary: Some(at("summary.md")) };
    outputs.check().unwrap();
    for _ in 0..2 {
        outputs.write(&outcome(some())).unwrap();
    }
    assert_eq!(cases(&std::fs::read_to_string(at("j.xml")).unwrap()).len(), 4);
    let sarif: Value = serde_json::from_slice(&std::fs::read(at("s.sarif")).unwrap()).unwrap();
    assert_eq!(sarif["runs"].as_array().map(Vec::len), Some(1));
    assert_eq!(std::fs::read_to_string(at("summary.md")).unwrap().matches("## hyperfuzz").count(), 2);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3, "nothing is left beside them");

    let bad = Outputs { junit: Some(at("none/j.xml")), ..Outputs::default() };
    assert!(format!("{:#}", bad.check().unwrap_err()).contains("--junit"));
    assert!(bad.write(&outcome(Vec::new())).is_err());
    let bad = Outputs { sarif: Some(dir.path().to_owned()), ..Outputs::default() };
    assert!(format!("{:#}", bad.check().unwrap_err()).contains("a directory is there"));
}
