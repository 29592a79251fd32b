//! The counters and the log behind the trait of the coverage hypercall.

use coverage_hypercall::coverage::{Features, Instrumentation, Mapped};

use crate::log;

const PAGE: u64 = 4096;

/// SanitizerCoverage as the coverage hypercall sees it.
#[derive(Clone, Copy, Debug)]
pub struct SanitizerCoverage {
    build_id: [u8; 32],
}

impl SanitizerCoverage {
    /// The instrumentation of the running binary, which knows its own build id.
    pub const fn new(build_id: [u8; 32]) -> Self {
        Self { build_id }
    }
}

impl Instrumentation for SanitizerCoverage {
    fn features(&self) -> Features {
        Features::EDGES | Features::COMPARISONS | Features::MAPPING
    }

    fn counters(&self) -> u32 {
        let range = log::counters();
        (range.end - range.start) as u32
    }

    fn read(&self, first: u32, out: &mut [u8]) {
        log::read_counters(first as usize, out);
    }

    fn reset(&mut self) {
        log::reset_counters();
        log::forget_comparisons();
    }

    fn set_comparisons(&mut self, on: bool) {
        log::record_comparisons(on);
    }

    fn comparison_capacity(&self) -> u32 {
        log::CAPACITY as u32
    }

    fn build_id(&self) -> [u8; 32] {
        self.build_id
    }

    fn pages(&self, what: Mapped) -> u32 {
        let range = match what {
            Mapped::Counters => log::counters(),
            Mapped::Comparisons => log::comparisons(),
        };
        (range.end - range.start).div_ceil(PAGE) as u32
    }
}
