//! What Xen says on its console when something has gone wrong.

use coverage_hypercall::crash::{
    CRASH_MAGIC, CRASH_VERSION, CrashKind, CrashRecord, MAX_FRAMES, MAX_MESSAGE,
};
use zerocopy::FromZeros;

use super::{super::Outcome, VIRT_START};

/// What Xen says when it gives up, and what that is. The first that is found counts.
const LAST_WORDS: &[(&str, CrashKind)] = &[
    ("DOUBLE FAULT", CrashKind::DoubleFault),
    ("FATAL PAGE FAULT", CrashKind::Fault),
    ("FATAL TRAP", CrashKind::Fault),
    ("GENERAL PROTECTION FAULT", CrashKind::Fault),
    ("Assertion '", CrashKind::Assertion),
    ("Xen BUG at", CrashKind::Assertion),
    ("Panic on CPU", CrashKind::Panic),
];
/// How every end of Xen begins on the console.
const PANIC: &str = "Panic on CPU";
/// What stands there when the initial domain has ended, or has had the machine ended: its own doing, whatever the reason.
const BY_DESIGN: [&str; 5] = [
    "Hardware Dom0 ",
    "Hardware domain 0 ",
    // The debug keys (`sysctl.debug_keys`) that end the machine.
    "'R' pressed -> rebooting machine",
    "'C' pressed -> triggering crashdump",
    // `XENPF_enter_acpi_sleep`, which nothing wakes from.
    "Preparing system for ACPI",
];

/// Looks at the console for what the end of a run cannot tell: whether Xen has crashed, or the agent's domain has ended. Where it is not
/// known at which place Xen `breaks_off` long calls, one that uses up its budget is no sign of a defect.
pub(in crate::engine) fn judge(
    outcome: Outcome,
    breaks_off: bool,
    console: &[u8],
) -> (Outcome, Option<Box<CrashRecord>>) {
    if !matches!(outcome, Outcome::Crash | Outcome::Hang | Outcome::TripleFault) {
        return (outcome, None);
    }
    let text = String::from_utf8_lossy(console);
    if text.contains(PANIC) {
        (Outcome::Crash, Some(Box::new(record(&text))))
    } else if BY_DESIGN.iter().any(|words| text.contains(words)) {
        (Outcome::Idle, None)
    } else if outcome == Outcome::Crash {
        (Outcome::Crash, Some(Box::new(silent())))
    } else if outcome == Outcome::Hang && !breaks_off {
        (Outcome::Runaway, None)
    } else {
        (outcome, None)
    }
}

/// The record of a crash of which nothing is known.
fn blank() -> CrashRecord {
    CrashRecord {
        magic: CRASH_MAGIC,
        version: CRASH_VERSION,
        kind: CrashKind::Panic as u32,
        domain: u32::MAX,
        hypercall: u64::MAX,
        ..CrashRecord::new_zeroed()
    }
}

/// That of a Xen that restarts the machine without a word.
fn silent() -> CrashRecord {
    let mut record = blank();
    say(&mut record, "Xen restarts the machine without a word");
    record
}

/// Puts a message into a record, or as much of it as there is room for.
fn say(record: &mut CrashRecord, message: &str) {
    let whole = |len: &usize| message.is_char_boundary(*len);
    let len = (0..=message.len().min(MAX_MESSAGE)).rev().find(whole).unwrap_or(0);
    record.message[..len].copy_from_slice(&message.as_bytes()[..len]);
    record.message_len = u32::try_from(len).unwrap_or_default();
}

/// A crash record of what stands on the console.
fn record(text: &str) -> CrashRecord {
    let words = LAST_WORDS.iter().find(|(words, _)| text.contains(words));
    let mut record = blank();
    record.kind = words.map_or(CrashKind::Panic, |(_, kind)| *kind) as u32;
    // `RIP:    e008:[<ffff82d040227a3f>] name+0x1/0x2`, and below `Xen call trace:` one line of that form for each caller. Those marked
    // `S` are what happens to lie on the stack, which is little without frame pointers, and left to who reads the console.
    let address = |line: &str| {
        let (digits, rest) = line.split_once("[<")?.1.split_once(">]")?;
        let address = u64::from_str_radix(digits, 16).ok().filter(|address| *address >= VIRT_START)?;
        Some((address, rest.trim_start().starts_with("S ")))
    };
    let mut addresses = text.lines().filter_map(address);
    record.rip = addresses.next().unwrap_or_default().0;
    let callers = addresses.filter(|(_, scrap)| !scrap).map(|(address, _)| address);
    // Where it was is the first of them once more.
    let callers = callers.skip_while(|address| *address == record.rip);
    for (slot, address) in record.frames.iter_mut().zip(callers.take(MAX_FRAMES)) {
        *slot = address;
        record.frame_count += 1;
    }
    let lines = text.lines().map(|line| line.trim_start_matches("(XEN) ").trim());
    let telling: Vec<&str> = lines
        .skip_while(|line| !line.contains(PANIC))
        .skip(1)
        .filter(|line| !line.is_empty() && !line.starts_with('*') && !line.starts_with("Reboot in"))
        .take(4)
        .collect();
    say(&mut record, &telling.join("; "));
    record
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_console_tells_a_crash_from_a_hang() {
        let panic = b"(XEN) ----[ Xen-4.17 ]----\n(XEN) RIP:    e008:[<ffff82d040227a3f>] f+0x1/0x2\n(XEN) Xen call trace:\n\
            (XEN)    [<ffff82d040227a3f>] R f+0x1/0x2\n(XEN)    [<ffff82d040200123>] S h+0x3/0x4\n\
            (XEN)    [<ffff82d0402011aa>] F g+0x3/0x4\n(XEN) \n\
            (XEN) Panic on CPU 0:\n(XEN) FATAL PAGE FAULT\n(XEN) [error_code=0002]\n(XEN) ****\n";
        let (outcome, record) = judge(Outcome::Hang, true, panic);
        let record = record.expect("Xen has said why");
        assert_eq!((outcome, CrashKind::from_u32(record.kind)), (Outcome::Crash, Some(CrashKind::Fault)));
        assert_eq!(record.rip, 0xffff_82d0_4022_7a3f);
        assert_eq!(record.frames[..record.frame_count as usize], [0xffff_82d0_4020_11aa]);
        let message = &record.message[..record.message_len as usize];
        assert!(message.starts_with(b"FATAL PAGE FAULT; [error_code=0002]"));

        let ended = b"(XEN) Hardware Dom0 crashed: rebooting machine in 5 seconds.\n";
        assert_eq!(judge(Outcome::Crash, true, ended).0, Outcome::Idle);
        let reset = b"(XEN) Hardware domain 0 did unsupported soft reset, rebooting.\n";
        assert_eq!(judge(Outcome::TripleFault, false, reset).0, Outcome::Idle);
        let asleep = b"(XEN) Preparing system for ACPI S3 state.\n";
        assert_eq!(judge(Outcome::Hang, true, asleep).0, Outcome::Idle);
        assert_eq!(judge(Outcome::Hang, true, b"(XEN) something else\n").0, Outcome::Hang);
        assert_eq!(judge(Outcome::Hang, false, b"(XEN) something else\n").0, Outcome::Runaway);
        let (outcome, record) = judge(Outcome::Crash, true, b"");
        assert!(outcome == Outcome::Crash && record.is_some_and(|record| record.message_len > 0));
        assert_eq!(judge(Outcome::Done, false, panic).0, Outcome::Done, "a guest may write what it likes");
    }
}
