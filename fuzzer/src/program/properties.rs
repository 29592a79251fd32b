//! Properties that hold for every program.

use std::hash::{Hash, Hasher};

use coverage_hypercall::{
    channel::{ARENA_LEN, SLOTS},
    program::{Group, Header, Insn, MAX_LEN, MAX_REPORTED, Origin, Source, Status},
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{
    generate, hostile, lower, minimize,
    model::{CALLS, Program, ResultRef, Value},
    mutate::{self, CmpHint, Mutation},
    text, transcript,
    validate::validate,
    walk, wire,
};
use crate::{
    engine::CallResult,
    interface::{interface, targets},
};

fn generated(seed: u64, calls: usize) -> Program {
    generate::program(&mut Pcg64Mcg::seed_from_u64(seed), interface(), calls)
}

/// Reads a lowered program as an agent does; returns the number of calls.
fn read_lowered(bytes: &[u8]) -> usize {
    assert!(bytes.len() <= MAX_LEN);
    let inside = |at: u32, len: u32| assert!(at.checked_add(len).is_some_and(|end| end <= ARENA_LEN));
    let width = |width: u8| assert!(matches!(width, 1 | 2 | 4 | 8));
    let mut filled = [false; SLOTS];
    let source = |filled: &[bool; SLOTS], source: Source| {
        if let Source::Slot { slot, .. } = source {
            assert!(usize::from(slot) < filled.len());
        }
    };
    let (header, mut rest): (Header, _) = postcard::take_from_bytes(bytes).expect("header");
    for _ in 0..header.calls {
        let (group, tail): (Group, _) = postcard::take_from_bytes(rest).expect("group");
        let (mut body, tail) = tail.split_at(usize::from(group.len));
        rest = tail;
        let mut calls = 0;
        let mut watches = 0;
        while !body.is_empty() {
            let (insn, tail): (Insn<'_>, _) = postcard::take_from_bytes(body).expect("instruction");
            body = tail;
            match insn {
                Insn::Write { at, bytes } => inside(at, bytes.len() as u32),
                Insn::Fill { at, len, .. } => inside(at, len),
                Insn::Store { at, width: bytes, value } => {
                    width(bytes);
                    inside(at, u32::from(bytes));
                    source(&filled, value);
                }
                Insn::Watch { at, len } => {
                    inside(at, len);
                    assert!(len as usize <= MAX_REPORTED);
                    watches += 1;
                }
                Insn::Call { args, .. } => {
                    calls += 1;
                    args.into_iter().for_each(|arg| source(&filled, arg));
                }
                Insn::Capture { slot, from, guard } => {
                    assert_eq!(calls, 1, "a result is there only after the call");
                    assert!(!filled[usize::from(slot)], "each slot is filled once");
                    filled[usize::from(slot)] = true;
                    if let Origin::Arena { at, width: bytes } = from {
                        width(bytes);
                        inside(at, u32::from(bytes));
                    }
                    if let Some(at) = guard {
                        inside(at, 8);
                    }
                }
            }
        }
        assert_eq!(calls, 1);
        assert!(watches <= 16);
    }
    assert!(rest.is_empty());
    usize::from(header.calls)
}

/// Everything that must hold for a program that validates.
fn check(program: &Program) {
    assert_eq!(validate(program), Ok(()));
    let printed = text::print(program);
    let parsed = text::parse(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(&parsed, program, "{printed}");
    assert_eq!(text::print(&parsed), printed);
    let bytes = wire::encode(program).expect("encodes");
    assert_eq!(wire::decode(&bytes).as_ref(), Ok(program));
    let lowered = lower::lower(program, 1).expect("lowers");
    assert_eq!(read_lowered(&lowered.bytes), program.calls.len());
}

fn hints(rng: &mut impl Rng) -> Vec<CmpHint> {
    (0..rng.random_range(0..8))
        .map(|_| CmpHint {
            left: hostile::hostile(rng, 8),
            right: rng.random_range(0..16),
            width: [1, 2, 4, 8][rng.random_range(0..4)],
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn generated_programs_are_sound(seed: u64, calls in 1usize..=64) {
        let program = generated(seed, calls);
        prop_assert!((1..=calls).contains(&program.calls.len()));
        check(&program);
        prop_assert_eq!(generated(seed, calls), program);
    }

    #[test]
    fn mutated_programs_are_sound(seed: u64) {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let mut program = generate::program(&mut rng, interface(), 10);
        let donor = generate::program(&mut rng, interface(), 10);
        for _ in 0..20 {
            let before = program.clone();
            let hints = hints(&mut rng);
            let mutation = mutate::mutate(&mut program, &mut rng, interface(), Some(&donor), &hints);
            prop_assert_eq!(mutation == Mutation::None, before == program);
        }
        check(&program);
    }

    #[test]
    fn minimised_programs_keep_the_predicate(seed: u64, wanted in 0usize..4) {
        let program = generated(seed, 12);
        let name = program.calls[wanted % program.calls.len()].op;
        let mut asked = 0;
        let small = minimize::minimize(&program, 200, &mut |candidate| {
            asked += 1;
            candidate.calls.iter().any(|call| call.op == name)
        });
        prop_assert!(asked <= 200);
        prop_assert!(small.calls.iter().any(|call| call.op == name));
        prop_assert_eq!(small.calls.len(), 1);
        check(&small);
    }

    #[test]
    fn minimising_repeats_itself_and_nothing_grows(seed: u64, salt: u64) {
        let program = generated(seed, 12);
        // Says yes to two thirds of all programs, for no reason that the minimiser could know.
        let keeps = |candidate: &Program| {
            let mut hasher = std::hash::DefaultHasher::new();
            (salt, candidate).hash(&mut hasher);
            !hasher.finish().is_multiple_of(3)
        };
        let small = minimize::minimize(&program, 300, &mut |candidate| keeps(candidate));
        prop_assert_eq!(&minimize::minimize(&program, 300, &mut |candidate| keeps(candidate)), &small);
        prop_assert!(small == program || keeps(&small));
        let issuers = |program: &Program| {
            program.calls.iter().map(|call| (call.domain, call.vcpu)).collect::<std::collections::BTreeSet<_>>().len()
        };
        let outer = |program: &Program| program.calls.len();
        prop_assert!(outer(&small) <= outer(&program) && issuers(&small) <= issuers(&program));
        check(&small);
    }

    #[test]
    fn garbage_is_refused_politely(bytes: Vec<u8>, line in ".*") {
        prop_assert!(wire::decode(&bytes).is_err());
        let _ = text::parse(&line);
        let _ = text::parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn damaged_programs_never_panic(seed: u64, at: usize, byte: u8, cut: usize) {
        let program = generated(seed, 6);
        let mut bytes = wire::encode(&program).expect("encodes");
        let at = at % bytes.len();
        bytes[at] ^= byte;
        prop_assert_eq!(wire::decode(&bytes).is_ok(), byte == 0);
        bytes.truncate(cut % bytes.len());
        prop_assert!(wire::decode(&bytes).is_err());
        // A body that is damaged under a right header must not panic either.
        if let Ok(program) = postcard::from_bytes::<Program>(&bytes) {
            let _ = validate(&program);
            let _ = text::print(&program);
        }
        let mut body = postcard::to_stdvec(&program).expect("encodes");
        let at = at % body.len();
        body[at] ^= byte;
        if let Ok(program) = postcard::from_bytes::<Program>(&body) {
            let _ = text::print(&program);
            if validate(&program).is_ok() {
                check(&program);
            }
        }
        let mut printed = text::print(&generated(seed, 6)).into_bytes();
        let at = at % printed.len();
        printed[at] = byte;
        if let Ok(program) = text::parse(&String::from_utf8_lossy(&printed)) {
            check(&program);
        }
    }

    #[test]
    fn transcripts_take_anything(seed: u64, call: u16, at: u32, bytes: Vec<u8>, value: i64) {
        let program = generated(seed, 6);
        let lowered = lower::lower(&program, 1).expect("lowers");
        let mut results = vec![CallResult { call, status: Status::Returned(value), changes: vec![(at, bytes.clone())] }];
        for region in &lowered.regions {
            results.push(CallResult {
                call: region.call,
                status: Status::Returned(-22),
                changes: vec![(region.at, bytes.clone())],
            });
        }
        let text = transcript::render(&program, &lowered, &results);
        prop_assert!(text.lines().count() >= results.len());
        prop_assert!(lowered.regions.is_empty() || text.contains("EINVAL"));
    }
}

#[test]
fn references_follow_their_calls() {
    let text = "r0 = d1 event_channel_op.alloc_unbound(&{port: out})\n\
                r1 = d1 event_channel_op.bind_ipi(&{vcpu: 0})\n\
                d1 event_channel_op.send(&{port: r1.port?7})\n\
                d1 event_channel_op.close(&{port: r0.port})\n";
    let program = text::parse(text).expect("valid");
    let mut without = program.clone();
    walk::remove(&mut without, 1);
    assert_eq!(
        text::print(&without),
        "r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: self, port: out})\n\
         d1 event_channel_op.send(&{port: 7})\n\
         d1 event_channel_op.close(&{port: r0.port})\n"
    );
    let mut with = program.clone();
    walk::insert(&mut with, 1, program.calls[3].clone());
    check(&with);
    assert!(text::print(&with).contains("send(&{port: r2.port?7})"));
    let mut unwired = program;
    walk::unwire(&mut unwired);
    assert!(!text::print(&unwired).contains("r0"));
}

#[test]
fn long_multicalls_watch_what_an_agent_takes() {
    let entries = vec!["xen_version.extraversion(&{text: out})"; 40].join(", ");
    let program = text::parse(&format!("d1 multicall.multicall(&[{entries}], 40)")).expect("valid");
    check(&program);
    assert_eq!(lower::lower(&program, 1).expect("lowers").regions.len(), 16);
}

#[test]
fn errors_name_the_place() {
    let error = |text: &str| text::parse(text).expect_err("wrong").to_string();
    assert_eq!(
        error("# comment\nd1 xen_version.version() x"),
        "line 2, column 26: expected the end of the line"
    );
    assert!(
        error("d1 event_channel_op.send(&{prt: 1})")
            .starts_with("line 1, column 28: expected a field: one of port")
    );
    assert!(error("d1 event_channel_op.send(&{port: r0.port})").contains("there is no r0 yet"));
    assert!(error("d1 event_channel_op.nothing()").contains("column 4: expected the name of an operation"));
    assert!(error("d3 sched_op.yield()").contains("there is no domain 3"));
    assert!(error("d1 raw.call(54, 0, 0, 0, 0, 0, 0)").contains("belongs to the harness"));
    assert!(error("d1 memory_op.memory_map(&{nr_entries: 0x100000000})").contains("at most 0xffffffff"));
}

#[test]
fn validation_names_call_and_argument() {
    let mut program = text::parse("d1 event_channel_op.send(&{port: 1})").expect("valid");
    walk::values_mut(program.calls[0].op, &mut program.calls[0].args, &mut |site, value| {
        if site.name == "port" {
            *value = Value::Result(ResultRef { call: 0, entry: None, result: 0, otherwise: 0 });
        }
    });
    let text = validate(&program).expect_err("refers to itself").to_string();
    assert_eq!(
        text,
        "call 0 (event_channel_op.send), arg.port: uses a result of call 0, which does not come before it"
    );
    program.calls = vec![program.calls[0].clone(); CALLS + 1];
    assert!(validate(&program).expect_err("too many").to_string().contains("at most 64"));
}

#[test]
fn every_operation_is_generated_and_most_programs_use_results() {
    let mut seen = std::collections::BTreeSet::new();
    let mut wired = 0;
    for seed in 0..2000 {
        let program = generated(seed, generate::DEFAULT_CALLS);
        program.calls.iter().for_each(|call| {
            seen.insert(call.op.operation().name);
        });
        wired += usize::from(text::print(&program).contains(" = "));
    }
    assert_eq!(seen.len(), interface().operations().len());
    assert!(wired > 600, "{wired} of 2000 programs use a result");
}

#[test]
fn results_of_entries_are_used_if_the_entry_succeeded() {
    let program = text::parse(
        "r0 = d1 multicall.multicall(&[sched_op.yield(), event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})], 2)\n\
         d1 event_channel_op.send(&{port: r0[1].port})\n",
    )
    .expect("valid");
    let lowered = lower::lower(&program, 1).expect("lowers");
    // The list of two entries of 64 bytes, the result of each behind its operation; then the buffer of the second.
    let from = Origin::Arena { at: 128 + 4, width: 4 };
    assert_eq!(lowered.captures, [lower::Captured { call: 0, slot: 0, from, guard: Some(64 + 8) }]);
    let results = [CallResult { call: 0, status: Status::Returned(0), changes: Vec::new() }];
    let shown = transcript::render(&program, &lowered, &results);
    assert!(shown.contains("send(&{port: r0[1].port})"), "{shown}");

    for (wrong, message) in [
        ("r0[2].port", "an entry of r0, which has 2"),
        ("r0[0].port", "a result of r0[0], which has: "),
        ("r0.port", "a result of r0, which has: "),
        ("r0[256].port", "the number of an entry"),
    ] {
        let error = text::parse(&text::print(&program).replace("r0[1].port", wrong)).expect_err(wrong);
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn references_to_entries_that_are_gone_become_their_stand_ins() {
    let mut program = text::parse(
        "r0 = d1 multicall.multicall(&[sched_op.yield(), event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})], 2)\n\
         d1 event_channel_op.send(&{port: r0[1].port?7})\n",
    )
    .expect("valid");
    let send = |program: &Program| text::call(program, &program.calls[1]);
    let mut shorter = program.clone();
    walk::entries_removed(&mut shorter, 0, 0..1);
    assert!(send(&shorter).contains("{port: r0[0]."), "{}", send(&shorter));
    walk::mend(&mut program);
    assert!(send(&program).contains("r0[1].port?7"), "what is right stays");
    program.calls[0] =
        text::parse("d1 multicall.multicall(&[sched_op.yield()], 1)").expect("valid").calls.remove(0);
    walk::mend(&mut program);
    assert!(send(&program).contains("{port: 7}"), "{}", send(&program));
}

#[test]
fn lowering_wires_ports_across_domains() {
    let program = text::parse(
        "r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})\n\
         d2 event_channel_op.bind_interdomain(&@cross(3) {remote_dom: d1, remote_port: r0.port?9, local_port: out})\n",
    )
    .expect("valid");
    let lowered = lower::lower(&program, 1).expect("lowers");
    let mut calls = Vec::new();
    let (_, mut rest): (Header, _) = postcard::take_from_bytes(&lowered.bytes).expect("header");
    while !rest.is_empty() {
        let (group, mut body): (Group, _) = postcard::take_from_bytes(rest).expect("group");
        let end = body.len() - usize::from(group.len);
        while body.len() > end {
            let (insn, tail): (Insn<'_>, _) = postcard::take_from_bytes(body).expect("instruction");
            calls.push((group.domain, insn));
            body = tail;
        }
        rest = body;
    }
    let slot = 0;
    assert!(
        calls.contains(&(1, Insn::Capture { slot, from: Origin::Arena { at: 4, width: 4 }, guard: None }))
    );
    let stored = Insn::Store { at: 0x1000 - 3 + 4, width: 4, value: Source::Slot { slot, otherwise: 9 } };
    assert!(calls.contains(&(2, stored)));
    let text = transcript::render(
        &program,
        &lowered,
        &[CallResult {
            call: 0,
            status: Status::Returned(0),
            changes: vec![(0, vec![0xf0, 0x7f, 2, 0, 5, 0, 0, 0])],
        }],
    );
    assert!(text.contains(" = 0\n    arg.port = 5\n#1 d2 "), "{text}");
    assert!(text.ends_with(" DID NOT RETURN\n"), "{text}");
}

#[test]
fn a_field_that_the_agent_filled_in_is_not_a_change() {
    let program = text::parse(
        "r0 = d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})\n\
         d2 event_channel_op.bind_interdomain(&{remote_dom: d1, remote_port: r0.port?9, local_port: out})\n",
    )
    .expect("parses");
    let lowered = lower::lower(&program, 1).expect("lowers");
    let (first, second) = (lowered.regions[0].at, lowered.regions[1].at);
    let changes = |at, fields: [u32; 2]| {
        vec![(at, [&[0xf0, 0x7f, 2, 0], &fields[0].to_le_bytes()[..], &fields[1].to_le_bytes()].concat())]
    };
    let mut alloc = changes(first, [5, 0]);
    alloc[0].1.truncate(8);
    let render = |alloc_returns: i64, remote_port: u32| {
        let mut bind = changes(second, [remote_port, 7]);
        bind[0].1[..4].copy_from_slice(&[1, 0, 0, 0]);
        let results = [
            CallResult { call: 0, status: Status::Returned(alloc_returns), changes: alloc.clone() },
            CallResult { call: 1, status: Status::Returned(0), changes: bind },
        ];
        transcript::render(&program, &lowered, &results)
    };
    let text = render(0, 5);
    assert!(text.contains("local_port = 7") && !text.contains("remote_port = "), "{text}");
    assert!(render(0, 6).contains("remote_port = 6"), "that was the hypervisor");
    assert!(!render(-22, 9).contains("remote_port = "), "a call that failed gives nothing");
    assert!(render(-22, 5).contains("remote_port = 5"));
}

/// The programs in `corpora/seeds` or `corpora/xen`, by file name.
fn seeds(folder: &str) -> Vec<(String, String)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpora").join(folder);
    let mut seeds: Vec<_> = std::fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| {
            let path = entry.expect("readable").path();
            let name = path.file_stem().expect("name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("text"))
        })
        .collect();
    seeds.sort();
    seeds
}

#[test]
fn each_operation_has_a_canonical_seed() {
    let seeds = seeds("seeds");
    let names: Vec<&str> = seeds.iter().map(|(name, _)| name.as_str()).collect();
    let known: Vec<&str> = interface().operations().iter().map(|op| op.name).collect();
    assert_eq!(names, known);
    for (name, text) in &seeds {
        let program = text::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        check(&program);
        assert!(program.calls.iter().any(|call| call.op.operation().name == name), "{name}");
        let bare: String =
            text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        assert_eq!(bare, text::print(&program), "{name}");
    }
}

#[test]
fn seeds_for_xen_are_of_its_interface() {
    let seeds = seeds("xen");
    assert!(seeds.len() > 20);
    for (name, text) in &seeds {
        let program = text::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        check(&program);
        for operation in program.operations() {
            assert!(targets::xen_pv().by_name(operation).is_some(), "{name}: {operation}");
        }
    }
}

/// What is generated for Xen can be lowered for it, and says the same in text.
#[test]
fn generated_programs_for_xen_are_whole() {
    for interface in [targets::xen_pv(), targets::xen_domu(), targets::xen_pvh()] {
        let mut rng = Pcg64Mcg::seed_from_u64(7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..1500 {
            let program = generate::program(&mut rng, interface, 10);
            check(&program);
            assert!(program.calls.iter().all(|call| Some(call.domain) == interface.only_domain()));
            seen.extend(program.operations());
        }
        // What needs privileges is rare on purpose where there are none.
        if interface.only_domain() != Some(0) {
            continue;
        }
        let all: Vec<_> = interface.operations().iter().map(|op| op.name).collect();
        let missed: Vec<_> = all.iter().filter(|name| !seen.contains(*name)).collect();
        assert!(missed.len() * 10 < all.len(), "{missed:?}");
    }
}

#[test]
fn the_documented_example_parses() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpora/README.md");
    let text = std::fs::read_to_string(path).expect("corpora/README.md");
    let example = text.split("```").nth(1).expect("an example");
    assert_eq!(text::parse(example).expect("valid").calls.len(), 3);
}

/// A seed whose first four calls are all too long.
#[test]
fn a_program_is_never_empty() {
    assert_eq!(generated(16_163_022_172_820_543_220, 1).calls.len(), 1);
}

#[test]
fn what_is_asked_for_is_what_the_command_says_and_what_the_entries_have_in_common() {
    let asked = |text: &str| walk::asked(&text::parse(text).unwrap_or_else(|e| panic!("{e}")).calls[0]);
    assert_eq!(asked("d0 domctl.pausedomain(&{domain: d0})"), "domctl.pausedomain");
    assert_eq!(asked("d0 domctl.getdomaininfo(&{cmd: 3, domain: d0})"), "domctl.pausedomain");
    assert_eq!(asked("d0 domctl.getdomaininfo(&{cmd: 0xffff, domain: d0})"), "domctl.getdomaininfo");
    assert_eq!(asked("d0 domctl.getdomaininfo(bad(0x1000))"), "domctl.getdomaininfo");
    let multicall = |entries: &str| asked(&format!("d1 multicall.multicall(&[{entries}], 2)"));
    assert_eq!(multicall("sched_op.yield(), sched_op.yield()"), "sched_op.yield");
    assert_eq!(multicall("sched_op.yield(), sched_op.block()"), "sched_op");
    assert_eq!(multicall("sched_op.yield(), multicall.multicall(&[], 0)"), "sched_op.yield");
    assert_eq!(multicall("sched_op.yield(), xen_version.version()"), "multicall.multicall");
    assert_eq!(multicall(""), "multicall.multicall");
}

#[test]
fn entries_count_and_what_holds_them_does_not() {
    let program = text::parse(
        "d1 multicall.multicall(&[coverage_op.release(0), coverage_op.reset(0)], 2)\nd1 sched_op.yield()\n\
         d1 multicall.multicall(&[], 0)\n",
    );
    assert_eq!(walk::hypercalls(&program.expect("valid")), 4);
}
