//! The distribution's Xen as a target. Skipped, loudly, where there is no image of it: `HYPERFUZZ_XEN` names one, or `/boot` has one.

use std::path::{Path, PathBuf};

use hyperfuzz::{
    engine::{Engine, Execution, Outcome, Request, xen},
    program::{lower, text},
    target::{Settings, Target},
};

/// The image, if there is one.
fn image() -> Option<PathBuf> {
    let named = std::env::var_os("HYPERFUZZ_XEN").map(PathBuf::from);
    let found = named.or_else(xen::installed);
    if found.is_none() {
        eprintln!(
            "SKIPPED: no image of Xen. Install xen-hypervisor-4.17-amd64, or unpack it and set HYPERFUZZ_XEN to its boot/xen-*.gz"
        );
    }
    found
}

#[test]
fn programs_run_in_a_pv_dom0() {
    let Some(image) = image() else { return };
    let settings = Settings::new(Target::XenPv, &[], Path::new("qemu-system-x86_64"), None)
        .and_then(|settings| settings.with_xen(Some(&image)))
        .expect("the image can be read");
    let mut engine = settings.start().unwrap_or_else(|error| panic!("no machine: {error}"));
    let mut run = |source: &str| {
        let program = text::parse(source).unwrap_or_else(|error| panic!("{error} in\n{source}"));
        let lowered = lower::lower(&program, 1).expect("the program is short");
        let mut execution = Execution::default();
        let request = Request { program: &lowered.bytes, comparisons: false };
        engine.execute(&request, &mut execution).unwrap_or_else(|error| panic!("no machine: {error}"));
        execution
    };
    let edges = |execution: &Execution| execution.counters.iter().filter(|n| **n != 0).count();
    let returned =
        |execution: &Execution| -> Vec<_> { execution.calls.iter().map(|call| call.status).collect() };

    let version = run("d1 xen_version.version()\nd2 xen_version.pagesize()\nd1 agent.ud2()");
    assert_eq!(
        (version.outcome, version.corrupt, version.calls.len()),
        (Outcome::Done, false, 3),
        "{version:?}"
    );
    assert!(format!("{:?}", version.calls[0].status).starts_with("Returned(2621"), "4.x: {version:?}");
    assert!(format!("{:?}", version.calls[1].status).contains("Returned(4096)"), "{version:?}");
    assert!(format!("{:?}", version.calls[2].status).contains("vector: 6"), "{version:?}");
    assert!(edges(&version) > 20, "{version:?}");

    // Whatever came in between, one program does one thing. The end of the domain is none of Xen's defects.
    let other = run("d1 event_channel_op.alloc_unbound(&{dom: self, remote_dom: d2, port: out})");
    assert!(edges(&other) > 20 && other.counters != version.counters, "{other:?}");
    let dead = run("d1 sched_op.shutdown(&{reason: crash})");
    assert_eq!(dead.outcome, Outcome::Idle, "{dead:?}");
    assert!(String::from_utf8_lossy(&dead.console).contains("Dom0 crashed"), "{dead:?}");
    for _ in 0..20 {
        let again = run("d1 xen_version.version()\nd2 xen_version.pagesize()\nd1 agent.ud2()");
        assert_eq!(returned(&again), returned(&version));
        assert_eq!((again.counters, again.blocks), (version.counters.clone(), version.blocks));
    }
    assert_eq!(engine.restarts(), 0, "the machine was replaced");
}
