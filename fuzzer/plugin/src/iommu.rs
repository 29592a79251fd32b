// SPDX-License-Identifier: GPL-2.0-or-later
//! Brings QEMU's AMD IOMMU back to where it was: it is not among the devices that QEMU can save.
//!
//! A hypervisor that shares memory between a guest and devices tells the IOMMU of each change by commands in a ring, whose ends are registers.
//! The ring itself lies in guest memory. Nothing else of the device changes where no other device uses memory.
#![expect(unsafe_code, reason = "accesses registers through functions of QEMU's")]

use core::ffi::{CStr, c_char, c_void};
use core::ptr;

use crate::qemu::{VmStateDescription, address};

/// First register: `AMDVI_BASE_ADDR` in QEMU's `hw/i386/amd_iommu.h`.
const BASE: u64 = 0xfed8_0000;
/// Control register (AMD I/O Virtualization Technology specification, section 3.4).
const CONTROL: u64 = 0x18;
/// Bit of the control register: commands are carried out.
const COMMANDS: u64 = 1 << 12;
/// Where the next command is taken from.
const HEAD: u64 = 0x2000;
/// Where the next command is put.
const TAIL: u64 = 0x2008;

/// `cpu_physical_memory_rw`: address, bytes, their number, direction. The big lock must be held.
type Access = unsafe extern "C" fn(u64, *mut c_void, u64, bool);

/// `object_resolve_path_type`: path, type, and whether there are several.
type FindObject = unsafe extern "C" fn(*const c_char, *const c_char, *mut bool) -> *mut c_void;
/// `qdev_get_vmsd`.
type GetDescription = unsafe extern "C" fn(*mut c_void) -> *const VmStateDescription;
/// `vmstate_unregister`: device, description, and what it describes.
type Unregister = unsafe extern "C" fn(*mut c_void, *const VmStateDescription, *mut c_void);

/// The IOMMU as it was at the snapshot.
pub(crate) struct Iommu {
    access: Access,
    control: u64,
    tail: u64,
}

/// Reads a register.
fn read(access: Access, register: u64) -> u64 {
    let mut value = 0u64;
    // SAFETY: the big lock is held; eight bytes are written to `value`.
    unsafe { access(BASE + register, (&raw mut value).cast(), 8, false) };
    u64::from_le(value)
}

/// Writes a register.
fn write(access: Access, register: u64, value: u64) {
    let mut value = value.to_le();
    // SAFETY: the big lock is held; eight bytes are read from `value`.
    unsafe { access(BASE + register, (&raw mut value).cast(), 8, true) };
}

/// A function of QEMU's that only this needs.
fn function(name: &CStr) -> Result<*mut c_void, String> {
    let found = address(name);
    if found.is_null() {
        return Err(format!("this QEMU does not export `{}`, which the IOMMU needs", name.to_string_lossy()));
    }
    Ok(found)
}

/// Takes the IOMMU off the list of what QEMU saves: its description has no fields, over which QEMU stumbles. It is not on the list any more
/// where that was done before.
fn leave_out() -> Result<(), String> {
    let find = function(c"object_resolve_path_type")?;
    let get = function(c"qdev_get_vmsd")?;
    let unregister = function(c"vmstate_unregister")?;
    // SAFETY: the symbols are those of functions of these types in the QEMU versions that the fuzzer admits. An empty path stands for the
    // whole tree, and a null pointer is allowed where nobody asks. QEMU itself registers a device with its description and its own address.
    unsafe {
        let find = core::mem::transmute::<*mut c_void, FindObject>(find);
        let get = core::mem::transmute::<*mut c_void, GetDescription>(get);
        let unregister = core::mem::transmute::<*mut c_void, Unregister>(unregister);
        let device = find(c"".as_ptr(), c"amd-iommu".as_ptr(), ptr::null_mut());
        if device.is_null() {
            return Err("the machine has no IOMMU".into());
        }
        let description = get(device);
        if !description.is_null() {
            unregister(device, description, device);
        }
    }
    Ok(())
}

impl Iommu {
    /// Saves it, on a machine that has one, before the other devices are. The big lock must be held.
    ///
    /// # Errors
    /// If its registers cannot be accessed, or do not stand still.
    pub(crate) fn save() -> Result<Self, String> {
        leave_out()?;
        let access = function(c"cpu_physical_memory_rw")?;
        // SAFETY: the symbol is that of a function of this type in the QEMU versions that the fuzzer admits.
        let access = unsafe { core::mem::transmute::<*mut c_void, Access>(access) };
        let [control, head, tail] = [CONTROL, HEAD, TAIL].map(|register| read(access, register));
        if control & COMMANDS == 0 || head != tail {
            return Err(format!(
                "the IOMMU is not as it has to be at the snapshot: control {control:#x}, head {head:#x}, tail {tail:#x}"
            ));
        }
        Ok(Self { access, control, tail })
    }

    /// Brings it back, if commands were given. The big lock must be held.
    pub(crate) fn restore(&self) {
        let control = read(self.access, CONTROL);
        let ends = [HEAD, TAIL].map(|register| read(self.access, register));
        if control == self.control && ends == [self.tail; 2] {
            return;
        }
        // Nothing is carried out while the ends do not fit together.
        write(self.access, CONTROL, control & !COMMANDS);
        write(self.access, HEAD, self.tail);
        write(self.access, TAIL, self.tail);
        write(self.access, CONTROL, self.control);
    }
}
