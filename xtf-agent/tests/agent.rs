//! The agent against a simulated hypervisor.

mod world;

use std::mem::offset_of;

use coverage_hypercall::{
    channel::{ARENA_GPA, ARENA_LEN, CHANNEL_LEN, CHANNEL_MAGIC, ChannelHeader, REQUEST_DATA, SLOTS},
    program::{
        AGENT_OPS, Insn, MAX_CALLS, MAX_CAPTURES, MAX_REPORTED, MAX_WATCHES, Origin, Reject, Source, Status,
        WHOLE_PROGRAM, agent_op,
    },
};
use proptest::prelude::*;
use world::{
    BLOCK, Completed, DIE, ECHO, FAULT, Outcome, Report, SCRIBBLE, STORE, WAKE, channel, program,
    program_of_vcpus, run, run_vcpus,
};

use Source::Const;
use Status::{Rejected, Returned, Skipped};

fn call(number: u32, args: &[Source]) -> Insn<'static> {
    let mut all = [Const(0); 6];
    all[..args.len()].copy_from_slice(args);
    Insn::Call { number, args: all }
}

fn echo(value: u64) -> Insn<'static> {
    call(ECHO, &[Const(value)])
}

fn slot(slot: u8) -> Source {
    Source::Slot { slot, otherwise: 999 }
}

fn capture(slot: u8) -> Insn<'static> {
    Insn::Capture { slot, from: Origin::Return, guard: None }
}

fn execute(groups: &[(u16, Vec<Insn<'_>>)]) -> Report {
    run(channel(&[&program(1, groups)]), 1, true)
}

/// Status of a program's only group.
fn single(insns: Vec<Insn<'_>>) -> Status {
    let report = execute(&[(0, insns)]);
    assert_eq!(report.outcome, Outcome::Done);
    let statuses = report.statuses();
    assert_eq!(statuses.len(), 1);
    assert_eq!(statuses[0].0, 0);
    statuses[0].1
}

#[test]
fn arguments_results_and_changes() {
    let at = ARENA_LEN - 8;
    let report = execute(&[
        (0, vec![echo(41), capture(3)]),
        (
            0,
            vec![
                Insn::Fill { at: 0x100, len: 16, byte: 0xaa },
                Insn::Write { at: 0x104, bytes: b"xen" },
                Insn::Store { at, width: 8, value: slot(3) },
                Insn::Watch { at: 0x100, len: 16 },
                Insn::Watch { at, len: 8 },
                call(STORE, &[Const(ARENA_GPA + 0x108), slot(3)]),
                Insn::Capture { slot: 63, from: Origin::Arena { at: 0x104, width: 2 }, guard: None },
            ],
        ),
        (0, vec![call(ECHO, &[slot(63)])]),
        (0, vec![call(agent_op::READ, &[slot(9)])]),
    ]);
    let mut region = *b"\xaa\xaa\xaa\xaaxen\xaa\0\0\0\0\0\0\0\0";
    region[8] = 41;
    assert_eq!(
        report.completions(),
        [
            Completed { call: 0, status: Returned(41), changes: vec![] },
            // The second region stayed the same.
            Completed { call: 1, status: Returned(0), changes: vec![(0x100, region.to_vec())] },
            Completed { call: 2, status: Returned(i64::from(u16::from_le_bytes(*b"xe"))), changes: vec![] },
            Completed { call: 3, status: Returned(999), changes: vec![] },
        ]
    );
    assert_eq!(report.channel[..8], CHANNEL_MAGIC.to_le_bytes());
}

#[test]
fn store_writes_only_its_width() {
    let store = Insn::Store { at: 0x10, width: 2, value: Const(0x1122_3344) };
    let watch = Insn::Watch { at: 0x10, len: 4 };
    let change = call(STORE, &[Const(ARENA_GPA + 0x13), Const(1)]);
    let report = execute(&[(0, vec![store, watch, change])]);
    assert_eq!(report.completions()[0].changes, [(0x10, vec![0x44, 0x33, 0, 1])]);
}

#[test]
fn failed_calls_fill_no_slot() {
    let report = execute(&[
        (0, vec![echo(-5i64 as u64), capture(0)]),
        (0, vec![call(FAULT, &[Const(0xdead)]), capture(0)]),
        (0, vec![call(agent_op::UD2, &[]), capture(0)]),
        (0, vec![call(ECHO, &[slot(0)])]),
    ]);
    assert_eq!(
        report.statuses(),
        [
            (0, Returned(-5)),
            (1, Status::Faulted { vector: 14, error: 2, rip: 0x10_0000, address: 0xdead }),
            (2, Status::Faulted { vector: 6, error: 0, rip: 0x10_0100, address: 0 }),
            (3, Returned(999)),
        ]
    );
}

#[test]
fn groups_out_of_shape_are_refused() {
    let watch = Insn::Watch { at: 0, len: 1 };
    let slots = SLOTS as u8;
    let cases: Vec<(Vec<Insn<'_>>, Reject)> = vec![
        (vec![], Reject::Shape),
        (vec![watch], Reject::Shape),
        (vec![echo(0), echo(0)], Reject::Shape),
        (vec![echo(0), watch], Reject::Shape),
        (vec![capture(0), echo(0)], Reject::Shape),
        ([vec![watch; MAX_WATCHES + 1], vec![echo(0)]].concat(), Reject::Shape),
        ([vec![echo(0)], vec![capture(0); MAX_CAPTURES + 1]].concat(), Reject::Shape),
        (vec![Insn::Write { at: ARENA_LEN - 1, bytes: b"ab" }, echo(0)], Reject::Bounds),
        (vec![Insn::Write { at: u32::MAX, bytes: b"" }, echo(0)], Reject::Bounds),
        (vec![Insn::Fill { at: 1, len: ARENA_LEN, byte: 0 }, echo(0)], Reject::Bounds),
        (vec![Insn::Fill { at: u32::MAX, len: u32::MAX, byte: 0 }, echo(0)], Reject::Bounds),
        (vec![Insn::Store { at: ARENA_LEN - 3, width: 4, value: Const(0) }, echo(0)], Reject::Bounds),
        (vec![Insn::Store { at: 0, width: 3, value: Const(0) }, echo(0)], Reject::Width),
        (vec![Insn::Store { at: 0, width: 8, value: slot(slots) }, echo(0)], Reject::Slot),
        (vec![Insn::Watch { at: ARENA_LEN, len: 1 }, echo(0)], Reject::Bounds),
        (vec![Insn::Watch { at: 0, len: MAX_REPORTED as u32 + 1 }, echo(0)], Reject::Bounds),
        (vec![call(ECHO, &[slot(255)])], Reject::Slot),
        (vec![call(AGENT_OPS + 9, &[])], Reject::Operation),
        (vec![call(u32::MAX, &[])], Reject::Operation),
        (vec![echo(0), capture(slots)], Reject::Slot),
        (
            vec![echo(0), Insn::Capture { slot: 0, from: Origin::Arena { at: 0, width: 0 }, guard: None }],
            Reject::Width,
        ),
        (
            vec![
                echo(0),
                Insn::Capture { slot: 0, from: Origin::Arena { at: ARENA_LEN, width: 1 }, guard: None },
            ],
            Reject::Bounds,
        ),
    ];
    for (insns, reject) in cases {
        let what = format!("{insns:?}");
        let report = execute(&[(0, insns), (0, vec![echo(7)])]);
        assert_eq!(report.statuses(), [(0, Rejected(reject)), (1, Returned(7))], "{what}");
        assert_eq!(report.calls.len(), 1, "a refused group makes no call: {what}");
    }
}

#[test]
fn guards_say_whether_a_result_is_kept() {
    let guarded = |at| Insn::Capture { slot: 0, from: Origin::Return, guard: Some(at) };
    for (guard, echoed) in [(0, 5), (i64::MAX as u64, 5), (u64::MAX, 9), (1 << 63, 9)] {
        let store = Insn::Store { at: 8, width: 8, value: Const(guard) };
        let later = call(ECHO, &[Source::Slot { slot: 0, otherwise: 9 }]);
        let report = execute(&[(0, vec![store, echo(5), guarded(8)]), (0, vec![later])]);
        assert_eq!(report.statuses(), [(0, Returned(5)), (1, Returned(echoed))], "{guard:#x}");
    }
    assert_eq!(single(vec![echo(1), guarded(ARENA_LEN - 7)]), Rejected(Reject::Bounds));
}

#[test]
fn limits_themselves_are_fine() {
    let watches = vec![Insn::Watch { at: ARENA_LEN - 256, len: 256 }; MAX_WATCHES];
    let store = call(STORE, &[Const(ARENA_GPA + u64::from(ARENA_LEN) - 8), Const(1)]);
    let report = execute(&[(0, [watches, vec![store], vec![capture(0); MAX_CAPTURES]].concat())]);
    assert_eq!(report.completions()[0].changes.len(), MAX_WATCHES);
    assert_eq!(single(vec![Insn::Fill { at: 0, len: ARENA_LEN, byte: 1 }, echo(1)]), Returned(1));
    assert_eq!(single(vec![Insn::Write { at: ARENA_LEN, bytes: b"" }, echo(1)]), Returned(1));
}

#[test]
fn a_group_that_postcard_cannot_read() {
    let mut bytes = program(1, &[(0, vec![echo(1)]), (0, vec![echo(2)])]);
    let second = program(1, &[(0, vec![echo(1)])]).len();
    bytes[second - 14 + 3] = 0xff; // Somewhere in the first group: its instruction.
    let report = run(channel(&[&bytes]), 1, true);
    assert_eq!(report.outcome, Outcome::Done);
    let statuses = report.statuses();
    assert!(matches!(statuses[..], [(0, Rejected(_)), (1, Returned(2))]), "{statuses:?}");
}

#[test]
fn programs_that_make_no_sense() {
    let good = program(1, &[(0, vec![echo(1)])]);
    let mut magic = good.clone();
    magic[0] ^= 1;
    let mut cut = good.clone();
    cut.pop();
    let many = vec![(0, vec![echo(1)]); usize::from(MAX_CALLS) + 1];
    for (request, reject) in [
        (&magic[..], Reject::Version),
        (&cut, Reject::Malformed),
        (&good[..3], Reject::Malformed),
        (b"", Reject::Malformed),
        (&program(0, &[(0, vec![echo(1)])]), Reject::Malformed),
        (&program(1, &many), Reject::Malformed),
        (&vec![0; 0x4001], Reject::Malformed),
    ] {
        let report = run(channel(&[request]), 1, true);
        assert_eq!(report.outcome, Outcome::Done);
        assert_eq!(report.statuses(), [(WHOLE_PROGRAM, Rejected(reject))]);
        assert!(report.calls.is_empty());
    }
    assert_eq!(execute(&[]).statuses(), []);
    let most = vec![(0, vec![echo(1)]); usize::from(MAX_CALLS)];
    assert_eq!(execute(&most).statuses().len(), usize::from(MAX_CALLS));
    // Nothing in the ring, and counters that lie.
    let empty = run(vec![0; CHANNEL_LEN], 1, true);
    assert_eq!(empty.statuses(), [(WHOLE_PROGRAM, Rejected(Reject::Malformed))]);
    let mut bad = channel(&[&good]);
    bad[8] = 1;
    assert_eq!(run(bad, 1, true).statuses(), [(WHOLE_PROGRAM, Rejected(Reject::Malformed))]);
}

#[test]
fn domains_take_turns() {
    for know in [true, false] {
        let groups = [
            (1, vec![echo(10), capture(0)]),
            (0, vec![call(ECHO, &[slot(0)]), capture(1)]),
            (0, vec![echo(12)]),
            (1, vec![call(ECHO, &[slot(1)])]),
        ];
        let report = run(channel(&[&program(1, &groups)]), 1, know);
        assert_eq!(report.outcome, Outcome::Done);
        assert_eq!(
            report.statuses(),
            [(0, Returned(10)), (1, Returned(10)), (2, Returned(12)), (3, Returned(10))]
        );
        assert_eq!(report.calls.iter().map(|c| c.0).collect::<Vec<_>>(), [1, 0, 0, 1]);
    }
}

#[test]
fn who_is_not_there_is_skipped() {
    let report = execute(&[(7, vec![echo(1)]), (0, vec![echo(2)]), (u16::MAX, vec![echo(3)])]);
    assert_eq!(report.statuses(), [(0, Skipped), (1, Returned(2)), (2, Skipped)]);
}

#[test]
fn the_other_goes_on_behind_a_blocked_call() {
    let report = execute(&[
        (0, vec![call(BLOCK, &[])]),
        (0, vec![echo(1)]),
        (1, vec![echo(2)]),
        (1, vec![call(WAKE, &[Const(0)])]),
        (0, vec![echo(3)]),
    ]);
    assert_eq!(report.outcome, Outcome::Done);
    assert_eq!(
        report.statuses(),
        [
            (1, Skipped),
            (2, Returned(2)),
            (3, Returned(0)),
            // The blocked call returns when its domain is switched to.
            (0, Returned(0)),
            (4, Returned(3)),
        ]
    );
}

#[test]
fn nobody_left_is_idle_and_death_is_survived() {
    let report = execute(&[(0, vec![call(BLOCK, &[])]), (1, vec![call(BLOCK, &[])]), (0, vec![echo(1)])]);
    assert_eq!(report.outcome, Outcome::Idle);
    assert_eq!(report.statuses(), []);
    let report = execute(&[(0, vec![call(DIE, &[])]), (0, vec![echo(1)]), (1, vec![echo(2)])]);
    assert_eq!(report.outcome, Outcome::Done);
    assert_eq!(report.statuses(), [(1, Skipped), (2, Returned(2))]);
}

#[test]
fn turns_start_with_empty_slots_and_the_last_reports() {
    let groups = [(0, vec![call(ECHO, &[slot(5)])]), (1, vec![echo(4), capture(5)])];
    let report = run(channel(&[&program(3, &groups)]), 1, true);
    assert_eq!(report.outcome, Outcome::Done);
    assert_eq!(report.calls.len(), 6);
    assert_eq!(report.statuses(), [(0, Returned(999)), (1, Returned(4))]);
}

#[test]
fn without_a_reset_the_next_program_follows() {
    let first = program(1, &[(0, vec![echo(1), capture(0)]), (1, vec![echo(2)])]);
    let second = program(1, &[(1, vec![call(ECHO, &[slot(0)])]), (0, vec![echo(4)])]);
    let report = run(channel(&[&first, &second]), 2, true);
    assert_eq!(report.outcome, Outcome::Done);
    assert_eq!(report.statuses(), [(0, Returned(1)), (1, Returned(2)), (0, Returned(999)), (1, Returned(4))]);
}

#[test]
fn a_full_ring_drops_and_goes_on() {
    // Each completion takes more than 4 KiB: 64 of them do not fit into 64 KiB.
    let watches = vec![Insn::Watch { at: 0, len: 256 }; MAX_WATCHES];
    let groups: Vec<_> = (0..64)
        .map(|n| {
            let store = call(STORE, &[Const(ARENA_GPA), Const(n + 1)]);
            (0, [watches.clone(), vec![store]].concat())
        })
        .collect();
    let report = execute(&groups);
    assert_eq!(report.outcome, Outcome::Done);
    assert_eq!(report.calls.len(), 64);
    let completions = report.completions();
    assert!((10..20).contains(&completions.len()), "{}", completions.len());
    for (n, completion) in completions.iter().enumerate() {
        assert_eq!(usize::from(completion.call), n);
        assert_eq!(completion.changes.len(), MAX_WATCHES);
    }
}

#[test]
fn a_program_that_turns_the_channel_back_ends() {
    for at in [offset_of!(ChannelHeader, next_call), offset_of!(ChannelHeader, next_offset)] {
        let report = execute(&[
            (0, vec![echo(1)]),
            (0, vec![call(SCRIBBLE, &[Const(at as u64), Const(0)])]),
            (1, vec![echo(2)]),
        ]);
        assert_eq!(report.outcome, Outcome::Done);
        let last = *report.statuses().last().unwrap();
        assert_eq!(last, (WHOLE_PROGRAM, Rejected(Reject::Malformed)));
        assert_eq!(report.calls.len(), 2);
    }
}

/// A group with arguments that are right now and then.
fn any_group() -> impl Strategy<Value = (u16, Vec<Insn<'static>>)> {
    let number = prop_oneof![
        Just(ECHO),
        Just(STORE),
        Just(FAULT),
        Just(BLOCK),
        Just(WAKE),
        Just(DIE),
        Just(SCRIBBLE),
        AGENT_OPS..AGENT_OPS + 12
    ];
    let small = prop_oneof![0u32..64, 0x1000u32..0x1100, any::<u32>()];
    (0u16..3, number, any::<u32>(), small, 0u8..70).prop_map(|(domain, number, at, value, slot)| {
        let first = match number {
            STORE => ARENA_GPA + u64::from(at % (ARENA_LEN - 8)),
            WAKE => u64::from(at % 3),
            _ => u64::from(at) % 0x1200,
        };
        let watch = Insn::Watch { at: at % ARENA_LEN, len: 8 };
        (domain, vec![watch, call(number, &[Const(first), Const(u64::from(value))]), capture(slot)])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever programs do to each other and to the channel, the run ends.
    #[test]
    fn every_program_ends(groups in prop::collection::vec(any_group(), 0..20), repeat in 1u32..3) {
        let report = run(channel(&[&program(repeat, &groups)]), 1, true);
        // Two agents, each forward only.
        prop_assert!(report.calls.len() <= 2 * groups.len() * repeat as usize);
    }

    /// Garbage for a request: an answer and DONE.
    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..500)) {
        let report = run(channel(&[&bytes]), 1, true);
        prop_assert_eq!(report.outcome, Outcome::Done);
        prop_assert_eq!(report.statuses().len(), 1);
    }

    /// Almost right requests.
    #[test]
    fn damaged_programs_end(
        groups in prop::collection::vec(any_group(), 1..6),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = program(1, &groups);
        for (at, byte) in damage {
            // The header (8 bytes) stays: the number of turns is the host's choice.
            let at = 8 + at.index(bytes.len() - 8);
            bytes[at] = byte;
        }
        run(channel(&[&bytes]), 1, true);
    }

    /// A channel full of garbage.
    #[test]
    fn any_header_is_survived(header in prop::collection::vec(any::<u8>(), 48), aligned: bool) {
        let mut all = channel(&[&program(1, &[(0, vec![echo(1)]), (1, vec![echo(2)])])]);
        let keep = all[8..12].to_vec();
        all[..48].copy_from_slice(&header);
        if aligned {
            // Let it get as far as the positions.
            all[8..12].copy_from_slice(&keep);
            all[12..16].fill(0);
        }
        all[REQUEST_DATA - 1] = 0;
        let report = run(all, 1, true);
        prop_assert_eq!(report.outcome, Outcome::Done);
    }
}

#[test]
fn vcpus_of_one_domain_take_turns() {
    let groups = [
        (0, vec![echo(1), capture(0)]),
        (1, vec![call(ECHO, &[slot(0)]), capture(1)]),
        (1, vec![call(BLOCK, &[])]),
        (0, vec![call(WAKE, &[Const(1)])]),
        (1, vec![call(ECHO, &[slot(1)])]),
        (2, vec![echo(5)]),
        (0, vec![echo(6)]),
    ];
    let report = run_vcpus(channel(&[&program_of_vcpus(1, &groups)]), 1);
    assert_eq!(report.outcome, Outcome::Done);
    let expected = [
        (0, Returned(1)),
        (1, Returned(1)),
        (3, Returned(0)),
        (2, Returned(0)),
        (4, Returned(1)),
        (5, Skipped),
        (6, Returned(6)),
    ];
    assert_eq!(report.statuses(), expected);
}
