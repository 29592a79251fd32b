//! Reference hypervisor of hyperfuzz: domain logic (library) and the image (binary).
#![no_std]
