//! Program to text.

use std::{
    collections::BTreeSet,
    fmt::{self, Write},
};

use super::FILL;
use crate::{
    interface::{DOMAINS, Field, Kind, Named, OpId, Type},
    program::{
        model::{Call, Pointer, Program, ResultRef, Shape, Value},
        walk::WORD_POINTEE,
    },
};

/// Prints a program, one call per line.
pub fn print(program: &Program) -> String {
    let mut used = BTreeSet::new();
    for call in &program.calls {
        call.args.iter().for_each(|value| references(value, &mut used));
    }
    let mut out = String::new();
    for (index, each) in program.calls.iter().enumerate() {
        if used.contains(&(index as u16)) {
            let _ = write!(out, "r{index} = ");
        }
        out.push_str(&call(program, each));
        out.push('\n');
    }
    out
}

/// Prints one call of a program, without a label.
pub fn call(program: &Program, call: &Call) -> String {
    let mut out = String::new();
    let _ = write!(out, "d{}", call.domain);
    if call.vcpu != 0 {
        let _ = write!(out, ":{}", call.vcpu);
    }
    out.push(' ');
    let mut printer = Printer { program, out };
    // Writing to a string cannot fail.
    let _ = printer.operation(call.op, &call.args);
    printer.out
}

fn references(value: &Value, used: &mut BTreeSet<u16>) {
    match value {
        Value::Result(reference) => {
            used.insert(reference.call);
        }
        Value::Pointer(Pointer { to: Some(to), .. }) => references(to, used),
        Value::Struct(values) | Value::Array(values) => {
            values.iter().for_each(|value| references(value, used))
        }
        Value::Entry(entry) => entry.args.iter().for_each(|value| references(value, used)),
        Value::Int(_) | Value::Bytes(_) | Value::Pointer(_) => {}
    }
}

/// Prints a number as its type suggests.
pub fn int(value: u64, kind: &Kind) -> String {
    let number = || if value < 4096 { value.to_string() } else { format!("{value:#x}") };
    let named = |names: &[Named]| {
        names.iter().find(|(_, known)| *known == value).map_or_else(number, |(name, _)| (*name).to_owned())
    };
    match kind {
        Kind::Enum(names) => named(names),
        Kind::Domain | Kind::Peer | Kind::Target => named(DOMAINS),
        Kind::Hex
        | Kind::Frame
        | Kind::Hole
        | Kind::By(..)
        | Kind::HolePage
        | Kind::MappedAt
        | Kind::BusAddress
        | Kind::ThisFrame(_)
        | Kind::Table
        | Kind::TableEntry(_)
        | Kind::Pte(_)
        | Kind::PageOf(_)
        | Kind::GrantEntry => format!("{value:#x}"),
        Kind::Flags(names) | Kind::UsualFlags(names, _) => {
            let mut left = value;
            let mut parts = Vec::new();
            for (name, bits) in *names {
                if left & bits == *bits {
                    parts.push((*name).to_owned());
                    left &= !bits;
                }
            }
            if left != 0 || parts.is_empty() {
                parts.push(format!("{left:#x}"));
            }
            parts.join("|")
        }
        _ => number(),
    }
}

struct Printer<'a> {
    program: &'a Program,
    out: String,
}

impl Printer<'_> {
    fn operation(&mut self, op: OpId, args: &[Value]) -> fmt::Result {
        write!(self.out, "{op}(")?;
        for (index, (field, value)) in op.operation().args.iter().zip(args).enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            self.field(field, value)?;
        }
        self.out.push(')');
        Ok(())
    }

    fn field(&mut self, field: &'static Field, value: &Value) -> fmt::Result {
        if field.out && *value == Value::plainest_field(field) {
            self.out.push_str("out");
            return Ok(());
        }
        self.value(&field.ty, value)
    }

    fn value(&mut self, ty: &'static Type, value: &Value) -> fmt::Result {
        match (ty, value) {
            (Type::Int { kind, .. }, Value::Int(value)) => {
                self.out.push_str(&int(*value, kind));
                Ok(())
            }
            (_, Value::Int(value)) => {
                self.out.push_str(&int(*value, &Kind::Plain));
                Ok(())
            }
            (_, Value::Result(reference)) => self.reference(reference),
            (Type::Ptr { to, .. }, Value::Pointer(pointer)) => self.pointer(to, pointer),
            (_, Value::Pointer(pointer)) => self.pointer(WORD_POINTEE, pointer),
            (Type::Struct(layout), Value::Struct(values)) => {
                self.out.push('{');
                for (index, (field, value)) in layout.fields.iter().zip(values).enumerate() {
                    if index > 0 {
                        self.out.push_str(", ");
                    }
                    write!(self.out, "{}: ", field.name)?;
                    self.field(field, value)?;
                }
                self.out.push('}');
                Ok(())
            }
            (Type::Array(of), Value::Array(items)) => {
                self.out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.out.push_str(", ");
                    }
                    self.value(of, item)?;
                }
                self.out.push(']');
                Ok(())
            }
            (_, Value::Bytes(bytes)) => self.bytes(bytes),
            (_, Value::Entry(entry)) => self.operation(entry.op, &entry.args),
            // Validation refuses such a program; it can be printed all the same.
            (_, Value::Struct(_) | Value::Array(_)) => write!(self.out, "<{value:?}>"),
        }
    }

    fn reference(&mut self, reference: &ResultRef) -> fmt::Result {
        let ResultRef { call, entry, result, otherwise } = *reference;
        let giver = self.program.calls.get(usize::from(call)).and_then(|call| call.operation(entry));
        let name = giver
            .and_then(|operation| operation.results.get(usize::from(result)))
            .map_or("none", |result| result.name);
        write!(self.out, "r{call}")?;
        if let Some(entry) = entry {
            write!(self.out, "[{entry}]")?;
        }
        write!(self.out, ".{name}")?;
        if otherwise != 0 {
            write!(self.out, "?{}", int(otherwise, &Kind::Plain))?;
        }
        Ok(())
    }

    fn pointer(&mut self, to: &'static Type, pointer: &Pointer) -> fmt::Result {
        match pointer.shape {
            Shape::Plain => self.out.push('&'),
            Shape::Null => self.out.push_str("null"),
            Shape::Bad(address) => write!(self.out, "bad({address:#x})")?,
            Shape::Unaligned(by) => write!(self.out, "&@unaligned({by}) ")?,
            Shape::Cross(before) => write!(self.out, "&@cross({before}) ")?,
            Shape::End(beyond) => write!(self.out, "&@end({beyond}) ")?,
            Shape::Over { back, delta } => write!(self.out, "&@over({back}, {delta}) ")?,
        }
        match &pointer.to {
            Some(data) => self.value(to, data),
            None => Ok(()),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> fmt::Result {
        if let [first, rest @ ..] = bytes
            && bytes.len() >= FILL
            && rest.iter().all(|byte| byte == first)
        {
            return write!(self.out, "fill({first:#x}, {})", bytes.len());
        }
        self.out.push('"');
        for byte in bytes {
            match byte {
                b'"' | b'\\' => write!(self.out, "\\{}", char::from(*byte))?,
                b'\n' => self.out.push_str("\\n"),
                b' '..=b'~' => self.out.push(char::from(*byte)),
                _ => write!(self.out, "\\x{byte:02x}")?,
            }
        }
        self.out.push('"');
        Ok(())
    }
}
