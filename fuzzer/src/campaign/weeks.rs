//! What weeks of fuzzing leave behind, without a machine: thousands of sessions, hundreds of thousands of samples and candidates go through the
//! directory's writer, and neither files nor what is kept in memory grow with them.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use coverage_hypercall::program::Status;
use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::json;

use super::{
    check::Tally,
    ledger::Ledger,
    metrics::{self, Metrics},
    operations::Record,
    runner::Outlet,
    statistics::Statistics,
    store::{Description, Store},
};
use crate::{
    engine::{CallResult, Execution},
    interface::interface,
    program::{Program, generate, text},
    report::{live::Live, page::Data},
    triage::bucket::Bucket,
};

/// Edges of the simulated target.
const EDGES: usize = 512;

/// Bytes of all files below a directory, and their number.
fn size(directory: &Path) -> (u64, usize) {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.fold((0, 0), |(bytes, number), path| {
        let (more, files) = if path.is_dir() { size(&path) } else { (fs::metadata(&path).unwrap().len(), 1) };
        (bytes + more, number + files)
    })
}

/// An execution as a target could have answered it, with numbers from the lowest one on.
fn execute(statistics: &mut Statistics, random: &mut Pcg64Mcg, program: &Program, lowest: i64) {
    let mut execution = Execution { counters: vec![0; EDGES], ..Execution::default() };
    for _ in 0..8 {
        execution.counters[random.random_range(0..EDGES)] = 1;
    }
    let operations = program.operations();
    let mut answer = |call| CallResult {
        // Programs are short.
        call: call as u16,
        status: Status::Returned(random.random_range(lowest..100)),
        changes: Vec::new(),
    };
    execution.calls = (0..operations.len()).map(&mut answer).collect();
    statistics.record(&operations, Some(program), &execution);
}

#[test]
fn thousands_of_sessions_leave_a_directory_of_the_same_size() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Pcg64Mcg::seed_from_u64(1);
    let programs: Vec<_> = (0..50).map(|_| generate::program(&mut random, interface(), 6)).collect();
    let distinct: BTreeSet<_> = programs.iter().map(text::print).collect();
    let bucket = Bucket::from_name("hang-a-01").unwrap();
    let mut sizes = Vec::new();
    for session in 1..=2_000_u64 {
        let mut store = Store::open(dir.path(), Description::any(0)).unwrap();
        assert_eq!(store.description().sessions, session);
        let stop = Arc::new(AtomicBool::new(false));
        let mut ledger = Ledger::new(&mut store, Live::new(true), EDGES, stop, false);
        if session == 1 {
            let files = [("finding.json", b"{}".to_vec()), ("report.txt", b"a hang".to_vec())];
            let files = files.into_iter().map(|(name, content)| (name.to_owned(), content)).collect();
            ledger.finding(bucket.clone(), super::examine::Files { files }).unwrap();
        }
        let mut statistics = Statistics::default();
        for program in &programs {
            ledger.entry(program).unwrap();
            execute(&mut statistics, &mut random, program, -40);
        }
        statistics.crashed(&bucket);
        ledger.write_metrics(&statistics, Tally::default()).unwrap();
        drop(ledger.close());
        assert_eq!(store.len(), distinct.len());
        if session % 500 == 0 {
            sizes.push(size(dir.path()));
        }
    }
    // A line of metrics for each session is what is left of it, and digits of counters.
    let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
    assert_eq!(first.1, last.1, "{sizes:?}");
    assert!(last.0 < first.0 + 1_500 * 300, "{sizes:?}");
    let record = Record::load(dir.path()).unwrap().unwrap();
    assert_eq!(record.executions, 2_000 * 50);
    assert!(record.covered.len() <= EDGES && record.by.len() == record.covered.len());
    let seen = super::findings::seen::Seen::load(&dir.path().join("findings/hang-a-01")).unwrap().unwrap();
    assert_eq!((seen.all.times, seen.session_count()), (2_000, 2_000));
    let data = Data::read(dir.path(), None).unwrap();
    assert_eq!(data.executions, 2_000 * 50);
    assert_eq!(data.series.last().map(|sample| sample.x), Some(2_000 * 50), "sums over sessions stay right");
}

#[test]
fn samples_of_months_fit_into_some_megabytes() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = Metrics::new(dir.path());
    let mut longest = 0;
    // A line every five seconds, for 17 days.
    for at in 0..300_000_u64 {
        let line = json!({
            "session": 1 + at / 100_000, "seconds": at as f64 * 5.0, "workers": 2, "executions": at * 12_345, "calls": at * 99_999,
            "edges": 5_000, "corpus": 4_000, "findings": 3, "restarts": 17, "checks": Tally::default(),
        });
        metrics.append(&line).unwrap();
        if at % 1_000 == 0 {
            longest = longest.max(fs::metadata(dir.path().join(metrics::NAME)).unwrap().len());
        }
    }
    assert!(longest <= 6 << 20, "{longest}");
    let data = fs::read_to_string(dir.path().join(metrics::NAME)).unwrap();
    assert!(data.lines().count() > 5_000, "it is thinned, not emptied");
}

#[test]
fn tens_of_thousands_of_candidates_cost_as_much_as_there_are_programs() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path(), Description::any(0)).unwrap();
    let mut random = Pcg64Mcg::seed_from_u64(2);
    let programs: Vec<_> = (0..1_000).map(|_| generate::program(&mut random, interface(), 8)).collect();
    let mut new = 0;
    for _ in 0..40_000 {
        new += usize::from(store.add(&programs[random.random_range(0..programs.len())]).unwrap());
    }
    let distinct: BTreeSet<_> = programs.iter().map(text::print).collect();
    assert_eq!(
        (new, store.len(), size(&dir.path().join("corpus")).1),
        (distinct.len(), distinct.len(), distinct.len())
    );
    drop(store);
    let store = Store::open(dir.path(), Description::any(0)).unwrap();
    assert_eq!((store.len(), store.corpus().unwrap().len()), (distinct.len(), distinct.len()));
}

#[test]
fn counters_of_a_session_do_not_grow_with_its_executions() {
    let mut random = Pcg64Mcg::seed_from_u64(3);
    let programs: Vec<_> = (0..200).map(|_| generate::program(&mut random, interface(), 6)).collect();
    let mut statistics = Statistics::default();
    let mut bytes = Vec::new();
    for turn in 0..300_000 {
        execute(&mut statistics, &mut random, &programs[turn % programs.len()], -1_000_000);
        if (turn + 1) % 100_000 == 0 {
            bytes.push(serde_json::to_vec(&statistics).unwrap().len());
        }
    }
    assert_eq!(statistics.first.len(), EDGES);
    let values = statistics.operations.values().map(|operation| operation.failed.len()).max();
    assert_eq!(values, Some(257), "each answer is counted up to a number of them");
    // Each of some thousand counters has a digit more at most.
    assert!(bytes[2] < bytes[0] + bytes[0] / 4, "{bytes:?}");
}
