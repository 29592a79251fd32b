//! The page for people: one file, no scripts, nothing loaded from elsewhere, readable in light and dark.

use std::fmt::Write;

use html_escape::encode_text;

use super::{
    mode::Mode,
    store::Manifest,
    summary::{Cell, Effect, Feature, Group, Outcome, Summary},
    svg::{Curve, Frame},
};

/// What B5 is drawn against in the first chart.
const BASELINES: [Mode; 6] = [Mode::B5, Mode::B4, Mode::B3, Mode::B2, Mode::B1, Mode::B0];
/// What B5 is drawn against in the second.
const ABLATIONS: [Mode; 5] = [Mode::B5, Mode::NoHandles, Mode::NoComparisons, Mode::NoReset, Mode::Coin];

/// Renders everything.
pub fn render(manifest: &Manifest, summary: &Summary) -> String {
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>hyperfuzz: effectiveness</title>\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><style>{}</style></head><body>\n",
        include_str!("page.css")
    );
    head(&mut out, manifest);
    for group in &summary.groups {
        render_group(&mut out, group);
    }
    clean(&mut out, summary);
    out.push_str("</body></html>\n");
    out
}

fn head(out: &mut String, manifest: &Manifest) {
    let _ = write!(
        out,
        "<h1>Effectiveness</h1><p>Time to detection of planted bugs: the fuzzer (B5), baselines on the same engine with the same \
         snapshot and oracles, and the fuzzer with one part taken out. All bugs are on at once; a crash costs one reset and the trial \
         goes on. <em>Reached</em>: the place of the bug was executed. <em>Triggered</em>: its condition held. <em>Detected</em>: an \
         oracle noticed.</p><p class=\"small dim\">{}<br>{}<br>hyperfuzz {}, hypervisor image {}, fuzzer {}</p>",
        encode_text(&manifest.machine),
        encode_text(&manifest.qemu),
        encode_text(&manifest.hyperfuzz),
        encode_text(manifest.hypervisor.get(..16).unwrap_or_default()),
        encode_text(manifest.fuzzer.get(..16).unwrap_or_default()),
    );
    for command in &manifest.commands {
        let _ = write!(out, "<p class=\"small\"><code>{}</code></p>", encode_text(command));
    }
}

/// Cells of these modes, in this order, as far as there are any.
fn pick<'a>(group: &'a Group, modes: &[Mode]) -> Vec<&'a Cell> {
    modes.iter().filter_map(|mode| group.cells.iter().find(|cell| cell.mode == *mode)).collect()
}

fn render_group(out: &mut String, group: &Group) {
    let _ = write!(
        out,
        "<h2>{}, {} corpus{}</h2>",
        encode_text(&group.key.target),
        encode_text(group.key.corpus.name()),
        if group.key.one_at_a_time { ", one bug at a time" } else { "" }
    );
    if let [best] = pick(group, &[Mode::B5]).as_slice() {
        let trials = best.bugs.values().map(|bug| bug.trials).max().unwrap_or(0);
        let most = (trials * 4).div_ceil(5);
        let often = best.bugs.values().filter(|bug| bug.detected >= most && bug.detected > 0).count();
        let once = best.bugs.values().filter(|bug| bug.detected > 0).count();
        let _ = write!(
            out,
            "<p><strong>B5 detects {often} of {} bugs within {} in at least {most} of {} trials</strong>, {once} in at least one.</p>",
            group.bugs.len(),
            duration(group.horizon_seconds),
            trials,
        );
    }
    out.push_str("<div class=\"charts\">");
    for (title, modes) in [("Against baselines", &BASELINES[..]), ("With one part taken out", &ABLATIONS[..])]
    {
        let cells = pick(group, modes);
        if cells.len() < 2 && title.starts_with("With") {
            continue;
        }
        let _ = write!(
            out,
            "<div class=\"chart\"><h4>Bugs detected, mean of trials: {}</h4>",
            title.to_lowercase()
        );
        out.push_str(&overall(group, &cells));
        legend(out, &cells);
        out.push_str("</div>");
    }
    out.push_str("</div>");
    detection_table(out, group);
    small_multiples(out, group);
    needs_table(out, group);
    comparison_table(out, group);
    cost_table(out, group);
    quality_table(out, group);
    operations_table(out, group);
}

fn overall(group: &Group, cells: &[&Cell]) -> String {
    let top = group.bugs.len().max(1) as f64;
    let step = if top > 10.0 { 5.0 } else { 2.0 };
    let frame = Frame {
        width: 540.0,
        height: 300.0,
        first: 0.1,
        last: group.horizon_seconds.max(1.0),
        top,
        ticks: (0..).map(|n| f64::from(n) * step).take_while(|tick| *tick <= top).collect(),
        percent: false,
    };
    let curves: Vec<_> = cells
        .iter()
        .rev()
        .map(|cell| Curve {
            class: cell.mode.name(),
            title: format!("{}: {}", cell.mode.label(), cell.mode.title()),
            points: cell.detected_over_time.clone(),
            band: Vec::new(),
        })
        .collect();
    frame.draw("bugs detected over time", &curves)
}

fn legend(out: &mut String, cells: &[&Cell]) {
    out.push_str("<ul class=\"legend\">");
    for cell in cells {
        let _ = write!(
            out,
            "<li><svg width=\"26\" height=\"8\"><path class=\"curve c-{}\" d=\"M0 4H26\"/></svg>{}: {}</li>",
            cell.mode.name(),
            cell.mode.label(),
            cell.mode.title()
        );
    }
    out.push_str("</ul>");
}

fn open_table(out: &mut String, title: &str, note: &str, columns: &[String]) {
    let _ = write!(
        out,
        "<h3>{title}</h3><p class=\"small dim\">{note}</p><div class=\"scroll\"><table><thead><tr>"
    );
    for column in columns {
        let _ = write!(out, "<th>{}</th>", encode_text(column));
    }
    out.push_str("</tr></thead><tbody>");
}

fn close_table(out: &mut String) {
    out.push_str("</tbody></table></div>");
}

fn columns(first: &str, cells: &[Cell]) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(cells.iter().map(|cell| cell.mode.label())).collect()
}

fn detection_table(out: &mut String, group: &Group) {
    let note = format!(
        "Trials that detected the bug within {}, and the Kaplan-Meier median of the time to detection with its 95 % interval (log-log).",
        duration(group.horizon_seconds)
    );
    open_table(out, "By bug", &note, &columns("bug", &group.cells));
    for bug in &group.bugs {
        let _ = write!(out, "<tr><td>{}</td>", encode_text(bug));
        for cell in &group.cells {
            let outcome = &cell.bugs[bug];
            let class = match outcome.detected {
                0 => "no",
                n if n == outcome.trials => "all",
                _ => "",
            };
            let _ = write!(
                out,
                "<td class=\"{class}\">{}/{} {}</td>",
                outcome.detected,
                outcome.trials,
                median_text(outcome)
            );
        }
        out.push_str("</tr>");
    }
    let _ = write!(out, "<tr><td>restricted mean, all bugs</td>");
    for cell in &group.cells {
        let sum: f64 = cell.bugs.values().map(|bug| bug.by_time.restricted_mean).sum();
        let _ = write!(out, "<td>{}</td>", duration(sum / cell.bugs.len().max(1) as f64));
    }
    out.push_str("</tr>");
    close_table(out);
}

fn median_text(outcome: &Outcome) -> String {
    let median = outcome.by_time.median;
    let bound = |bound: Option<f64>| bound.map_or("–".to_owned(), duration);
    match median.median {
        Some(time) => format!(
            "{} <span class=\"dim\">({}, {})</span>",
            duration(time),
            bound(median.lower),
            bound(median.upper)
        ),
        None => String::new(),
    }
}

fn small_multiples(out: &mut String, group: &Group) {
    let cells = pick(group, &BASELINES);
    out.push_str("<h3>Probability of detection over time</h3><p class=\"small dim\">One minus the Kaplan-Meier estimator; the band is B5's 95 % interval.</p>");
    legend(out, &cells);
    out.push_str("<div class=\"charts\">");
    for bug in &group.bugs {
        if cells.iter().all(|cell| cell.bugs[bug].detected == 0) {
            continue;
        }
        let frame = Frame {
            width: 250.0,
            height: 150.0,
            first: 0.1,
            last: group.horizon_seconds.max(1.0),
            top: 1.0,
            ticks: vec![0.0, 0.5, 1.0],
            percent: true,
        };
        let curves: Vec<_> = cells
            .iter()
            .rev()
            .map(|cell| {
                let steps = &cell.bugs[bug].by_time.steps;
                let band = steps.iter().map(|s| (s.time, 1.0 - s.upper, 1.0 - s.lower));
                Curve {
                    class: cell.mode.name(),
                    title: format!("{}: {}", cell.mode.label(), cell.mode.title()),
                    points: steps.iter().map(|s| (s.time, 1.0 - s.survival)).collect(),
                    band: if cell.mode == Mode::B5 { band.collect() } else { Vec::new() },
                }
            })
            .collect();
        let _ = write!(
            out,
            "<div class=\"chart\"><h4>{}</h4>{}</div>",
            encode_text(bug),
            frame.draw(&format!("probability of detecting {bug} over time"), &curves)
        );
    }
    out.push_str("</div>");
}

fn needs_table(out: &mut String, group: &Group) {
    if group.needs.values().all(Vec::is_empty) {
        return;
    }
    let features: Vec<Feature> = Feature::ALL
        .into_iter()
        .filter(|(_, mode)| group.cells.iter().any(|cell| cell.mode == *mode))
        .map(|(feature, _)| feature)
        .collect();
    let names = std::iter::once("bug".to_owned()).chain(features.iter().map(|f| f.name().to_owned()));
    open_table(
        out,
        "By need",
        "What B5 loses without a part of it. <em>Needed</em>: B5 finds the bug in half of its trials or more, never without. \
         <em>Helps</em>, <em>hinders</em>: A12 at least 0.71, or at most 0.29, and p &lt; 0.05. Coverage is taken out by a coin, types by \
         byte havoc with the same feedback (B2).",
        &names.collect::<Vec<_>>(),
    );
    for bug in &group.bugs {
        let _ = write!(out, "<tr><td>{}</td>", encode_text(bug));
        for feature in &features {
            let need = group.needs[bug].iter().find(|need| need.feature == *feature);
            let (class, text) = match need.map(|need| need.effect) {
                Some(Effect::Needed) => ("needed", "● needed"),
                Some(Effect::Helps) => ("helps", "▲ helps"),
                Some(Effect::Hinders) => ("hinders", "▼ hinders"),
                Some(Effect::None) => ("dim", "–"),
                Some(Effect::Unknown) | None => ("dim", "not found"),
            };
            let _ = write!(out, "<td class=\"{class}\">{text}</td>");
        }
        out.push_str("</tr>");
    }
    close_table(out);
}

fn comparison_table(out: &mut String, group: &Group) {
    let others: Vec<&Cell> = group.cells.iter().filter(|cell| cell.mode != Mode::B5).collect();
    if others.is_empty() || others.len() == group.cells.len() {
        return;
    }
    let note = format!(
        "Probability that B5 is the faster one (Vargha-Delaney A12; 0.5 is a tie), by wall clock up to {} / by hypercalls up to {}. \
         In brackets p of the Mann-Whitney U test by wall clock; what is censored ties.",
        duration(group.horizon_seconds),
        thousands(group.horizon_calls)
    );
    let names = std::iter::once("bug".to_owned()).chain(others.iter().map(|cell| cell.mode.label()));
    open_table(out, "B5 against each", &note, &names.collect::<Vec<_>>());
    for bug in &group.bugs {
        let _ = write!(out, "<tr><td>{}</td>", encode_text(bug));
        for cell in &others {
            let outcome = &cell.bugs[bug];
            match (outcome.by_time.b5, outcome.by_calls.b5) {
                (Some(time), Some(calls)) => {
                    let _ = write!(
                        out,
                        "<td>{:.2} / {:.2} <span class=\"dim\">({:.3})</span></td>",
                        time.a12, calls.a12, time.p
                    );
                }
                _ => out.push_str("<td></td>"),
            }
        }
        out.push_str("</tr>");
    }
    close_table(out);
}

fn cost_table(out: &mut String, group: &Group) {
    let names = [
        "",
        "",
        "trials",
        "executions/s",
        "calls/s",
        "calls/program",
        "edges at the end",
        "reset mismatches",
        "machines replaced",
        "load per core",
    ];
    open_table(out, "Cost and coverage", "Edges: the median of trials.", &names.map(str::to_owned));
    for cell in &group.cells {
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{:.0}</td><td>{:.0}</td><td>{:.1}</td><td>{} of {}</td><td>{} of {}</td><td>{}</td><td>{:.1}</td></tr>",
            cell.mode.label(),
            cell.mode.title(),
            cell.trials,
            cell.executions_per_second,
            cell.calls_per_second,
            cell.calls_per_second / cell.executions_per_second.max(1e-9),
            cell.edges,
            cell.edges_total,
            cell.reset_mismatches.0,
            cell.reset_mismatches.1,
            cell.restarts,
            cell.load,
        );
    }
    close_table(out);
}

fn quality_table(out: &mut String, group: &Group) {
    let [best] = pick(group, &[Mode::B5])[..] else { return };
    let names = [
        "bug",
        "reached",
        "triggered",
        "detected",
        "triggered, not detected (executions)",
        "of these, another bug was",
        "replays that reproduced",
        "calls, minimised: median",
        "least",
    ];
    open_table(
        out,
        "Oracles and replays (B5)",
        "Trials; triggered − detected measures the oracles.",
        &names.map(str::to_owned),
    );
    for bug in &group.bugs {
        let b = &best.bugs[bug];
        let minimised = |which: fn((usize, usize)) -> usize| {
            b.minimised.map_or(String::new(), |pair| which(pair).to_string())
        };
        let _ = write!(
            out,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{} of {}</td><td>{}</td><td>{}</td></tr>",
            encode_text(bug),
            b.reached,
            b.triggered,
            b.detected,
            b.undetected_executions,
            b.interfered_executions,
            b.reproduced.0,
            b.reproduced.1,
            minimised(|(median, _)| median),
            minimised(|(_, least)| least),
        );
    }
    close_table(out);
    for (bugs, count) in &best.ambiguous {
        let _ = write!(
            out,
            "<p class=\"small\">{count} executions detected one of {}, and nobody can tell which.</p>",
            encode_text(bugs)
        );
    }
}

fn operations_table(out: &mut String, group: &Group) {
    out.push_str("<details><summary>Answers by operation</summary>");
    let cells = pick(group, &[Mode::B5, Mode::B2, Mode::B0]);
    for cell in cells {
        let names = ["operation", "calls", "success", "−EFAULT", "−EINVAL", "−ENOSYS"];
        open_table(out, &cell.mode.label(), "Shares of the calls that came back.", &names.map(str::to_owned));
        for (name, shares) in &cell.operations {
            let _ = write!(
                out,
                "<tr><td>{}</td><td>{}</td><td>{:.1}%</td><td>{:.1}%</td><td>{:.1}%</td><td>{:.1}%</td></tr>",
                encode_text(name),
                thousands(shares.calls as f64),
                shares.success * 100.0,
                shares.efault * 100.0,
                shares.einval * 100.0,
                shares.enosys * 100.0
            );
        }
        close_table(out);
    }
    out.push_str("</details>");
}

fn clean(out: &mut String, summary: &Summary) {
    out.push_str("<h2>Nothing else</h2>");
    for clean in &summary.clean {
        let (class, words) = match clean.bad_ends {
            0 => ("good", "nothing was found".to_owned()),
            n => ("bad", format!("{n} executions ended badly")),
        };
        let _ = write!(
            out,
            "<p>Clean build of {}: <span class=\"{class}\">{words}</span> in {} executions, {}.</p>",
            encode_text(&clean.target),
            thousands(clean.executions as f64),
            duration(clean.seconds)
        );
    }
    if summary.unexplained.is_empty() {
        out.push_str(
            "<p>Every execution that ended badly is explained by a planted bug that it had triggered.</p>",
        );
    } else {
        out.push_str(
            "<p class=\"bad\">Executions that ended badly and that no planted bug explains:</p><ul>",
        );
        for (what, count) in &summary.unexplained {
            let _ = write!(out, "<li>{count} × {}</li>", encode_text(what));
        }
        out.push_str("</ul>");
    }
}

/// A time for people.
fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// A large number for people.
fn thousands(number: f64) -> String {
    match number {
        n if n < 10_000.0 => format!("{n:.0}"),
        n if n < 10_000_000.0 => format!("{:.0} k", n / 1e3),
        n => format!("{:.1} M", n / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn nothing_is_loaded_and_everything_is_escaped() {
        let manifest = Manifest {
            format: 1,
            hyperfuzz: "0".into(),
            fuzzer: "f".repeat(64),
            hypervisor: "h".repeat(64),
            agent: "a".into(),
            qemu: "QEMU <7.2>".into(),
            machine: "m & m".into(),
            commands: vec!["hyperfuzz bench <dir>".into()],
        };
        let unexplained = BTreeMap::from([("panic: a<b>".to_owned(), 3)]);
        let page = render(&manifest, &Summary { groups: Vec::new(), clean: Vec::new(), unexplained });
        assert!(
            page.contains("QEMU &lt;7.2&gt;")
                && page.contains("m &amp; m")
                && page.contains("3 × panic: a&lt;b&gt;")
        );
        for foreign in ["http:", "https:", "<script", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(duration(0.25), "0.2 s");
        assert_eq!(duration(75.0), "75 s");
        assert_eq!(duration(600.0), "10.0 min");
        assert_eq!(thousands(1234.0), "1234");
        assert_eq!(thousands(2_345_678.0), "2346 k");
    }
}
