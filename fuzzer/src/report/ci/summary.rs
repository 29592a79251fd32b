//! A summary in Markdown, as the pages of a pipeline show it.

use std::fmt::Write;

use super::{Figures, Item, Outcome};
use crate::report::live::clock;

/// Most findings that are shown with their whole report.
const REPORTS: usize = 10;
/// Most findings in a table.
const ROWS: usize = 200;
/// Longest report that is shown whole, in bytes: GitHub takes a mebibyte for all of a step.
const MAX_REPORT: usize = 32 << 10;

/// The summary.
#[must_use]
pub(super) fn render(outcome: &Outcome) -> String {
    let mut out = String::new();
    // Writing to memory does not fail.
    let _ = write(&mut out, outcome);
    out
}

fn write(out: &mut String, outcome: &Outcome) -> std::fmt::Result {
    writeln!(out, "## hyperfuzz smoke {}: {}\n", cell(&outcome.target), outcome.verdict())?;
    if let Some(failure) = &outcome.failure {
        block(out, failure)?;
    }
    writeln!(out, "| | |\n|---|---|")?;
    writeln!(out, "| build | {} |", cell(outcome.build.as_deref().unwrap_or("unknown")))?;
    if !outcome.plants.is_empty() {
        writeln!(out, "| planted bugs | {} |", cell(&outcome.plants.join(", ")))?;
    }
    writeln!(out, "| time | {} |", clock(outcome.time))?;
    if let Some(figures) = &outcome.figures {
        rows(out, figures)?;
    }
    table(out, "New findings", outcome.of(false).collect())?;
    for item in outcome.of(false).filter(|item| item.report.is_some()).take(REPORTS) {
        writeln!(out, "\n<details><summary>{}</summary>\n", cell(item.bucket.name()))?;
        block(out, item.report.as_deref().unwrap_or_default())?;
        writeln!(out, "</details>")?;
    }
    table(out, "Known findings", outcome.of(true).collect())?;
    writeln!(out)
}

fn rows(out: &mut String, figures: &Figures) -> std::fmt::Result {
    let Figures { executions, calls, edges: (covered, all), corpus, restarts, unconfirmed, checks } = figures;
    writeln!(out, "| executions | {executions} |\n| calls | {calls} |")?;
    writeln!(out, "| edges | {covered} of {all} |\n| corpus | {corpus} |")?;
    writeln!(out, "| self-checks | {} passed, {} failed |", checks.passed, checks.mismatches)?;
    if *unconfirmed > 0 {
        writeln!(out, "| not confirmed on a clean boot | {unconfirmed} |")?;
    }
    if *restarts > 0 {
        writeln!(out, "| machines replaced | {restarts} |")?;
    }
    Ok(())
}

fn table(out: &mut String, title: &str, items: Vec<&Item>) -> std::fmt::Result {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n### {title}\n\n| finding | what | where | reproduced |\n|---|---|---|---|")?;
    for item in items.iter().take(ROWS) {
        let place = item.place.as_ref().map_or_else(String::new, ToString::to_string);
        let reproduced =
            item.reproduction.map_or_else(String::new, |r| format!("{} of {}", r.reproduced, r.runs));
        let (name, what) = (cell(item.bucket.name()), cell(&item.summary));
        writeln!(out, "| {name} | {what} | {} | {reproduced} |", cell(&place))?;
    }
    match items.len().saturating_sub(ROWS) {
        0 => Ok(()),
        more => writeln!(out, "\nand {more} more."),
    }
}

/// Text as it is, with a fence that nothing in it can close.
fn block(out: &mut String, text: &str) -> std::fmt::Result {
    let end = (0..=text.len().min(MAX_REPORT)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let (text, cut) = (&text[..end], end < text.len());
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    writeln!(out, "{fence}text\n{}\n{fence}\n", text.trim_end())?;
    if cut { writeln!(out, "The rest is in the campaign's directory.\n") } else { Ok(()) }
}

/// Text that nothing in it can turn into markup.
fn cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '~' | '#' | '@' | '!' => {
                safe.push('\\');
                safe.push(c);
            }
            c if c.is_control() => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
