//! The parts of the image, in the order in which they matter at boot.

mod arch;
mod beacon;
mod boot;
mod console;
mod crash;
mod fpu;
mod global;
mod heap;
mod layout;
mod machine;
mod per_vcpu;
mod pv;
mod runner;
#[cfg(not(target_os = "none"))]
mod runtime;
mod selftest;
mod stack;
mod svm;

// Linked for the functions that the compiler calls.
use bare_mem as _;

use alloc::{boxed::Box, vec::Vec};
use core::ops::Range;

use coverage_hypercall::harness::{Canary, Region};
use coverage_rt::SanitizerCoverage;
use hypervisor::{
    Hypervisor, Options,
    address::{Maddr, Mfn},
    options::Mode,
};

use boot::BootInfo;
use console::println;
use machine::RealMachine;

/// The hypervisor's life, from the first Rust on.
fn main(start_info: u32) -> ! {
    arch::install_descriptor_tables();
    arch::require_features();
    let boot = BootInfo::read(start_info);
    arch::paging::install(&boot.ram);
    println!("hyperfuzz reference hypervisor: {} KiB of RAM", boot.ram_bytes() / 1024);

    let (test, line) = selftest::split(&boot.command_line);
    if let Some(test) = test {
        test.run();
    }
    let options = Options::parse(&line).unwrap_or_else(|what| panic!("{what}"));
    let (mode, verbose, standalone) = (options.mode, options.verbose, options.standalone);
    heap::check(options.oracles);
    let instrumentation = SanitizerCoverage::new(beacon::build_id());
    let mut hypervisor = Hypervisor::new(
        Box::new(RealMachine::new(options.mode)),
        Box::new(instrumentation),
        &frames(&boot.free),
        options,
    );
    if let Err(what) = hypervisor.build(boot.bundle) {
        panic!("building the domains: {what}");
    }
    let beacon = if standalone { x86_64::PhysAddr::zero() } else { publish(&hypervisor) };
    match mode {
        Mode::Hvm => svm::Runner::new(hypervisor, beacon, verbose).run(),
        Mode::Pv => pv::Runner::new(hypervisor, beacon, verbose).run(),
    }
}

/// Ranges of bytes as ranges of frames.
fn frames(ranges: &[Range<u64>]) -> Vec<Range<Mfn>> {
    ranges.iter().map(|range| Maddr(range.start).frame()..Maddr(range.end).frame()).collect()
}

/// Tells the host where everything is. The canaries stay where they are when the hypervisor moves.
fn publish(hypervisor: &Hypervisor) -> x86_64::PhysAddr {
    let channel = hypervisor
        .region("channel")
        .map(|(at, len)| Region { base: at.0, len })
        .expect("domains.conf has no shared region `channel`");
    let canaries: &[Canary] = hypervisor.canaries();
    let canaries = Region {
        base: layout::direct_to_phys(canaries.as_ptr() as u64).as_u64(),
        len: size_of_val(canaries) as u64,
    };
    beacon::publish(hypervisor.domain_count() as u32, channel, canaries)
}
