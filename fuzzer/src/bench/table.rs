//! The table of all trials: one row for each trial and bug.

use super::record::{Moment, Trial};

/// Names of the columns.
const COLUMNS: [&str; 29] = [
    "target",
    "corpus",
    "mode",
    "trial",
    "seed",
    "planted",
    "cap_seconds",
    "seconds",
    "executions",
    "calls",
    "edges",
    "bug",
    "reached_executions",
    "reached_seconds",
    "reached_execution",
    "reached_calls",
    "triggered_executions",
    "triggered_seconds",
    "triggered_execution",
    "triggered_calls",
    "detected_executions",
    "detected_seconds",
    "detected_execution",
    "detected_calls",
    "triggered_not_detected",
    "of_these_another_bug",
    "reproduced",
    "replays",
    "minimised_calls",
];

/// Writes a field as RFC 4180 wants it.
fn field(out: &mut String, text: &str) {
    if text.contains([',', '"', '\n', '\r']) {
        out.push('"');
        out.push_str(&text.replace('"', "\"\""));
        out.push('"');
    } else {
        out.push_str(text);
    }
}

/// Writes a line of fields.
pub(super) fn row(out: &mut String, fields: &[String]) {
    for (at, text) in fields.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        field(out, text);
    }
    out.push('\n');
}

/// Comma-separated values with a header; what did not happen is empty.
pub fn csv(trials: &[Trial]) -> String {
    let mut out = String::new();
    row(&mut out, &COLUMNS.map(str::to_owned));
    for trial in trials {
        let task = &trial.task;
        let planted = match (&task.alone, task.plants.len()) {
            (Some(bug), _) => bug.clone(),
            (None, n) => n.to_string(),
        };
        for (name, bug) in &trial.bugs {
            let mut fields = vec![
                task.target.clone(),
                task.corpus.name().into(),
                task.mode.name().into(),
                task.trial.to_string(),
                task.seed.to_string(),
                planted.clone(),
                task.cap_seconds.to_string(),
                format!("{:.3}", trial.seconds),
                trial.executions.to_string(),
                trial.calls.to_string(),
                trial.edges.to_string(),
                name.clone(),
            ];
            for tally in [bug.reached, bug.triggered, bug.detected] {
                fields.push(tally.executions.to_string());
                let moment = |show: fn(Moment) -> String| tally.first.map(show).unwrap_or_default();
                fields.push(moment(|m| format!("{:.3}", m.seconds)));
                fields.push(moment(|m| m.executions.to_string()));
                fields.push(moment(|m| m.calls.to_string()));
            }
            fields.push(bug.undetected.to_string());
            fields.push(bug.interfered.to_string());
            match &bug.replay {
                Some(replay) => fields.extend([
                    replay.reproduced.to_string(),
                    replay.runs.to_string(),
                    replay.calls.to_string(),
                ]),
                None => fields.extend([String::new(), String::new(), String::new()]),
            }
            row(&mut out, &fields);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_with_separators_are_quoted() {
        let mut out = String::new();
        row(&mut out, &["a,b".into(), "say \"x\"".into(), "plain".into()]);
        assert_eq!(out, "\"a,b\",\"say \"\"x\"\"\",plain\n");
    }
}
