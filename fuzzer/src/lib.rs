//! hyperfuzz: coverage-guided fuzzing of a hypervisor's hypercall interface.

pub mod images;
