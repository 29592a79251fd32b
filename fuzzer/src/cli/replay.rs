//! `hyperfuzz replay`: one program, on a clean boot, call by call.

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::json;

use super::{Exit, debugger, options::TargetOptions};
use crate::{
    campaign::{
        findings::{Stored, program_in},
        store,
    },
    engine::{Engine, Execution, build_name},
    program::text,
    report::{
        finding::{self, printable},
        live::emit,
        output::{self, say},
    },
    triage::{bucket::Classifier, trace, verify},
};

/// Arguments of `hyperfuzz replay`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A program in text or wire form, or the directory of a finding.
    file: PathBuf,
    /// How often to run it; the first run is on a clean boot, the others after a reset.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    runs: u32,
    /// Say what the hypervisor did in each call: VM exits, and its functions in the order in which they were entered first.
    #[arg(long)]
    trace: bool,
    /// Instead of running it, stop before its first call and wait for gdb on this port of 127.0.0.1; 0 for any that is free.
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "1234", conflicts_with_all = ["trace", "json", "runs"])]
    gdb: Option<u16>,
    /// Write the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let file = if args.file.is_dir() { program_in(&args.file)? } else { args.file.clone() };
    let program = store::load_program(&file)?;
    let expected = Stored::beside(&file)?;
    let settings = args.target.repeating(expected.as_ref())?.settings()?;
    if settings.target().xen_guest().is_some() && args.gdb.is_some() {
        bail!("--gdb knows the code of the reference hypervisor only, not that of {}", settings.target());
    }
    if let Some(port) = args.gdb {
        return debugger::run(&settings, &program, port).with_context(|| file.display().to_string());
    }
    let classifier = Classifier::new(settings.symbols()?);
    let mut engine = if args.trace { settings.start_noting_paths()? } else { settings.start()? };
    let build = build_name(&engine.build_id());
    let other_build = expected.as_ref().filter(|stored| stored.build != build);
    let mut execution = Execution::default();
    let mut buckets = Vec::new();
    let mut first = None;
    let mut trace = None;
    for _ in 0..args.runs {
        if !verify::run_once(&mut engine, &program, &mut execution)? {
            anyhow::bail!("{}: the program is too long for the agent", file.display());
        }
        buckets.push(classifier.classify(&program, &execution));
        if first.is_none() {
            first = Some(execution.clone());
            if args.trace {
                let symbols = classifier.symbols();
                trace = Some(trace::trace(&mut engine, symbols, &program, &execution)?);
            }
        }
    }
    drop(engine);
    let execution = first.unwrap_or_default();
    let bucket = buckets.first().cloned().flatten();
    let same = buckets.iter().filter(|b| **b == bucket).count();
    let stack = finding::stack(&classifier, &execution);
    let disassembly = finding::disassembly(&classifier, &execution);
    let transcript = finding::transcript(&program, &execution);
    let summary = finding::summary(&program, &execution);
    let crash = execution.crash.as_deref().map(finding::Crash::from_record);
    let reproduced = expected.as_ref().map(|e| bucket.as_ref() == Some(&e.bucket));
    if args.json {
        let mut result = json!({
            "program": text::print(&program), "bucket": bucket, "summary": summary, "transcript": transcript,
            "stack": stack, "disassembly": disassembly, "crash": crash, "runs": args.runs, "same": same, "blocks": execution.blocks, "reproduced": reproduced,
            "build": build, "other_build": other_build.map(|stored| &stored.build),
            "console": String::from_utf8_lossy(&execution.console),
        });
        if let (Some(trace), Some(result)) = (&trace, result.as_object_mut()) {
            result.insert("trace".to_owned(), serde_json::to_value(&trace.calls)?);
            result.insert("trace_whole".to_owned(), trace.whole.into());
        }
        emit(&result);
    } else {
        output::put(format_args!("{transcript}"));
        if let Some(trace) = &trace {
            say!(
                "\ntrace: VM exits, and functions of the hypervisor in the order in which they were entered first\n"
            );
            output::put(format_args!("{}", printable(&trace::render(&trace.calls))));
            if !trace.whole {
                say!(
                    "the end of the trace is missing, or was cut off at some point: its last counts are not exact"
                );
            }
        }
        if !execution.console.is_empty() {
            say!("\nconsole\n\n{}", printable(&String::from_utf8_lossy(&execution.console)).trim_end());
        }
        if !stack.is_empty() {
            say!("\nstack of the hypervisor\n");
            stack.iter().for_each(|line| say!("  {line}"));
        }
        if let Some(listing) = &disassembly {
            output::put(format_args!("\ninstruction that faulted: {listing}"));
        }
        say!();
        if args.runs > 1 {
            say!("{same} of {} runs ended alike", args.runs);
        }
        if let Some(stored) = other_build {
            say!("the finding is of build {}; this is build {build}", stored.build);
        }
        match (&expected, reproduced) {
            (Some(e), Some(true)) => say!("reproduced: {}", e.bucket),
            (Some(e), _) => say!("NOT reproduced: {}", e.bucket),
            _ => {}
        }
        match &bucket {
            Some(bucket) => say!("verdict: {summary} [{bucket}]"),
            None => say!("verdict: {summary}"),
        }
    }
    Ok(if bucket.is_some() { Exit::NewFinding } else { Exit::Clean })
}
