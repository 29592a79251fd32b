//! Finds out what programs cannot know of a foreign hypervisor: see [`Environment`]. Done once, when an engine starts: every boot of
//! one image ends in the same state.

use std::mem::offset_of;

use coverage_hypercall::{channel::OWN_CHANNEL, program::Status};
use xen_abi::{errno::Errno, pv::StartInfo};

use super::{Engine, EngineError, Execution, Request, memory::GuestMemory};
use crate::{
    interface::Versioned,
    program::{
        Environment,
        environment::TABLES,
        lower::{self, Lowered},
        model::FIRST_HOLE,
        text,
    },
};

/// How the magic of a start info begins in each 64-bit pv guest (Xen `public/xen.h`).
const START_MAGIC: &[u8] = b"xen-3.0-x86_64";
/// Interface versions that are tried: those of Xen 4.17 to 4.22 lie well within. Two calls for each fit into one program.
const VERSIONS: std::ops::Range<u32> = 4..0x22;
/// Bits of an entry of a page table that name a frame, and the one that says that it does.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
const PRESENT: u64 = 1;

/// Where the tables of a pv guest are, by its start info. The default for guests without one, which name their frames as they like.
pub(super) fn layout(memory: &GuestMemory, channel: usize) -> Environment {
    let Some(base) = (channel as u64 >> 12).checked_sub(OWN_CHANNEL >> 12) else {
        return Environment::default();
    };
    let found = (base..base + FIRST_HOLE).find_map(|frame| {
        let at = usize::try_from(frame << 12).ok()?;
        let mut magic = [0; START_MAGIC.len()];
        (memory.read(at, &mut magic) && magic == START_MAGIC).then_some(at)
    });
    let Some(start) = found else { return Environment::default() };
    let field = |offset| word(memory, start as u64 + offset as u64).unwrap_or_default();
    let tables = field(offset_of!(StartInfo, pt_base)) >> 12;
    Environment {
        frame_base: Some(base),
        tables: walk(memory, base.wrapping_add(tables)).unwrap_or_default(),
        shared: field(offset_of!(StartInfo, shared_info)) >> 12,
        ..Environment::default()
    }
}

fn word(memory: &GuestMemory, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    memory.read(usize::try_from(at).ok()?, &mut bytes).then(|| u64::from_le_bytes(bytes))
}

/// The frames of the tables that map the first 4 MiB.
fn walk(memory: &GuestMemory, l4: u64) -> Option<[u64; TABLES]> {
    let next = |table: u64, index: u64| {
        let entry = word(memory, table.checked_mul(4096)? + index * 8)?;
        (entry & PRESENT != 0).then_some((entry & FRAME) >> 12)
    };
    let l3 = next(l4, 0)?;
    let l2 = next(l3, 0)?;
    Some([l4, l3, l2, next(l2, 0)?, next(l2, 1)?])
}

/// Asks the hypervisor for its versions and for the domain's grant table.
///
/// # Errors
/// When no machine can be had.
pub(super) fn ask(engine: &mut impl Engine, layout: Environment) -> Result<Environment, EngineError> {
    let mut source = String::new();
    for version in VERSIONS {
        source.push_str(&format!(
            "d0 domctl.pausedomain(&{{interface_version: {version}, domain: invalid}})\n\
             d0 sysctl.sched_id(&{{interface_version: {version}}})\n"
        ));
    }
    source.push_str("d0 grant_table_op.setup(&{dom: self, nr_frames: 1, frame_list: &[0]}, 1)\n");
    let lowered = text::parse(&source).ok().and_then(|program| lower::lower(&program, 1).ok());
    let Some(lowered) = lowered else { return Ok(layout) };
    let mut execution = Execution::default();
    engine.execute(&Request { program: &lowered.bytes, comparisons: false }, &mut execution)?;
    Ok(understood(layout, &lowered, &execution))
}

/// What the answers say.
fn understood(mut environment: Environment, lowered: &Lowered, execution: &Execution) -> Environment {
    for call in &execution.calls {
        let Status::Returned(answer) = call.status else { continue };
        let asked = VERSIONS.start + u32::from(call.call) / 2;
        let version = match call.call % 2 {
            _ if asked >= VERSIONS.end => continue,
            0 => &mut environment.domctl,
            _ => &mut environment.sysctl,
        };
        // The tables are of this version: where it is spoken beside others, it is the one.
        if answer != Errno::Acces.code() && (*version == 0 || asked == Versioned::USUAL) {
            *version = asked;
        }
    }
    let list = lowered.regions.iter().find(|region| region.name == "frame_list");
    let written = list.and_then(|list| {
        let changes =
            execution.calls.iter().filter(|call| call.call == list.call).flat_map(|call| &call.changes);
        changes.into_iter().find(|(at, _)| *at == list.at).and_then(|(_, bytes)| bytes.first_chunk::<8>())
    });
    environment.grants = written.map_or(Environment::UNKNOWN, |bytes| u64::from_le_bytes(*bytes));
    environment
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::CallResult;

    #[test]
    fn the_version_is_the_one_that_is_not_refused() {
        let program =
            text::parse("d0 grant_table_op.setup(&{dom: self, nr_frames: 1, frame_list: &[0]}, 1)\n");
        let lowered = lower::lower(&program.expect("parses"), 1).expect("lowers");
        let list = lowered.regions.iter().find(|region| region.name == "frame_list").expect("watched");
        let refused = Errno::Acces.code();
        let mut execution = Execution::default();
        let asked = VERSIONS.flat_map(|version| [(version, 0x17), (version, 0x16)]);
        for (call, (version, spoken)) in asked.enumerate() {
            let answer = if version == spoken { -3 } else { refused };
            let status = Status::Returned(answer);
            execution.calls.push(CallResult { call: call as u16, status, changes: Vec::new() });
        }
        let found = understood(Environment::default(), &lowered, &execution);
        assert_eq!((found.domctl, found.sysctl, found.grants), (0x17, 0x16, Environment::UNKNOWN));
        let changes = vec![(list.at, 0x1234u64.to_le_bytes().to_vec())];
        execution.calls = vec![CallResult { call: 0, status: Status::Returned(refused), changes }];
        let found = understood(Environment::default(), &lowered, &execution);
        assert_eq!((found.domctl, found.grants), (0, 0x1234));
    }
}
