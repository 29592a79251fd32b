//! Programs as C: a guest in one file that a hypervisor's developer can build and boot without us.
//!
//! What the guest does is what the agent would: the same bytes at the same addresses, the same registers, results handed on in the same way.
//! It has one vCPU and nobody beside it, so programs in which several domains or vCPUs take part, or in which the agent does something
//! itself, cannot be written so.

use std::fmt::Write;

use coverage_hypercall::program::{AGENT_OPS, Group, Header, Insn, Origin, Source};
use thiserror::Error;

use super::{
    lower::{self, LowerError},
    model::{Call, Program},
    text,
};

/// The domain whose calls become the guest's.
const GUEST: u16 = 1;
/// How the file is built: freestanding, at a fixed address below the buffers.
pub const BUILD: &str = "gcc -std=gnu11 -Wall -O1 -m64 -ffreestanding -fno-pic -mno-red-zone -mgeneral-regs-only -fno-stack-protector \
-fcf-protection=none -fno-asynchronous-unwind-tables -nostdlib -static -no-pie \
-Wl,-e,start32,-Ttext-segment=0x100000,--build-id=none,-z,noexecstack,-z,max-page-size=4096";
/// Memory of the guest, so that what lies behind its memory lies where it did.
pub const MEMORY: &str = "4M";

/// Why a program cannot be written as a guest of its own.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CError {
    /// Another domain or vCPU issues a call.
    #[error("call {call} is issued by d{domain}:{vcpu}; a guest of its own has only what d{GUEST}:0 does")]
    Issuer {
        /// Index of the call.
        call: usize,
        /// Its domain.
        domain: u16,
        /// Its virtual CPU.
        vcpu: u8,
    },
    /// The agent does something itself.
    #[error("call {call} is {operation}, which the agent carries out itself: there is no hypercall for it")]
    Agent {
        /// Index of the call.
        call: usize,
        /// What it does.
        operation: &'static str,
    },
    /// It cannot be lowered at all.
    #[error(transparent)]
    Lower(#[from] LowerError),
    /// The lowered form could not be read back.
    #[error("the lowered program cannot be read back: {0}")]
    Malformed(#[from] postcard::Error),
}

/// Renders a program. `about` becomes the comment at the top, line by line.
///
/// # Errors
/// [`CError`] says which call stands in the way.
pub fn render(program: &Program, about: &str) -> Result<String, CError> {
    for (index, call) in program.calls.iter().enumerate() {
        check(index, call)?;
    }
    let mut out = String::from("/*\n");
    for line in about.lines() {
        let _ = writeln!(out, " * {}", comment(line));
    }
    let _ = write!(
        out,
        " *\n * Build: {BUILD} -o guest.elf FILE\n * Run:   hyperfuzz boot guest.elf --memory {MEMORY}\n */\n"
    );
    out.push_str(include_str!("start.c"));
    let lowered = lower::lower(program, 1)?.bytes;
    let (header, mut rest) = postcard::take_from_bytes::<Header>(&lowered)?;
    let source = text::print(program);
    for index in 0..usize::from(header.calls) {
        let (group, behind) = postcard::take_from_bytes::<Group>(rest)?;
        let (insns, behind) = behind
            .split_at_checked(usize::from(group.len))
            .ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        rest = behind;
        let line = source.lines().nth(index).unwrap_or_default();
        let _ = write!(out, "\n/* {} */\nstatic int64_t call_{index}(void)\n{{\n", comment(line));
        function(&mut out, insns)?;
        out.push_str("}\n");
    }
    out.push_str("\nstatic int64_t (*const calls[])(void) = {");
    for index in 0..program.calls.len() {
        let _ = write!(out, "{} call_{index}", if index == 0 { "" } else { "," });
    }
    let _ = write!(out, " }};\n#define CALLS {}u\n", program.calls.len());
    out.push_str(include_str!("end.c"));
    Ok(out)
}

fn check(index: usize, call: &Call) -> Result<(), CError> {
    if (call.domain, call.vcpu) != (GUEST, 0) {
        return Err(CError::Issuer { call: index, domain: call.domain, vcpu: call.vcpu });
    }
    let operation = call.op.operation();
    if operation.number >= AGENT_OPS {
        return Err(CError::Agent { call: index, operation: operation.name });
    }
    Ok(())
}

/// Text that does not end a comment.
fn comment(text: &str) -> String {
    text.replace("*/", "*\\/").replace("/*", "/\\*")
}

/// The body of the function that stands for a call.
fn function(out: &mut String, mut insns: &[u8]) -> Result<(), CError> {
    out.push_str("    int64_t returned = 0;\n");
    while !insns.is_empty() {
        let (insn, rest) = postcard::take_from_bytes::<Insn<'_>>(insns)?;
        insns = rest;
        // Writing to a string cannot fail.
        let _ = match insn {
            Insn::Write { at, bytes } => {
                let bytes: Vec<String> = bytes.iter().map(u8::to_string).collect();
                writeln!(
                    out,
                    "    {{\n        static const uint8_t bytes[] = {{{}}};\n        put({at:#x}, bytes, sizeof bytes);\n    }}",
                    bytes.join(",")
                )
            }
            Insn::Fill { at, len, byte } => writeln!(out, "    fill({at:#x}, {len}, {byte});"),
            Insn::Store { at, width, value } => {
                writeln!(out, "    store({at:#x}, {width}, {});", number(value))
            }
            // Reports are the agent's.
            Insn::Watch { .. } => Ok(()),
            Insn::Call { number: call, args } => {
                writeln!(out, "    returned = hypercall({call}, {});", args.map(number).join(", "))
            }
            Insn::Capture { slot, from: Origin::Return } => {
                writeln!(out, "    keep({slot}, returned, (uint64_t)returned);")
            }
            Insn::Capture { slot, from: Origin::Arena { at, width } } => {
                writeln!(out, "    keep({slot}, returned, load({at:#x}, {width}));")
            }
        };
    }
    out.push_str("    return returned;\n");
    Ok(())
}

fn number(source: Source) -> String {
    match source {
        Source::Const(value) => format!("{value:#x}ull"),
        Source::Slot { slot, otherwise } => format!("result({slot}, {otherwise:#x}ull)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn c_of(source: &str) -> Result<String, CError> {
        render(&text::parse(source).expect("parses"), "about */ this\nand that")
    }

    #[test]
    fn calls_become_functions_in_their_order() {
        let c = c_of(
            "r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})\n\
             d1 event_channel_op.send(&{port: r0.port})\n",
        )
        .expect("one domain");
        assert!(c.starts_with("/*\n * about *\\/ this\n * and that\n"), "{}", &c[..80]);
        assert!(c.contains("returned = hypercall(32, 0x6ull, 0x20"), "{c}");
        assert!(c.contains("keep(0, returned, load("), "{c}");
        assert!(c.contains("result(0, 0x0ull)"), "{c}");
        assert!(c.contains("calls[])(void) = { call_0, call_1 };\n#define CALLS 2u"));
        assert_eq!(c.matches('{').count(), c.matches('}').count());
    }

    #[test]
    fn what_one_guest_cannot_do_is_named() {
        let issuer = c_of("d1 sched_op.yield()\nd2 sched_op.yield()\n");
        assert_eq!(issuer, Err(CError::Issuer { call: 1, domain: 2, vcpu: 0 }));
        let agent = c_of("d1 agent.ud2()\n");
        assert_eq!(agent, Err(CError::Agent { call: 0, operation: "agent.ud2" }));
    }
}
