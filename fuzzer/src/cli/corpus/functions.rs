//! `hyperfuzz corpus functions`.

use std::path::PathBuf;

use anyhow::bail;
use serde_json::json;

use super::cmin;
use crate::{
    cli::{Exit, options::TargetOptions, signals::stop_flag},
    corpus::gather,
    coverage::functions::Functions,
    engine::Execution,
    report::{
        finding::printable,
        live::emit,
        output::{self, say},
        steps::Steps,
    },
    triage::{bucket::Classifier, trace, verify},
};

/// Arguments of `hyperfuzz corpus functions`.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// A campaign, or a directory of programs. Of a campaign, target and planted bugs are those that it has.
    dir: PathBuf,
    /// Name the functions that calls of this operation enter, and mark those that no other operation's do.
    #[arg(long, value_name = "NAME")]
    operation: Option<String>,
    /// Name the functions that no call enters, as far as the image names them.
    #[arg(long, conflicts_with = "operation")]
    missing: bool,
    /// Write lines of JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetOptions,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let files = gather::programs_of(std::slice::from_ref(&args.dir))?;
    let settings = cmin::target(&args.dir, &args.target)?.settings()?;
    if args.missing && settings.target().is_reference() {
        bail!("`hyperfuzz report` shows what is not covered of the reference hypervisor, line by line");
    }
    let classifier = Classifier::new(settings.symbols()?);
    let mut engine = settings.start_noting_paths()?;
    let stop = stop_flag()?;
    let mut steps = Steps::new("programs traced", files.len(), args.json);
    let (mut functions, mut execution) = (Functions::default(), Execution::default());
    let mut traced = 0;
    for file in &files {
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            break;
        }
        let program = gather::load(file).map_err(anyhow::Error::msg)?;
        if verify::run_once(&mut engine, &program, &mut execution)? {
            let trace = trace::trace(&mut engine, classifier.symbols(), &program, &execution)?;
            for call in &trace.calls {
                let operation = call.call.and_then(|index| program.calls.get(index));
                if let Some(call_of) = operation {
                    functions.add(call_of.op.operation().name, &call.part);
                }
            }
        }
        traced += 1;
        steps.show(traced);
    }
    steps.end();
    drop(engine);
    let known = classifier.symbols().functions();
    if let Some(operation) = &args.operation {
        let Some(entered) = functions.of(operation) else { bail!("no program has a call of {operation}") };
        for (function, own) in entered {
            if args.json {
                emit(&json!({ "function": function, "own": own }));
            } else {
                output::put(format_args!("{} {}\n", if own { '*' } else { ' ' }, printable(function)));
            }
        }
        return Ok(Exit::Clean);
    }
    if args.missing {
        for function in known.iter().filter(|function| !functions.has(&function.name)) {
            if args.json {
                emit(&json!({ "function": function.name, "bytes": function.code.len() }));
            } else {
                output::put(format_args!("{}\n", printable(&function.name)));
            }
        }
        return Ok(Exit::Clean);
    }
    let table = functions.table();
    // Of the reference hypervisor functions are told that were inlined, which its image does not list.
    let known = if settings.target().is_reference() { None } else { Some(known.len()) };
    if args.json {
        table.iter().for_each(emit);
        emit(&json!({ "programs": traced, "functions": functions.entered(), "known": known }));
        return Ok(Exit::Clean);
    }
    say!("{:>9} {:>9}  operation", "functions", "only here");
    for row in table {
        output::put(format_args!("{:>9} {:>9}  {}\n", row.functions, row.own, row.operation));
    }
    let of = known.map_or_else(String::new, |known| format!(" of {known}"));
    say!("\n{}{of} functions entered by {traced} of {} programs", functions.entered(), files.len());
    Ok(Exit::Clean)
}
