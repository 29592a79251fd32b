//! JUnit XML, as Jenkins, GitLab and GitHub's actions read it.

use quick_junit::{NonSuccessKind, Property, Report, TestCase, TestCaseStatus, TestSuite};

use super::{Item, Outcome};

/// Name of the test case that says whether anything is new, in every report the same.
const NOTHING_NEW: &str = "no new finding";

/// The report: one suite, a test case for each finding, and one that fails if any of them is new.
///
/// # Errors
/// When it cannot be made, which none of the contents should cause.
pub(super) fn render(outcome: &Outcome) -> anyhow::Result<String> {
    let mut suite = TestSuite::new(format!("hyperfuzz smoke {}", outcome.target));
    suite.set_time(outcome.time);
    suite.add_property(("target", outcome.target.as_str()));
    suite.add_property(("build", outcome.build.as_deref().unwrap_or("unknown")));
    if !outcome.plants.is_empty() {
        suite.add_property(("plants", outcome.plants.join(",").as_str()));
    }
    if let Some(figures) = &outcome.figures {
        for (name, value) in [("executions", figures.executions), ("calls", figures.calls)] {
            suite.add_property(Property::new(name, value.to_string()));
        }
    }
    for (name, status) in std::iter::once((NOTHING_NEW.to_owned(), nothing_new(outcome)))
        .chain(outcome.findings.iter().map(|item| (item.bucket.to_string(), status(item))))
    {
        let mut case = TestCase::new(name, status);
        case.set_classname(format!("hyperfuzz.{}", outcome.target));
        suite.add_test_case(case);
    }
    let mut report = Report::new("hyperfuzz");
    report.set_time(outcome.time);
    report.add_test_suite(suite);
    // The schema of Jenkins has this attribute for suites, and not for the root, which comes first.
    let skipped = format!(" skipped=\"{}\"", report.skipped);
    Ok(report.to_string()?.replacen(&skipped, "", 1))
}

/// How the test case ends that is about all findings together.
fn nothing_new(outcome: &Outcome) -> TestCaseStatus {
    if let Some(failure) = &outcome.failure {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_type("hyperfuzz").set_message(outcome.verdict()).set_description(failure.as_str());
        return status;
    }
    if outcome.of(false).next().is_none() {
        return TestCaseStatus::success();
    }
    let names: Vec<_> = outcome.of(false).map(|item| item.bucket.name()).collect();
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_type("new-finding").set_message(outcome.verdict()).set_description(names.join("\n"));
    status
}

/// How the test case of a finding ends.
fn status(item: &Item) -> TestCaseStatus {
    if item.known {
        let mut status = TestCaseStatus::skipped();
        status.set_message(format!("known: {}", item.summary));
        return status;
    }
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status
        .set_type(item.bucket.kind())
        .set_message(item.summary.as_str())
        .set_description(item.report.as_deref().unwrap_or(&item.summary));
    status
}
