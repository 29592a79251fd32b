//! Tests of the hypervisor through its public interface.
