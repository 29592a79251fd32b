//! How a planted bug shows: which ends of an execution its oracles may give.
//!
//! This is what an execution in which a bug's canary triggered is judged by. It is used for the evaluation only; no generator
//! sees it.

use coverage_hypercall::crash::CrashKind;
use planted_bugs::Bug;

use crate::engine::{Execution, Outcome};

/// The hypervisor hung.
pub const HANG: &str = "hang";
/// The machine reset itself.
pub const TRIPLE_FAULT: &str = "triple-fault";
/// The crash marker without a valid record.
pub const LOST_RECORD: &str = "lost-record";
/// The machine did not answer at all.
pub const TIMEOUT: &str = "timeout";

/// How an execution ended, if the hypervisor misbehaved: the kind of its crash record, or what else happened.
pub fn of(execution: &Execution) -> Option<&'static str> {
    match (execution.outcome, execution.crash.as_deref()) {
        (Outcome::Done | Outcome::Idle | Outcome::Runaway, _) => None,
        (Outcome::Hang, _) => Some(HANG),
        (Outcome::Timeout, _) => Some(TIMEOUT),
        (Outcome::TripleFault, _) => Some(TRIPLE_FAULT),
        (Outcome::Crash, None) => Some(LOST_RECORD),
        (Outcome::Crash, Some(record)) => {
            Some(CrashKind::from_u32(record.kind).map_or(LOST_RECORD, CrashKind::name))
        }
    }
}

/// The symptoms that the oracles of a bug may give. A wild write may hit anything, so its consequences count.
pub const fn expected(bug: Bug) -> &'static [&'static str] {
    match bug {
        Bug::ExchangeOob => &[
            "fault",
            "double-fault",
            "stack-canary",
            "heap-canary",
            "panic",
            "assertion",
            "m2p-identity",
            "references",
            "freed-frame",
            "lock-held",
            TRIPLE_FAULT,
            LOST_RECORD,
        ],
        Bug::PollUnalloc | Bug::GrantUninit | Bug::FifoNocontrol => &["fault", "double-fault"],
        Bug::CountSign => &["stack-canary", "fault", "double-fault"],
        Bug::BatchPrivilege => &["privilege"],
        // A frame that is mapped twice and known at one of its places is given back while the other remains.
        Bug::M2pDesync => &["m2p-identity", "references", "freed-frame"],
        Bug::PollHang | Bug::TimerOverflow | Bug::SelfDeadlock => &[HANG, "latency"],
        Bug::NodeOob => &["assertion", "fault", "double-fault", "panic"],
        Bug::OrderUnbounded | Bug::ResetNonpreempt => &["latency", HANG],
        // Held once more it waits for itself.
        Bug::LockLeak => &["lock-held", "assertion", HANG],
        Bug::RefLeak => &["references"],
        Bug::PodOrder => &["assertion", "panic"],
        // With a reference too few the frame is given back while it is mapped.
        Bug::UnmapUnderflow => &["references", "assertion", "freed-frame"],
        Bug::StatusFreed => &["freed-frame"],
        Bug::TransitiveCopy => {
            &["double-fault", "latency", "lock-held", "references", "isolation", "assertion", HANG]
        }
        Bug::RetvalSign => &["return-contract"],
        Bug::StackLeak => &["uninitialised"],
    }
}

/// The hypercall that a bug lies in (Xen `public/xen.h`, `__HYPERVISOR_*`).
pub const fn hypercall(bug: Bug) -> u64 {
    match bug {
        Bug::ExchangeOob
        | Bug::M2pDesync
        | Bug::NodeOob
        | Bug::OrderUnbounded
        | Bug::LockLeak
        | Bug::RefLeak
        | Bug::PodOrder => 12,
        Bug::BatchPrivilege => 13,
        Bug::StackLeak => 17,
        Bug::CountSign => 18,
        Bug::GrantUninit | Bug::UnmapUnderflow | Bug::StatusFreed | Bug::TransitiveCopy | Bug::RetvalSign => {
            20
        }
        Bug::TimerOverflow => 24,
        Bug::PollUnalloc | Bug::PollHang => 29,
        Bug::FifoNocontrol | Bug::ResetNonpreempt => 32,
        Bug::SelfDeadlock => 36,
    }
}

/// What an execution that ended badly says about the bugs whose canaries it triggered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It detected this bug.
    Detected(Bug),
    /// It detected one of these, and nobody can tell which.
    Ambiguous(Vec<Bug>),
    /// It cannot be told from any of the triggered bugs: a defect that nobody planted, or an oracle that is wrong.
    Unexplained,
}

/// Attributes a symptom to one of the triggered bugs: by its kind, then by the hypercall in the crash record.
pub fn attribute(symptom: &str, record_hypercall: Option<u64>, triggered: &[Bug]) -> Verdict {
    let fits: Vec<Bug> = triggered.iter().copied().filter(|b| expected(*b).contains(&symptom)).collect();
    match fits.as_slice() {
        [] => return Verdict::Unexplained,
        [bug] => return Verdict::Detected(*bug),
        _ => {}
    }
    let there: Vec<Bug> = fits.iter().copied().filter(|b| Some(hypercall(*b)) == record_hypercall).collect();
    match there.as_slice() {
        [bug] => Verdict::Detected(*bug),
        [] => Verdict::Ambiguous(fits),
        _ => Verdict::Ambiguous(there),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symptoms_that_are_expected_exist() {
        let kinds: Vec<_> = (0..64).filter_map(CrashKind::from_u32).map(CrashKind::name).collect();
        for bug in Bug::ALL {
            assert!(!expected(bug).is_empty());
            for symptom in expected(bug) {
                let known = kinds.contains(symptom) || [HANG, TRIPLE_FAULT, LOST_RECORD].contains(symptom);
                assert!(known, "{}: {symptom}", bug.name());
            }
        }
    }

    #[test]
    fn kind_then_hypercall_decide() {
        use Bug::{CountSign, M2pDesync, PollHang, PollUnalloc, SelfDeadlock, TimerOverflow};
        assert_eq!(attribute("fault", None, &[PollUnalloc]), Verdict::Detected(PollUnalloc));
        assert_eq!(attribute("fault", None, &[PollUnalloc, M2pDesync]), Verdict::Detected(PollUnalloc));
        assert_eq!(attribute("fault", Some(29), &[PollUnalloc, CountSign]), Verdict::Detected(PollUnalloc));
        assert_eq!(
            attribute("hang", None, &[PollHang, TimerOverflow]),
            Verdict::Ambiguous(vec![PollHang, TimerOverflow])
        );
        assert_eq!(
            attribute("hang", Some(36), &[PollHang, TimerOverflow, SelfDeadlock]),
            Verdict::Detected(SelfDeadlock)
        );
        assert_eq!(attribute("privilege", Some(13), &[PollUnalloc]), Verdict::Unexplained);
        assert_eq!(attribute("fault", None, &[]), Verdict::Unexplained);
    }
}
