//! QEMU TCG plugin of hyperfuzz: doorbell, snapshot and reset, crash hooks, budget.
