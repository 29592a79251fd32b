//! The file `metrics.prom` of a campaign: what it has done, for Prometheus.
//!
//! It has the text exposition format, as the textfile collector of Prometheus' node exporter reads it. Names that end in
//! `_total` count over all sessions of the campaign, and resuming it does not set them back.

use std::{
    fmt::{Display, Write},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    operations::Record,
    store::{Description, StoreError, write_atomically},
};

/// Name of the file in a campaign's directory.
pub const NAME: &str = "metrics.prom";

/// What is told at one moment.
#[derive(Debug)]
pub struct Snapshot<'a> {
    /// What the campaign is about.
    pub about: &'a Description,
    /// What it has done, this session included.
    pub record: &'a Record,
    /// Programs in the corpus.
    pub corpus: usize,
    /// Workers that are at work.
    pub workers: usize,
    /// Time since this session began.
    pub session: Duration,
}

/// Puts a snapshot into a campaign's directory.
///
/// # Errors
/// When it cannot be written.
pub fn store(campaign: &Path, snapshot: &Snapshot<'_>) -> Result<(), StoreError> {
    // Two campaigns on one machine must not have the same series. A directory such as `.` has its name from where it is.
    let absolute = campaign.canonicalize();
    let name = absolute.as_deref().unwrap_or(campaign).file_name().unwrap_or_default().to_string_lossy();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    write_atomically(&campaign.join(NAME), render(&name, snapshot, now).as_bytes())
}

/// The text about the campaign of this name, so long after 1970.
fn render(campaign: &str, snapshot: &Snapshot<'_>, now: Duration) -> String {
    let Snapshot { about, record, corpus, workers, session } = snapshot;
    let counters = &record.counters;
    let labels = [("campaign", campaign), ("target", &about.target), ("build", &about.build)];
    let mut page = Page { text: String::new(), labels: pairs(&labels) };
    page.counter("executions_total", "Programs that were executed.", record.executions);
    page.counter("calls_total", "Calls that came back, or faulted in the guest.", counters.calls);
    page.counter("crashes_total", "Executions in which the hypervisor misbehaved.", counters.crashes);
    page.counter("findings_total", "Buckets with a confirmed finding.", counters.findings);
    page.counter("restarts_total", "Machines that had to be replaced.", counters.restarts);
    page.family("checks_total", "counter", "Self-checks of the machine, by what came of them.");
    let checks = counters.checks;
    for (result, count) in
        [("passed", checks.passed), ("failed", checks.mismatches), ("skipped", checks.skipped)]
    {
        page.sample("checks_total", &[("result", result)], count);
    }
    page.counter("sessions_total", "Sessions that were begun.", about.sessions);
    page.counter("fuzzing_seconds_total", "Seconds that sessions have taken.", counters.time.as_secs_f64());
    page.gauge("edges", "Edges of the target that some program has covered.", record.covered.len());
    page.gauge("target_edges", "Edges that the target has.", record.edges_total);
    page.gauge("corpus_programs", "Programs in the corpus.", corpus);
    page.gauge("workers", "Workers of this session, or of the last one.", workers);
    page.gauge("session_seconds", "Seconds since this session began.", session.as_secs_f64());
    page.gauge(
        "written_timestamp_seconds",
        "When this file was written, in seconds since 1970.",
        now.as_secs(),
    );
    page.text
}

/// The file as it grows.
struct Page {
    text: String,
    /// Labels that all samples have.
    labels: String,
}

impl Page {
    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "counter", help);
        self.sample(name, &[], value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// Says what the samples that follow are.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP hyperfuzz_{name} {help}\n# TYPE hyperfuzz_{name} {kind}");
    }

    fn sample(&mut self, name: &str, more: &[(&str, &str)], value: impl Display) {
        let comma = if more.is_empty() { "" } else { "," };
        let _ = writeln!(self.text, "hyperfuzz_{name}{{{}{comma}{}}} {value}", self.labels, pairs(more));
    }
}

/// Labels as they stand in braces.
fn pairs(labels: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    labels.iter().map(pair).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::campaign::{check::Tally, operations::Counters, store::FORMAT};

    /// The file of a campaign in a directory of this name.
    fn page(name: &str) -> String {
        let about = Description {
            format: FORMAT,
            hyperfuzz: "0.1.0".into(),
            target: "reference-pv".into(),
            build: "00ff".into(),
            plants: Vec::new(),
            seed: 7,
            sessions: 2,
        };
        let record = Record {
            executions: 12,
            edges_total: 9,
            covered: vec![1, 2, 5],
            counters: Counters {
                calls: 100,
                checks: Tally { passed: 3, mismatches: 1, skipped: 0 },
                time: Duration::from_millis(2500),
                ..Counters::default()
            },
            ..Record::default()
        };
        let session = Duration::from_secs(1);
        let snapshot = Snapshot { about: &about, record: &record, corpus: 4, workers: 2, session };
        render(name, &snapshot, Duration::from_secs(1_000))
    }

    /// Names in a text that begin as all of ours do.
    fn names(text: &str) -> BTreeSet<&str> {
        let end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        text.match_indices("hyperfuzz_").filter_map(|(at, _)| text[at..].split(end).next()).collect()
    }

    #[test]
    fn samples_have_the_values_and_labels_of_the_campaign() {
        let page = page("nightly");
        let labels = "campaign=\"nightly\",target=\"reference-pv\",build=\"00ff\"";
        for line in [
            format!("hyperfuzz_executions_total{{{labels}}} 12"),
            format!("hyperfuzz_checks_total{{{labels},result=\"failed\"}} 1"),
            format!("hyperfuzz_fuzzing_seconds_total{{{labels}}} 2.5"),
            format!("hyperfuzz_sessions_total{{{labels}}} 2"),
            format!("hyperfuzz_edges{{{labels}}} 3"),
            format!("hyperfuzz_written_timestamp_seconds{{{labels}}} 1000"),
        ] {
            assert!(page.lines().any(|other| other == line), "{line} in {page}");
        }
    }

    #[test]
    fn each_family_is_introduced_once_and_what_counts_is_called_a_total() {
        let page = page("c");
        assert!(page.ends_with('\n'), "a last line without an end is an error of the format");
        let types: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        let introduced: BTreeSet<_> = types.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(types.len(), introduced.len());
        assert_eq!(introduced, names(&page), "a sample without a family");
        for line in types {
            let (name, kind) = line.split_once(' ').unwrap();
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(page.contains(&format!("# HELP {name} ")), "{name}");
        }
    }

    #[test]
    fn a_hostile_name_stays_within_its_label() {
        let page = page("a\"b\\c\nd");
        assert!(page.contains("{campaign=\"a\\\"b\\\\c\\nd\",target="), "{page}");
        assert!(page.lines().all(|line| line.starts_with("# ") || line.starts_with("hyperfuzz_")));
    }

    #[test]
    fn the_dashboard_and_the_manual_name_only_what_there_is() {
        let page = page("c");
        let known = names(&page);
        for (what, text) in [
            ("dashboard", include_str!("../../docs/grafana/hyperfuzz.json")),
            ("manual", include_str!("../../docs/monitoring.md")),
        ] {
            let used = names(text);
            assert!(used.len() > 5, "{what}: {used:?}");
            assert_eq!(used.difference(&known).collect::<Vec<_>>(), Vec::<&&str>::new(), "{what}");
        }
        let manual = names(include_str!("../../docs/monitoring.md"));
        assert_eq!(manual, known, "the manual describes each of them");
    }

    #[test]
    fn the_dashboard_is_json_with_a_query_in_each_panel() {
        let text = include_str!("../../docs/grafana/hyperfuzz.json");
        let dashboard: serde_json::Value = serde_json::from_str(text).unwrap();
        let panels = dashboard["panels"].as_array().expect("panels");
        for panel in panels {
            let query = panel["targets"][0]["expr"].as_str().unwrap_or_default();
            assert!(!names(query).is_empty(), "{panel}");
        }
        assert!(!panels.is_empty());
    }
}
