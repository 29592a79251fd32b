//! The findings of a campaign as a table, and as data.

use std::fmt::Write;

use serde_json::{Value, json};

use super::finding::printable;
use crate::campaign::findings::{
    Entry, count,
    seen::{Visits, minute},
};

/// Names of the table's columns. The last one may be as long as it likes.
pub const COLUMNS: [&str; 10] = [
    "status",
    "kind",
    "function",
    "times",
    "first seen (UTC)",
    "last seen (UTC)",
    "calls",
    "rate",
    "target",
    "bucket",
];

/// What stands where nothing is known.
const UNKNOWN: &str = "-";

/// The cells of a row.
pub fn row(entry: &Entry) -> [String; COLUMNS.len()] {
    let stored = &entry.stored;
    let (kind, place) = stored.bucket.parts();
    let seen = |of: &dyn Fn(&Visits) -> String| {
        entry.seen.as_ref().map_or_else(|| UNKNOWN.to_owned(), |seen| of(&seen.all))
    };
    [
        entry.mark.status.to_string(),
        kind.to_owned(),
        place,
        seen(&|visits| visits.times.to_string()),
        seen(&|visits| minute(visits.first)),
        seen(&|visits| minute(visits.last)),
        stored.calls.to_string(),
        format!("{}/{}", stored.reproduction.reproduced, stored.reproduction.runs),
        printable(&stored.target),
        stored.bucket.name().to_owned(),
    ]
}

/// Characters that each column needs.
pub fn widths(rows: &[[String; COLUMNS.len()]]) -> [usize; COLUMNS.len()] {
    std::array::from_fn(|column| {
        let longest = rows.iter().map(|row| row[column].chars().count()).max();
        longest.unwrap_or(0).max(COLUMNS[column].len())
    })
}

/// The table, with a line below that counts.
pub fn table(entries: &[Entry]) -> String {
    let rows: Vec<_> = entries.iter().map(row).collect();
    let mut out = String::new();
    if !rows.is_empty() {
        let widths = widths(&rows);
        for row in std::iter::once(&COLUMNS.map(str::to_owned)).chain(&rows) {
            let mut line = String::new();
            for (text, width) in row.iter().zip(widths) {
                let _ = write!(line, "{text:width$}  ");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out.push('\n');
    }
    let counts = count(entries).into_iter().map(|(status, count)| format!("{count} {status}"));
    let counts: Vec<String> = counts.collect();
    let colon = if counts.is_empty() { "" } else { ": " };
    let _ = writeln!(out, "{}{colon}{}", plural(entries.len() as u64, "finding"), counts.join(", "));
    out
}

fn plural(count: u64, what: &str) -> String {
    let end = if count == 1 { "" } else { "s" };
    format!("{count} {what}{end}")
}

/// What is known of a finding besides its report, for people.
pub fn head(entry: &Entry) -> String {
    let mut out = String::new();
    let mark = &entry.mark;
    let words = [mark.reason.as_str(), mark.note.as_str()];
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let why = if words.is_empty() { String::new() } else { format!(": {}", printable(&words.join("; "))) };
    let _ = writeln!(out, "status      {}{why}", mark.status);
    if let Some(build) = &mark.build {
        let _ = writeln!(out, "            on build {}", printable(build));
    }
    if let Some(seen) = &entry.seen {
        let all = &seen.all;
        let (times, sessions) = (plural(all.times, "time"), plural(seen.session_count(), "session"));
        let (first, last) = (minute(all.first), minute(all.last));
        let _ = writeln!(out, "seen        {times} in {sessions}, first {first}, last {last} (UTC)");
    }
    let _ = writeln!(out, "directory   {}", printable(&entry.directory.display().to_string()));
    out
}

/// What is known of a finding besides its report, for machines.
pub fn data(entry: &Entry) -> Value {
    let (kind, place) = entry.stored.bucket.parts();
    json!({
        "bucket": entry.stored.bucket, "kind": kind, "function": place, "summary": entry.stored.summary,
        "status": entry.mark.status, "mark": entry.mark, "seen": entry.seen, "calls": entry.stored.calls,
        "reproduction": entry.stored.reproduction, "target": entry.stored.target, "build": entry.stored.build,
        "plants": entry.stored.plants, "directory": entry.directory.display().to_string(),
    })
}
