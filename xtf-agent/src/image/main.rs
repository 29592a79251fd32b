//! The agent's image: the library's logic on a bare guest, PVH or pv.
//!
//! | module | what |
//! |---|---|
//! | [`boot`] | entries, long mode, page tables, descriptor tables |
//! | [`guard`] | calls that may raise an exception, and the handlers that bring them home |
//! | [`platform`] | memory, hypercalls and operations for the library |
//! | [`runtime`] | what the compiler and a panic need |
#![no_std]
#![no_main]

mod boot;
mod guard;
mod platform;
mod runtime;

use core::cell::UnsafeCell;

use xtf_agent::{Agent, Stop};

/// A variable that only this image's single thread of execution uses.
#[repr(transparent)]
struct Global<T>(UnsafeCell<T>);

#[expect(unsafe_code, reason = "there is one vCPU and no interrupt handler that returns into Rust code")]
// SAFETY: the image runs on one vCPU with interrupts off. Exception handlers are assembly and either abandon the
// guarded call or end the domain; no Rust code is ever interrupted and resumed.
unsafe impl<T> Sync for Global<T> {}

impl<T> Global<T> {
    const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    const fn get(&self) -> *mut T {
        self.0.get()
    }
}

static AGENT: Global<Agent> = Global::new(Agent::new(None, 0));

/// Called by [`boot`] once, on the agent's stack, in long mode.
#[expect(unsafe_code, reason = "the assembly refers to it by name")]
#[unsafe(no_mangle)]
extern "C" fn agent_main() -> ! {
    boot::set_up_tables();
    let Some(xen) = platform::detect() else { runtime::die_silently() };
    boot::protect();
    work(&xen)
}

/// Called by [`boot`] once, on the agent's stack, in a pv guest.
#[expect(unsafe_code, reason = "the assembly refers to it by name")]
#[unsafe(no_mangle)]
extern "C" fn agent_pv_main() -> ! {
    platform::set_pv();
    if guard::set_up_pv_handlers() != Ok(0) {
        runtime::die_silently();
    }
    let Some(xen) = platform::detect_pv() else { runtime::die_silently() };
    work(&xen)
}

/// Serves programs.
#[expect(unsafe_code, reason = "the agent is too large for the stack")]
fn work(xen: &platform::Xen) -> ! {
    // SAFETY: one of the entries runs, once, and nothing else refers to AGENT.
    let agent = unsafe { &mut *AGENT.get() };
    agent.identify(xen.domain, xen.vcpu);
    match agent.run(&mut platform::Machine::new()) {
        Stop(Ok(_)) => runtime::die("agent: the hypervisor has no harness hypercall\n"),
        Stop(Err(_)) => runtime::die("agent: the harness hypercall raised an exception\n"),
    }
}
