//! Charts of step curves, as inline SVG without scripts.

use std::fmt::Write;

/// A curve: probabilities or counts that change at points in time.
pub(super) struct Curve<'a> {
    /// Suffix of the CSS classes that colour it.
    pub(super) class: &'a str,
    /// What it is, for the tooltip.
    pub(super) title: String,
    /// Times in seconds, ascending, with the value from then on.
    pub(super) points: Vec<(f64, f64)>,
    /// A band around it: times, lower and upper values.
    pub(super) band: Vec<(f64, f64, f64)>,
}

/// Size and scales of a chart.
pub(super) struct Frame {
    /// Width in pixels.
    pub(super) width: f64,
    /// Height in pixels.
    pub(super) height: f64,
    /// First second on the logarithmic axis.
    pub(super) first: f64,
    /// Last second.
    pub(super) last: f64,
    /// Largest value.
    pub(super) top: f64,
    /// Values with a line and a number.
    pub(super) ticks: Vec<f64>,
    /// Values are probabilities.
    pub(super) percent: bool,
}

const LEFT: f64 = 34.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 20.0;

impl Frame {
    fn x(&self, time: f64) -> f64 {
        let time = time.clamp(self.first, self.last);
        let share = (time / self.first).ln() / (self.last / self.first).ln();
        LEFT + share * (self.width - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        let share = (value / self.top).clamp(0.0, 1.0);
        self.height - BOTTOM - share * (self.height - TOP - BOTTOM)
    }

    /// The chart. `label` says what it shows to those who cannot see it.
    pub(super) fn draw(&self, label: &str, curves: &[Curve<'_>]) -> String {
        let (w, h) = (self.width, self.height);
        let mut out = format!(
            "<svg viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" role=\"img\" aria-label=\"{label}\">"
        );
        let right = w - RIGHT;
        for tick in &self.ticks {
            let y = self.y(*tick);
            let text = if self.percent { format!("{:.0}%", tick * 100.0) } else { format!("{tick}") };
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\"/><text class=\"tick\" \
                 x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>",
                LEFT - 4.0,
                y + 3.5
            );
        }
        for (time, text) in [
            (0.1, "0.1 s"),
            (1.0, "1 s"),
            (10.0, "10 s"),
            (60.0, "1 min"),
            (600.0, "10 min"),
            (3600.0, "1 h"),
        ] {
            if time < self.first || time > self.last * 1.001 {
                continue;
            }
            let x = self.x(time);
            let anchor = if x > right - 20.0 { "end" } else { "middle" };
            let _ = write!(
                out,
                "<line class=\"grid\" x1=\"{x:.1}\" y1=\"{TOP}\" x2=\"{x:.1}\" y2=\"{y}\"/><text class=\"tick\" \
                 x=\"{x:.1}\" y=\"{}\" text-anchor=\"{anchor}\">{text}</text>",
                h - 5.0,
                y = h - BOTTOM
            );
        }
        for curve in curves {
            self.band(&mut out, curve);
        }
        for curve in curves {
            let mut path = format!("M{LEFT} {:.1}", self.y(0.0));
            for (time, value) in &curve.points {
                let _ = write!(path, "H{:.1}V{:.1}", self.x(*time), self.y(*value));
            }
            let _ = write!(
                out,
                "<path class=\"curve c-{}\" d=\"{path}H{right}\"><title>{}</title></path>",
                curve.class, curve.title
            );
        }
        out.push_str("</svg>");
        out
    }

    fn band(&self, out: &mut String, curve: &Curve<'_>) {
        let (Some(first), Some(last)) = (curve.band.first(), curve.band.last()) else { return };
        let mut path = format!("M{:.1} {:.1}", self.x(first.0), self.y(first.2));
        for (time, _, upper) in &curve.band {
            let _ = write!(path, "H{:.1}V{:.1}", self.x(*time), self.y(*upper));
        }
        let _ = write!(path, "H{:.1}V{:.1}", self.width - RIGHT, self.y(last.1));
        for pair in curve.band.windows(2).rev() {
            let _ = write!(path, "H{:.1}V{:.1}", self.x(pair[1].0), self.y(pair[0].1));
        }
        let _ = write!(out, "<path class=\"band c-{}\" d=\"{path}H{:.1}Z\"/>", curve.class, self.x(first.0));
    }
}
