//! Text to program.

use std::collections::BTreeMap;

use coverage_hypercall::channel::ARENA_LEN;
use thiserror::Error;

use crate::{
    interface::{DOMAINS, Field, Kind, Named, OpId, Type},
    program::{
        model::{CALLS, Call, Entry, MAX_NESTED_CALLS, Pointer, Program, ResultRef, Shape, Value, mask},
        validate::{self, Invalid},
        walk::WORD_POINTEE,
    },
};

/// Where a text is not a program, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("line {line}, column {column}: expected {expected}")]
pub struct ParseError {
    /// Line, from 1.
    pub line: usize,
    /// Column in bytes, from 1.
    pub column: usize,
    /// What should be there.
    pub expected: String,
}

/// Parses a program and validates it.
///
/// # Errors
/// [`ParseError`] with the first place that is wrong.
pub fn parse(text: &str) -> Result<Program, ParseError> {
    let mut program = Program::default();
    let mut labels = BTreeMap::new();
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut parser =
            Parser { line: index + 1, src: line.as_bytes(), at: 0, labels: &labels, calls: &program.calls };
        parser.space();
        if parser.at == parser.src.len() {
            continue;
        }
        if program.calls.len() == CALLS {
            return Err(parser.error(format!("no more than {CALLS} calls")));
        }
        let (label, call) = parser.call()?;
        parser.end()?;
        if let Some(label) = label {
            labels.insert(label, program.calls.len() as u16);
        }
        lines.push(index + 1);
        program.calls.push(call);
    }
    validate::validate(&program).map_err(|invalid| {
        let line = match &invalid {
            Invalid::Call { call, .. } => lines.get(*call).copied(),
            Invalid::Lower(_) => lines.last().copied(),
        };
        ParseError { line: line.unwrap_or(1), column: 1, expected: format!("a valid program: {invalid}") }
    })?;
    Ok(program)
}

struct Parser<'a> {
    line: usize,
    src: &'a [u8],
    at: usize,
    labels: &'a BTreeMap<u64, u16>,
    calls: &'a [Call],
}

type Parsed<T> = Result<T, ParseError>;

impl Parser<'_> {
    fn error(&self, expected: impl Into<String>) -> ParseError {
        ParseError { line: self.line, column: self.at + 1, expected: expected.into() }
    }

    fn error_at<T>(&self, at: usize, expected: impl Into<String>) -> Parsed<T> {
        Err(ParseError { line: self.line, column: at + 1, expected: expected.into() })
    }

    /// Skips blanks and a comment.
    fn space(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' => self.at += 1,
                b'#' => self.at = self.src.len(),
                _ => break,
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.src.get(self.at).copied()
    }

    /// Takes this byte, if it comes next.
    fn take(&mut self, byte: u8) -> bool {
        self.space();
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Parsed<()> {
        if self.take(byte) { Ok(()) } else { Err(self.error(format!("`{}`", char::from(byte)))) }
    }

    fn end(&mut self) -> Parsed<()> {
        self.space();
        if self.at == self.src.len() { Ok(()) } else { Err(self.error("the end of the line")) }
    }

    /// A word of letters, digits and underscores; empty if there is none.
    fn word(&mut self) -> (usize, &str) {
        self.space();
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            self.at += 1;
        }
        (start, std::str::from_utf8(&self.src[start..self.at]).unwrap_or(""))
    }

    fn number(&mut self, most: u64, what: &str) -> Parsed<u64> {
        let (start, word) = self.word();
        match number(word) {
            Some(value) if value <= most => Ok(value),
            _ => {
                let what = format!("{what}: a number from 0 to {most:#x}");
                self.error_at(start, what)
            }
        }
    }

    /// `r0 = d1 family.operation(...)`.
    fn call(&mut self) -> Parsed<(Option<u64>, Call)> {
        let (mut start, word) = self.word();
        let mut word = word.to_owned();
        let mut label = None;
        if let Some(number) = label_number(&word) {
            if self.labels.contains_key(&number) {
                return self
                    .error_at(start, format!("a label other than r{number}, which an earlier call has"));
            }
            label = Some(number);
            self.expect(b'=')?;
            let (next, domain) = self.word();
            (start, word) = (next, domain.to_owned());
        }
        let Some(domain) = word.strip_prefix('d').and_then(|digits| digits.parse::<u16>().ok()) else {
            return self.error_at(start, "a domain (`d1`) or a label (`r0 =`)");
        };
        let vcpu = if self.take(b':') { self.number(255, "a virtual CPU")? as u8 } else { 0 };
        let (op, args) = self.operation(0)?;
        Ok((label, Call { domain, vcpu, op, args }))
    }

    fn operation(&mut self, nested: u32) -> Parsed<(OpId, Vec<Value>)> {
        let (start, family) = self.word();
        let mut name = family.to_owned();
        if self.take(b'.') {
            name.push('.');
            name.push_str(self.word().1);
        }
        let Some(op) = OpId::by_name(&name) else {
            return self.error_at(start, "the name of an operation (`family.operation`)");
        };
        self.expect(b'(')?;
        let mut args = Vec::new();
        for (index, field) in op.operation().args.iter().enumerate() {
            if index > 0 {
                self.expect(b',')?;
            }
            args.push(self.field(field, nested)?);
        }
        self.expect(b')')?;
        Ok((op, args))
    }

    fn field(&mut self, field: &'static Field, nested: u32) -> Parsed<Value> {
        if field.out {
            let before = self.at;
            if self.word().1 == "out" {
                return Ok(Value::plainest_field(field));
            }
            self.at = before;
        }
        self.value(&field.ty, field.name, nested)
    }

    fn value(&mut self, ty: &'static Type, name: &'static str, nested: u32) -> Parsed<Value> {
        match ty {
            Type::Int { width, kind } => self.int(*width, kind, name),
            Type::Word => {
                let before = self.at;
                self.space();
                let first = self.peek();
                let word = self.word().1.to_owned();
                self.at = before;
                if first == Some(b'&') || word == "null" || word == "bad" {
                    self.pointer(WORD_POINTEE, name, nested)
                } else {
                    self.int(8, &Kind::Plain, name)
                }
            }
            Type::Ptr { to, .. } => self.pointer(to, name, nested),
            Type::Struct(layout) => {
                self.expect(b'{')?;
                self.structure(layout.fields, nested)
            }
            Type::Array(of) => {
                self.expect(b'[')?;
                let mut items = Vec::new();
                while !self.take(b']') {
                    if !items.is_empty() {
                        self.expect(b',')?;
                    }
                    items.push(self.value(of, name, nested)?);
                }
                Ok(Value::Array(items))
            }
            Type::Bytes(_) => self.bytes().map(Value::Bytes),
            Type::Blob(len) => {
                self.space();
                let start = self.at;
                let bytes = self.bytes()?;
                if bytes.len() != *len as usize {
                    return self.error_at(start, format!("{len} bytes for {name}, not {}", bytes.len()));
                }
                Ok(Value::Bytes(bytes))
            }
            Type::Entry => {
                if nested >= MAX_NESTED_CALLS {
                    return Err(
                        self.error(format!("no more than {MAX_NESTED_CALLS} multicalls in each other"))
                    );
                }
                let (op, args) = self.operation(nested + 1)?;
                Ok(Value::Entry(Box::new(Entry { op, args })))
            }
        }
    }

    /// Fields in any order, behind the opening brace; those that are left out get their plainest value.
    fn structure(&mut self, fields: &'static [Field], nested: u32) -> Parsed<Value> {
        let mut values: Vec<Option<Value>> = vec![None; fields.len()];
        let mut first = true;
        while !self.take(b'}') {
            if !first {
                self.expect(b',')?;
            }
            first = false;
            let (start, name) = self.word();
            let Some(index) = fields.iter().position(|field| field.name == name) else {
                let names: Vec<_> = fields.iter().map(|field| field.name).collect();
                return self.error_at(start, format!("a field: one of {}", names.join(", ")));
            };
            if values[index].is_some() {
                return self
                    .error_at(start, format!("each field once; {} is there already", fields[index].name));
            }
            self.expect(b':')?;
            values[index] = Some(self.field(&fields[index], nested)?);
        }
        let values = values.into_iter().zip(fields);
        Ok(Value::Struct(
            values.map(|(value, field)| value.unwrap_or_else(|| Value::plainest_field(field))).collect(),
        ))
    }

    fn pointer(&mut self, to: &'static Type, name: &'static str, nested: u32) -> Parsed<Value> {
        if !self.take(b'&') {
            let (start, word) = self.word();
            let shape = match word {
                "null" => Shape::Null,
                "bad" => {
                    self.expect(b'(')?;
                    let address = self.number(u64::MAX, "an address")?;
                    self.expect(b')')?;
                    Shape::Bad(address)
                }
                _ => {
                    return self
                        .error_at(start, format!("a pointer for {name}: `&`, `null` or `bad(address)`"));
                }
            };
            return Ok(Value::Pointer(Pointer { shape, to: None }));
        }
        let shape = if self.take(b'@') { self.shape()? } else { Shape::Plain };
        let data = self.value(to, name, nested)?;
        Ok(Value::Pointer(Pointer { shape, to: Some(Box::new(data)) }))
    }

    fn shape(&mut self) -> Parsed<Shape> {
        let (start, word) = self.word();
        let word = word.to_owned();
        if !["unaligned", "cross", "end", "over"].contains(&word.as_str()) {
            return self.error_at(start, "a shape: unaligned, cross, end or over");
        }
        self.expect(b'(')?;
        let shape = match word.as_str() {
            "unaligned" => Shape::Unaligned(self.number(15, "bytes")? as u8),
            "cross" => Shape::Cross(self.number(4095, "bytes before the end of the page")? as u16),
            "end" => Shape::End(self.number(4096, "bytes beyond the arena")? as u16),
            _ => {
                let back = self.number(255, "which buffer")? as u8;
                self.expect(b',')?;
                Shape::Over { back, delta: self.number(u64::from(u16::MAX), "bytes")? as u16 }
            }
        };
        self.expect(b')')?;
        Ok(shape)
    }

    /// A number, names joined by `|`, or a result.
    fn int(&mut self, width: u8, kind: &'static Kind, name: &'static str) -> Parsed<Value> {
        let most = mask(width);
        let names: &[Named] = match kind {
            Kind::Enum(names) | Kind::Flags(names) | Kind::UsualFlags(names, _) => names,
            Kind::Domain | Kind::Peer | Kind::Target => DOMAINS,
            _ => &[],
        };
        let mut total = 0;
        loop {
            let negative = self.take(b'-');
            let (start, word) = self.word();
            let word = word.to_owned();
            let value = if let Some((_, value)) = names.iter().find(|(known, _)| *known == word) {
                *value
            } else if let Some(value) = number(&word) {
                if negative { value.wrapping_neg() & most } else { value }
            } else if let Some(label) = label_number(&word) {
                return self.reference(label, start, most);
            } else {
                let known: Vec<_> = names.iter().map(|(name, _)| *name).collect();
                let names =
                    if known.is_empty() { String::new() } else { format!(" or {}", known.join(", ")) };
                return self
                    .error_at(start, format!("a value for {name}: a number, a result (`r0.port`){names}"));
            };
            if value > most {
                return self.error_at(start, format!("a value for {name} of at most {most:#x}"));
            }
            total |= value;
            if !self.take(b'|') {
                return Ok(Value::Int(total));
            }
        }
    }

    fn reference(&mut self, label: u64, start: usize, most: u64) -> Parsed<Value> {
        let Some(call) = self.labels.get(&label).copied() else {
            return self.error_at(start, format!("the label of an earlier call; there is no r{label} yet"));
        };
        let entry = self.entry(label, usize::from(call))?;
        self.expect(b'.')?;
        let operation = self.calls[usize::from(call)].operation(entry);
        let results = operation.map_or(&[][..], |operation| operation.results);
        let (start, name) = self.word();
        let Some(result) = results.iter().position(|result| result.name == name) else {
            let names: Vec<_> = results.iter().map(|result| result.name).collect();
            let giver = entry.map_or_else(|| format!("r{label}"), |entry| format!("r{label}[{entry}]"));
            return self.error_at(start, format!("a result of {giver}, which has: {}", names.join(", ")));
        };
        let otherwise =
            if self.take(b'?') { self.number(most, "what to use if the call failed")? } else { 0 };
        Ok(Value::Result(ResultRef { call, entry, result: result as u8, otherwise }))
    }

    /// `[2]`: which entry of a multicall gave the result.
    fn entry(&mut self, label: u64, call: usize) -> Parsed<Option<u8>> {
        if !self.take(b'[') {
            return Ok(None);
        }
        let start = self.at;
        let entry = self.number(u64::from(u8::MAX), "the number of an entry")? as u8;
        if self.calls[call].operation(Some(entry)).is_none() {
            let count = self.calls[call].entries().len();
            return self.error_at(start, format!("an entry of r{label}, which has {count}"));
        }
        self.expect(b']')?;
        Ok(Some(entry))
    }

    /// `"text\x00"` or `fill(byte, length)`.
    fn bytes(&mut self) -> Parsed<Vec<u8>> {
        if !self.take(b'"') {
            let (start, word) = self.word();
            if word != "fill" {
                return self.error_at(start, "bytes: a string or `fill(byte, length)`");
            }
            self.expect(b'(')?;
            let byte = self.number(255, "a byte")? as u8;
            self.expect(b',')?;
            let len = self.number(u64::from(ARENA_LEN), "a length")? as usize;
            self.expect(b')')?;
            return Ok(vec![byte; len]);
        }
        let mut bytes = Vec::new();
        loop {
            let Some(byte) = self.peek() else { return Err(self.error("`\"`")) };
            self.at += 1;
            match byte {
                b'"' => return Ok(bytes),
                b'\\' => {
                    let escape = self.peek();
                    self.at += 1;
                    bytes.push(match escape {
                        Some(b'n') => b'\n',
                        Some(b'\\') => b'\\',
                        Some(b'"') => b'"',
                        Some(b'x') => {
                            let digits = self.src.get(self.at..self.at + 2).unwrap_or(&[]);
                            let digits = std::str::from_utf8(digits).unwrap_or("");
                            match u8::from_str_radix(digits, 16) {
                                Ok(byte) if digits.len() == 2 && !digits.starts_with('+') => {
                                    self.at += 2;
                                    byte
                                }
                                _ => return Err(self.error("two hexadecimal digits")),
                            }
                        }
                        _ => return self.error_at(self.at - 1, "one of `n`, `x`, `\"`, `\\`"),
                    });
                }
                byte => bytes.push(byte),
            }
        }
    }
}

/// A number, decimal or hexadecimal; underscores between digits are allowed.
fn number(word: &str) -> Option<u64> {
    if !word.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let digits = word.replace('_', "");
    match digits.strip_prefix("0x") {
        Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
        Some(_) => None,
        None => digits.parse().ok(),
    }
}

/// The number of a label `r0`.
fn label_number(word: &str) -> Option<u64> {
    let digits = word.strip_prefix('r')?;
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}
