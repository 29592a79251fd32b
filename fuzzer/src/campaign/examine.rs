//! From a candidate to a finding: confirmed on a clean boot, minimised, tried on the other target, written down.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::{
    engine::Engine,
    feedback::Candidate,
    program::{Program, text, wire},
    report::finding::{self, Finding},
    target::Settings,
    triage::{
        bucket::{Bucket, Classifier},
        verify::{self, Reproduction},
    },
};

/// How often a minimisation says how far it is. Most are over before.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// What findings of a session have in common.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct About {
    /// Seed of the session, or of its worker.
    pub seed: u64,
    /// Name of the target.
    pub target: String,
    /// Build of the target, in hexadecimal.
    pub build: String,
    /// Planted bugs that are switched on.
    pub plants: Vec<String>,
}

/// A finding as the files of its directory, in the order in which they are stored.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Files {
    /// Names and contents; the last one is [`REPORT`].
    pub files: Vec<(String, Vec<u8>)>,
}

/// Name of the file that makes a finding complete.
pub const REPORT: &str = "report.txt";
/// Name of the file that `hyperfuzz regress` takes.
pub const REGRESSION: &str = "regression.hf";
/// Name of the report for machines.
pub const DATA: &str = "finding.json";

impl Files {
    /// The content of a file.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.iter().find(|(other, _)| other == name).map(|(_, content)| content.as_slice())
    }
}

/// A candidate that a clean boot did not confirm.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unconfirmed {
    /// Where it would have belonged.
    pub bucket: Bucket,
    /// What was seen.
    pub summary: String,
    /// How often it was seen again.
    pub reproduction: Reproduction,
}

/// What came of a candidate.
#[derive(Debug)]
pub enum Examined {
    /// Nothing that can be relied on.
    Unconfirmed(Unconfirmed),
    /// A finding.
    Finding(Bucket, Files),
}

/// Examines candidates.
pub struct Examiner<'a> {
    /// Sorts what is seen.
    pub classifier: &'a Classifier,
    /// Where findings are tried as well, if there is such a target.
    pub elsewhere: Option<Settings>,
    /// Runs that a reproduction rate is taken from.
    pub replays: u32,
    /// Set from outside: come to an end.
    pub stop: Arc<AtomicBool>,
    /// What findings have in common.
    pub about: About,
}

impl Examiner<'_> {
    /// Examines one candidate, seen so long after the session began, on an engine that is rebooted for it.
    ///
    /// # Errors
    /// When no machine can be had.
    pub fn examine<E: Engine>(
        &self,
        engine: &mut E,
        candidate: Candidate,
        after: Duration,
        note: &mut dyn FnMut(&str),
    ) -> anyhow::Result<Examined> {
        let Candidate { program, bucket, execution, after_executions } = candidate;
        let (reproduction, _) = verify::confirm(engine, self.classifier, &program, &bucket, self.replays)
            .context("while a finding was being confirmed")?;
        if !reproduction.confirmed() {
            let summary = finding::summary(&program, &execution);
            return Ok(Examined::Unconfirmed(Unconfirmed { bucket, summary, reproduction }));
        }
        let minimal = self.minimise(engine, &program, &bucket, note)?;
        let (mut minimal_reproduction, mut observed) =
            verify::confirm(engine, self.classifier, &minimal, &bucket, self.replays)?;
        let mut reported = minimal;
        if !minimal_reproduction.confirmed() {
            // A minimised program that a clean boot does not confirm is worth less than the one that it does.
            reported = program.clone();
            minimal_reproduction = reproduction;
            observed = execution;
        }
        let elsewhere = self.elsewhere.as_ref().and_then(|settings| {
            verify::elsewhere(settings, self.classifier, &reported)
                .inspect_err(|error| note(&format!("not tried on {}: {error}", settings.target())))
                .ok()
        });
        let about = self.about.clone();
        let finding = Finding {
            elsewhere,
            summary: finding::summary(&reported, &observed),
            reproduction: minimal_reproduction,
            calls_before: program.calls.len(),
            calls: reported.calls.len(),
            after_executions,
            after_seconds: after.as_secs_f64(),
            seed: about.seed,
            plants: about.plants,
            target: about.target,
            build: about.build,
            stack: finding::stack(self.classifier, &observed),
            disassembly: finding::disassembly(self.classifier, &observed),
            place: observed.crash.as_deref().and_then(|record| self.classifier.source_line(record)),
            transcript: finding::transcript(&reported, &observed),
            crash: observed.crash.as_deref().map(finding::Crash::from_record),
            program: reported,
            bucket,
        };
        let files = [
            ("program.hf", text::print(&finding.program).into_bytes()),
            ("program.hfw", wire::encode(&finding.program)?),
            (REGRESSION, finding.regression().into_bytes()),
            ("console.log", observed.console.clone()),
            (DATA, serde_json::to_vec_pretty(&finding)?),
            (REPORT, finding.render().into_bytes()),
        ];
        let files = files.into_iter().map(|(name, content)| (name.to_owned(), content)).collect();
        Ok(Examined::Finding(finding.bucket, Files { files }))
    }

    /// Minimises a program, and says now and then how far it is.
    fn minimise<E: Engine>(
        &self,
        engine: &mut E,
        program: &Program,
        bucket: &Bucket,
        note: &mut dyn FnMut(&str),
    ) -> anyhow::Result<Program> {
        let mut said = Instant::now();
        verify::minimise(engine, self.classifier, program, bucket, &self.stop, &mut |step| {
            if said.elapsed() >= SAY_EVERY {
                said = Instant::now();
                note(&format!(
                    "minimising {bucket}: {} of {} calls left after {} programs (at most {})",
                    step.calls,
                    program.calls.len(),
                    step.tried,
                    verify::MINIMISE_BUDGET
                ));
            }
        })
        .context("while a finding was being minimised")
    }
}
