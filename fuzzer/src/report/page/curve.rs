//! Progress of a campaign over time, from its metrics, and whether coverage still grows.

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind},
    path::Path,
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Most points of a curve: more cannot be seen.
const POINTS: usize = 500;
/// Longest line of metrics that is read.
const MAX_LINE: usize = 1 << 16;

/// A moment of the campaign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Sample {
    /// Seconds since the first session began; the time between sessions does not count.
    pub t: f64,
    /// Executions.
    pub x: u64,
    /// Calls.
    pub c: u64,
    /// Edges that the corpus covers.
    pub e: u64,
    /// Programs in the corpus.
    pub p: u64,
    /// Findings.
    pub f: u64,
}

/// A line of metrics, as far as it is needed here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Metrics {
    session: u64,
    seconds: f64,
    executions: u64,
    calls: u64,
    edges: u64,
    corpus: u64,
    findings: u64,
}

/// Whether coverage still grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Growth {
    /// It does.
    Growing,
    /// Less than one in a hundred edges came in the second half of the time.
    Slow,
    /// Nothing came in the second half of the time.
    Still,
}

/// What the curve of edges says about what can still be hoped for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Plateau {
    /// The verdict.
    pub state: Growth,
    /// Seconds of fuzzing after which the last new edge was seen.
    pub last: f64,
    /// Seconds of fuzzing.
    pub total: f64,
    /// Executions since the last new edge.
    pub executions: u64,
    /// Edges that came in the second half of the time.
    pub late: u64,
    /// Edges.
    pub edges: u64,
}

/// Judges a curve; nothing where it is too short.
pub(super) fn plateau(series: &[Sample]) -> Option<Plateau> {
    let [.., before, end] = series else { return None };
    if before.t <= 0.0 || end.e == 0 {
        return None;
    }
    let last = series.iter().find(|sample| sample.e == end.e)?;
    let middle = series.iter().take_while(|sample| sample.t <= end.t / 2.0).last();
    let late = end.e - middle.map_or(0, |sample| sample.e);
    let state = match late {
        0 => Growth::Still,
        late if late.saturating_mul(100) < end.e => Growth::Slow,
        _ => Growth::Growing,
    };
    Some(Plateau { state, last: last.t, total: end.t, executions: end.x - last.x, late, edges: end.e })
}

/// Reads the metrics of all sessions as one curve, and the last line as it is. A line that is being written, or that a killed fuzzer left
/// unfinished, is passed over.
///
/// # Errors
/// When there are metrics that cannot be read.
pub(super) fn read(path: &Path) -> anyhow::Result<(Vec<Sample>, Value)> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), Value::Null)),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut series: Vec<Sample> = Vec::new();
    let mut health = Value::Null;
    let (mut session, mut before) = (0, Sample::default());
    for line in BufReader::new(file).split(b'\n') {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        if line.len() > MAX_LINE {
            continue;
        }
        let Ok(value) = serde_json::from_slice::<Value>(&line) else { continue };
        let Ok(now) = Metrics::deserialize(&value) else { continue };
        if now.session != session {
            session = now.session;
            before = series.last().copied().unwrap_or_default();
        }
        series.push(Sample {
            t: before.t + now.seconds.max(0.0),
            x: before.x + now.executions,
            c: before.c + now.calls,
            // A session that goes on starts with the corpus: it has to cover again what was covered.
            e: now.edges.max(before.e),
            p: now.corpus.max(before.p),
            f: before.f + now.findings,
        });
        health = value;
    }
    Ok((series, health))
}

/// At most [`POINTS`] of a curve, with the first and the last one, and with every step in findings.
pub(super) fn thin(series: &[Sample]) -> Vec<Sample> {
    let every = series.len().div_ceil(POINTS).max(1);
    let last = series.len().saturating_sub(1);
    let keeps = |at: usize| at.is_multiple_of(every) || at == last || series[at].f != series[at - 1].f;
    (0..series.len()).filter(|at| keeps(*at)).map(|at| series[at]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_one_curve_and_a_torn_line_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let lines = [
            r#"{"session":1,"seconds":5.0,"executions":10,"calls":50,"edges":7,"corpus":3,"findings":1}"#,
            r#"{"session":1,"seconds":9.0,"executions":20,"calls":90,"edges":9,"corpus":4,"findings":1}"#,
            r#"{"session":1,"seco"#,
            r#"{"session":2,"seconds":2.0,"executions":5,"calls":9,"edges":8,"corpus":4,"findings":1,"restarts":3}"#,
        ];
        std::fs::write(&path, lines.join("\n")).unwrap();
        let (series, health) = read(&path).unwrap();
        assert_eq!(series.len(), 3);
        assert_eq!(series[2], Sample { t: 11.0, x: 25, c: 99, e: 9, p: 4, f: 2 });
        assert_eq!(health["restarts"], 3);
        assert_eq!(read(&dir.path().join("none")).unwrap().0, []);
    }

    #[test]
    fn long_curves_are_thinned_and_keep_their_ends_and_steps() {
        let sample = |n: usize| Sample { t: n as f64, f: u64::from(n > 3333), ..Sample::default() };
        let series: Vec<_> = (0..10_001).map(sample).collect();
        let thinned = thin(&series);
        assert!(thinned.len() <= POINTS + 2, "{}", thinned.len());
        assert_eq!(thinned.first(), series.first());
        assert_eq!(thinned.last(), series.last());
        assert!(thinned.iter().any(|sample| sample.t == 3334.0), "the moment of a finding stays");
        assert_eq!(thin(&[]), []);
    }

    #[test]
    fn a_plateau_is_told_from_growth() {
        let curve = |edges: [u64; 5]| {
            let sample = |n: usize| Sample {
                t: 10.0 * (n + 1) as f64,
                x: 100 * n as u64,
                e: edges[n],
                ..Sample::default()
            };
            plateau(&(0..5).map(sample).collect::<Vec<_>>())
        };
        let judge = |edges| curve(edges).map(|plateau| plateau.state);
        assert_eq!(judge([10, 20, 30, 40, 50]), Some(Growth::Growing));
        assert_eq!(judge([10, 1000, 1000, 1001, 1001]), Some(Growth::Slow));
        assert_eq!(judge([0; 5]), None);
        let still = curve([10, 50, 50, 50, 50]).unwrap();
        assert_eq!((still.state, still.last, still.total), (Growth::Still, 20.0, 50.0));
        assert_eq!((still.executions, still.late, still.edges), (300, 0, 50));
        assert_eq!(plateau(&[]), None);
    }
}
