//! `hyperfuzz regress`: programs that once showed a defect, run again on this build.

use std::path::PathBuf;

use anyhow::Context;
use include_dir::{Dir, include_dir};
use serde_json::json;

use super::{
    Exit,
    options::{TargetOptions, embedded},
};
use crate::{
    campaign::regress::{self, Case, Header, Verdict},
    engine::{Engine, build_name, qemu::QemuEngine},
    program::text,
    report::{finding::printable, live::emit, output::say},
    target::Oracles,
    triage::bucket::Classifier,
};

/// Programs that once found a defect in the reference hypervisor, as the repository has them.
static REGRESSIONS: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../corpora/regressions");

/// Arguments of `hyperfuzz regress`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Comments in a program file say what it needs and what is known: `# plant: ID,…` planted bugs, `# target: NAME`, \
                  `# known: BUCKET`.\nExit codes: 0 no program failed, 1 one did in a way that is not known, 2 only in known ways, \
                  3 hyperfuzz itself failed."
)]
pub(super) struct Args {
    /// Campaigns, whose findings are meant, findings, program files, or directories of these: in addition to the programs that
    /// hyperfuzz carries.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Write a line of JSON for each program, and one at the end.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

/// All programs, those of this binary first.
fn cases(paths: &[PathBuf]) -> anyhow::Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (name, source) in embedded(&REGRESSIONS)? {
        let program = text::parse(source).with_context(|| name.clone())?;
        let header = Header::parse(source).with_context(|| name.clone())?;
        cases.push(Case { name: format!("corpora/regressions/{name}"), program, header });
    }
    for path in paths {
        cases.extend(regress::cases(path)?);
    }
    Ok(cases)
}

/// What one program needs: the command line's word on the target counts, planted bugs add up.
fn options(args: &Args, header: &Header) -> TargetOptions {
    let mut options = args.target.clone();
    options.target = options.target.or(header.target);
    options.plant.extend(header.plants.iter().cloned());
    options.plant.sort();
    options.plant.dedup();
    options.oracles.get_or_insert(Oracles::Audit);
    options
}

/// How many programs ended how.
#[derive(Default)]
struct Counts {
    passed: usize,
    known: usize,
    failed: usize,
}

impl Counts {
    fn exit(&self) -> Exit {
        match (self.failed, self.known) {
            (0, 0) => Exit::Clean,
            (0, _) => Exit::KnownFindings,
            _ => Exit::NewFinding,
        }
    }
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let cases = cases(&args.paths)?;
    let mut counts = Counts::default();
    // A machine serves programs in a row that need the same.
    let mut machine: Option<(TargetOptions, QemuEngine, Classifier)> = None;
    let mut build = None;
    for case in &cases {
        let options = options(args, &case.header);
        let same = |(other, ..): &(TargetOptions, QemuEngine, Classifier)| {
            (other.target, &other.plant) == (options.target, &options.plant)
        };
        let (_, engine, classifier) = match machine.take().filter(same) {
            Some(running) => machine.insert(running),
            None => {
                let settings = options.settings().with_context(|| case.name.clone())?;
                let classifier = Classifier::new(settings.symbols()?);
                machine.insert((options.clone(), settings.start()?, classifier))
            }
        };
        build.get_or_insert_with(|| build_name(&engine.build_id()));
        let (verdict, summary) = regress::run(engine, classifier, case)?;
        let word = match &verdict {
            Verdict::Passed => (&mut counts.passed, "ok"),
            Verdict::Known(_) => (&mut counts.known, "known"),
            Verdict::Failed(_) => (&mut counts.failed, "FAILS"),
        };
        *word.0 += 1;
        report(args.json, case, &options, word.1, &verdict, &summary);
    }
    let exit = counts.exit();
    let Counts { passed, known, failed } = counts;
    if args.json {
        emit(&json!({
            "event": "end", "programs": cases.len(), "ok": passed, "known": known, "failed": failed, "exit": exit as u8,
            "build": build,
        }));
    } else {
        say!("verdict: {} programs: {passed} ok, {known} known, {failed} failed", cases.len());
    }
    Ok(exit)
}

/// Says what came of a program.
fn report(json: bool, case: &Case, options: &TargetOptions, word: &str, verdict: &Verdict, summary: &str) {
    let gone: Vec<_> = case.header.known.iter().filter(|known| Some(*known) != verdict.bucket()).collect();
    if json {
        emit(&json!({
            "event": "program", "file": case.name, "result": word.to_lowercase(), "bucket": verdict.bucket(), "summary": summary,
            "plants": options.plant, "target": options.chosen().to_string(), "not_seen": gone,
        }));
        return;
    }
    let name = printable(&case.name);
    match verdict.bucket() {
        None => say!("{word:<5}  {name}"),
        Some(bucket) => say!("{word:<5}  {name}\n       {bucket}: {}", printable(summary)),
    }
    for bucket in gone {
        say!("       known, and not seen: {bucket}");
    }
}
