// SPDX-License-Identifier: GPL-2.0-or-later
//! QEMU TCG plugin of hyperfuzz: doorbell, snapshot and reset, crash hooks, budget.
//!
//! Loaded with `-plugin file=libhyperfuzz_plugin.so,control=PATH`, where PATH is a control file
//! (`hyperfuzz_control`) that the host has made. It links into QEMU's process and is therefore under
//! the GNU General Public License, version 2 or later; see its `LICENSE`.
//!
//! | module | what |
//! |---|---|
//! | `qemu` | declarations of QEMU's functions, found at load |
//! | `translate` | what is added to translated code |
//! | `run` | the life of the machine: snapshot, doorbell, reset, end, watchdog |
//! | `edges` | counts the edges of a hypervisor that does not do it itself |
//! | `budget` | whose blocks are counted, and against which limit |
//! | `tables` | which translations survive a change of page tables |
//! | `cpu`, `memory`, `devices` | saving and restoring each of these |
#![expect(unsafe_code, reason = "entry points that QEMU calls by name")]

mod budget;
mod cpu;
mod devices;
mod edges;
mod memory;
mod qemu;
mod run;
mod tables;
mod translate;

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::Ordering;
use std::fs::OpenOptions;

use hyperfuzz_control::{Control, FILE_LEN, MAGIC, VERSION};
use memmap2::MmapOptions;

use crate::qemu::{API_VERSION, PluginId, Qemu};

/// Version of the plugin API that this plugin was written for; QEMU reads it.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = API_VERSION;

/// Maps the control file.
fn map_control(path: &str) -> Result<&'static Control, String> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(|error| format!("cannot open the control file {path}: {error}"))?;
    let len =
        file.metadata().map_err(|error| format!("cannot look at the control file {path}: {error}"))?.len();
    if len < FILE_LEN as u64 {
        return Err(format!("the control file {path} has {len} bytes instead of {FILE_LEN}"));
    }
    let map = MmapOptions::new()
        .len(FILE_LEN)
        .map_raw(&file)
        .map_err(|error| format!("cannot map the control file {path}: {error}"))?;
    // SAFETY: the mapping is page-aligned, at least as large as a `Control`, never unmapped (forgotten below), and a
    // `Control` consists of atomics, for which every content is valid.
    let control = unsafe { &*map.as_mut_ptr().cast::<Control>() };
    core::mem::forget(map);
    if control.magic.load(Ordering::Relaxed) != MAGIC || control.version.load(Ordering::Relaxed) != VERSION {
        return Err(format!(
            "{path} is not a control file of this version; rebuild plugin and fuzzer together"
        ));
    }
    Ok(control)
}

/// Finds the control file among the arguments and installs everything.
fn install(id: PluginId, arguments: &[&str]) -> Result<(), String> {
    let path = arguments.iter().find_map(|argument| argument.strip_prefix("control="));
    let control = map_control(path.ok_or("the argument control=PATH is missing")?)?;
    let installed = Qemu::find().and_then(|qemu| {
        run::install(qemu, control)?;
        // SAFETY: `id` is what QEMU gave us, and the callback lives as long as the process.
        unsafe { (qemu.register_translation)(id, translate::block_translated) };
        Ok(())
    });
    installed.inspect_err(|error| control.set_error(error))
}

/// Called by QEMU when the plugin is loaded; 0 is success.
///
/// # Safety
/// `argv` must hold `argc` strings, as QEMU's contract says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: PluginId,
    _info: *const c_void,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    let arguments: Vec<&str> = (0..usize::try_from(argc).unwrap_or(0))
        // SAFETY: the caller's promise.
        .filter_map(|index| unsafe { CStr::from_ptr(*argv.add(index)) }.to_str().ok())
        .collect();
    match install(id, &arguments) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("hyperfuzz plugin: {error}");
            -1
        }
    }
}
