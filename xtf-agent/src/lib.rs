//! The agent: runs hypercall programs inside a guest.
#![no_std]
