//! Every operation of every hypercall has an answer that is stated, and a failure that is: `answers.txt` says which.
//!
//! The table is compared with the interface, so that an operation that is added without its answers fails here. What
//! operations do beyond that is the matter of the other files.

use hyperfuzz::{engine::Outcome, interface::interface};

use super::corpora::programs;
use crate::common::Vm;

/// Operations that fail whoever asks: they are not for these guests.
const ALWAYS_REFUSED: &[&str] = &[
    "domctl.set_address_size",
    "event_channel_op.bind_pirq",
    "grant_table_op.dump_table",
    "grant_table_op.transfer",
    "hvm_op.altp2m",
    "hvm_op.pagetable_dying",
    "memory_op.machine_memory_map",
    "memory_op.machphys_mapping",
    "sched_op.pin_override",
    "vcpu_op.get_physid",
];
/// Operations that have nothing to fail of.
const NEVER_FAIL: &[&str] = &[
    "memory_op.maximum_ram_page",
    "sched_op.block",
    "sched_op.yield",
    "set_timer_op.set",
    "xen_version.version",
];
/// Operations that fail by saying that nothing was done.
const COUNTS: &[&str] =
    &["memory_op.decrease_reservation", "memory_op.increase_reservation", "memory_op.populate_physmap"];

/// What the table says of an operation.
struct Row {
    operation: &'static str,
    /// What the operation answers in its seed.
    seed: &'static str,
    /// Further calls, and what they answer.
    calls: Vec<(&'static str, &'static str)>,
}

fn table() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for line in include_str!("answers.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let (left, answer) = line.split_once(" => ").unwrap_or_else(|| panic!("no answer: {line}"));
        match (left.strip_prefix("    "), rows.last_mut()) {
            (Some(call), Some(row)) => row.calls.push((call, answer)),
            (Some(_), None) => panic!("a call of no operation: {line}"),
            (None, _) => rows.push(Row { operation: left, seed: answer, calls: Vec::new() }),
        }
    }
    rows
}

/// The answer says that nothing was done: an error, or the status of the one entry there is.
fn is_failure(operation: &str, answer: &str) -> bool {
    let counts = COUNTS.contains(&operation) && answer == "= 0";
    answer.starts_with("= -") || answer.contains("status = 0xfff") || counts
}

#[test]
fn the_table_has_every_operation_with_a_success_and_a_failure() {
    let rows = table();
    let named: Vec<&str> = rows.iter().map(|row| row.operation).collect();
    let operations = interface().operations();
    // What the agent does by itself is no hypercall.
    let there: Vec<&str> = operations.iter().filter(|op| op.family() != "agent").map(|op| op.name).collect();
    assert_eq!(named, there, "operations of the table, and of the interface");
    for row in &rows {
        let Row { operation, seed, calls } = row;
        let own = |call: &str| call.contains(&format!(" {operation}(")) || call.contains(" raw.call(");
        let answers = calls.iter().filter(|(call, _)| own(call)).map(|(_, answer)| *answer);
        let answers: Vec<&str> = answers.chain([*seed]).collect();
        let fails = answers.iter().any(|answer| is_failure(operation, answer));
        let succeeds = answers.iter().any(|answer| !is_failure(operation, answer));
        assert_eq!(fails, !NEVER_FAIL.contains(operation), "{operation} fails: {answers:?}");
        assert_eq!(succeeds, !ALWAYS_REFUSED.contains(operation), "{operation} succeeds: {answers:?}");
    }
}

#[test]
fn every_operation_answers_as_the_table_says() {
    let mut vm = Vm::boot();
    let seeds = programs("seeds");
    let mut wrong = Vec::new();
    for row in table() {
        let file = format!("/{}.hf", row.operation);
        let (_, source) = seeds.iter().find(|(name, _)| name.ends_with(&file)).expect("it has a seed");
        let lines = || source.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let call = format!(" {}(", row.operation);
        let at = lines().count() - 1 - lines().rev().position(|line| line.contains(&call)).expect("its call");
        let run = vm.run(source);
        let expected = [("its seed", row.seed)].into_iter().chain(row.calls.iter().copied());
        let calls: Vec<&str> = row.calls.iter().map(|(call, _)| *call).collect();
        let mut further = Vec::new();
        if !calls.is_empty() {
            let run = vm.run(&calls.join("\n"));
            assert_eq!(run.execution.outcome, Outcome::Done, "{}", row.operation);
            further = run.answers;
            assert_eq!(further.len(), calls.len(), "{}: a call has no answer", row.operation);
        }
        let answers = [&run.answers[at]].into_iter().chain(&further);
        for ((call, expected), answer) in expected.zip(answers) {
            let same = match expected.strip_suffix('*') {
                Some(start) => answer.starts_with(start),
                None => answer == expected,
            };
            if !same {
                wrong.push(format!(
                    "{}: {call}\n    expected {expected}\n    answered {answer}",
                    row.operation
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    vm.check_well();
}
