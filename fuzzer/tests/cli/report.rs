//! `hyperfuzz report`: the page about a campaign, as a browser sees it, and coverage for other tools.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::tempdir;

use crate::support::{Background, Run, command, line, machine, signal_to, until};

/// The data in a page.
fn data_of(page: &str) -> Value {
    let start = page.find("id=\"data\">").expect("there are data") + "id=\"data\">".len();
    let end = start + page[start..].find("</script>").expect("they end");
    serde_json::from_str(&page[start..end]).expect("they are JSON")
}

/// A browser that can be run without a screen, if there is one.
fn browser() -> Option<PathBuf> {
    let named = std::env::var_os("CHROMIUM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    named.or_else(|| {
        std::env::split_paths(&path)
            .flat_map(|directory| {
                ["chromium", "chromium-browser", "google-chrome"].map(|name| directory.join(name))
            })
            .find(|candidate| candidate.is_file())
    })
}

/// A screen.
struct Screen {
    width: u32,
    dark: bool,
}

/// What a reader finds out about a page on a screen ([`report_page.js`](report_page.js)).
fn read(browser: &Path, page: &str, screen: &Screen, scratch: &Path) -> Value {
    let given = serde_json::json!({ "page": page, "width": screen.width }).to_string().replace("</", "<\\/");
    let given = given.replace("<!--", "<\\u0021--");
    let wrapper = scratch.join("reader.html");
    let script = include_str!("report_page.js");
    fs::write(
        &wrapper,
        format!("<!doctype html><body><script type=\"application/json\" id=\"given\">{given}</script><script>{script}</script>"),
    )
    .unwrap();
    let output = Command::new(browser)
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=10000",
            "--dump-dom",
        ])
        .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!screen.dark)))
        .arg(format!("--user-data-dir={}", scratch.join("profile").display()))
        .arg("--window-size=1400,900")
        .arg(format!("file://{}", wrapper.display()))
        .stderr(Stdio::null())
        .output()
        .expect("the browser starts");
    let drawn = String::from_utf8_lossy(&output.stdout);
    let (_, result) = drawn
        .split_once("data-result=\"")
        .unwrap_or_else(|| panic!("no result: {}", &drawn[..drawn.len().min(400)]));
    let bytes: Vec<u8> = decoded(result.split('"').next().unwrap_or_default());
    serde_json::from_slice(&bytes).expect("the result is JSON")
}

/// Undoes `encodeURIComponent`.
fn decoded(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (code, rest) = part.split_at(2);
        bytes.push(u8::from_str_radix(code, 16).expect("hexadecimal"));
        bytes.extend(rest.as_bytes());
    }
    bytes
}

/// Numbers of a list.
fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().expect("a list").iter().map(|n| n.as_u64().expect("a number")).collect()
}

/// Texts of a list.
fn texts(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect()
}

/// The page can be read, sorted and filtered, and no script has failed.
fn check(seen: &Value, screen: &Screen) {
    assert_eq!(seen["errors"], serde_json::json!([]), "{seen:#}");
    // The last line of the script sets it: nothing before has failed.
    assert_eq!(seen["ready"], "yes");
    assert_eq!(seen["width"], screen.width);
    assert_eq!(seen["overflow"], 0, "nothing is wider than {}", screen.width);
    assert_eq!(texts(&seen["sections"]), ["progress", "findings", "operations", "source", "next", "health"]);

    let falling = |values: &[u64]| values.is_sorted_by(|a, b| a >= b);
    assert!(falling(&numbers(&seen["by_calls"])), "the most frequent first: {}", seen["by_calls"]);
    assert!(texts(&seen["by_name"]).is_sorted(), "{}", seen["by_name"]);
    assert!(numbers(&seen["by_edges"]).is_sorted(), "the second click turns the order: {}", seen["by_edges"]);
    assert_eq!(seen["sorted"], serde_json::json!([["edges", "ascending"]]));
    let filtered = texts(&seen["filtered"]);
    assert!(filtered.len() > 3 && filtered.iter().all(|name| name.starts_with("sched_op.")), "{filtered:?}");
    let unsuccessful = texts(&seen["unsuccessful"]);
    assert!(!unsuccessful.is_empty() && (unsuccessful.len() as u64) < seen["rows"].as_u64().unwrap());
    assert!(unsuccessful.iter().all(|share| ["0.0 %", "-"].contains(share)), "{unsuccessful:?}");
    assert_eq!(seen["nothing"], 0);

    assert_eq!(seen["logarithmic"], "true");
    assert!(seen["marks"].as_u64() > Some(0), "the moment of a finding");
    assert!(
        seen["shown"]
            .as_str()
            .is_some_and(|text| text.starts_with("hypercall/sched_op.rs") && text.ends_with('%'))
    );
    assert!(seen["hit"].as_u64() > Some(10) && seen["missed"].as_u64() > Some(0), "{seen:#}");
    let expected = [
        "program",
        "stack of the hypervisor",
        "hypervisor/src/",
        "crash record",
        "first 20",
        "marked known: ours",
        "instruction that faulted",
        "=> ffffffff80123456  ud2",
    ];
    for word in expected {
        assert!(seen["finding"].as_str().unwrap().contains(word), "{word}: {}", seen["finding"]);
    }
    // A fast machine is done before there is anything to compare.
    let plateau = seen["plateau"].as_str().unwrap();
    assert!(["last new edge", "Too short a time"].iter().any(|words| plateau.contains(words)), "{plateau}");
    let (light, dark) = ("rgb(255, 255, 255)", "rgb(20, 24, 28)");
    assert_eq!(seen["background"], if screen.dark { dark } else { light });
    assert_eq!(seen["color"], if screen.dark { "rgb(230, 234, 238)" } else { "rgb(28, 33, 38)" });
}

/// Lets the only session of a campaign have taken minutes: a fast machine is done before there is a curve to draw.
fn stretch(metrics: &Path) {
    let text = fs::read_to_string(metrics).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let (edges, mut lines) = (last["edges"].as_u64().unwrap(), String::new());
    for (seconds, share) in [(5, 4), (20, 2), (60, 1), (240, 1)] {
        let mut sample = last.clone();
        sample["seconds"] = seconds.into();
        sample["edges"] = (edges / share).into();
        lines += &format!("{sample}\n");
    }
    fs::write(metrics, lines).unwrap();
}

/// Marks all findings, and lets them have faulted.
fn dress(campaign: &Path) {
    for finding in fs::read_dir(campaign.join("findings")).unwrap().map(Result::unwrap) {
        let bucket = finding.file_name().into_string().unwrap();
        line(&format!("triage {{}} mark {bucket} known --note ours"), campaign).exits(0);
        let path = finding.path().join("finding.json");
        let mut data: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let instruction =
            serde_json::json!({ "address": 0xffff_ffff_8012_3456_u64, "text": "ud2", "marked": true });
        data["disassembly"] = serde_json::json!({ "function": "f", "offset": 16, "lines": [instruction] });
        fs::write(path, data.to_string()).unwrap();
    }
}

#[test]
fn a_campaign_becomes_a_page_that_a_browser_can_draw() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    line("fuzz {}/c --target reference-pv --corpus empty --plant ref-leak --execs 3000 --seed 3", dir.path())
        .exits(1);
    stretch(&dir.path().join("c/metrics.jsonl"));
    dress(&dir.path().join("c"));
    let run = line("report {}/c --output {}/r.html --lcov {}/r.info --sources /src", dir.path()).exits(0);
    assert_eq!(run.out.lines().count(), 2, "{run:#?}");
    let page = fs::read_to_string(dir.path().join("r.html")).unwrap();
    assert!(page.len() < 5 << 20, "{} bytes", page.len());
    for loads in ["src=", "<link", "@import", "url(", "fetch("] {
        // The sources of the hypervisor may hold anything.
        let shell = page.split("<script type=\"application/json\"").next().unwrap_or_default();
        assert!(!shell.contains(loads), "nothing is loaded from elsewhere: {loads}");
    }
    let data = data_of(&page);
    assert_eq!(data["executions"], 3000, "{}", data["series"]);
    assert!(data["findings"].as_array().is_some_and(|findings| !findings.is_empty()));
    assert_eq!(data["seed"], "3");
    let poll = data["files"]
        .as_array()
        .unwrap()
        .iter()
        .find(|f| f["path"] == "hypervisor/src/hypercall/sched_op.rs");
    assert!(poll.is_some_and(|file| file["covered"].as_u64() > Some(10)), "sched_op was called");
    assert!(!data["frontier"].as_array().unwrap().is_empty());

    let lcov = fs::read_to_string(dir.path().join("r.info")).unwrap();
    assert!(lcov.contains("SF:/src/hypervisor/src/hypercall/sched_op.rs\n"), "{}", &lcov[..200]);
    assert!(lcov.lines().any(|line| line.starts_with("DA:") && line.ends_with(",1")));
    assert!(lcov.lines().all(|line| !line.starts_with("FN:0,") && !line.starts_with("DA:0,")));
    assert_eq!(lcov.matches("\nSF:").count(), lcov.matches("end_of_record").count());

    let Some(browser) = browser() else {
        println!("skipped: no Chromium to draw the page with; name one by CHROMIUM");
        return;
    };
    for screen in [(1280, false), (1280, true), (390, false)].map(|(width, dark)| Screen { width, dark }) {
        check(&read(&browser, &page, &screen, dir.path()), &screen);
    }
}

/// Sends a request and gives the whole answer.
fn ask(address: &str, path: &str, more: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("somebody listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n{more}Connection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn a_campaign_can_be_watched_while_it_goes_on() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    let campaign = Background::start(
        "fuzz {}/c --target reference-pv --corpus empty --plant ref-leak --seed 3",
        dir.path(),
    );
    until("there is a campaign", || dir.path().join("c/campaign.json").exists());
    let words =
        ["report", dir.path().join("c").to_str().unwrap(), "--live", "127.0.0.1:0"].map(str::to_owned);
    let mut live = command(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(live.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    let address =
        first.strip_prefix("http://").and_then(|rest| rest.split('/').next()).expect(&first).to_owned();

    let page = ask(&address, "/", "");
    assert!(page.starts_with("HTTP/1.1 200") && page.contains("data-refresh="), "{}", &page[..400]);
    let executions = || {
        let answer = ask(&address, "/data.json", "");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("ETag: "), "{head}");
        serde_json::from_str::<Value>(body).expect("whole").get("executions").and_then(Value::as_u64).unwrap()
    };
    until("there is progress", || executions() > 0);
    let before = executions();
    until("there is more progress", || executions() > before);
    campaign.signal(Signal::INT);
    campaign.wait().exits(1);

    let answer = ask(&address, "/data.json", "");
    let tag = answer.lines().find_map(|line| line.strip_prefix("ETag: ")).expect("a tag").to_owned();
    let again = ask(&address, "/data.json", &format!("If-None-Match: {tag}\r\n"));
    assert!(again.starts_with("HTTP/1.1 304"), "{again}");
    assert!(ask(&address, "/campaign.json", "").starts_with("HTTP/1.1 404"));
    line(&format!("report {{}}/c --live {address}"), dir.path()).complains(&[
        "cannot listen",
        &address,
        "another port",
    ]);

    signal_to(live.id(), Signal::INT);
    let run = Run::of(live.wait_with_output().unwrap()).exits(0);
    assert_eq!(run.err, "");
}

#[test]
fn a_report_needs_a_campaign() {
    let dir = tempdir().unwrap();
    line("report {}/nothing --output {}/r.html", dir.path()).complains(&["campaign.json", "hyperfuzz fuzz"]);
    assert!(!dir.path().join("r.html").exists());
}
