//! `doctor` and `bench`.

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
    let report = hyperfuzz(["bench", "speed", "--time", "2", "--json"]).exits(0).events().remove(0);
    for field in [
        "calls_per_program",
        "ceiling_executions_per_second",
        "engine_executions_per_second",
        "engine_calls_per_second",
        "fuzzer_executions_per_second",
        "fuzzer_calls_per_second",
        "engine_to_ceiling",
        "fuzzer_to_engine",
    ] {
        assert!(report[field].as_f64().is_some_and(|v| v > 0.0 && v.is_finite()), "{field}: {report}");
    }
    // Nothing can be faster than the same programs without host and reset; the rest is noise of a short run.
    assert!(report["engine_to_ceiling"].as_f64().unwrap() <= 1.5, "{report}");
}
