//! The parts of the image, in the order in which they matter at boot.

mod arch;
mod beacon;
mod boot;
mod console;
mod crash;
mod global;
mod heap;
mod layout;
mod stack;

use boot::BootInfo;
use console::println;
use coverage_hypercall::{channel::CHANNEL_LEN, harness::Region};

/// The hypervisor's life, from the first 64-bit instruction on.
fn main(start_info: u32) -> ! {
    arch::install_descriptor_tables();
    arch::require_features();
    let boot = BootInfo::read(start_info);
    arch::paging::install(&boot.ram);
    println!("hyperfuzz reference hypervisor: {} KiB of RAM", boot.ram_bytes() / 1024);

    // No domains yet: any memory serves as the channel.
    let channel = Region { base: boot.free[0].start, len: CHANNEL_LEN as u64 };
    let beacon = beacon::publish(0, channel, Region::default());
    console::go_quiet(boot.has_word("verbose"));
    coverage_rt::reset_comparisons();
    coverage_rt::reset_counters();
    beacon::ready(beacon);
    loop {
        beacon::done();
    }
}
