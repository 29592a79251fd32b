//! Everything that decodes foreign bytes: garbage never panics, and what was encoded comes back.

use coverage_hypercall::{
    crash::CrashKind,
    harness::Marker,
    program::{Change, Completion, Group, Header, Insn, Origin, Reject, Source, Status},
};
use proptest::prelude::*;

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        any::<u64>().prop_map(Source::Const),
        (any::<u8>(), any::<u64>()).prop_map(|(slot, otherwise)| Source::Slot { slot, otherwise }),
    ]
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        Just(Origin::Return),
        (any::<u32>(), any::<u8>()).prop_map(|(at, width)| Origin::Arena { at, width })
    ]
}

/// An instruction that owns its bytes.
#[derive(Clone, Debug)]
enum Owned {
    Write(u32, Vec<u8>),
    Other(Insn<'static>),
}

fn insn() -> impl Strategy<Value = Owned> {
    prop_oneof![
        (any::<u32>(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(at, b)| Owned::Write(at, b)),
        any::<(u32, u32, u8)>().prop_map(|(at, len, byte)| Owned::Other(Insn::Fill { at, len, byte })),
        (any::<u32>(), any::<u8>(), source()).prop_map(|(at, width, value)| Owned::Other(Insn::Store {
            at,
            width,
            value
        })),
        any::<(u32, u32)>().prop_map(|(at, len)| Owned::Other(Insn::Watch { at, len })),
        (any::<u32>(), [source(), source(), source(), source(), source(), source()])
            .prop_map(|(number, args)| Owned::Other(Insn::Call { number, args })),
        (any::<u8>(), origin(), any::<Option<u32>>())
            .prop_map(|(slot, from, guard)| Owned::Other(Insn::Capture { slot, from, guard })),
    ]
}

fn status() -> impl Strategy<Value = Status> {
    prop_oneof![
        any::<i64>().prop_map(Status::Returned),
        any::<(u8, u32, u64, u64)>().prop_map(|(vector, error, rip, address)| Status::Faulted {
            vector,
            error,
            rip,
            address
        }),
        Just(Status::Skipped),
        prop::sample::select(vec![
            Reject::Malformed,
            Reject::Version,
            Reject::Bounds,
            Reject::Slot,
            Reject::Shape,
            Reject::Width,
            Reject::Operation,
        ])
        .prop_map(Status::Rejected),
    ]
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        // What is accepted takes no more than what was there.
        if let Ok((_, rest)) = postcard::take_from_bytes::<Header>(&bytes) {
            prop_assert!(rest.len() <= bytes.len());
        }
        if let Ok((_, rest)) = postcard::take_from_bytes::<Group>(&bytes) {
            prop_assert!(rest.len() <= bytes.len());
        }
        if let Ok((Insn::Write { bytes: data, .. }, rest)) = postcard::take_from_bytes(&bytes) {
            prop_assert!(data.len() + rest.len() <= bytes.len());
        }
        if let Ok((completion, rest)) = postcard::take_from_bytes::<Completion<'_>>(&bytes) {
            prop_assert!(completion.changes.len() + rest.len() <= bytes.len());
        }
        if let Ok((change, rest)) = postcard::take_from_bytes::<Change<'_>>(&bytes) {
            prop_assert!(change.bytes.len() + rest.len() <= bytes.len());
        }
        if let Some(marker) = Marker::decode(&bytes) {
            prop_assert_eq!(&marker.code()[..7], &bytes[..7]);
        }
    }

    #[test]
    fn programs_survive(
        (calls, repeat) in any::<(u16, u32)>(),
        (domain, vcpu, len) in any::<(u16, u8, u16)>(),
        insns in prop::collection::vec(insn(), 0..20),
    ) {
        let mut buffer = vec![0; 0x4000];
        let header = Header { magic: coverage_hypercall::program::MAGIC, version: 1, calls, repeat };
        let coded = postcard::to_slice(&header, &mut buffer).unwrap();
        prop_assert_eq!(postcard::take_from_bytes::<Header>(coded).unwrap(), (header, &[][..]));
        let group = Group { domain, vcpu, len };
        let coded = postcard::to_slice(&group, &mut buffer).unwrap();
        prop_assert_eq!(postcard::take_from_bytes::<Group>(coded).unwrap(), (group, &[][..]));

        let insns: Vec<Insn<'_>> = insns
            .iter()
            .map(|i| match i {
                Owned::Write(at, bytes) => Insn::Write { at: *at, bytes },
                Owned::Other(insn) => *insn,
            })
            .collect();
        let mut used = 0;
        for insn in &insns {
            used += postcard::to_slice(insn, &mut buffer[used..]).unwrap().len();
        }
        let mut rest = &buffer[..used];
        for insn in &insns {
            let (decoded, after) = postcard::take_from_bytes::<Insn<'_>>(rest).unwrap();
            prop_assert_eq!(&decoded, insn);
            rest = after;
        }
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn completions_survive(call: u16, status in status(), bytes in prop::collection::vec(any::<u8>(), 0..256), at: u32) {
        let (mut inner, mut outer) = ([0; 400], [0; 600]);
        let change = Change { at, bytes: &bytes };
        let changes = postcard::to_slice(&change, &mut inner).unwrap();
        let completion = Completion { call, status, changes };
        let coded = postcard::to_slice(&completion, &mut outer).unwrap();
        let decoded: Completion<'_> = postcard::from_bytes(coded).unwrap();
        prop_assert_eq!(decoded, completion);
        prop_assert_eq!(postcard::from_bytes::<Change<'_>>(decoded.changes).unwrap(), change);
    }

    #[test]
    fn crash_kinds_keep_their_numbers(n in prop_oneof![0u32..20, any::<u32>()]) {
        if let Some(kind) = CrashKind::from_u32(n) {
            prop_assert_eq!(kind as u32, n);
            prop_assert!(kind.name().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        }
    }
}
