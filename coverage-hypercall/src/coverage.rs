//! The coverage hypercall.
