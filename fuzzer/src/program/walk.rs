//! Visits values together with their types, and keeps references between calls right.

use std::ops::Range;

use crate::interface::{Field, Kind, OpId, Operation, Type, known};

use super::model::{Call, Pointer, Program, Value};

/// Where a visited value stands.
#[derive(Clone, Copy, Debug)]
pub struct Site {
    /// Its type.
    pub ty: &'static Type,
    /// Name of the argument or field that it is or lies in.
    pub name: &'static str,
    /// The hypervisor writes it and does not read it.
    pub out: bool,
}

/// Visits every value of a call, outer ones first. Values that do not fit their types are visited, what
/// is in them is not.
pub fn values_mut(op: OpId, args: &mut [Value], visit: &mut dyn FnMut(Site, &mut Value)) {
    fields_mut(op.operation().args, args, visit);
}

fn fields_mut(fields: &'static [Field], values: &mut [Value], visit: &mut dyn FnMut(Site, &mut Value)) {
    for (field, value) in fields.iter().zip(values) {
        value_mut(Site { ty: &field.ty, name: field.name, out: field.out }, value, visit);
    }
}

/// The type of bytes behind a word that happens to be a pointer.
pub const WORD_POINTEE: &Type = &Type::Bytes(16);

/// Visits a value and what lies in it.
pub fn value_mut(site: Site, value: &mut Value, visit: &mut dyn FnMut(Site, &mut Value)) {
    visit(site, value);
    match (site.ty, value) {
        (Type::Ptr { to, .. }, Value::Pointer(Pointer { to: Some(data), .. })) => {
            value_mut(Site { ty: to, ..site }, data, visit);
        }
        (Type::Word, Value::Pointer(Pointer { to: Some(data), .. })) => {
            value_mut(Site { ty: WORD_POINTEE, ..site }, data, visit);
        }
        (Type::Struct(layout), Value::Struct(values)) => fields_mut(layout.fields, values, visit),
        (Type::Array(of), Value::Array(items)) => {
            for item in items {
                value_mut(Site { ty: of, ..site }, item, visit);
            }
        }
        (Type::Entry, Value::Entry(entry)) => values_mut(entry.op, &mut entry.args, visit),
        _ => {}
    }
}

/// Visits the operation of a call and those of its entries, outer ones first.
pub fn operations(call: &Call, visit: &mut dyn FnMut(&'static Operation)) {
    visit(call.op.operation());
    call.args.iter().for_each(|value| operations_in(value, visit));
}

/// Hypercalls that a program asks for: its calls, where the entries of a multicall count instead of the call that holds them.
pub fn hypercalls(program: &Program) -> usize {
    let of_call = |call: &Call| {
        let mut count = 0;
        operations(call, &mut |_| count += 1);
        count - usize::from(!call.entries().is_empty())
    };
    program.calls.iter().map(of_call).sum()
}

/// What a call asks the hypervisor for: the name of its operation, or of another where a field that says which one it is says so.
/// Calls of which all entries ask for the same go by that, or by their family.
pub fn asked(call: &Call) -> &'static str {
    let operation = call.op.operation();
    let mut of_entries = Vec::new();
    for value in call.entries() {
        // Entries cannot have entries: the hypervisor refuses that.
        if let Value::Entry(entry) = value
            && entry.op.operation().number != operation.number
        {
            of_entries.push(meant(entry.op, &entry.args));
        }
    }
    let Some(first) = of_entries.first() else { return meant(call.op, &call.args).name };
    if of_entries.iter().all(|other| other.name == first.name) {
        first.name
    } else if of_entries.iter().all(|other| other.family() == first.family()) {
        first.family()
    } else {
        operation.name
    }
}

/// The operation that a list of arguments selects: some have their number in a structure.
fn meant(op: OpId, args: &[Value]) -> &'static Operation {
    let operation = op.operation();
    let Some((name, number)) = selector(operation.args) else { return operation };
    let mut given = None;
    values_mut(op, &mut args.to_vec(), &mut |site, value| {
        if let (true, None, Value::Int(number)) = (site.name == name, given, value) {
            given = Some(*number);
        }
    });
    if given.is_none_or(|given| given == number) {
        return operation;
    }
    let siblings = known().operations().iter().filter(|other| other.number == operation.number);
    siblings
        .copied()
        .find(|other| selector(other.args) == given.map(|given| (name, given)))
        .unwrap_or(operation)
}

/// The first constant among fields and what they point to: its name and value.
fn selector(fields: &[Field]) -> Option<(&'static str, u64)> {
    fields.iter().find_map(|field| selector_in(field.name, &field.ty))
}

fn selector_in(name: &'static str, ty: &Type) -> Option<(&'static str, u64)> {
    match ty {
        Type::Int { kind: Kind::Const(value), .. } => Some((name, *value)),
        Type::Ptr { to, .. } => selector_in(name, to),
        Type::Struct(layout) => selector(layout.fields),
        _ => None,
    }
}

fn operations_in(value: &Value, visit: &mut dyn FnMut(&'static Operation)) {
    match value {
        Value::Pointer(Pointer { to: Some(data), .. }) => operations_in(data, visit),
        Value::Struct(values) | Value::Array(values) => {
            values.iter().for_each(|value| operations_in(value, visit));
        }
        Value::Entry(entry) => {
            visit(entry.op.operation());
            entry.args.iter().for_each(|value| operations_in(value, visit));
        }
        _ => {}
    }
}

/// Visits every list of fields, outer ones first: the arguments of calls and entries, the fields of structures.
pub fn groups_mut(
    fields: &'static [Field],
    values: &mut [Value],
    visit: &mut dyn FnMut(&'static [Field], &mut [Value]),
) {
    visit(fields, values);
    for (field, value) in fields.iter().zip(values) {
        groups_in(&field.ty, value, visit);
    }
}

fn groups_in(ty: &'static Type, value: &mut Value, visit: &mut dyn FnMut(&'static [Field], &mut [Value])) {
    match (ty, value) {
        (Type::Ptr { to, .. }, Value::Pointer(Pointer { to: Some(data), .. })) => groups_in(to, data, visit),
        (Type::Struct(layout), Value::Struct(values)) => groups_mut(layout.fields, values, visit),
        (Type::Array(of), Value::Array(items)) => {
            for item in items {
                groups_in(of, item, visit);
            }
        }
        (Type::Entry, Value::Entry(entry)) => groups_mut(entry.op.operation().args, &mut entry.args, visit),
        _ => {}
    }
}

/// Visits every value of a program that meets a condition, numbered; returns how many there are.
pub fn each(
    program: &mut Program,
    accept: &dyn Fn(Site, &Value) -> bool,
    visit: &mut dyn FnMut(usize, usize, Site, &mut Value),
) -> usize {
    let mut count = 0;
    for (index, call) in program.calls.iter_mut().enumerate() {
        values_mut(call.op, &mut call.args, &mut |site, value| {
            if accept(site, value) {
                visit(count, index, site, value);
                count += 1;
            }
        });
    }
    count
}

/// Changes the references of a call: `map` gives the new index of an earlier call, or nothing if it is gone. A
/// reference to a call that is gone becomes the constant that would have stood in for it.
pub fn renumber(call: &mut Call, map: &dyn Fn(u16) -> Option<u16>) {
    values_mut(call.op, &mut call.args, &mut |_, value| {
        if let Value::Result(reference) = value {
            match map(reference.call) {
                Some(index) => reference.call = index,
                None => *value = Value::Int(reference.otherwise),
            }
        }
    });
}

/// Replaces references to results of entries that are not there by the constants that stand in for them.
pub fn mend(program: &mut Program) {
    for index in 1..program.calls.len() {
        let (earlier, rest) = program.calls.split_at_mut(index);
        let call = &mut rest[0];
        if earlier.iter().all(|call| call.entries().is_empty()) {
            continue;
        }
        values_mut(call.op, &mut call.args, &mut |_, value| {
            if let Value::Result(reference) = value
                && reference.entry.is_some()
            {
                let giver = earlier.get(usize::from(reference.call));
                let results =
                    giver.and_then(|call| call.operation(reference.entry)).map_or(0, |op| op.results.len());
                if usize::from(reference.result) >= results {
                    *value = Value::Int(reference.otherwise);
                }
            }
        });
    }
}

/// Changes the references to entries of a multicall from which those in `gone` were removed.
pub fn entries_removed(program: &mut Program, multicall: usize, gone: Range<usize>) {
    for call in program.calls.iter_mut().skip(multicall + 1) {
        values_mut(call.op, &mut call.args, &mut |_, value| {
            let Value::Result(reference) = value else { return };
            let Some(entry) = reference.entry.filter(|_| usize::from(reference.call) == multicall) else {
                return;
            };
            if gone.contains(&usize::from(entry)) {
                *value = Value::Int(reference.otherwise);
            } else if usize::from(entry) >= gone.end {
                reference.entry = Some(entry - gone.len() as u8);
            }
        });
    }
}

/// Replaces all references between calls by the constants that stand in for them.
pub fn unwire(program: &mut Program) {
    for call in &mut program.calls {
        renumber(call, &|_| None);
    }
}

/// Takes a call away and returns it. Its own references are left as they were.
pub fn remove(program: &mut Program, at: usize) -> Call {
    let removed = program.calls.remove(at);
    for call in &mut program.calls[at..] {
        renumber(call, &|index| match usize::from(index) {
            index if index == at => None,
            index if index > at => Some(index as u16 - 1),
            index => Some(index as u16),
        });
    }
    removed
}

/// Puts a call in, before the one that is at `at` now. Its own references must already be right.
pub fn insert(program: &mut Program, at: usize, call: Call) {
    for later in &mut program.calls[at..] {
        renumber(later, &|index| Some(if usize::from(index) >= at { index + 1 } else { index }));
    }
    program.calls.insert(at, call);
}
