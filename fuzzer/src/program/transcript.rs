//! Says in words what an execution returned.

use std::{collections::BTreeMap, fmt::Write};

use coverage_hypercall::program::{Origin, Reject, Source, Status, WHOLE_PROGRAM};

use super::{
    environment::Environment,
    lower::{Lowered, Region},
    model::Program,
    text,
};
use crate::{
    engine::CallResult,
    interface::{Kind, Type},
};

/// Renders the results of a program: for each call its text and what it returned, the output fields that changed, and
/// which call was the last to begin where some never returned.
pub fn render(program: &Program, lowered: &Lowered, results: &[CallResult]) -> String {
    let mut out = String::new();
    let mut slots = Slots::default();
    for result in results {
        let index = usize::from(result.call);
        // Writing to a string cannot fail.
        let _ = match program.calls.get(index) {
            Some(call) => writeln!(out, "#{index} {} {}", text::call(program, call), status(&result.status)),
            None if result.call == WHOLE_PROGRAM => writeln!(out, "the program {}", status(&result.status)),
            None => writeln!(out, "#{index} (no such call) {}", status(&result.status)),
        };
        for (at, bytes) in &result.changes {
            let region = lowered.regions.iter().find(|region| region.call == result.call && region.at == *at);
            match region {
                Some(region) => {
                    changed(&lowered.environment, region, &slots.before(region, bytes), bytes, &mut out);
                }
                None => {
                    let _ = writeln!(out, "    {} bytes at offset {at:#x} changed", bytes.len());
                }
            }
        }
        slots.keep(lowered, result);
    }
    let returned = |index: usize| results.iter().any(|result| usize::from(result.call) == index);
    let refused = results.iter().any(|result| result.call == WHOLE_PROGRAM);
    let mut missing = (0..program.calls.len()).filter(|index| !returned(*index) && !refused);
    if let Some(index) = missing.next() {
        let _ = writeln!(out, "#{index} {} DID NOT RETURN", text::call(program, &program.calls[index]));
        let rest = missing.count();
        if rest > 0 {
            let _ = writeln!(out, "    {rest} more calls were not reached");
        }
    }
    out
}

/// How a call ended, in words.
pub fn status(status: &Status) -> String {
    match status {
        Status::Returned(value) => format!("= {}", returned(*value)),
        Status::Faulted { vector, error, rip, address } => {
            format!("raised exception {vector}, error {error:#x}, at {rip:#x}, address {address:#x}")
        }
        Status::Skipped => "was skipped: its domain or vCPU cannot run".to_owned(),
        Status::Rejected(why) => format!("was refused by the agent: {}", reject(*why)),
    }
}

/// What a hypercall returned, with the name of an error.
fn returned(value: i64) -> String {
    match errno(value) {
        Some(name) => format!("{value} ({name})"),
        None if (-4096..4096).contains(&value) => value.to_string(),
        None => format!("{value:#x}"),
    }
}

const fn reject(why: Reject) -> &'static str {
    match why {
        Reject::Malformed => "malformed",
        Reject::Version => "wrong magic or version",
        Reject::Bounds => "an offset outside the arena",
        Reject::Slot => "no such slot",
        Reject::Shape => "not exactly one call in a group",
        Reject::Width => "a width that is not 1, 2, 4 or 8",
        Reject::Operation => "no such agent operation",
    }
}

/// The name of a negative errno value (Xen `public/errno.h`).
pub const fn errno(value: i64) -> Option<&'static str> {
    Some(match value {
        -1 => "EPERM",
        -2 => "ENOENT",
        -3 => "ESRCH",
        -4 => "EINTR",
        -5 => "EIO",
        -6 => "ENXIO",
        -7 => "E2BIG",
        -8 => "ENOEXEC",
        -9 => "EBADF",
        -10 => "ECHILD",
        -11 => "EAGAIN",
        -12 => "ENOMEM",
        -13 => "EACCES",
        -14 => "EFAULT",
        -16 => "EBUSY",
        -17 => "EEXIST",
        -18 => "EXDEV",
        -19 => "ENODEV",
        -20 => "ENOTDIR",
        -21 => "EISDIR",
        -22 => "EINVAL",
        -23 => "ENFILE",
        -24 => "EMFILE",
        -28 => "ENOSPC",
        -30 => "EROFS",
        -31 => "EMLINK",
        -33 => "EDOM",
        -34 => "ERANGE",
        -35 => "EDEADLK",
        -36 => "ENAMETOOLONG",
        -37 => "ENOLCK",
        -38 => "ENOSYS",
        -39 => "ENOTEMPTY",
        -61 => "ENODATA",
        -62 => "ETIME",
        -74 => "EBADMSG",
        -75 => "EOVERFLOW",
        -84 => "EILSEQ",
        -85 => "ERESTART",
        -88 => "ENOTSOCK",
        -90 => "EMSGSIZE",
        -95 => "EOPNOTSUPP",
        -98 => "EADDRINUSE",
        -99 => "EADDRNOTAVAIL",
        -105 => "ENOBUFS",
        -106 => "EISCONN",
        -107 => "ENOTCONN",
        -110 => "ETIMEDOUT",
        -111 => "ECONNREFUSED",
        _ => return None,
    })
}

/// The agent's slots, as far as they follow from what calls returned.
#[derive(Default)]
struct Slots(BTreeMap<u8, Option<u64>>);

impl Slots {
    /// What a region held before its call. Where nothing says so, that is what it held afterwards.
    fn before(&self, region: &Region, after: &[u8]) -> Vec<u8> {
        let mut before = region.before.clone();
        for (offset, width, value) in &region.stores {
            let at = *offset as usize;
            let range = at..at + usize::from(*width).min(8);
            let Some(old) = before.get_mut(range.clone()) else { continue };
            let value = match value {
                Source::Const(value) => Some(*value),
                Source::Slot { slot, otherwise } => self.0.get(slot).copied().unwrap_or(Some(*otherwise)),
            };
            match (value, after.get(range)) {
                (Some(value), _) => old.copy_from_slice(&value.to_le_bytes()[..old.len()]),
                (None, Some(after)) => old.copy_from_slice(after),
                (None, None) => {}
            }
        }
        before
    }

    /// Follows what the agent kept of a call.
    fn keep(&mut self, lowered: &Lowered, result: &CallResult) {
        let Status::Returned(value @ 0..) = result.status else { return };
        for captured in lowered.captures.iter().filter(|captured| captured.call == result.call) {
            if let Some(at) = captured.guard {
                match self.found(lowered, result, at, 8) {
                    Some(failed) if failed.cast_signed() < 0 => continue,
                    Some(_) => {}
                    None => {
                        self.0.insert(captured.slot, None);
                        continue;
                    }
                }
            }
            let kept = match captured.from {
                Origin::Return => Some(value.cast_unsigned()),
                Origin::Arena { at, width } => self.found(lowered, result, at, usize::from(width)),
            };
            self.0.insert(captured.slot, kept);
        }
    }

    /// A number in the arena after a call, if a region that is watched holds it.
    fn found(&self, lowered: &Lowered, result: &CallResult, at: u32, width: usize) -> Option<u64> {
        let within = |start: u32, bytes: &[u8]| {
            let from = at.checked_sub(start)? as usize;
            bytes.get(from..from + width).map(word)
        };
        result.changes.iter().find_map(|(start, bytes)| within(*start, bytes)).or_else(|| {
            let mut regions = lowered.regions.iter().filter(|region| region.call == result.call);
            // Without a change it holds what it held. What is not known of that is taken for zero, and must not be used.
            let region = regions.find(|region| within(region.at, &region.before).is_some())?;
            let known = region.stores.iter().all(|(_, _, value)| match value {
                Source::Const(_) => true,
                Source::Slot { slot, .. } => self.0.get(slot) != Some(&None),
            });
            known.then(|| within(region.at, &self.before(region, &region.before))).flatten()
        })
    }
}

fn changed(environment: &Environment, region: &Region, before: &[u8], after: &[u8], out: &mut String) {
    leaves(region.ty, region.name.to_owned(), 0, after.len(), &mut |name, offset, len, ty| {
        let (Some(new), Some(old)) = (after.get(offset..offset + len), before.get(offset..offset + len))
        else {
            return;
        };
        if new == old {
            return;
        }
        let value = match ty {
            Type::Int { width: 1..=8, kind } => text::int(environment.shown(kind, word(new)), kind),
            Type::Ptr { .. } | Type::Word => text::int(word(new), &Kind::Hex),
            Type::Entry => returned(word(new).cast_signed()),
            _ => format!("\"{}\"", new.escape_ascii()),
        };
        let _ = writeln!(out, "    {name} = {value}");
    });
}

/// The number in up to eight bytes.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// Visits the numbers and byte strings of a buffer: name, offset, length, type.
fn leaves(
    ty: &'static Type,
    name: String,
    offset: usize,
    end: usize,
    visit: &mut dyn FnMut(&str, usize, usize, &'static Type),
) {
    match ty {
        Type::Int { .. } | Type::Ptr { .. } | Type::Word | Type::Blob(_) => {
            visit(&name, offset, ty.size(), ty)
        }
        Type::Bytes(_) => visit(&name, offset, end.saturating_sub(offset), ty),
        Type::Struct(layout) => {
            for (field, at) in layout.fields.iter().zip(layout.offsets()) {
                leaves(&field.ty, format!("{name}.{}", field.name), offset + at, end, visit);
            }
        }
        Type::Array(of) => {
            let size = of.size().max(1);
            for index in 0..end.saturating_sub(offset) / size {
                leaves(of, format!("{name}[{index}]"), offset + index * size, end, visit);
            }
        }
        // Of an entry the hypervisor writes the result only, which lies behind the operation.
        Type::Entry => visit(&format!("{name}.result"), offset + 8, 8, ty),
    }
}
