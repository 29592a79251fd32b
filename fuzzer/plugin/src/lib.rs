// SPDX-License-Identifier: GPL-2.0-or-later
//! QEMU TCG plugin of hyperfuzz: doorbell, snapshot and reset, crash hooks, budget.
//!
//! Loaded with `-plugin file=libhyperfuzz_plugin.so,control=PATH`, where PATH is a control file
//! (`hyperfuzz_control`) that the host has made. It links into QEMU's process and is therefore under
//! the GNU General Public License, version 2 or later; see its `LICENSE`.
//!
//! A QEMU that lacks what a reset within its process needs is reset by the host, which then says so in the control file; the
//! plugin also gets `ram=PATH` for that, the file that is the machine's memory.
//!
//! | module | what |
//! |---|---|
//! | `api` | the plugin API in all its versions |
//! | `translate`, `counter` | what is added to translated code |
//! | `edges` | counts the edges of a hypervisor that does not do it itself |
//! | `compare` | notes what such a hypervisor compares |
//! | `path` | notes the order of the hypervisor's blocks, for whoever looks at a single program |
//! | `budget` | whose blocks are counted, and against which limit |
//! | `qemu` | declarations of QEMU's internal functions, found at load |
//! | `run` | the life of a machine that is reset here: snapshot, doorbell, reset, end, watchdog |
//! | `tables`, `jumps` | which translations survive a change of page tables |
//! | `cpu`, `memory`, `pristine`, `devices`, `iommu`, `ticks` | saving and restoring each of these |
//! | `outside`, `process` | the life of a machine that the host resets |
#![expect(unsafe_code, reason = "entry points that QEMU calls by name")]

mod api;
mod budget;
mod compare;
mod counter;
mod cpu;
mod devices;
mod edges;
mod iommu;
mod jumps;
mod memory;
mod outside;
mod path;
mod pristine;
mod process;
mod qemu;
mod run;
mod tables;
mod ticks;
mod translate;

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicI32, Ordering};
use std::fs::OpenOptions;

use hyperfuzz_control::{BY_HOST, Control, FILE_LEN, MAGIC, State, VERSION};
use memmap2::MmapOptions;

use crate::api::{Api, Info, PluginId};
use crate::cpu::Layout;
use crate::qemu::Qemu;

/// Version of the plugin API that the plugin follows, which [`api`] sets when the plugin is mapped; QEMU reads it.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: AtomicI32 = AtomicI32::new(1);

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
        .len(usize::try_from(len).unwrap_or(FILE_LEN))
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
fn install(id: PluginId, version: c_int, arguments: &[&str]) -> Result<(), String> {
    let argument = |name: &str| {
        let found = arguments.iter().find_map(|argument| argument.strip_prefix(name));
        found.ok_or_else(|| format!("the argument {name}PATH is missing"))
    };
    let control = map_control(argument("control=")?)?;
    let installed = Api::find(version).and_then(|api| {
        let observer = if control.reset_by.load(Ordering::Relaxed) == BY_HOST {
            outside::install(argument("ram=")?, control)?
        } else {
            let found = Qemu::find().and_then(|qemu| Ok((qemu, Layout::find(&qemu)?)));
            // The host may know another way.
            let (qemu, layout) = found.inspect_err(|error| control.set_lacking(error))?;
            run::install(qemu, layout, control)?
        };
        // SAFETY: `id` is what QEMU gave us.
        unsafe { translate::observe(id, api, observer) };
        Ok(())
    });
    installed.inspect_err(|error| {
        if control.state.load(Ordering::Relaxed) != State::Lacking as u32 {
            control.set_error(error);
        }
    })
}

/// Called by QEMU when the plugin is loaded; 0 is success.
///
/// # Safety
/// `argv` must hold `argc` strings and `info` point to QEMU's description of itself, as QEMU's contract says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qemu_plugin_install(
    id: PluginId,
    info: *const c_void,
    argc: c_int,
    argv: *const *const c_char,
) -> c_int {
    let arguments: Vec<&str> = (0..usize::try_from(argc).unwrap_or(0))
        // SAFETY: the caller's promise.
        .filter_map(|index| unsafe { CStr::from_ptr(*argv.add(index)) }.to_str().ok())
        .collect();
    // SAFETY: the caller's promise.
    let version = unsafe { info.cast::<Info>().as_ref() }.map_or(0, Info::version);
    match install(id, version, &arguments) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("hyperfuzz plugin: {error}");
            -1
        }
    }
}
