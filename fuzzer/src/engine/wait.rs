//! Waiting for QEMU: for its answer, its end, or the certainty that it will never answer.
//!
//! Time is counted in slices that this process has really waited, not read from a clock: a host that was suspended, or that
//! gave this process no processor for a while, has not given QEMU one either, and nobody is late because of that.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hyperfuzz_control::{Control, State};
use rustix::io::Errno;
use rustix::thread::futex;

use super::error::EngineError;
use super::outside;
use super::process::Process;

/// How often the host looks whether QEMU still lives while it waits.
const SLICE: Duration = Duration::from_millis(50);
/// The same for a machine that is reset from outside: QEMU's monitor may have something to say.
const OUTSIDE_SLICE: Duration = Duration::from_millis(2);
/// Time without processor time after which QEMU is taken for dead.
const STANDSTILL: Duration = Duration::from_secs(3);
/// A limit of processor time may take this many times as long on a busy host.
const PATIENCE: u32 = 10;
/// Unit of [`Process::ticks`]: `USER_HZ`, which is 100 on x86-64.
const TICK: Duration = Duration::from_millis(10);

/// Why a wait ended without an answer.
pub(super) enum Lost {
    /// QEMU ended.
    Died(String),
    /// The plugin gave up, or the machine cannot be reset.
    Failed(String),
    /// The limit was reached.
    Late,
}

/// The text of the plugin's error.
pub(super) fn plugin_error(control: &Control) -> String {
    let (text, len) = control.error();
    String::from_utf8_lossy(&text[..len]).into_owned()
}

/// What the plugin's giving up means.
pub(super) fn given_up(control: &Control) -> Option<EngineError> {
    match State::from_u32(control.state.load(Ordering::Acquire)) {
        Some(State::Failed) => Some(EngineError::Plugin(plugin_error(control))),
        Some(State::Lacking) => Some(EngineError::Lacking(plugin_error(control))),
        _ => None,
    }
}

/// Waits until the plugin has answered with this number.
pub(super) fn wait(process: &mut Process, expected: u32, limit: Duration) -> Result<(), Lost> {
    let slice = if process.monitor.is_some() { OUTSIDE_SLICE } else { SLICE };
    let time = futex::Timespec { tv_sec: 0, tv_nsec: slice.as_nanos().try_into().unwrap_or(0) };
    let mut waited = Duration::ZERO;
    let mut still = Duration::ZERO;
    let mut before = None;
    let mut used_before = None;
    loop {
        let control = process.control.control();
        let answer = control.answer.load(Ordering::Acquire);
        if given_up(control).is_some() {
            return Err(Lost::Failed(plugin_error(control)));
        }
        if answer == expected {
            return Ok(());
        }
        let woken = futex::wait(&control.answer, futex::Flags::empty(), answer, Some(&time));
        if woken != Err(Errno::TIMEDOUT) {
            continue;
        }
        // Only now, as asking for the child costs something.
        if control.answer.load(Ordering::Acquire) == expected {
            continue;
        }
        if let Some(status) = process.ended() {
            return Err(Lost::Died(status));
        }
        if let Some(monitor) = &mut process.monitor
            && monitor.has_shut_down().map_err(Lost::Died)?
        {
            outside::ask(process);
        }
        waited += slice;
        let ticks = process.ticks();
        // What counts is the time that QEMU had a processor: a host may be busy.
        let used = ticks.zip(*used_before.get_or_insert(ticks)).map_or(limit, |(now, before)| {
            TICK * u32::try_from(now.saturating_sub(before)).unwrap_or(u32::MAX)
        });
        if waited >= limit && (used + TICK >= limit || waited >= limit.saturating_mul(PATIENCE)) {
            return Err(Lost::Late);
        }
        // A busy host makes QEMU slow, not idle: who uses no processor time at all, and does not ask for any, waits for
        // something that never comes.
        if ticks == before && !process.wants_processor() {
            still += slice;
        } else {
            still = Duration::ZERO;
        }
        before = ticks;
        if still >= STANDSTILL {
            return Err(Lost::Died(
                "stood still without using the processor, and without asking for it".into(),
            ));
        }
    }
}
