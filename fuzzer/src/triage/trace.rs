//! What the hypervisor did in each call of a program: VM exits and functions entered.
//!
//! The engine notes the path of a whole execution, which does not say where one call ends and the next begins. Programs are
//! deterministic, though: the first calls of a program alone take the same path up to the VM exit at which the program goes on and its
//! beginning does not. So each call's part is found by running the calls before it once more.

use std::fmt::Write;

use anyhow::Context;
use serde::Serialize;

use super::{bucket, symbols::Symbols, verify};
use crate::{
    coverage::path::{Code, Part, last_exit, parting},
    engine::{Execution, Outcome, qemu::QemuEngine},
    program::{Program, text, transcript},
};

/// Depth of calls from which on functions are not indented any further.
const MAX_INDENT: usize = 20;

/// What happened in one call.
#[derive(Clone, Debug, Serialize)]
pub struct CallTrace {
    /// Its number; none for what came after the last one.
    pub call: Option<usize>,
    /// Its text.
    pub text: String,
    /// What it returned; none if it did not.
    pub result: Option<String>,
    /// What the hypervisor did: the switch to the call's domain, if there was one, included.
    #[serde(flatten)]
    pub part: Part,
}

/// What happened in a program.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Call by call, and then after the last one.
    pub calls: Vec<CallTrace>,
    /// It is all there. False where the engine had no room for the whole path, or how long it is depends on when the hypervisor's
    /// hanging, or a guest's running away, was noticed.
    pub whole: bool,
}

/// Traces a program whose execution was the last of an engine that notes paths. The engine executes other programs afterwards.
///
/// # Errors
/// When no machine can be had.
pub fn trace(
    engine: &mut QemuEngine,
    symbols: &Symbols,
    program: &Program,
    execution: &Execution,
) -> anyhow::Result<Trace> {
    let (path, whole) = engine.path();
    let whole = whole && !matches!(execution.outcome, Outcome::Hang | Outcome::Runaway | Outcome::Timeout);
    let returned = bucket::current_call(execution, program.calls.len());
    let begun = (returned + 1).min(program.calls.len());
    let mut ends = Vec::with_capacity(begun + 1);
    for calls in 1..begun {
        let beginning = Program { calls: program.calls[..calls].to_vec() };
        let mut unused = Execution::default();
        verify::run_once(engine, &beginning, &mut unused).context("while calls were told apart")?;
        ends.push(parting(&engine.path().0, &path).max(ends.last().copied().unwrap_or(0)));
    }
    // The last exit of a program all of whose calls have returned is the agent's, which says so where that takes a hypercall.
    let ended = (begun == returned && !engine.is_foreign()).then(|| last_exit(&path)).flatten();
    ends.extend(ended.filter(|at| ends.last().is_none_or(|last| last <= at)));
    ends.push(path.len());
    let parts = Code::new(symbols).follow(&path, &ends);
    let parts = parts.into_iter().enumerate();
    let calls = parts.map(|(index, part)| call_trace(program, execution, index, part)).collect();
    Ok(Trace { calls, whole })
}

fn call_trace(program: &Program, execution: &Execution, index: usize, part: Part) -> CallTrace {
    let Some(call) = program.calls.get(index) else {
        return CallTrace { call: None, text: "the end of the program".to_owned(), result: None, part };
    };
    let result = execution.calls.iter().find(|result| usize::from(result.call) == index);
    let result = result.map(|result| transcript::status(&result.status));
    CallTrace { call: Some(index), text: text::call(program, call), result, part }
}

/// A trace for people.
pub fn render(calls: &[CallTrace]) -> String {
    let mut out = String::new();
    for trace in calls {
        let number = trace.call.map_or_else(String::new, |call| format!("#{call} "));
        let result = match (&trace.result, trace.call) {
            (Some(result), _) => format!(" {result}"),
            (None, Some(_)) => " DID NOT RETURN".to_owned(),
            (None, None) => String::new(),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{number}{}{result}", trace.text);
        let exits = trace.part.exits;
        let _ = writeln!(out, "    {exits} VM exit{}", if exits == 1 { "" } else { "s" });
        for function in &trace.part.functions {
            let times = match function.entered {
                0 => "inlined".to_owned(),
                n => format!("{n}x"),
            };
            let indent = 2 * function.depth.min(MAX_INDENT);
            let _ = writeln!(out, "{times:>12} {:indent$}{}", "", function.function);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::path::Entered;

    #[test]
    fn a_trace_says_what_returned_and_what_did_not() {
        let entered = |function: &str, entered, depth| Entered { function: function.into(), entered, depth };
        let part = Part { exits: 1, functions: vec![entered("m::f", 3, 0), entered("m::g", 0, 1)] };
        let call = |call, result: Option<&str>| CallTrace {
            call,
            text: "d1 sched_op.yield()".into(),
            result: result.map(str::to_owned),
            part: part.clone(),
        };
        let end = CallTrace { call: None, text: "the end".into(), result: None, part: Part::default() };
        assert_eq!(
            render(&[call(Some(0), Some("= 0")), call(Some(1), None), end]),
            "#0 d1 sched_op.yield() = 0\n    1 VM exit\n          3x m::f\n     inlined   m::g\n\
             #1 d1 sched_op.yield() DID NOT RETURN\n    1 VM exit\n          3x m::f\n     inlined   m::g\n\
             the end\n    0 VM exits\n"
        );
    }
}
