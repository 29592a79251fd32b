//! Directories as they are met: new, in use, foreign, damaged, half-written.

use super::*;

fn description() -> Description {
    Description {
        format: FORMAT,
        hyperfuzz: "0.1.0".into(),
        target: "reference-hvm".into(),
        build: "00".into(),
        plants: Vec::new(),
        seed: 7,
        sessions: 0,
    }
}

#[test]
fn a_second_fuzzer_is_refused_and_a_later_one_resumes() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("c");
    let first = Store::open(&root, description()).unwrap();
    assert_eq!(first.session_seed(), 7);
    assert!(matches!(Store::open(&root, description()), Err(StoreError::Locked(_))));
    drop(first);
    let second = Store::open(&root, description()).unwrap();
    assert_eq!(second.description().sessions, 2);
    assert_ne!(second.session_seed(), 7);
}

#[test]
fn amending_is_no_session_and_needs_a_campaign_that_nobody_uses() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Store::amend(dir.path()).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let open = Store::open(dir.path(), description()).unwrap();
    assert!(matches!(Store::amend(dir.path()), Err(StoreError::Locked(_))));
    drop(open);
    let mut store = Store::amend(dir.path()).unwrap();
    let program = text::parse("d1 sched_op.yield()").unwrap();
    assert!(store.add(&program).unwrap() && !store.add(&program).unwrap());
    drop(store);
    assert_eq!(Store::open(dir.path(), description()).unwrap().description().sessions, 2);
}

#[test]
fn foreign_directories_and_other_builds_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "precious").unwrap();
    assert!(matches!(Store::open(dir.path(), description()), Err(StoreError::Foreign(_))));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

    let root = dir.path().join("c");
    drop(Store::open(&root, description()).unwrap());
    let other = Description { build: "01".into(), ..description() };
    let error = Store::open(&root, other).unwrap_err();
    assert!(error.to_string().contains("--corpus"), "{error}");
}

#[test]
fn other_formats_and_garbage_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (text, word) in [("{\"format\": 9}", "format 9"), ("garbage", "not a campaign"), ("{}", "no format")]
    {
        fs::write(dir.path().join("campaign.json"), text).unwrap();
        let error = Store::open(dir.path(), description()).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join("campaign.json")).unwrap(), text);
    }
}

#[test]
fn oversized_and_binary_files_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let big = dir.path().join("big.hf");
    fs::write(&big, vec![b'#'; MAX_FILE as usize + 1]).unwrap();
    assert!(load_program(&big).unwrap_err().to_string().contains("big.hf"));
    let binary = dir.path().join("binary.hf");
    fs::write(&binary, [0xff, 0xfe, 0x00]).unwrap();
    assert!(load_program(&binary).unwrap_err().to_string().contains("neither"));
}

#[test]
fn half_written_files_are_removed_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), description()).unwrap());
    fs::create_dir_all(dir.path().join("findings/hang-a-01")).unwrap();
    let half = ["corpus/000000-aa.hf.tmp", "operations.json.tmp", "findings/hang-a-01/report.txt.tmp"];
    let half = half.map(|name| dir.path().join(name));
    half.iter().for_each(|path| fs::write(path, "r0 = d1 ev").unwrap());
    drop(Store::open(dir.path(), description()).unwrap());
    assert!(half.iter().all(|path| !path.exists()));
}

#[test]
fn a_program_that_a_power_failure_left_empty_does_not_keep_a_campaign_from_going_on() {
    let dir = tempfile::tempdir().unwrap();
    drop(Store::open(dir.path(), description()).unwrap());
    let empty = dir.path().join("corpus/000000-00000000000000aa.hf");
    fs::write(&empty, "").unwrap();
    let store = Store::open(dir.path(), description()).unwrap();
    assert!(!empty.exists() && store.is_empty() && store.corpus().unwrap().is_empty());
}

#[test]
fn what_was_being_examined_is_told_until_it_is_examined() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), description()).unwrap();
    let program = text::parse("d1 sched_op.yield()").unwrap();
    let source = text::print(&program);
    let begun = |name: &str| {
        let bucket = Bucket::from_name(name).unwrap();
        store.add_finding(&bucket, &[(ORIGINAL, source.as_bytes())]).unwrap();
        bucket
    };
    assert!(store.unexamined().unwrap().is_empty());
    let (first, second) = (begun("hang-a-01"), begun("hang-b-02"));
    assert_eq!(store.unexamined().unwrap(), [program.clone(), program.clone()]);
    store.add_finding(&first, &[("report.txt", b"x")]).unwrap();
    assert_eq!(store.unexamined().unwrap(), [program]);
    store.add_finding(&second, &[("unconfirmed.json", b"{}")]).unwrap();
    assert!(store.unexamined().unwrap().is_empty());
}
