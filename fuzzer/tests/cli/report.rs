//! `hyperfuzz report`: the page about a campaign, as a browser sees it, and coverage for other tools.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::tempdir;

use crate::support::{line, machine};

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

/// What a browser makes of a page.
fn look(browser: &Path, page: &Path, profile: &Path, window: &str) -> String {
    let output = Command::new(browser)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={window}"))
        .arg(format!("file://{}", page.display()))
        .stderr(Stdio::null())
        .output()
        .expect("the browser starts");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_campaign_becomes_a_page_that_a_browser_can_draw() {
    let _turn = machine();
    let dir = tempdir().unwrap();
    line("fuzz {}/c --target reference-pv --corpus empty --plant ref-leak --execs 3000 --seed 3", dir.path())
        .exits(1);
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
    for window in ["1280,900", "400,800"] {
        let drawn = look(&browser, &dir.path().join("r.html"), &dir.path().join("profile"), window);
        // The last line of the script sets it: nothing before has failed.
        assert!(drawn.contains("data-ready=\"yes\""), "{}", &drawn[..drawn.len().min(400)]);
        for part in ["id=\"progress\"", "id=\"findings\"", "id=\"source\"", "id=\"next\"", "aria-sort"] {
            assert!(drawn.contains(part), "{part}");
        }
    }
}

#[test]
fn a_report_needs_a_campaign() {
    let dir = tempdir().unwrap();
    line("report {}/nothing --output {}/r.html", dir.path()).complains(&["campaign.json", "hyperfuzz fuzz"]);
    assert!(!dir.path().join("r.html").exists());
}
