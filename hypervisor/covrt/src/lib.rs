//! SanitizerCoverage run-time of the reference hypervisor; never instrumented itself.
#![no_std]
