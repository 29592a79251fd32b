// SPDX-License-Identifier: GPL-2.0-or-later
//! A machine that has shut down, as after a triple fault, goes on: the run has ended then.
#![expect(unsafe_code, reason = "callbacks from and calls into QEMU")]

use core::ffi::{c_int, c_void};
use core::ptr;
use core::sync::atomic::Ordering;

use hyperfuzz_control::End;

use super::{Phase, plugin};

/// QEMU's run state changed. On its main thread, with the big lock held.
pub(super) unsafe extern "C" fn state_changed(_: *mut c_void, running: bool, _: c_int) {
    let Some(plugin) = plugin() else { return };
    // The snapshot itself and the time before it are QEMU's own business.
    let phase = plugin.phase.load(Ordering::SeqCst);
    if running || phase == Phase::Boot as u32 {
        return;
    }
    // The handler must not start the machine itself: QEMU is about to stop it.
    // SAFETY: the main context lives as long as the process, and `go_on` ignores its argument.
    unsafe {
        let context = (plugin.qemu.aio_context)();
        (plugin.qemu.schedule)(context, go_on, ptr::null_mut(), c"hyperfuzz".as_ptr());
    }
}

/// Starts the machine again after a shutdown. On QEMU's main thread, with the big lock held.
unsafe extern "C" fn go_on(_: *mut c_void) {
    let Some(plugin) = plugin() else { return };
    let qemu = &plugin.qemu;
    // SAFETY: the lookup table and the name are what `qapi_enum_parse` expects; a null error pointer is allowed. A machine
    // that is shut down may become paused, and a paused one may be started.
    unsafe {
        let paused = (qemu.parse_enum)(qemu.run_states, c"paused".as_ptr(), -1, ptr::null_mut());
        if paused < 0 {
            plugin.fail("this QEMU has no run state `paused`");
            return;
        }
        (qemu.set_run_state)(paused);
        let cpu = plugin.cpu.load(Ordering::Acquire);
        // If the watchdog was faster, its work item finds this.
        plugin.reached.store(End::TripleFault as u32, Ordering::Relaxed);
        plugin.request_end(cpu, End::TripleFault);
        (qemu.vm_start)();
    }
}
