//! The interface as people and programs read it: each operation with its arguments, and what it gives and takes.

use std::fmt::Write;

use serde::Serialize;

use super::operations;
use crate::{
    campaign::{operations::Record, statistics::Operation as Counters},
    interface::{
        Dir, Field, Interface, Kind, Named, Operation, ResultFrom, Returns, Select, Type, Versioned,
    },
};

/// Names of an enumeration that are written out; of longer ones the first.
const NAMES: usize = 8;

/// What the fuzzer knows of an operation.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// `family.operation`.
    pub name: &'static str,
    /// Hypercall number, or that of an operation of the agent's own.
    pub number: u32,
    /// The sub-operation, where a register selects it.
    pub sub_operation: Option<u64>,
    /// Its arguments.
    pub arguments: Vec<Argument>,
    /// What later calls can use.
    pub gives: Vec<Gift>,
    /// Kinds of results of earlier calls that it can use.
    pub takes: Vec<String>,
    /// What it returns on success; errors are negative errno values.
    pub returns: &'static str,
    /// What a campaign did with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub campaign: Option<Counters>,
}

/// An argument.
#[derive(Clone, Debug, Serialize)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: String,
}

/// A result that later calls can use.
#[derive(Clone, Debug, Serialize)]
pub struct Gift {
    /// Its name.
    pub name: &'static str,
    /// What it is good for.
    pub kind: String,
    /// Whether it is the return value, or lies in an argument or field of that name.
    pub from: &'static str,
}

/// The operations of these families, or of all where none is named.
pub fn entries(interface: &Interface, families: &[String], record: Option<&Record>) -> Vec<Entry> {
    let wanted =
        |op: &&&Operation| families.is_empty() || families.iter().any(|family| family == op.family());
    interface
        .operations()
        .iter()
        .filter(wanted)
        .map(|op| Entry {
            campaign: record.map(|record| record.operations.get(op.name).cloned().unwrap_or_default()),
            ..entry(op)
        })
        .collect()
}

fn entry(op: &Operation) -> Entry {
    let mut takes = Vec::new();
    op.args.iter().for_each(|field| wants(&field.ty, &mut takes));
    takes.sort();
    takes.dedup();
    Entry {
        name: op.name,
        number: op.number,
        sub_operation: match op.select {
            Select::First(value) | Select::FirstWithStart { value, .. } => Some(value),
            _ => None,
        },
        arguments: op
            .args
            .iter()
            .map(|field| Argument { name: field.name, ty: with_direction(field) })
            .collect(),
        gives: op
            .results
            .iter()
            .map(|result| Gift {
                name: result.name,
                kind: format!("{:?}", result.kind).to_lowercase(),
                from: if result.from == ResultFrom::Return { "return" } else { "field" },
            })
            .collect(),
        takes,
        returns: match op.returns {
            Returns::Zero => "zero",
            Returns::Value => "zero or more",
            Returns::Never => "does not return",
            Returns::Anything => "anything",
        },
        campaign: None,
    }
}

/// Collects the kinds of resources that values of a type can be.
fn wants(ty: &Type, out: &mut Vec<String>) {
    match ty {
        Type::Ptr { to, .. } | Type::Array(to) => wants(to, out),
        Type::Struct(layout) => layout.fields.iter().filter(|f| !f.out).for_each(|f| wants(&f.ty, out)),
        Type::Int { kind, .. } => out.extend(kind.resource().map(|kind| format!("{kind:?}").to_lowercase())),
        _ => {}
    }
}

fn with_direction(field: &Field) -> String {
    if field.out { format!("out {}", type_name(&field.ty)) } else { type_name(&field.ty) }
}

fn type_name(ty: &Type) -> String {
    match ty {
        Type::Int { width, kind } => {
            let bits = u32::from(*width) * 8;
            match meaning(kind) {
                text if text.is_empty() => format!("u{bits}"),
                text => format!("u{bits} {text}"),
            }
        }
        Type::Ptr { dir, to } => {
            let way = match dir {
                Dir::In => "in",
                Dir::Out => "out",
                Dir::InOut => "inout",
            };
            format!("&{way} {}", type_name(to))
        }
        Type::Struct(layout) => {
            let fields = layout.fields.iter().map(|f| format!("{}: {}", f.name, with_direction(f)));
            format!("{} {{{}}}", layout.name, fields.collect::<Vec<_>>().join(", "))
        }
        Type::Array(of) => format!("[{}]", type_name(of)),
        Type::Bytes(_) => "bytes".into(),
        Type::Blob(len) => format!("{len} bytes"),
        Type::Entry => "call".into(),
        Type::Word => "word".into(),
    }
}

/// What an integer means.
fn meaning(kind: &Kind) -> String {
    match kind {
        Kind::Plain => String::new(),
        Kind::Range(low, high) => format!("{low}..={high}"),
        Kind::Enum(names) => format!("({})", list(names, "|")),
        Kind::Flags(names) => format!("flags ({})", list(names, " ")),
        Kind::Const(value) => format!("= {value:#x}"),
        Kind::Version(_) => format!("= {:#x}, or what this hypervisor speaks", Versioned::USUAL),
        Kind::ThisFrame(frame) => format!("the frame {frame:#x}"),
        Kind::Table => "frame of a page table".into(),
        Kind::TableEntry(below) => format!("address of an entry of a page table, with {below:#x} below"),
        Kind::Pte(_) => "entry of a page table".into(),
        Kind::PageOf(of) => format!("address of the frame of {of}"),
        Kind::GrantEntry => "entry of a grant table".into(),
        Kind::Len(of) => format!("length of {of}"),
        Kind::By(of, _) => format!("depends on {of}"),
        Kind::PortOf(domain) => format!("port of {domain}"),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn list(names: &[Named], between: &str) -> String {
    let more = if names.len() > NAMES { format!("{between}...") } else { String::new() };
    let shown: Vec<_> = names.iter().take(NAMES).map(|(name, _)| *name).collect();
    shown.join(between) + &more
}

/// The operations as text.
pub fn render(entries: &[Entry]) -> String {
    let mut out = String::new();
    for entry in entries {
        let sub = entry.sub_operation.map(|sub| format!(", sub-operation {sub}")).unwrap_or_default();
        let _ =
            writeln!(out, "{}\n    hypercall {}{sub}; returns {}", entry.name, entry.number, entry.returns);
        for argument in &entry.arguments {
            let _ = writeln!(out, "    {}: {}", argument.name, argument.ty);
        }
        let gives: Vec<_> = entry.gives.iter().map(|gift| format!("{} ({})", gift.name, gift.kind)).collect();
        for (what, list) in [("gives", gives), ("takes", entry.takes.clone())] {
            if !list.is_empty() {
                let _ = writeln!(out, "    {what} {}", list.join(", "));
            }
        }
    }
    out
}

/// What a campaign did with each operation, as text: calls, shares of their results, edges.
pub fn render_campaign(entries: &[Entry]) -> String {
    let mut out = String::new();
    let width = entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
    let _ = writeln!(out, "{:width$}  {:>9}  {:>6}  results", "operation", "calls", "edges");
    for entry in entries {
        let Some(counters) = &entry.campaign else { continue };
        let calls = counters.returned() + counters.faulted;
        let _ = write!(out, "{:width$}  {calls:>9}  {:>6}", entry.name, counters.edges);
        let share = |count: u64| 100.0 * count as f64 / calls.max(1) as f64;
        if counters.succeeded > 0 {
            let _ = write!(out, "  ok {:.1}%", share(counters.succeeded));
        }
        for (value, count) in operations::by_frequency(counters) {
            let _ = write!(out, "  {} {:.1}%", operations::error_name(value), share(count));
        }
        if counters.faulted > 0 {
            let _ = write!(out, "  faulted {:.1}%", share(counters.faulted));
        }
        if calls == 0 {
            out.push_str("  never called");
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::{FAMILIES, interface};

    #[test]
    fn every_operation_is_described() {
        let all = entries(interface(), &[], None);
        assert_eq!(all.len(), interface().operations().len());
        let text = render(&all);
        for entry in &all {
            assert!(text.contains(&format!("{}\n", entry.name)), "{}", entry.name);
        }
        for (family, _, list) in FAMILIES {
            assert_eq!(entries(interface(), &[(*family).to_owned()], None).len(), list.len(), "{family}");
        }
    }

    #[test]
    fn resources_and_fields_are_named() {
        let all = entries(interface(), &["event_channel_op".into()], None);
        let text = render(&all);
        assert!(text.contains("dom: u16 domain"), "{text}");
        let send = all.iter().find(|entry| entry.name == "event_channel_op.send").unwrap();
        assert!(send.takes.contains(&"port".to_owned()), "{send:?}");
        let alloc = all.iter().find(|entry| entry.name == "event_channel_op.alloc_unbound").unwrap();
        assert_eq!(
            (alloc.gives[0].name, &*alloc.gives[0].kind, alloc.gives[0].from),
            ("port", "port", "field")
        );
    }
}
