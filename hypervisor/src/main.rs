//! The bootable image of the reference hypervisor: machine set-up, SVM, and the wiring of the library to both.
//!
//! What a hypercall *does* is in the library half of this package. This half is the thin layer that needs the
//! processor: boot, paging, exceptions, VMRUN, crash records, and the markers that the host waits for.
#![no_std]
#![no_main]

extern crate alloc;

mod image;
