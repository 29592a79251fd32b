// SPDX-License-Identifier: GPL-2.0-or-later
//! What the plugin uses of QEMU beyond the plugin API: internal functions, all found with `dlsym` when it is loaded.
//!
//! Distribution builds of QEMU have loadable modules and therefore export their internal symbols. Signatures are
//! those of QEMU 7.2 to 10.0 (`include/exec/`, `include/sysemu/`, `migration/`); where a later version only renamed a
//! function, both names are listed.
#![expect(unsafe_code, reason = "turns addresses of symbols into functions")]

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};

/// Declares an opaque C structure.
macro_rules! opaque {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[repr(C)]
        pub(crate) struct $name {
            opaque: [u8; 0],
        }
    )*};
}

opaque! {
    /// `CPUState`, which is also the start of `X86CPU`.
    Cpu
    /// `MemoryRegion`.
    MemoryRegion
    /// `RAMBlock`.
    RamBlock
    /// `QIOChannel`.
    Channel
    /// `QEMUFile`.
    File
}

/// A work item: runs on the vCPU's thread, between two translated blocks, with the big lock held.
pub(crate) type Work = unsafe extern "C" fn(*mut Cpu, usize);

/// `DirtyBitmapSnapshot`: one bit per page, from `start` to `end` in RAM addresses.
#[repr(C)]
pub(crate) struct DirtySnapshot {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) bits: [u64; 0],
}

/// `VMStateField`, as far as it is read.
#[repr(C)]
pub(crate) struct VmStateField {
    pub(crate) name: *const c_char,
    err_hint: *const c_char,
    pub(crate) offset: usize,
    pub(crate) size: usize,
    start: usize,
    pub(crate) num: c_int,
    num_offset: usize,
    size_offset: usize,
    info: *const c_void,
    flags: u32,
    vmsd: *const c_void,
    version_id: c_int,
    struct_version_id: c_int,
    field_exists: *const c_void,
}

/// `VMStateDescription`, as far as it is read.
#[repr(C)]
pub(crate) struct VmStateDescription {
    pub(crate) name: *const c_char,
    unmigratable: c_int,
    version_id: c_int,
    minimum_version_id: c_int,
    priority: c_uint,
    hooks: [*const c_void; 6],
    pub(crate) fields: *const VmStateField,
    pub(crate) subsections: *const *const VmStateDescription,
}

const _: () = assert!(size_of::<VmStateField>() == 104);
const _: () = assert!(core::mem::offset_of!(VmStateDescription, fields) == 72);

/// `DIRTY_MEMORY_VGA`: the dirty-memory client whose bits nobody else uses without a display.
pub(crate) const DIRTY_MEMORY_VGA: c_uint = 0;

/// `QEMU_CLOCK_VIRTUAL`: the clock of the machine.
pub(crate) const CLOCK_VIRTUAL: c_int = 1;

/// Address of a symbol of the process; null if there is none.
pub(crate) fn address(name: &CStr) -> *mut c_void {
    // SAFETY: the name is NUL-terminated; dlsym has no other precondition.
    unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }
}

/// Address of the first of these names that exists.
///
/// # Errors
/// The names, where none does.
pub(crate) fn find(names: &[&'static CStr]) -> Result<*mut c_void, String> {
    let found = names.iter().map(|name| address(name)).find(|address| !address.is_null());
    found.ok_or_else(|| {
        let names: Vec<_> = names.iter().map(|name| name.to_string_lossy()).collect();
        names.join("` or `")
    })
}

/// Declares the table of symbols and how it is filled.
macro_rules! symbols {
    ($($field:ident: $ty:ty = $($name:literal)|+;)*) => {
        /// Everything that is used of QEMU.
        #[derive(Clone, Copy)]
        pub(crate) struct Qemu {
            $(pub(crate) $field: $ty,)*
        }

        // SAFETY: functions and static objects of the process, valid in every thread; what may be called where is said at
        // each call.
        unsafe impl Send for Qemu {}
        // SAFETY: as above.
        unsafe impl Sync for Qemu {}

        impl Qemu {
            /// The names of everything, as they are looked up.
            #[cfg(test)]
            const NAMES: &[&[&CStr]] = &[$(&[$($name),+]),*];

            /// Finds everything.
            ///
            /// # Errors
            /// Names all symbols that are missing.
            pub(crate) fn find() -> Result<Self, String> {
                let missing: Vec<_> = [$(find(&[$($name),+])),*].into_iter().filter_map(Result::err).collect();
                if !missing.is_empty() {
                    return Err(format!("this QEMU does not export `{}`", missing.join("`, `")));
                }
                Ok(Self {
                    $($field: {
                        let address = find(&[$($name),+])?;
                        // SAFETY: the symbol exists and has this type in the QEMU versions that the fuzzer admits;
                        // both types are one pointer in size.
                        unsafe { core::mem::transmute::<*mut c_void, $ty>(address) }
                    },)*
                })
            }
        }
    };
}

symbols! {
    // Running things on the vCPU.
    get_cpu: unsafe extern "C" fn(c_int) -> *mut Cpu = c"qemu_get_cpu";
    async_run_on_cpu: unsafe extern "C" fn(*mut Cpu, Work, usize) = c"async_run_on_cpu";
    cpu_loop_exit: unsafe extern "C" fn(*mut Cpu) -> ! = c"cpu_loop_exit_noexc";
    lock: unsafe extern "C" fn(*const c_char, c_int) = c"qemu_mutex_lock_iothread_impl" | c"bql_lock_impl";
    unlock: unsafe extern "C" fn() = c"qemu_mutex_unlock_iothread" | c"bql_unlock";
    disable_ticks: unsafe extern "C" fn() = c"cpu_disable_ticks";
    enable_ticks: unsafe extern "C" fn() = c"cpu_enable_ticks";
    run_timers: unsafe extern "C" fn(c_int) -> bool = c"qemu_clock_run_timers";
    // Memory.
    foreach_block: unsafe extern "C" fn(unsafe extern "C" fn(*mut RamBlock, *mut c_void) -> c_int, *mut c_void) -> c_int
        = c"qemu_ram_foreach_block";
    block_host: unsafe extern "C" fn(*mut RamBlock) -> *mut u8 = c"qemu_ram_get_host_addr";
    block_len: unsafe extern "C" fn(*mut RamBlock) -> u64 = c"qemu_ram_get_used_length";
    region_from_host: unsafe extern "C" fn(*mut u8, *mut u64) -> *mut MemoryRegion = c"memory_region_from_host";
    region_ram_addr: unsafe extern "C" fn(*mut MemoryRegion) -> u64 = c"memory_region_get_ram_addr";
    take_dirty: unsafe extern "C" fn(*mut MemoryRegion, u64, u64, c_uint) -> *mut DirtySnapshot
        = c"cpu_physical_memory_snapshot_and_clear_dirty";
    free: unsafe extern "C" fn(*mut c_void) = c"g_free";
    invalidate_code: unsafe extern "C" fn(u64, u64) = c"tb_invalidate_phys_range";
    tlb_flush: unsafe extern "C" fn(*mut Cpu) = c"tlb_flush";
    tlb_flush_some: unsafe extern "C" fn(*mut Cpu, u32) = c"tlb_flush_by_mmuidx";
    // CPU state.
    vmstate_cpu_common: *const VmStateDescription = c"vmstate_cpu_common";
    vmstate_x86_cpu: *const VmStateDescription = c"vmstate_x86_cpu";
    update_dr7: unsafe extern "C" fn(*mut c_void, u32) = c"cpu_x86_update_dr7";
    // Device state.
    buffer_new: unsafe extern "C" fn(usize) -> *mut Channel = c"qio_channel_buffer_new";
    channel_read: unsafe extern "C" fn(*mut Channel, *mut u8, usize, *mut *mut c_void) -> isize = c"qio_channel_read";
    channel_write: unsafe extern "C" fn(*mut Channel, *const u8, usize, *mut *mut c_void) -> isize
        = c"qio_channel_write";
    channel_seek: unsafe extern "C" fn(*mut Channel, i64, c_int, *mut *mut c_void) -> i64 = c"qio_channel_io_seek";
    object_unref: unsafe extern "C" fn(*mut c_void) = c"object_unref";
    file_output: unsafe extern "C" fn(*mut Channel) -> *mut File = c"qemu_file_new_output";
    file_input: unsafe extern "C" fn(*mut Channel) -> *mut File = c"qemu_file_new_input";
    file_flush: unsafe extern "C" fn(*mut File) = c"qemu_fflush";
    file_close: unsafe extern "C" fn(*mut File) -> c_int = c"qemu_fclose";
    save_devices: unsafe extern "C" fn(*mut File) -> c_int = c"qemu_save_device_state";
    load_devices: unsafe extern "C" fn(*mut File) -> c_int = c"qemu_load_device_state";
    // Shutdown and going on after it.
    shutdown_requested: unsafe extern "C" fn() -> c_int = c"qemu_shutdown_requested_get";
    on_state_change: unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void, bool, c_int), *mut c_void) -> *mut c_void
        = c"qemu_add_vm_change_state_handler";
    aio_context: unsafe extern "C" fn() -> *mut c_void = c"qemu_get_aio_context";
    schedule: unsafe extern "C" fn(*mut c_void, unsafe extern "C" fn(*mut c_void), *mut c_void, *const c_char)
        = c"aio_bh_schedule_oneshot_full";
    set_run_state: unsafe extern "C" fn(c_int) = c"runstate_set";
    vm_start: unsafe extern "C" fn() = c"vm_start";
    parse_enum: unsafe extern "C" fn(*const c_void, *const c_char, c_int, *mut *mut c_void) -> c_int
        = c"qapi_enum_parse";
    run_states: *const c_void = c"RunState_lookup";
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyperfuzz_control::symbols::INTERNAL;

    #[test]
    fn the_fuzzer_looks_for_the_same_symbols() {
        // From QEMU's libraries, not from QEMU.
        let foreign = [c"g_free"];
        let needed: Vec<Vec<&str>> = Qemu::NAMES
            .iter()
            .filter(|names| !names.iter().any(|name| foreign.contains(name)))
            .map(|names| names.iter().map(|name| name.to_str().unwrap()).collect())
            .collect();
        let listed: Vec<Vec<&str>> = INTERNAL.iter().map(|names| names.to_vec()).collect();
        assert_eq!(needed, listed);
    }
}
