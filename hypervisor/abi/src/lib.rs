//! The subset of Xen's public ABI that the reference hypervisor speaks.
#![no_std]
