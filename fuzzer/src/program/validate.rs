//! Says what is wrong with a program.

use coverage_hypercall::harness::HARNESS_OP;
use thiserror::Error;

use super::{
    lower::{self, LowerError},
    model::{CALLS, Call, LAST_DOMAIN, MAX_NESTED_CALLS, Pointer, Program, ResultRef, Shape, Value, mask},
    walk::WORD_POINTEE,
};
use crate::interface::{Field, OpId, Select, Type};

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    /// Something in one call.
    #[error("call {call} ({op}), {argument}: {problem}")]
    Call {
        /// Index of the call.
        call: usize,
        /// Its operation.
        op: OpId,
        /// The argument, or what else it is about; fields behind a dot.
        argument: String,
        /// What is wrong there.
        problem: Problem,
    },
    /// It cannot be lowered.
    #[error(transparent)]
    Lower(#[from] LowerError),
}

/// What is wrong with a call.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Problem {
    /// No such domain.
    #[error("there is no domain {0}; domains are 0 to {LAST_DOMAIN}")]
    Domain(u16),
    /// Too few or too many values.
    #[error("{found} values where {expected} are expected")]
    Count {
        /// As the interface has it.
        expected: usize,
        /// As the program has it.
        found: usize,
    },
    /// A result of a call that does not come before this one.
    #[error("uses a result of call {0}, which does not come before it")]
    LaterCall(u16),
    /// A result of an entry that the call does not have.
    #[error("call {call} ({op}) has no entry number {entry}")]
    NoEntry {
        /// Index of the earlier call.
        call: u16,
        /// Its operation.
        op: OpId,
        /// Number of the entry.
        entry: u8,
    },
    /// A result that the call, or the entry of it, does not have.
    #[error("call {call} ({op}) has no result number {result}")]
    NoResult {
        /// Index of the earlier call.
        call: u16,
        /// Its operation.
        op: OpId,
        /// Number of the result.
        result: u8,
    },
    /// A number that does not fit.
    #[error("{value:#x} does not fit into {width} bytes")]
    TooWide {
        /// The number.
        value: u64,
        /// Bytes of the type.
        width: u8,
    },
    /// A value of the wrong sort.
    #[error("the value does not fit its type")]
    Type,
    /// A shape that leads out of the arena, or whose parameter makes no sense.
    #[error("the pointer's shape {0:?} leads out of the arena")]
    Shape(Shape),
    /// A pointer without data that needs some, or the other way round.
    #[error("a pointer of shape {0:?} with the wrong sort of data")]
    Pointee(Shape),
    /// The harness's own hypercall.
    #[error("hypercall {HARNESS_OP} belongs to the harness")]
    Harness,
    /// A multicall in a multicall in a multicall ...
    #[error("multicalls nested more than {MAX_NESTED_CALLS} deep")]
    Nested,
}

/// Checks a program.
///
/// # Errors
/// [`Invalid`] says what is wrong first.
pub fn validate(program: &Program) -> Result<(), Invalid> {
    if program.calls.len() > CALLS {
        return Err(LowerError::Calls(program.calls.len()).into());
    }
    calls(program, 0)?;
    lower::lower(program, 1)?;
    Ok(())
}

/// Checks the calls from `first` on, each by itself: not whether all of them together can be lowered.
///
/// # Errors
/// [`Invalid::Call`] says what is wrong first.
pub fn calls(program: &Program, first: usize) -> Result<(), Invalid> {
    for (index, call) in program.calls.iter().enumerate().skip(first) {
        Checker { earlier: &program.calls[..index], path: Vec::new() }
            .call(call)
            .map_err(|(argument, problem)| Invalid::Call { call: index, op: call.op, argument, problem })?;
    }
    Ok(())
}

type Found = Result<(), (String, Problem)>;

struct Checker<'a> {
    earlier: &'a [Call],
    path: Vec<&'static str>,
}

impl Checker<'_> {
    fn wrong(&self, problem: Problem) -> Found {
        Err((self.path.join("."), problem))
    }

    fn call(&mut self, call: &Call) -> Found {
        if call.domain > LAST_DOMAIN {
            return Err(("domain".into(), Problem::Domain(call.domain)));
        }
        self.operation(call.op, &call.args, 0)
    }

    fn operation(&mut self, op: OpId, args: &[Value], nested: u32) -> Found {
        if matches!(op.operation().select, Select::Raw) {
            let number = match args.first() {
                Some(Value::Int(number)) => *number,
                Some(Value::Result(reference)) => reference.otherwise,
                _ => 0,
            };
            if number == HARNESS_OP {
                self.path.push("number");
                return self.wrong(Problem::Harness);
            }
        }
        self.fields(op.operation().args, args, nested)
    }

    fn fields(&mut self, fields: &'static [Field], values: &[Value], nested: u32) -> Found {
        if fields.len() != values.len() {
            return self.wrong(Problem::Count { expected: fields.len(), found: values.len() });
        }
        for (field, value) in fields.iter().zip(values) {
            self.path.push(field.name);
            self.value(&field.ty, value, nested)?;
            self.path.pop();
        }
        Ok(())
    }

    fn value(&mut self, ty: &'static Type, value: &Value, nested: u32) -> Found {
        match (ty, value) {
            (Type::Int { width, .. }, Value::Int(value)) => self.width(*value, *width),
            (Type::Int { width, .. }, Value::Result(reference)) => self.reference(reference, *width),
            (Type::Word, Value::Int(_)) => Ok(()),
            (Type::Word, Value::Result(reference)) => self.reference(reference, 8),
            (Type::Word, Value::Pointer(pointer)) => self.pointer(WORD_POINTEE, pointer, nested),
            (Type::Ptr { to, .. }, Value::Pointer(pointer)) => self.pointer(to, pointer, nested),
            (Type::Struct(layout), Value::Struct(values)) => self.fields(layout.fields, values, nested),
            (Type::Array(of), Value::Array(items)) => {
                items.iter().try_for_each(|item| self.value(of, item, nested))
            }
            (Type::Bytes(_), Value::Bytes(_)) => Ok(()),
            (Type::Blob(len), Value::Bytes(bytes)) if *len as usize == bytes.len() => Ok(()),
            (Type::Blob(len), Value::Bytes(bytes)) => {
                self.wrong(Problem::Count { expected: *len as usize, found: bytes.len() })
            }
            (Type::Entry, Value::Entry(_)) if nested >= MAX_NESTED_CALLS => self.wrong(Problem::Nested),
            (Type::Entry, Value::Entry(entry)) => self.operation(entry.op, &entry.args, nested + 1),
            _ => self.wrong(Problem::Type),
        }
    }

    fn width(&self, value: u64, width: u8) -> Found {
        if value > mask(width) { self.wrong(Problem::TooWide { value, width }) } else { Ok(()) }
    }

    fn reference(&self, reference: &ResultRef, width: u8) -> Found {
        let Some(call) = self.earlier.get(usize::from(reference.call)) else {
            return self.wrong(Problem::LaterCall(reference.call));
        };
        let Some(operation) = call.operation(reference.entry) else {
            return self.wrong(Problem::NoEntry {
                call: reference.call,
                op: call.op,
                entry: reference.entry.unwrap_or_default(),
            });
        };
        if usize::from(reference.result) >= operation.results.len() {
            return self.wrong(Problem::NoResult {
                call: reference.call,
                op: operation.id(),
                result: reference.result,
            });
        }
        self.width(reference.otherwise, width)
    }

    fn pointer(&mut self, to: &'static Type, pointer: &Pointer, nested: u32) -> Found {
        let shape = pointer.shape;
        let sane = match shape {
            Shape::Unaligned(by) => (1..16).contains(&by),
            Shape::Cross(before) => (1..4096).contains(&before),
            Shape::End(beyond) => beyond <= 4096,
            _ => true,
        };
        if !sane {
            return self.wrong(Problem::Shape(shape));
        }
        match &pointer.to {
            Some(data) if shape.has_data() => self.value(to, data, nested),
            None if !shape.has_data() => Ok(()),
            _ => self.wrong(Problem::Pointee(shape)),
        }
    }
}
