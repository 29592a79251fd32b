//! Guest-side client of the coverage hypercall.
