//! `vm_assist`: what the hypervisor does for guests that ask for it. Numbers: Xen `public/xen.h`.

use xen_abi::{hypercall, vm_assist as abi};

use super::types::*;

// ANCHOR: vm_assist
const TYPES: &[Named] = &[
    ("runstate_update_flag", abi::TYPE_RUNSTATE_UPDATE_FLAG),
    ("4gb_segments", abi::TYPE_4GB_SEGMENTS),
    ("4gb_segments_notify", abi::TYPE_4GB_SEGMENTS_NOTIFY),
    ("writable_pagetables", abi::TYPE_WRITABLE_PAGETABLES),
    ("pae_extended_cr3", abi::TYPE_PAE_EXTENDED_CR3),
    ("architectural_iopl", abi::TYPE_ARCHITECTURAL_IOPL),
    ("m2p_strict", abi::TYPE_M2P_STRICT),
];
const ARGS: &[Field] = &[field("type", int(4, Kind::Enum(TYPES)))];

const fn op(name: &'static str, command: u64) -> Operation {
    Operation {
        name,
        number: hypercall::VM_ASSIST as u32,
        select: Select::First(command),
        args: ARGS,
        results: &[],
        returns: Returns::Zero,
    }
}

/// The commands.
pub(super) const OPERATIONS: &[Operation] =
    &[op("vm_assist.enable", abi::ENABLE), op("vm_assist.disable", abi::DISABLE)];
// ANCHOR_END: vm_assist
