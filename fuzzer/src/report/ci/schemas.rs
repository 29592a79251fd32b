//! What the schemas of both formats demand of what is written here: `junit-10.xsd` of Jenkins' xUnit plugin, and OASIS' schema of SARIF 2.1.0. Both
//! are stricter than their readers. The files themselves are not kept; reports were validated with them by xmllint and jsonschema.

use roxmltree::Node;
use serde_json::Value;

use super::{tests::*, *};

/// An element of JUnit reports.
struct Element {
    name: &'static str,
    /// Attributes that have to be there, and others that may be.
    required: &'static [&'static str],
    optional: &'static [&'static str],
    /// Elements that may be in it.
    children: &'static [&'static str],
}

const fn element(
    name: &'static str,
    required: &'static [&'static str],
    optional: &'static [&'static str],
    children: &'static [&'static str],
) -> Element {
    Element { name, required, optional, children }
}

const ELEMENTS: &[Element] = &[
    element("testsuites", &[], &["name", "time", "tests", "failures", "errors"], &["testsuite"]),
    element(
        "testsuite",
        &["name", "tests", "failures", "errors"],
        &["time", "skipped", "timestamp", "hostname", "id"],
        &["properties", "testcase", "system-out", "system-err"],
    ),
    element("properties", &[], &[], &["property"]),
    element("property", &["name", "value"], &[], &[]),
    element(
        "testcase",
        &["name"],
        &["time", "classname"],
        &["skipped", "error", "failure", "system-out", "system-err"],
    ),
    element("failure", &[], &["type", "message"], &[]),
    element("error", &[], &["type", "message"], &[]),
    element("skipped", &[], &["type", "message"], &[]),
];

/// One session of each kind.
fn sessions() -> [Outcome; 5] {
    let known = vec![item("hang-a-01", true)];
    let long = Outcome {
        time: Duration::from_millis(172_800_001),
        plants: Vec::new(),
        build: None,
        ..outcome(some())
    };
    [outcome(Vec::new()), outcome(known), long, failed(Vec::new()), failed(some())]
}

fn junit_element(node: Node<'_, '_>) {
    let name = node.tag_name().name();
    let Element { required, optional, children, .. } =
        ELEMENTS.iter().find(|element| element.name == name).unwrap_or_else(|| panic!("{name}"));
    for attribute in node.attributes() {
        let known = required.contains(&attribute.name()) || optional.contains(&attribute.name());
        assert!(known, "{name} has no attribute {}", attribute.name());
    }
    for attribute in *required {
        assert!(node.attribute(*attribute).is_some(), "{name} needs {attribute}");
    }
    if let Some(time) = node.attribute("time") {
        let (seconds, rest) = time.split_once('.').unwrap_or((time, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        assert!(digits(seconds) && digits(rest) && rest.len() <= 3, "{time}");
    }
    for child in node.children().filter(Node::is_element) {
        assert!(children.contains(&child.tag_name().name()), "{} in {name}", child.tag_name().name());
        junit_element(child);
    }
}

#[test]
fn junit_is_as_the_schema_has_it() {
    for session in sessions() {
        let xml = junit::render(&session).unwrap();
        junit_element(roxmltree::Document::parse(&xml).unwrap().root_element());
    }
}

/// An object with these properties, and others only if they are among the rest.
fn object<'a>(value: &'a Value, required: &[&str], optional: &[&str]) -> &'a serde_json::Map<String, Value> {
    let object = value.as_object().unwrap_or_else(|| panic!("no object: {value}"));
    for name in required {
        assert!(object.contains_key(*name), "no {name} in {value}");
    }
    for name in object.keys() {
        assert!(required.contains(&name.as_str()) || optional.contains(&name.as_str()), "{name} in {value}");
    }
    object
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("no list: {value}"))
}

fn message(value: &Value) {
    assert!(object(value, &["text"], &[])["text"].as_str().is_some_and(|text| !text.is_empty()), "{value}");
}

fn one_of(value: &Value, words: &[&str]) {
    assert!(value.as_str().is_some_and(|word| words.contains(&word)), "{value}");
}

fn sarif_location(location: &Value, bases: &serde_json::Map<String, Value>) {
    let location = object(location, &["physicalLocation"], &["logicalLocations"]);
    let physical = object(&location["physicalLocation"], &["artifactLocation"], &["region"]);
    let artifact = object(&physical["artifactLocation"], &["uri", "uriBaseId"], &[]);
    let uri = artifact["uri"].as_str().expect("text");
    assert!(!uri.starts_with('/') && !uri.contains([' ', '\\', '%']), "a relative reference: {uri}");
    assert!(artifact["uriBaseId"].as_str().is_some_and(|base| bases.contains_key(base)));
    let line = &object(&physical["region"], &["startLine"], &[])["startLine"];
    assert!(line.as_u64().is_some_and(|line| line >= 1), "{line}");
    for logical in location.get("logicalLocations").map(list).unwrap_or_default() {
        object(logical, &["fullyQualifiedName", "kind"], &[]);
    }
}

#[test]
fn sarif_is_as_the_schema_has_it() {
    for session in sessions() {
        let log: Value = serde_json::from_str(&sarif::render(&session).unwrap()).unwrap();
        let log = object(&log, &["version", "runs", "$schema"], &[]);
        assert!(log["$schema"].as_str().is_some_and(|uri| uri.starts_with("https://")));
        let [run] = list(&log["runs"]) else { panic!("one run") };
        let optional = ["automationDetails", "invocations", "originalUriBaseIds", "results", "properties"];
        let run = object(run, &["tool"], &optional);
        let driver = object(&run["tool"], &["driver"], &[])["driver"].clone();
        let driver = object(&driver, &["name"], &["version", "semanticVersion", "rules"]);
        let rules = list(&driver["rules"]);
        let optional = ["shortDescription", "fullDescription", "help", "defaultConfiguration"];
        for rule in rules {
            let rule = object(rule, &["id"], &optional);
            ["shortDescription", "fullDescription", "help"].iter().for_each(|name| message(&rule[*name]));
        }
        let mut ids: Vec<_> = rules.iter().map(|rule| rule["id"].as_str()).collect();
        ids.dedup();
        assert_eq!(ids.len(), rules.len(), "each rule once");
        object(&run["automationDetails"], &["id"], &[]);
        for invocation in list(&run["invocations"]) {
            let optional = ["exitCode", "toolExecutionNotifications"];
            let invocation = object(invocation, &["executionSuccessful"], &optional);
            assert!(invocation["executionSuccessful"].is_boolean() && invocation["exitCode"].is_u64());
            for notification in list(&invocation["toolExecutionNotifications"]) {
                message(&object(notification, &["message"], &["level"])["message"]);
                one_of(&notification["level"], &["none", "note", "warning", "error"]);
            }
        }
        let bases = run["originalUriBaseIds"].as_object().expect("an object");
        for result in list(&run["results"]) {
            let optional = [
                "ruleId",
                "ruleIndex",
                "level",
                "baselineState",
                "locations",
                "partialFingerprints",
                "occurrenceCount",
            ];
            let result = object(result, &["message"], &optional);
            message(&result["message"]);
            one_of(&result["level"], &["none", "note", "warning", "error"]);
            one_of(&result["baselineState"], &["new", "unchanged", "updated", "absent"]);
            let index = usize::try_from(result["ruleIndex"].as_u64().expect("a number")).unwrap();
            assert_eq!(rules[index]["id"], result["ruleId"]);
            let prints = result["partialFingerprints"].as_object().expect("an object");
            assert!(prints.values().all(Value::is_string));
            for location in result.get("locations").map(list).unwrap_or_default() {
                sarif_location(location, bases);
            }
            assert!(result.get("occurrenceCount").is_none_or(|count| count.as_u64() >= Some(1)));
        }
    }
}
