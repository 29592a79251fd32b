//! Survival analysis: how long planted bugs live when not all of them die before the trial ends.
//!
//! Estimator, confidence intervals and medians are those of `survfit(conf.type = "log-log")` of R's package *survival*, as
//! Collett, "Modelling Survival Data in Medical Research", 3rd edition, sections 2.1 to 2.4 describes them; the tests compare
//! with published data sets.

use serde::{Deserialize, Serialize};

/// Quantile of the normal distribution for 95 % confidence.
const Z95: f64 = 1.959_963_984_540_054;

/// One subject: a time, and whether the event happened then or the subject was last seen without it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// When.
    pub time: f64,
    /// True for the event, false for censoring.
    pub event: bool,
}

/// A step of the Kaplan-Meier estimator: what holds from this time on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Time of an event.
    pub time: f64,
    /// Probability of surviving it.
    pub survival: f64,
    /// Lower end of the 95 % confidence interval.
    pub lower: f64,
    /// Upper end.
    pub upper: f64,
}

/// The Kaplan-Meier estimator with log-log Greenwood intervals: one step for each time with an event.
pub fn kaplan_meier(observations: &[Observation]) -> Vec<Step> {
    let mut sorted = observations.to_vec();
    sorted.sort_by(|a, b| a.time.total_cmp(&b.time));
    let mut steps = Vec::new();
    let (mut survival, mut greenwood) = (1.0, 0.0);
    let mut at = 0;
    while at < sorted.len() {
        let time = sorted[at].time;
        let same = sorted[at..].iter().take_while(|o| o.time.total_cmp(&time).is_eq()).count();
        let events = sorted[at..at + same].iter().filter(|o| o.event).count() as f64;
        // Who is censored at a time was at risk until then.
        let risk = (sorted.len() - at) as f64;
        if events > 0.0 {
            survival *= 1.0 - events / risk;
            greenwood += events / (risk * (risk - events));
            let (lower, upper) = log_log(survival, greenwood);
            steps.push(Step { time, survival, lower, upper });
        }
        at += same;
    }
    steps
}

/// The interval of a probability whose Greenwood sum is this, on the scale of log(-log).
fn log_log(survival: f64, greenwood: f64) -> (f64, f64) {
    // Everybody is dead: the sum is infinite and the interval a point.
    if survival <= 0.0 {
        return (0.0, 0.0);
    }
    let log = survival.ln();
    let error = Z95 * greenwood.sqrt() / log.abs();
    ((log * error.exp()).exp(), (log * (-error).exp()).exp())
}

/// A median with its interval; none where the curve, or the bound of the interval, stays above one half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Median {
    /// The first time at which at most half survive.
    pub median: Option<f64>,
    /// Lower end of the 95 % confidence interval.
    pub lower: Option<f64>,
    /// Upper end.
    pub upper: Option<f64>,
}

/// The median of an estimator.
pub fn median(steps: &[Step]) -> Median {
    let first = |curve: fn(&Step) -> f64| steps.iter().find(|s| curve(s) <= 0.5).map(|s| s.time);
    Median { median: first(|s| s.survival), lower: first(|s| s.lower), upper: first(|s| s.upper) }
}

/// The restricted mean survival time: the area below the curve up to `horizon`.
pub fn restricted_mean(steps: &[Step], horizon: f64) -> f64 {
    let (mut area, mut since, mut survival) = (0.0, 0.0, 1.0);
    for step in steps.iter().take_while(|step| step.time < horizon) {
        area += survival * (step.time - since);
        (since, survival) = (step.time, step.survival);
    }
    area + survival * (horizon - since).max(0.0)
}

/// The probability of the event up to a time.
pub fn probability(steps: &[Step], time: f64) -> f64 {
    1.0 - steps.iter().take_while(|step| step.time <= time).last().map_or(1.0, |step| step.survival)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn observations(text: &str) -> Vec<Observation> {
        text.split_whitespace()
            .map(|word| Observation {
                time: word.trim_end_matches('+').parse().unwrap(),
                event: !word.ends_with('+'),
            })
            .collect()
    }

    #[track_caller]
    fn close(left: f64, right: f64) {
        assert!((left - right).abs() < 1e-5, "{left} is not {right}");
    }

    /// Acute myelogenous leukaemia (Miller, "Survival Analysis", 1981; data set `aml` of R's *survival*). Values computed with
    /// lifelines 0.30.3, which uses the same intervals; the estimates are those in Miller's table.
    #[test]
    fn leukaemia_with_and_without_maintenance() {
        let maintained = kaplan_meier(&observations("9 13 13+ 18 23 28+ 31 34 45+ 48 161+"));
        let expected = [
            (9.0, 0.909_091, 0.508_080, 0.986_674),
            (13.0, 0.818_182, 0.447_429, 0.951_162),
            (18.0, 0.715_909, 0.350_190, 0.899_024),
            (23.0, 0.613_636, 0.265_752, 0.835_299),
            (31.0, 0.490_909, 0.167_331, 0.753_400),
            (34.0, 0.368_182, 0.092_830, 0.657_041),
            (48.0, 0.184_091, 0.011_738, 0.525_015),
        ];
        assert_eq!(maintained.len(), expected.len());
        for (step, (time, survival, lower, upper)) in maintained.iter().zip(expected) {
            close(step.time, time);
            close(step.survival, survival);
            close(step.lower, lower);
            close(step.upper, upper);
        }
        assert_eq!(median(&maintained), Median { median: Some(31.0), lower: Some(13.0), upper: None });
        close(restricted_mean(&maintained, 30.0), 24.602_272_7);
        close(restricted_mean(&maintained, 161.0), 52.645_454_5);
        close(probability(&maintained, 22.9), 0.284_091);
        close(probability(&maintained, 23.0), 0.386_364);

        let not = kaplan_meier(&observations("5 5 8 8 12 16+ 23 27 30 33 43 45"));
        assert_eq!(median(&not), Median { median: Some(23.0), lower: Some(5.0), upper: Some(33.0) });
        close(restricted_mean(&not, 30.0), 19.694_444_4);
        close(restricted_mean(&not, 161.0), 22.708_333_3);
        let last = not.last().unwrap();
        assert_eq!((last.survival, last.lower, last.upper), (0.0, 0.0, 0.0));
    }

    /// 6-mercaptopurine against placebo (Freireich et al., Blood 21, 1963), the example of most textbooks.
    #[test]
    fn remission_with_6_mercaptopurine_and_placebo() {
        let treated = kaplan_meier(&observations(
            "6 6 6 6+ 7 9+ 10 10+ 11+ 13 16 17+ 19+ 20+ 22 23 25+ 32+ 32+ 34+ 35+",
        ));
        assert_eq!(median(&treated), Median { median: Some(23.0), lower: Some(13.0), upper: None });
        close(restricted_mean(&treated, 35.0), 23.287_395_0);
        let placebo = kaplan_meier(&observations("1 1 2 2 3 4 4 5 5 8 8 8 8 11 11 12 12 15 17 22 23"));
        assert_eq!(median(&placebo), Median { median: Some(8.0), lower: Some(4.0), upper: Some(11.0) });
        close(restricted_mean(&placebo, 23.0), 8.666_666_7);
    }

    #[test]
    fn without_events_everybody_lives() {
        let steps = kaplan_meier(&observations("600+ 600+ 600+"));
        assert_eq!(steps, []);
        assert_eq!(median(&steps), Median::default());
        close(restricted_mean(&steps, 600.0), 600.0);
        close(probability(&steps, 600.0), 0.0);
        assert_eq!(kaplan_meier(&[]), []);
    }
}
