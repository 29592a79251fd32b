// SPDX-License-Identifier: GPL-2.0-or-later
//! Notes which way the hypervisor took: its blocks and the VM exits, in the order in which they were executed. For whoever looks at
//! a single program; nobody wants it in a campaign.
#![expect(unsafe_code, reason = "writes to the mapped control file")]

use core::ffi::{c_uint, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use hyperfuzz_control::{Control, EXIT, PATH_OFFSET};

/// The control file. Null until [`clear`] is called first; nothing is noted during the boot.
static CONTROL: AtomicPtr<Control> = AtomicPtr::new(ptr::null_mut());
/// Words of this run's path.
static LEN: AtomicU64 = AtomicU64::new(0);

/// True where a path is wanted.
pub(crate) fn is_wanted(control: &Control) -> bool {
    control.path_room.load(Ordering::Relaxed) != 0
}

/// The argument of [`block_reached`] for the block at this guest-virtual address, if it is the hypervisor's.
pub(crate) fn argument(control: &Control, address: u64) -> Option<*mut c_void> {
    let offset = address.wrapping_sub(control.edges_base.load(Ordering::Relaxed));
    let inside = offset < control.edges_len.load(Ordering::Relaxed).min(u64::from(EXIT));
    inside.then(|| ptr::without_provenance_mut(offset as usize))
}

/// Begins another path. `control` is the start of the mapped control file.
pub(crate) fn clear(control: &'static Control) {
    if is_wanted(control) {
        LEN.store(0, Ordering::Relaxed);
        control.path_len.store(0, Ordering::Relaxed);
        CONTROL.store(ptr::from_ref(control).cast_mut(), Ordering::Relaxed);
    }
}

/// Appends a word.
fn note(word: u32) {
    let file = CONTROL.load(Ordering::Relaxed);
    if file.is_null() {
        return;
    }
    let at = LEN.load(Ordering::Relaxed);
    LEN.store(at + 1, Ordering::Relaxed);
    // SAFETY: it was a reference that lives as long as the process.
    let control = unsafe { &*file.cast_const() };
    control.path_len.store(at + 1, Ordering::Relaxed);
    if at < u64::from(control.path_room.load(Ordering::Relaxed)) {
        // SAFETY: the host has made the file long enough for `path_room` words, and all of it is mapped; the path begins at a
        // multiple of four bytes. The host reads it only while it has the machine.
        unsafe { file.cast::<u8>().add(PATH_OFFSET).cast::<u32>().add(at as usize).write(word) };
    }
}

/// Runs before each block of the hypervisor's code.
pub(crate) unsafe extern "C" fn block_reached(_: c_uint, argument: *mut c_void) {
    // It comes from `argument`, and fits.
    note(argument.addr() as u32);
}

/// The hypervisor goes on after a VM exit.
pub(crate) fn exit() {
    note(EXIT);
}
