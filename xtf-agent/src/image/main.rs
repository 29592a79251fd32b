//! The agent's image: the library's logic on a bare guest, PVH or pv.
//!
//! | module | what |
//! |---|---|
//! | [`boot`] | entries, long mode, page tables, descriptor tables |
//! | [`builder`] | makes an unprivileged domain of Xen's with the agent in it, where the initial one is to do no more than that |
//! | [`guard`] | calls that may raise an exception, and the handlers that bring them home |
//! | [`harness`] | markers and beacon of the agent's own, in a domain of Xen itself |
//! | [`platform`] | memory, hypercalls and operations for the library |
//! | [`runtime`] | what the compiler and a panic need |
#![no_std]
#![no_main]

mod boot;
mod builder;
mod guard;
mod harness;
mod platform;
mod runtime;

use core::{
    cell::UnsafeCell,
    sync::atomic::{AtomicBool, Ordering},
};

use xen_abi::{hypercall, sched, vcpu};
use xtf_agent::{Agent, Stop};
use zerocopy::IntoBytes;

use guard::VCPUS;

/// A variable that one vCPU uses at a time.
#[repr(transparent)]
struct Global<T>(UnsafeCell<T>);

#[expect(
    unsafe_code,
    reason = "vCPUs do not share variables, and no interrupt handler returns into Rust code"
)]
// SAFETY: what vCPUs change while others run is an array with an element for each of them; interrupts are off. Exception
// handlers are assembly and either abandon the guarded call or end the domain; no Rust code is ever interrupted and resumed.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    const fn get(&self) -> *mut T {
        self.0.get()
    }
}

/// How often the first vCPU lets another one have the processor while that starts.
const PATIENCE: u32 = 1000;

static AGENTS: Global<[Agent; VCPUS]> = Global::new([const { Agent::new(None, 0) }; VCPUS]);
/// vCPUs that have loaded their tables.
static STARTED: [AtomicBool; VCPUS] = [const { AtomicBool::new(false) }; VCPUS];

/// Called by [`boot`] once, on the first vCPU's stack, in long mode.
#[expect(unsafe_code, reason = "the assembly refers to it by name")]
#[unsafe(no_mangle)]
extern "C" fn agent_main() -> ! {
    boot::set_up_tables();
    boot::load_tables(0);
    let Some(xen) = platform::detect() else { runtime::die_silently() };
    // Xen itself knows no harness.
    if platform::domain(0).is_none() {
        harness::set_up_translated();
    }
    for vcpu in 1..VCPUS {
        bring_up(vcpu, boot::secondary(vcpu).as_bytes());
    }
    boot::protect();
    run(0, xen.domain, xen.vcpu)
}

/// Called by [`boot`] once, on the first vCPU's stack, in a pv guest, with the address of the start info.
#[expect(unsafe_code, reason = "the assembly refers to it by name")]
#[unsafe(no_mangle)]
extern "C" fn agent_pv_main(start_info: u64) -> ! {
    platform::set_pv();
    if guard::set_up_pv_handlers() != Ok(0) {
        runtime::die_silently();
    }
    let Some(xen) = platform::identify_pv() else { runtime::die_silently() };
    // Xen itself knows no harness.
    if platform::domain(0).is_none() {
        if builder::is_wanted(start_info) {
            builder::hand_over();
        }
        if harness::set_up(start_info).is_none() {
            runtime::die(0, "agent: the image is not in one piece of machine memory\n");
        }
    }
    for vcpu in 1..VCPUS {
        bring_up(vcpu, boot::pv_secondary(vcpu).as_bytes());
    }
    run(0, xen.domain, xen.vcpu)
}

/// Called by [`boot`] once on each other vCPU of a pv guest, on its own stack.
#[expect(unsafe_code, reason = "the assembly refers to it by name")]
#[unsafe(no_mangle)]
extern "C" fn agent_pv_secondary(vcpu: u32) -> ! {
    let vcpu = vcpu as usize;
    STARTED[vcpu].store(true, Ordering::Relaxed);
    run(vcpu, None, vcpu as u8)
}

/// Called by [`boot`] once on each other vCPU, on its own stack.
#[expect(unsafe_code, reason = "the assembly refers to it by name")]
#[unsafe(no_mangle)]
extern "C" fn agent_secondary(vcpu: u32) -> ! {
    let vcpu = vcpu as usize;
    boot::load_tables(vcpu);
    STARTED[vcpu].store(true, Ordering::Relaxed);
    let domain = platform::identify().and_then(|xen| xen.domain);
    run(vcpu, domain, vcpu as u8)
}

/// Starts another vCPU, if the domain has it, and waits until it has loaded its tables, which are read-only later.
fn bring_up(number: usize, context: &[u8]) {
    let at = context.as_ptr().expose_provenance() as u64;
    let operate = |command: u32, argument: u64| {
        let args = [u64::from(command), number as u64, argument, 0, 0, 0];
        platform::hypercall(0, hypercall::VCPU_OP, &args)
    };
    if operate(vcpu::INITIALISE, at) != Ok(0) || operate(vcpu::UP, 0) != Ok(0) {
        return;
    }
    for _ in 0..PATIENCE {
        if STARTED[number].load(Ordering::Relaxed) {
            return;
        }
        let _ = platform::hypercall(0, hypercall::SCHED_OP, &[u64::from(sched::YIELD), 0, 0, 0, 0, 0]);
    }
    runtime::die(0, "agent: the second vCPU does not start\n")
}

/// Runs programs on a vCPU below [`VCPUS`], whose number in the domain is `number`.
#[expect(unsafe_code, reason = "an agent is too large for the stack")]
fn run(vcpu: usize, domain: Option<u16>, number: u8) -> ! {
    // SAFETY: each vCPU comes here once, and refers to its own element only.
    let agent = unsafe { &mut (*AGENTS.get())[vcpu] };
    agent.identify(domain.or_else(|| platform::domain(vcpu)), number);
    match agent.run(&mut platform::Machine::new(vcpu)) {
        Stop(Ok(_)) => runtime::die(vcpu, "agent: the hypervisor has no harness hypercall\n"),
        Stop(Err(_)) => runtime::die(vcpu, "agent: the harness hypercall raised an exception\n"),
    }
}
