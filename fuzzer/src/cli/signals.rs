//! Signals: Ctrl-C, and memory that is not there any more.
#![expect(unsafe_code, reason = "a handler of SIGBUS runs at any moment, and has to end the process")]

use std::sync::{Arc, atomic::AtomicBool};

use anyhow::Context;
use signal_hook::consts::{SIGBUS, SIGINT, SIGTERM};

use super::Exit;

/// What is said when a page of a mapped file is gone.
const GONE: &[u8] = b"error: memory that is shared with QEMU is gone: its file was truncated, or its file system has no room or \
failed; what was saved is complete, start again to go on\n";

/// A flag that Ctrl-C and SIGTERM set. A second Ctrl-C ends the process at once.
///
/// # Errors
/// When the handlers cannot be installed.
pub(super) fn stop_flag() -> anyhow::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, i32::from(Exit::Failed as u8), stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .context("cannot install the handler of Ctrl-C")?;
    }
    Ok(stop)
}

/// Says what has happened where the process would otherwise end without a word.
///
/// # Errors
/// When the handler cannot be installed.
pub(super) fn explain_lost_memory() -> anyhow::Result<()> {
    let explain = || {
        let _ = rustix::io::write(rustix::stdio::stderr(), GONE);
        signal_hook::low_level::exit(i32::from(Exit::Failed as u8));
    };
    // SAFETY: the handler makes two system calls, write and exit, which may be made in a handler; it takes no lock and
    // allocates nothing.
    unsafe { signal_hook::low_level::register(SIGBUS, explain) }
        .context("cannot install the handler of SIGBUS")?;
    Ok(())
}
