//! Each mutation can change something, and what it should.

use rand::SeedableRng;
use rand_pcg::Pcg64Mcg;

use super::{CmpHint, Mutation, apply, i2s, mutate};
use crate::{
    interface::interface,
    program::{generate, text},
};

#[test]
fn every_mutation_changes_something() {
    let hints = [CmpHint { left: 0, right: 77, width: 4 }, CmpHint { left: 0x280, right: 0x281, width: 8 }];
    for (mutation, _) in Mutation::SHARES {
        let mut changed = 0;
        for seed in 0..200 {
            let mut rng = Pcg64Mcg::seed_from_u64(seed);
            let mut program = generate::program(&mut rng, interface(), 10);
            let donor = generate::program(&mut rng, interface(), 10);
            let before = program.clone();
            let said = apply(mutation, &mut program, &mut rng, interface(), Some(&donor), &hints);
            assert_eq!(said, program != before);
            changed += usize::from(said);
        }
        assert!(changed > 20, "{} changed {changed} of 200 programs", mutation.name());
    }
}

#[test]
fn same_seed_same_mutation() {
    for seed in 0..50 {
        let run = || {
            let mut rng = Pcg64Mcg::seed_from_u64(seed);
            let mut program = generate::program(&mut rng, interface(), 10);
            let mutation = mutate(&mut program, &mut rng, interface(), None, &[]);
            (program, mutation)
        };
        assert_eq!(run(), run());
    }
}

/// All texts that input-to-state makes of a program.
fn outcomes(before: &str, hint: CmpHint) -> Vec<String> {
    let program = text::parse(before).expect("valid");
    let mut found: Vec<String> = (0..200)
        .filter_map(|seed| {
            let mut changed = program.clone();
            i2s(&mut changed, &mut Pcg64Mcg::seed_from_u64(seed), &[hint]).then(|| text::print(&changed))
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

#[test]
fn operands_replace_numbers_and_bytes() {
    let found = outcomes(
        "d1 event_channel_op.send(&{port: 0x1234})\n",
        CmpHint { left: 0x1234, right: 0xffff, width: 4 },
    );
    assert!(found.contains(&"d1 event_channel_op.send(&{port: 0xffff})\n".to_owned()), "{found:?}");
    // Compared in two bytes only: the rest stays.
    let found =
        outcomes("d1 agent.write(0, 0xaabbccdd00001234)\n", CmpHint { left: 7, right: 0x1234, width: 2 });
    assert!(found.iter().any(|text| text.contains("0xaabbccdd00000007")), "{found:?}");
    // In a buffer, and byte-swapped.
    let found = outcomes(
        "d1 console_io.write(4, &\"magi\")\n",
        CmpHint {
            left: u64::from(u32::from_be_bytes(*b"magi")),
            right: u64::from(u32::from_be_bytes(*b"WAND")),
            width: 4,
        },
    );
    assert!(found.iter().any(|text| text.contains("\"WAND\"")), "{found:?}");
    // One below the operand: it stays one below the other.
    let found =
        outcomes("d1 event_channel_op.send(&{port: 1023})\n", CmpHint { left: 1024, right: 4096, width: 4 });
    assert!(found.iter().any(|text| text.contains("port: 4095")), "{found:?}");
    assert!(outcomes("d1 sched_op.yield()\n", CmpHint { left: 1, right: 2, width: 4 }).is_empty());
}
