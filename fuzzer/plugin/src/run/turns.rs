// SPDX-License-Identifier: GPL-2.0-or-later
//! Whose turn it is: what happens where the hypervisor gives the processor to a guest, gets it back, or loads other page tables.
#![expect(unsafe_code, reason = "callbacks from QEMU")]

use core::ffi::{c_uint, c_void};
use core::ptr;

use super::{Machine, Plugin, marker_context, switch_context};
use crate::budget::Limits;
use crate::path;
use crate::qemu::Cpu;
use crate::tables;

/// Where a marker of new tables is, in guest memory, and where the hypervisor goes on behind the change, in virtual memory.
pub(super) struct TablesPlace {
    offset: usize,
    behind: u64,
}

impl Plugin {
    /// A place that lives as long as the process, as a callback's argument.
    pub(super) fn tables_argument(&self, offset: usize, behind: u64) -> *mut c_void {
        let places = &mut self.machine().tables;
        let known = places.iter().find(|place| (place.offset, place.behind) == (offset, behind));
        let place = known.copied().unwrap_or_else(|| {
            let place = &*Box::leak(Box::new(TablesPlace { offset, behind }));
            places.push(place);
            place
        });
        ptr::from_ref(place).cast_mut().cast()
    }
}

/// Runs before each marker of new tables.
pub(super) unsafe extern "C" fn tables_due(vcpu: c_uint, argument: *mut c_void) {
    let Some((plugin, cpu)) = marker_context(vcpu) else { return };
    // SAFETY: the argument comes from `tables_argument`.
    let place = unsafe { &*argument.cast_const().cast::<TablesPlace>() };
    if plugin.control.in_text(place.offset as u64) && load_tables(plugin, cpu, place) {
        // SAFETY: as in `ready_reached`.
        unsafe { (plugin.qemu.cpu_loop_exit)(cpu) };
    }
}

/// Loads new tables, and skips the instruction that would. False where that instruction has to do it.
fn load_tables(plugin: &Plugin, cpu: *mut Cpu, place: &TablesPlace) -> bool {
    let (old, new) = (plugin.layout.cr3(cpu), plugin.layout.rdi(cpu));
    let mut machine = plugin.machine();
    let machine = &mut *machine;
    if let Some(jumps) = &mut machine.jumps {
        jumps.tables_loaded(plugin.layout.rsi(cpu));
    }
    let roots = [old, new].map(tables::root);
    let same = machine.memory.as_ref().is_some_and(|memory| memory.same_upper(roots[0], roots[1]));
    if same {
        plugin.layout.set_cr3(cpu, new);
        plugin.layout.set_rip(cpu, place.behind);
        tables::forget_lower(&plugin.qemu, cpu, plugin.version, machine.jumps.as_ref());
    }
    same
}

impl Plugin {
    /// The processor goes over to a guest, or comes back from it: its jumps have a table of their own.
    fn change_jumps(&self, cpu: *mut Cpu, to_guest: bool) {
        let mut machine = self.machine();
        let Machine { jumps: Some(jumps), memory: Some(memory), .. } = &mut *machine else { return };
        if to_guest {
            let root = self.layout.cr3(cpu);
            if jumps.enter(cpu, root) {
                memory.note_lower(tables::root(root));
            }
        } else {
            jumps.leave(cpu);
        }
    }

    /// QEMU has thrown all translated blocks away. On the vCPU's thread, between two blocks.
    pub(super) fn forget_jumps(&self) {
        if let Some(jumps) = &mut self.machine().jumps {
            jumps.blocks_gone();
        }
    }
}

/// Runs before each VMRUN of the hypervisor, and each marker that says the same.
pub(super) unsafe extern "C" fn guest_entered(vcpu: c_uint, argument: *mut c_void) {
    let Some((plugin, cpu)) = switch_context(vcpu, argument.addr() as u64) else { return };
    if plugin.account.enter_guest(Limits::of(plugin.control)) {
        plugin.change_jumps(cpu, true);
    } else {
        plugin.stop_over_limit(cpu);
    }
}

/// Runs before each instruction where the hypervisor goes on after a VM exit, and each marker that says the same.
pub(super) unsafe extern "C" fn guest_left(vcpu: c_uint, argument: *mut c_void) {
    let Some((plugin, cpu)) = switch_context(vcpu, argument.addr() as u64) else { return };
    plugin.change_jumps(cpu, false);
    path::exit();
    if !plugin.account.leave_guest(Limits::of(plugin.control)) {
        plugin.stop_over_limit(cpu);
    }
}
