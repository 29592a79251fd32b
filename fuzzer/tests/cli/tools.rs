//! `doctor` and `bench`.

use std::fs;

use crate::support::{hyperfuzz, machine};

#[test]
fn doctor_finds_this_machine_usable() {
    let run = hyperfuzz(["doctor"]).exits(0);
    assert_eq!(run.verdict(), "verdict: this machine can fuzz");
    let report = hyperfuzz(["doctor", "--json"]).exits(0).events();
    assert_eq!(report.len(), 1);
    assert_eq!(report[0]["usable"], true);
    assert!(report[0]["checks"].as_array().is_some_and(|checks| checks.len() >= 5), "{report:?}");
}

#[test]
fn doctor_says_what_is_missing_and_how_to_get_it() {
    let run = hyperfuzz(["doctor", "--qemu", "/nonexistent"]).exits(3);
    assert!(run.out.contains("MISSING") && run.out.contains("install"), "{run:#?}");
    assert_eq!(run.verdict(), "verdict: something is missing");
    let report = hyperfuzz(["doctor", "--qemu", "/nonexistent", "--json"]).exits(3).events();
    assert_eq!(report[0]["usable"], false);
    assert!(report[0]["checks"][0]["advice"].is_string(), "{report:?}");
}

#[test]
fn bench_speed_measures_both_sides() {
    let _turn = machine();
    let scratch = tempfile::tempdir().unwrap();
    let csv = scratch.path().join("speed.csv");
    let args = [
        "bench",
        "speed",
        "--time",
        "2",
        "--beside-reset",
        "loadvm",
        "--json",
        "--csv",
        csv.to_str().unwrap(),
    ];
    let report = hyperfuzz(args).exits(0).events().remove(0);
    let other = &report["beside_reset"];
    assert_eq!(other["way"], "loadvm", "{report}");
    assert!(other["engine"]["programs_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{report}");
    for field in [
        "/calls_per_program",
        "/ceiling/programs_per_second",
        "/ceiling/processor_microseconds",
        "/engine/programs_per_second",
        "/engine/calls_per_second",
        "/same/programs_per_second",
        "/crash/crash_microseconds",
        "/crash/good_microseconds",
        "/engine/processor_microseconds",
        "/fuzzer/programs_per_second",
        "/fuzzer/calls_per_second",
        "/fuzzer/host_microseconds",
        "/engine_to_ceiling",
        "/engine_to_ceiling_by_processor",
        "/fuzzer_to_engine",
        "/fuzzer_to_engine_by_processor",
        "/engine_parts/reset_microseconds",
        "/engine_parts/guest_microseconds",
        "/fuzzer_parts/lower_microseconds",
        "/fuzzer_parts/read_back_microseconds",
        "/reset/microseconds_per_page",
        "/memory/0",
        "/memory/1",
    ] {
        let value = report.pointer(field).and_then(|value| value.as_f64());
        assert!(value.is_some_and(|v| v > 0.0 && v.is_finite()), "{field}: {report}");
    }
    let points = report["reset"]["points"].as_array().unwrap();
    let pages: Vec<u64> = points.iter().map(|point| point["pages"].as_u64().unwrap()).collect();
    assert!(pages.len() > 4 && pages.is_sorted() && pages.last() > Some(&1024), "{pages:?}");
    let lines = std::fs::read_to_string(csv).unwrap();
    assert!(lines.lines().all(|line| line.split(',').count() == 4), "{lines}");
    assert!(lines.contains("\nreference-hvm,reset,microseconds per page,"), "{lines}");
    // Nothing can be faster than the same programs without host and reset; the rest is noise of a short run.
    assert!(report["engine_to_ceiling"].as_f64().unwrap() <= 1.5, "{report}");
}

#[test]
fn the_interface_is_printed_and_filtered() {
    let all = hyperfuzz(["interface"]).exits(0);
    assert!(
        all.out.contains("event_channel_op.send\n    hypercall 32, sub-operation 4; returns zero\n"),
        "{}",
        all.out
    );
    let some = hyperfuzz(["interface", "sched_op"]).exits(0);
    assert!(some.out.contains("sched_op.poll") && !some.out.contains("event_channel_op."), "{}", some.out);
    let lines = hyperfuzz(["interface", "sched_op", "memory_op", "--json"]).exits(0).events();
    assert!(lines.iter().any(|entry| entry["name"] == "memory_op.populate_physmap"), "{lines:?}");
    assert!(
        lines.iter().all(|entry| entry["arguments"].is_array() && entry["returns"].is_string()),
        "{lines:?}"
    );
    hyperfuzz(["interface", "no_such_op"]).complains(&["no_such_op", "sched_op"]);
    let dir = tempfile::tempdir().unwrap();
    crate::support::line("interface --campaign {}", dir.path()).complains(&["no record of operations"]);
}

#[test]
fn a_campaign_says_what_it_did_with_each_operation_over_its_sessions() {
    let _turn = machine();
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for session in 1..3 {
        crate::support::line("fuzz {}/c --seed 3 --execs 400", dir.path()).exits(0);
        let lines = crate::support::line("interface --campaign {}/c --json", dir.path()).exits(0).events();
        let (total, operations) = lines.split_last().unwrap();
        assert_eq!(total["executions"], 400 * session, "{total}");
        let number = |value: &serde_json::Value| value.as_u64().unwrap();
        assert!(
            number(&total["edges"]) > 100 && number(&total["edges"]) <= number(&total["edges_total"]),
            "{total}"
        );
        let succeeded: u64 = operations.iter().map(|entry| number(&entry["campaign"]["succeeded"])).sum();
        assert!(succeeded > before, "{succeeded} after {before}");
        before = succeeded;
        let most = operations.iter().map(|entry| number(&entry["campaign"]["edges"])).max().unwrap();
        assert!(
            (1..=number(&total["edges"])).contains(&most),
            "an edge counts once for an operation: {most} of {total}"
        );
    }
    let table = crate::support::line("interface event_channel_op --campaign {}/c", dir.path()).exits(0).out;
    assert!(
        table.contains("event_channel_op.send") && table.contains("ok ") && table.contains("800 executions"),
        "{table}"
    );
    fs::write(dir.path().join("c/operations.json"), "{").unwrap();
    crate::support::line("interface --campaign {}/c", dir.path()).complains(&["operations.json"]);
}
