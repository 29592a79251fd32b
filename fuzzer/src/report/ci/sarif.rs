//! SARIF 2.1.0 (OASIS), as code scanning reads it: a rule for each kind of misbehaviour, a result for each finding.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Item, Outcome, Place};

/// Where the schema of the format has its name.
const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";
/// What paths are relative to: the root of the hypervisor's repository.
const ROOT: &str = "%SRCROOT%";

/// A result, section 3.27 of the specification.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SarifResult<'a> {
    rule_id: &'a str,
    rule_index: usize,
    level: &'static str,
    message: Value,
    /// Against what was known before.
    baseline_state: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    locations: Vec<Value>,
    partial_fingerprints: BTreeMap<&'static str, &'a str>,
    /// At least one.
    #[serde(skip_serializing_if = "Option::is_none")]
    occurrence_count: Option<u64>,
}

/// The log.
///
/// # Errors
/// When it cannot be made, which none of the contents should cause.
pub(super) fn render(outcome: &Outcome) -> anyhow::Result<String> {
    let mut kinds: Vec<_> = outcome.findings.iter().map(|item| item.bucket.kind()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let results: Vec<_> = outcome.findings.iter().map(|item| result(item, &kinds)).collect();
    let notifications: Vec<_> = outcome
        .failure
        .iter()
        .map(|failure| json!({ "level": "error", "message": { "text": failure } }))
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    let log = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "hyperfuzz",
                "version": version,
                "semanticVersion": version,
                "rules": kinds.iter().map(|kind| rule(kind)).collect::<Vec<_>>(),
            }},
            // Runs about different targets do not replace each other.
            "automationDetails": { "id": format!("hyperfuzz/{}/", outcome.target) },
            "invocations": [{
                "executionSuccessful": outcome.failure.is_none(),
                "exitCode": outcome.exit(),
                "toolExecutionNotifications": notifications,
            }],
            "originalUriBaseIds": {
                ROOT: { "description": { "text": "The root of the hypervisor's repository." } },
            },
            "results": results,
            "properties": {
                "target": outcome.target,
                "build": outcome.build,
                "plants": outcome.plants,
                "seconds": outcome.time.as_secs_f64(),
                "executions": outcome.figures.map(|figures| figures.executions),
            },
        }],
    });
    Ok(serde_json::to_string_pretty(&log)? + "\n")
}

fn result<'a>(item: &'a Item, kinds: &[&str]) -> SarifResult<'a> {
    let kind = item.bucket.kind();
    let name = item.bucket.name();
    let mut text = item.summary.clone();
    if let Some(reproduction) = &item.reproduction {
        text += &format!("\nReproduced in {} of {} runs.", reproduction.reproduced, reproduction.runs);
    }
    text += &format!("\nBucket: {name}");
    SarifResult {
        rule_id: kind,
        rule_index: kinds.binary_search(&kind).unwrap_or_default(),
        level: if item.known { "note" } else { "error" },
        message: json!({ "text": text }),
        baseline_state: if item.known { "unchanged" } else { "new" },
        locations: item.place.iter().map(location).collect(),
        // The first is the one that GitHub tells alerts apart by.
        partial_fingerprints: BTreeMap::from([("primaryLocationLineHash", name), ("bucket/v1", name)]),
        occurrence_count: (item.times > 0).then_some(item.times),
    }
}

fn location(place: &Place) -> Value {
    let physical = json!({
        "artifactLocation": { "uri": place.file, "uriBaseId": ROOT },
        // GitHub shows nothing that has no line: the first one stands for the file.
        "region": { "startLine": place.line.unwrap_or(1) },
    });
    let mut location = json!({ "physicalLocation": physical });
    if let Some(function) = &place.function {
        location["logicalLocations"] = json!([{ "fullyQualifiedName": function, "kind": "function" }]);
    }
    location
}

/// A reporting descriptor, section 3.49 of the specification.
fn rule(kind: &str) -> Value {
    let text = description(kind);
    json!({
        "id": kind,
        "shortDescription": { "text": text },
        "fullDescription": { "text": text },
        "help": { "text": "Replay the finding on a clean boot: hyperfuzz replay CAMPAIGN/findings/BUCKET" },
        "defaultConfiguration": { "level": "error" },
    })
}

/// What a kind of misbehaviour is, in a sentence.
pub(super) fn description(kind: &str) -> &'static str {
    match kind {
        "panic" => "The hypervisor gave up with a message of its own.",
        "assertion" => "An assertion, or a check that the language makes, failed in the hypervisor.",
        "fault" => "The processor raised an exception in the hypervisor.",
        "double-fault" => "An exception came on top of an exception, or the stack ran into its guard page.",
        "stack-canary" => "Memory beside a buffer on the hypervisor's stack was overwritten.",
        "heap-canary" => "Memory beside a block of the hypervisor's heap was overwritten.",
        "m2p-identity" => "The machine-to-physical table and a domain's own table disagree.",
        "privilege" => "An operation ran with a privilege that its caller did not have any more.",
        "latency" => "A call took more work than its bound allows.",
        "lock-held" => "A call returned with a lock or with preemption still held.",
        "references" => "References to a page, a domain or a grant do not add up.",
        "freed-frame" => "A domain has a page that belongs to nobody.",
        "return-contract" => "A call returned a value that its contract does not know.",
        "uninitialised" => "Memory that nobody had initialised reached a guest.",
        "isolation" => "A domain could see or change what belongs to another.",
        "hang" => "The hypervisor did not come back from a call.",
        "timeout" => "The machine stopped answering.",
        "triple-fault" => "The machine reset itself.",
        "lost-record" => "The hypervisor crashed and overwrote its own crash record.",
        _ => "The hypervisor misbehaved.",
    }
}
