//! Waiting for QEMU: for its answer, its end, or the certainty that it will never answer.
//!
//! Time is counted in slices that this process has really waited, not read from a clock: a host that was suspended, or that
//! gave this process no processor for a while, has not given QEMU one either, and nobody is late because of that.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hyperfuzz_control::{Control, State};
use rustix::io::Errno;
use rustix::thread::futex;

use super::process::Process;

/// How often the host looks whether QEMU still lives while it waits.
const SLICE: Duration = Duration::from_millis(50);
/// Time without processor time after which QEMU is taken for dead.
const STANDSTILL: Duration = Duration::from_secs(3);

/// Why a wait ended without an answer.
pub(super) enum Lost {
    /// QEMU ended.
    Died(String),
    /// The plugin gave up.
    Failed(String),
    /// The limit was reached.
    Late,
}

/// The text of the plugin's error.
pub(super) fn plugin_error(control: &Control) -> String {
    let (text, len) = control.error();
    String::from_utf8_lossy(&text[..len]).into_owned()
}

/// Waits until the plugin has answered with this number.
pub(super) fn wait(process: &mut Process, expected: u32, limit: Duration) -> Result<(), Lost> {
    let slice = futex::Timespec { tv_sec: 0, tv_nsec: SLICE.as_nanos().try_into().unwrap_or(0) };
    let mut waited = Duration::ZERO;
    let mut still = Duration::ZERO;
    let mut before = None;
    loop {
        let control = process.control.control();
        let answer = control.answer.load(Ordering::Acquire);
        if State::from_u32(control.state.load(Ordering::Acquire)) == Some(State::Failed) {
            return Err(Lost::Failed(plugin_error(control)));
        }
        if answer == expected {
            return Ok(());
        }
        let woken = futex::wait(&control.answer, futex::Flags::empty(), answer, Some(&slice));
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
        waited += SLICE;
        if waited >= limit {
            return Err(Lost::Late);
        }
        // A busy host makes QEMU slow, not idle: who uses no processor time at all, and does not ask for any, waits for
        // something that never comes.
        let ticks = process.ticks();
        if ticks == before && !process.wants_processor() {
            still += SLICE;
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
