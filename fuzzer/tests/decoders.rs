//! Fuzz targets: every decoder of data that a guest or a file provides, one test each.
//!
//! `cargo test` runs each with a few thousand random inputs; `cargo bolero test NAME -p hyperfuzz` runs the same code under a
//! coverage-guided fuzzer. The property is always that nothing panics, and that what is accepted is consistent.

use bolero::check;
use coverage_hypercall::{
    channel::{COMPLETION_RING, REQUEST_RING},
    program::{Completion, Group, Header, Insn, MAX_CALLS},
};
use hyperfuzz::program::{lower, text, validate, wire};

#[test]
fn program_text() {
    check!().with_iterations(4_000).for_each(|bytes: &[u8]| {
        let Ok(source) = str::from_utf8(bytes) else { return };
        if let Ok(program) = text::parse(source) {
            assert_eq!(text::parse(&text::print(&program)).as_ref(), Ok(&program));
        }
    });
}

/// Random bytes rarely parse; damaged seeds come further.
#[test]
fn damaged_program_text() {
    let seeds = concat!(
        "r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})\n",
        "d2 event_channel_op.bind_interdomain(&{remote_dom: d1, remote_port: r0.port, local_port: out})\n",
        "d1 multicall.multicall(&[console_io.write(16, &fill(0x0, 16))], 1)\n",
    );
    assert!(text::parse(seeds).is_ok());
    check!().with_iterations(4_000).with_type::<Vec<(u16, u8)>>().for_each(|damage| {
        let mut bytes = seeds.as_bytes().to_vec();
        for (at, byte) in damage {
            let at = usize::from(*at) % bytes.len();
            bytes[at] = byte & 0x7f;
        }
        if let Ok(program) = text::parse(&String::from_utf8_lossy(&bytes))
            && validate::validate(&program).is_ok()
        {
            assert!(lower::lower(&program, 1).is_ok());
        }
    });
}

#[test]
fn program_wire() {
    check!().with_iterations(4_000).for_each(|bytes: &[u8]| {
        if let Ok(program) = wire::decode(bytes) {
            assert_eq!(wire::encode(&program).as_deref(), Ok(bytes));
        }
    });
}

#[test]
fn lowered_program() {
    check!().with_iterations(4_000).for_each(|bytes: &[u8]| {
        let Ok((header, mut rest)) = postcard::take_from_bytes::<Header>(bytes) else { return };
        for _ in 0..header.calls.min(MAX_CALLS) {
            let Ok((group, after)) = postcard::take_from_bytes::<Group>(rest) else { return };
            let Some((mut body, next)) = after.split_at_checked(usize::from(group.len)) else { return };
            while let Ok((_, more)) = postcard::take_from_bytes::<Insn<'_>>(body) {
                assert!(more.len() < body.len(), "an instruction takes at least a byte");
                body = more;
            }
            rest = next;
        }
    });
}

#[test]
fn completion() {
    check!().with_iterations(4_000).for_each(|bytes: &[u8]| {
        if let Ok(completion) = postcard::from_bytes::<Completion<'_>>(bytes) {
            assert!(completion.changes.len() <= bytes.len());
        }
    });
}

#[test]
fn ring_indices() {
    check!().with_iterations(4_000).with_type::<(u32, u32, u32, u32)>().for_each(|input| {
        let (produced, consumed, first, second) = *input;
        for ring in [REQUEST_RING, COMPLETION_RING] {
            let mut words = [first, second].into_iter();
            let record = ring.next(produced, consumed, |_| words.next().unwrap_or(0));
            if let Ok(Some(record)) = record {
                assert!(record.payload.end <= ring.size() as usize);
            }
        }
    });
}

#[test]
fn domain_configuration() {
    check!().with_iterations(4_000).for_each(|bytes: &[u8]| {
        if let Ok(source) = str::from_utf8(bytes) {
            let _ = hypervisor::config::parse(source);
        }
    });
}

#[test]
fn boot_line() {
    check!().with_iterations(4_000).for_each(|bytes: &[u8]| {
        if let Ok(line) = str::from_utf8(bytes) {
            let _ = hypervisor::Options::parse(line);
        }
    });
}

#[test]
fn boot_bundle() {
    check!().with_iterations(4_000).for_each(|bytes: &[u8]| {
        if let Ok(found) = hypervisor::bundle::find(bytes, "agent.elf") {
            assert!(found.len() <= bytes.len());
        }
    });
}
